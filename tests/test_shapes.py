"""Under tests a wrong shape is refused anywhere in the package."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from functools import cached_property

import pytest
import torch
from jaxtyping import TypeCheckError

import shapes
import steerclear
from steerclear.core.noise import to_denoised
from steerclear.core.numerics import dot
from steerclear.features.portrait_classifier import split_logits
from steerclear.metrics.frechet import frechet_of_gaussians
from steerclear.testbeds.portraits.drawing import draw
from steerclear.training.data import by_meaning, to_model
from steerclear.training.references import Families

ZEROS = torch.zeros(2, 3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: to_denoised(ZEROS, torch.zeros(2, 4), 0.6, 0.8, "epsilon"),
        lambda: dot(ZEROS, torch.zeros(3, 3)),
        lambda: split_logits(torch.zeros(2, 22)),
        lambda: frechet_of_gaussians(torch.zeros(2), torch.eye(3), torch.zeros(3), torch.eye(3)),
        lambda: draw({"man": torch.zeros(2)}, ZEROS),
        lambda: by_meaning(torch.zeros(4)),
        lambda: to_model(ZEROS),
        lambda: Families(ZEROS[..., None], ZEROS.long(), ZEROS, torch.zeros(2, 3, 4), torch.zeros(3, 4)),
    ],
    ids=["core", "core, one per image", "laboratories", "metrics", "testbeds", "training", "type", "dataclass"],
)
def test_a_wrong_shape_is_refused(call: Callable[[], object]) -> None:
    with pytest.raises(TypeCheckError):
        call()


def test_every_shape_in_a_signature_of_the_package_is_checked() -> None:
    found = []
    for module in pkgutil.walk_packages(steerclear.__path__, "steerclear."):
        if module.name.endswith("__main__"):
            continue
        loaded = importlib.import_module(module.name)
        classes = [one for one in vars(loaded).values() if inspect.isclass(one) and one.__module__ == module.name]
        for owner in [loaded, *classes]:
            for member in vars(owner).values():
                if isinstance(member, (classmethod, staticmethod)):
                    member = member.__func__
                elif isinstance(member, (property, cached_property)):
                    member = member.fget if isinstance(member, property) else member.func
                if inspect.isfunction(member) and member.__module__ == module.name:
                    signature = inspect.signature(member)
                    kinds = [one.annotation for one in signature.parameters.values()]
                    if any(map(shapes.has_shape, [*kinds, signature.return_annotation])):
                        found.append((member.__qualname__, hasattr(member, "__checks_shapes__")))
    assert [name for name, is_checked in found if not is_checked] == []
    assert len(found) >= 45


def test_what_names_no_shape_stays_as_it_is() -> None:
    def plain(value: int) -> int:
        return value

    assert shapes.checked(plain) is plain


def test_checks_that_would_come_too_late_are_refused() -> None:
    with pytest.raises(RuntimeError, match="steerclear is imported already"):
        shapes.install()
