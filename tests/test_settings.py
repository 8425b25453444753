"""Settings as people type them, as Python passes them, and as files keep them."""

import functools
import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, get_origin

import numpy as np
import pytest
import torch

from steerclear.core.errors import GivenTwice, InvalidSetting, SteerclearError, UnknownName, on_command_line
from steerclear.core.evidence import Evidence
from steerclear.core.guidance import Guidance, guidances
from steerclear.core.network import Network
from steerclear.core.parsing import parse_part, part_text, read_setting, split_methods
from steerclear.core.settings import MOST_NESTED, Configurable
from steerclear.core.shelf import entries
from steerclear.core.values import described, parse_json
from steerclear.evidence.constant import ConstantEvidence
from steerclear.evidence.transition import TransitionEvidence
from steerclear.guidance.auto import AutoGuidance
from steerclear.guidance.classifier_free import ClassifierFreeGuidance
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.guidance.interval import IntervalGuidance
from steerclear.guidance.negative_prompt import NegativePromptGuidance
from steerclear.guidance.unguided import Unguided
from steerclear.networks.noised_weights import NoisedWeights
from steerclear.networks.shared.naming import parse_network
from steerclear.networks.without_lora import WithoutLora
from steerclear.study.guidance_settings import build_guidance
from steerclear.study.study import comparison
from steerclear.telling.guidance_docs import documentation, plain

EVIDENCES = {name: cls for name, cls in entries("evidence", Evidence).items() if name != "oracle"}


def parameters(classes: dict[str, type[Configurable]]) -> list[Any]:
    return [
        pytest.param(cls, parameter, id=f"{name}.{parameter.name}")
        for name, cls in classes.items()
        for parameter in documentation(cls).parameters
        if parameter.default
    ]


# what is printed can be typed back


def same(built: Configurable, expected: Configurable) -> None:
    assert built == expected
    assert json.dumps(built.to_config()) == json.dumps(expected.to_config())  # 3 and 3.0 are two recipes


@pytest.mark.parametrize(("cls", "parameter"), parameters(guidances()))
def test_the_default_that_is_printed_for_a_guidance_can_be_typed_back(cls, parameter) -> None:
    same(build_guidance(cls.name, None, [f"{parameter.name}={parameter.default}"]), cls())


@pytest.mark.parametrize(("cls", "parameter"), parameters(EVIDENCES))
def test_the_default_that_is_printed_for_an_evidence_can_be_typed_back(cls, parameter) -> None:
    typed = [f"evidence={cls.name}", f"evidence.{parameter.name}={parameter.default}"]
    same(build_guidance("dynamic-negative", None, typed).evidence, cls())


@pytest.mark.parametrize(("cls", "parameter"), parameters(Network.known()))
def test_the_default_of_a_weak_network_can_be_typed_back(cls, parameter) -> None:
    required = {"with-lora": {"adapter": "style"}, "snapshot": {"folder": "runs"}}.get(cls.name, {})
    typed = ",".join(f"{key}={value}" for key, value in {**required, parameter.name: parameter.default}.items())
    same(parse_network(f"{cls.name}:{typed}"), cls(**required))


@pytest.mark.parametrize(
    "guidance",
    [
        AutoGuidance(1.5, IntervalGuidance(DynamicNegativeGuidance(2.0, negative_scale=(1.0, 0.5)), 0.25, 0.5)),
        DynamicNegativeGuidance(1.0, evidence=TransitionEvidence(volume=((1.0, 0.0), (4.0, -2.0)), innovation=False)),
        DynamicNegativeGuidance(1.0, evidence=TransitionEvidence(volume=((1.0, 0.5),))),
        DynamicNegativeGuidance(1.0, evidence=ConstantEvidence((0.25, 0.125))),
        NegativePromptGuidance(4.0, negative_scale=(1.0, 0.5)),
    ],
    ids=lambda guidance: guidance.name,
)
def test_whole_guidances_can_be_typed_back_as_they_are_printed(guidance) -> None:
    same(build_guidance("interval", None, [f"inner={plain(guidance)}"]).inner, guidance)


# what is typed is read by the type of the setting


@pytest.mark.parametrize(
    ("words", "expected"),
    [("no false off 0 No False OFF", False), ("yes true on 1 YES True On", True)],
)
def test_yes_and_no_are_words(words: str, expected: bool) -> None:
    for word in words.split():
        assert (
            build_guidance("dynamic-negative", None, [f"evidence.innovation={word}"]).evidence.innovation is expected
        ), word


@pytest.mark.parametrize("word", ["none", "None", "null", " NONE "])
def test_none_is_a_value_where_the_setting_has_it(word: str) -> None:
    assert build_guidance("negative", None, ["negative_scale=2", "guidance_rescale=0"]).negative_scale == 2
    assert build_guidance("negative", None, [f"negative_scale={word}"]) == NegativePromptGuidance()
    assert build_guidance("dynamic-negative", None, [f"evidence.volume={word}"]) == DynamicNegativeGuidance()


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("cfg", "guidance_scale=none", "guidance_scale is None, but must be a finite number."),
        ("cfg", "guidance_scale=yes", "guidance_scale is 'yes', but must be a finite number."),
        ("cfg", "guidance_scale=true", "guidance_scale is 'true', but must be a finite number."),
        ("cfg", "guidance_scale=1_0", "guidance_scale is '1_0', but must be a finite number."),
        ("cfg", "guidance_scale=", "guidance_scale is '', but must be a finite number."),
        ("cfg", "guidance_scale=1,2", "guidance_scale is '1,2', but must be a finite number."),
        ("cfg", "guidance_scale=1e999", "guidance_scale is inf, but must be a finite number."),
        ("interval", "inner=none", "inner is None, but must be a guidance."),
        ("autoguidance", "inner=none", "inner is None, but must be a guidance; unguided is the plain conditional prediction."),
        ("interval", "by=none", "by is None, but must be fraction or sigma."),
        ("dynamic-negative", "evidence=none", "evidence is None, but must be an evidence, such as TransitionEvidence()."),
        ("dynamic-negative", "evidence.innovation=maybe", "innovation is 'maybe', but must be True or False."),
        ("dynamic-negative", "evidence.innovation=none", "innovation is None, but must be True or False."),
        ("dynamic-negative", "evidence.innovation=2", "innovation is 2, but must be True or False."),
        ("dynamic-negative", "evidence.volume=abc", "volume is 'abc', but must be a tuple of tuples of 2 numbers."),
        ("dynamic-negative", "evidence.volume=1,2", "volume is '1,2', but must be a tuple of tuples of 2 numbers."),
        ("dynamic-negative", "evidence.volume=[1,2,3]", "volume is '[1,2,3]', but must be a tuple of tuples of 2 numbers."),
        ("dynamic-negative", "evidence=constant(posterior=none)", "posterior is None, but must be between 0 and 1, both excluded."),
        ("dynamic-negative", "evidence=cfg(", "evidence is 'cfg(', but must be a name, or name(key=value, key=value);"),
        ("dynamic-negative", "evidence=constant(posterior)", "posterior is 'posterior', but must be between 0 and 1, both excluded."),
        ("dynamic-negative", "evidence=constant(posterior=2)", "posterior is 2.0, but must be between 0 and 1"),
    ],
)  # fmt: skip
def test_what_is_typed_and_does_not_fit_is_refused(name: str, setting: str, message: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        build_guidance(name, None, [setting])
    assert str(caught.value).startswith(message)


def test_none_is_no_entries_in_python_too() -> None:
    same(TransitionEvidence(volume=None), TransitionEvidence())
    same(WithoutLora(None), WithoutLora())
    assert NegativePromptGuidance(negative_scale=None).negative_scale is None  # a value of its own there


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("dynamic-negative", "evidence.innovation=maybe", "innovation is 'maybe', but must be yes or no."),
        ("dynamic-negative", "evidence.innovation=none", "innovation is none, but must be yes or no."),
        ("dynamic-negative", "evidence.volume=abc", "volume is 'abc', but must be a table like [1, 0], [4, -2], or none."),
        ("dynamic-negative", "evidence.volume=[2, 1], [1, 1.5]", "volume is [2.0, 1.0], [1.0, 1.5], but must be a table whose"),
        ("dynamic-negative", "evidence.prior=0.3,2", "prior is 0.3, 2.0, but must be between 0 and 1, both excluded."),
        ("dynamic-negative", "evidence=none", "evidence is none, but must be an evidence, such as transition."),
        ("negative", "negative_scale=a,b", "negative_scale is 'a,b', but must be a finite number."),
        ("cfg", "guidance_scale=none", "guidance_scale is none, but must be a finite number."),
        ("interval", "inner=none", "inner is none, but must be a guidance."),
    ],
)  # fmt: skip
def test_the_command_line_says_what_can_be_typed(name: str, setting: str, message: str) -> None:
    with pytest.raises(InvalidSetting) as caught, on_command_line():
        build_guidance(name, None, [setting])
    assert str(caught.value).startswith(message)


def test_types_in_the_words_of_the_command_line() -> None:
    words = {
        bool: "yes or no",
        float | None: "a number or none",
        float | tuple[float, ...] | None: "a number, numbers with commas between them or none",
        tuple[int, bool]: "a whole number, yes or no with commas between them",
        tuple[tuple[float, float], ...]: "a table like [1, 0], [4, -2], or none",
        Guidance | None: "a guidance or none",
    }
    with on_command_line():
        assert {kind: described(kind) for kind in words} == words
        with pytest.raises(InvalidSetting, match=r"^prior is 0\.3, 0\.2, but must be a number\.$"):
            TransitionEvidence((0.3, 0.2)).for_concepts(1)
        with pytest.raises(InvalidSetting, match=r"^negative_scale is none, but must be a number when there are 2"):
            NegativePromptGuidance().branches(2)
        with pytest.raises(
            InvalidSetting, match=r"^negative_scale is none, but .* one for each negative prompt with commas"
        ):
            NegativePromptGuidance(negative_scale=())


@dataclass(frozen=True)
class Everything(Configurable):
    """A stranger's settings, which has no checks of its own."""

    name: ClassVar[str] = "everything"

    switch: bool = False
    count: int = 1
    share: float = 0.5
    shares: float | tuple[float, ...] | None = None
    pair: tuple[int, bool] = (1, True)
    words: tuple[str, ...] = ()
    mode: Literal["on", "off"] = "on"
    inside: Guidance | None = None
    exactly: ClassifierFreeGuidance | None = None


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("switch", "on", True), ("count", "+3", 3), ("count", "1", 1), ("share", "1", 1.0), ("share", ".5", 0.5),
        ("share", "-1e-3", -0.001), ("shares", "none", None), ("shares", "1", 1.0), ("shares", "1,", "1,"), ("shares", "[1, 2]", (1.0, 2.0)),
        ("pair", "2,no", (2, False)), ("pair", "2", 2), ("words", "a, b", ("a", "b")), ("words", "none", ()), ("mode", "off", "off"),
        ("mode", "no", "no"), ("count", "1.5", 1.5), ("count", "yes", "yes"), ("switch", "2", 2),
    ],
)  # fmt: skip
def test_text_is_read_by_the_declared_type(name: str, text: str, expected: Any) -> None:
    found = read_setting(text, Everything.types()[name])
    assert (found, type(found)) == (expected, type(expected))


# one form for all parts


PARTS = [
    ("cfg", ClassifierFreeGuidance()),
    ("unguided", Unguided()),
    ("dynamic-negative:guidance_scale=3,negative_scale=2", DynamicNegativeGuidance(3.0, negative_scale=2.0)),
    ("negative:guidance_scale=3,negative_scale=1, 0.5", NegativePromptGuidance(3.0, negative_scale=(1.0, 0.5))),
    ("interval:inner=cfg(guidance_scale=4),stop=0.5", IntervalGuidance(ClassifierFreeGuidance(4.0), stop=0.5)),
    (
        "interval:inner=autoguidance(auto_scale=2, inner=dynamic-negative(guidance_scale=1, evidence=constant(posterior=0.25))),start=0.25",
        IntervalGuidance(AutoGuidance(2.0, DynamicNegativeGuidance(1.0, evidence=ConstantEvidence(0.25))), start=0.25),
    ),
    (
        "dynamic-negative:guidance_scale=1,evidence=transition(prior=0.5, volume=[1, 0], [4, -2], innovation=no)",
        DynamicNegativeGuidance(1.0, evidence=TransitionEvidence(0.5, volume=((1.0, 0.0), (4.0, -2.0)), innovation=False)),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "part"), PARTS, ids=[text for text, _ in PARTS])
def test_a_part_is_written_as_it_is_typed(text: str, part: Guidance) -> None:
    same(parse_part(part_text(part), Guidance), part)
    same(parse_part(text, Guidance), part)
    same(parse_part(part_text(part, inside=True), Guidance), part)
    same(parse_part(f"interval:{part_text(part, inside=True)},stop=0.25", Guidance), IntervalGuidance(part, stop=0.25))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cfg:4", ClassifierFreeGuidance(4.0)),
        ("cfg(4)", ClassifierFreeGuidance(4.0)),
        ("cfg()", ClassifierFreeGuidance()),
        ("cfg:", ClassifierFreeGuidance()),
        (" ClassifierFreeGuidance ( guidance_scale = 4 , guidance_rescale=0.5 ) ", ClassifierFreeGuidance(4.0, 0.5)),
        ("interval:cfg(4),stop=0.5", IntervalGuidance(ClassifierFreeGuidance(4.0), stop=0.5)),
        ("interval:inner=cfg:guidance_scale=4,stop=0.5", IntervalGuidance(ClassifierFreeGuidance(4.0), stop=0.5)),
        ("interval:inner=cfg,inner.guidance_scale=4", IntervalGuidance(ClassifierFreeGuidance(4.0))),
    ],
)
def test_the_same_part_typed_in_other_ways(text: str, expected: Guidance) -> None:
    same(parse_part(text, Guidance), expected)
    assert build_guidance(text) == expected


def test_settings_behind_the_name_and_beside_it_are_settings_of_one_guidance() -> None:
    same(build_guidance("interval:inner=cfg,stop=0.5", None, ["inner.guidance_scale=4"]),
         IntervalGuidance(ClassifierFreeGuidance(4.0), stop=0.5))  # fmt: skip
    same(build_guidance("negative:negative_scale=2", 3.0), NegativePromptGuidance(3.0, negative_scale=2.0))
    with pytest.raises(GivenTwice, match=r"^guidance_scale is given twice, as 4 and as 3\.0; give it once\.$"):
        build_guidance("cfg:4", 3.0)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("cfg,4", UnknownName, "there is no guidance 'cfg,4'; did you mean 'cfg'?"),
        ("", UnknownName, "there is no guidance ''. Available: "),
        ("unguided:3", UnknownName, "there is no parameter of unguided '3'. Available: none."),
        ("cfg:guidance_scale.x=3", UnknownName, "there is no parameter of cfg 'guidance_scale.x'; did you mean 'guidance_scale'?"),
        ("cfg(4", InvalidSetting, "guidance is 'cfg(4', but must be a name, or name(key=value, key=value); close the"),
        ("cfg:a..b=1", InvalidSetting, "the setting is 'a..b=1', but must be key=value, like guidance_scale=3."),
        ("constant", UnknownName, "there is no guidance 'constant'."),
        ("interval:" * 16 + "cfg", InvalidSetting, "the depth of interval is 17, but must be at most 16 parts inside one another."),
    ],
)  # fmt: skip
def test_what_is_no_part(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        parse_part(text, Guidance)
    assert str(caught.value).startswith(message)


def test_networks_take_the_same_forms() -> None:
    for text in ("noised:0.2,seed=3", "noised(0.2, seed=3)", "NoisedWeights(strength=0.2, seed=3)"):
        same(parse_part(text, Network), NoisedWeights(0.2, 3))
    assert part_text(NoisedWeights(0.2, 3), inside=True) == "noised(strength=0.2, seed=3)"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("cfg", ["cfg"]),
        ("cfg,negative", ["cfg", "negative"]),
        (" cfg , ,negative,", ["cfg", "", "negative", ""]),
        ("", [""]),
        ("dynamic-negative:negative_scale=2,dynamic-negative:negative_scale=1", ["dynamic-negative:negative_scale=2", "dynamic-negative:negative_scale=1"]),
        ("negative:guidance_scale=3,negative_scale=1,0.5,-1e-3,inf,cfg", ["negative:guidance_scale=3,negative_scale=1,0.5,-1e-3,inf", "cfg"]),
        ("cfg:4,evidence.prior=0.3,cfg", ["cfg:4,evidence.prior=0.3", "cfg"]),
        ("interval(inner=cfg, stop=0.5),unguided", ["interval(inner=cfg, stop=0.5)", "unguided"]),
        ("interval:inner=cfg:guidance_scale=4,stop=0.5,interval:stop=1", ["interval:inner=cfg:guidance_scale=4,stop=0.5", "interval:stop=1"]),
        ("dynamic-negative:evidence=transition(volume=[1, 0], [4, -2]),cfg", ["dynamic-negative:evidence=transition(volume=[1, 0], [4, -2])", "cfg"]),
        ("dynamic-negative:evidence.volume=[1, 0], [4, -2],cfg(2)", ["dynamic-negative:evidence.volume=[1, 0], [4, -2]", "cfg(2)"]),
        ("cfg,guidance_scale=3", ["cfg", "guidance_scale=3"]),
    ],
)  # fmt: skip
def test_methods_are_split_where_a_name_begins(text: str, parts: list[str]) -> None:
    assert split_methods(text) == parts


# what Python passes


SCALARS = [3.0, 3, np.float32(3), np.float64(3), np.int64(3), np.array(3.0), torch.tensor(3.0), torch.tensor(3), torch.tensor(3.0, dtype=torch.bfloat16)]  # fmt: skip


@pytest.mark.parametrize("value", SCALARS, ids=lambda value: f"{type(value).__name__}-{getattr(value, 'dtype', '')}")
def test_numbers_of_all_libraries_are_numbers(value: Any) -> None:
    same(ClassifierFreeGuidance(value), ClassifierFreeGuidance(3.0))
    same(AutoGuidance(value), AutoGuidance(3.0))
    same(
        NegativePromptGuidance(value, negative_scale=(value, 1)), NegativePromptGuidance(3.0, negative_scale=(3.0, 1.0))
    )
    same(NoisedWeights(value), NoisedWeights(3.0))
    assert hash(ClassifierFreeGuidance(value)) == hash(ClassifierFreeGuidance(3.0))
    assert type(ClassifierFreeGuidance(value).guidance_scale) is float


def test_numbers_of_all_libraries_are_numbers_of_a_question() -> None:
    found = comparison(
        "a man", ("hat",), (0,), np.int64(4), np.float32(2.5), torch.tensor(1.5), None, torch.tensor(64), np.int32(64)
    )
    assert found == comparison("a man", ("hat",), (0,), 4, 2.5, 1.5, None, 64, 64)
    assert {type(value) for value in (found.num_inference_steps, found.height, found.width)} == {int}


def test_a_part_of_one_class_alone_is_kept_as_it_is() -> None:
    part = ClassifierFreeGuidance(4.0)
    assert Everything(exactly=part).exactly is part
    assert Everything(inside=part).inside is part


def test_whole_numbers_of_all_libraries_are_whole_numbers() -> None:
    for seed in (np.int64(3), torch.tensor(3), np.uint8(3)):
        same(NoisedWeights(0.1, seed), NoisedWeights(0.1, 3))
    assert TransitionEvidence(innovation=np.bool_(False)) == TransitionEvidence(innovation=False)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TransitionEvidence(volume=3.0), "volume is 3.0, but must be a tuple of tuples of 2 numbers."),
        (lambda: TransitionEvidence(volume=(1.0, 2.0)), "volume is (1.0, 2.0), but must be a tuple of tuples of 2 numbers."),
        (lambda: TransitionEvidence(volume=((1.0,),)), "volume is ((1.0,),), but must be a tuple of tuples of 2 numbers."),
        (lambda: TransitionEvidence(innovation="no"), "innovation is 'no', but must be True or False."),
        (lambda: TransitionEvidence(innovation=None), "innovation is None, but must be True or False."),
        (lambda: TransitionEvidence(innovation=0), "innovation is 0, but must be True or False."),
        (lambda: ClassifierFreeGuidance(torch.ones(2)), "guidance_scale is tensor([1., 1.]), but must be a finite number."),
        (lambda: ClassifierFreeGuidance(torch.tensor(math.nan)), "guidance_scale is nan, but must be a finite number."),
        (lambda: ClassifierFreeGuidance(torch.tensor(True)), "guidance_scale is True, but must be a finite number."),
        (lambda: ClassifierFreeGuidance(1 + 2j), "guidance_scale is (1+2j), but must be a finite number."),
        (lambda: ClassifierFreeGuidance(10**400), "but must be a finite number."),
        (lambda: ClassifierFreeGuidance(10**5000), "but must be a finite number."),
        (lambda: NegativePromptGuidance(negative_scale=np.ones(2)), "negative_scale is array([1., 1.]), but must be"),
        (lambda: NegativePromptGuidance(negative_scale=((1.0,),)), "negative_scale[0] is (1.0,), but must be a finite number."),
        (lambda: IntervalGuidance(by=["fraction"]), "by is ['fraction'], but must be fraction or sigma."),
        (lambda: IntervalGuidance(by=None), "by is None, but must be fraction or sigma."),
        (lambda: IntervalGuidance(start="0"), "start is '0', but must be a finite number from 0 to 1."),
        (lambda: AutoGuidance(2.0, "cfg"), "inner is 'cfg', but must be a guidance; unguided is the plain conditional prediction."),
        (lambda: AutoGuidance(2.0, ClassifierFreeGuidance), "but must be a guidance; unguided"),
        (lambda: Everything(switch="no"), "switch is 'no', but must be True or False."),
        (lambda: Everything(count=1.0), "count is 1.0, but must be a whole number."),
        (lambda: Everything(share=True), "share is True, but must be a number."),
        (lambda: Everything(shares=[1.0]), "shares is [1.0], but must be a number, a tuple of numbers or None."),
        (lambda: Everything(pair=(1, True, False)), "pair is (1, True, False), but must be a tuple (a whole number, True or False)."),
        (lambda: Everything(words="word"), "words is 'word', but must be a tuple of texts."),
        (lambda: Everything(mode="no"), "mode is 'no', but must be on or off."),
        (lambda: Everything(inside=3), "inside is 3, but must be a Guidance or None."),
        (lambda: Everything(exactly=AutoGuidance()), "but must be a ClassifierFreeGuidance or None."),
        (lambda: Everything(exactly={"guidance_scale": 3.0}), "but must be a ClassifierFreeGuidance or None."),
        (lambda: Everything(shares=(1.0, True)), "shares is (1.0, True), but must be a number, a tuple of numbers or None."),
        (lambda: Everything(words=functools.reduce(lambda inner, _: (inner,), range(100_000), ())), "but must be a tuple of texts."),
    ],
)  # fmt: skip
def test_another_type_is_refused(build, message: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        build()
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "cls", [*guidances().values(), *EVIDENCES.values(), *Network.known().values()], ids=lambda cls: cls.name
)
def test_no_value_of_another_type_is_anything_but_refused_by_a_sentence(cls: type[Configurable]) -> None:
    """Whatever a setting is given, the class is built with it, or raises one of our errors."""
    odd = [None, True, 0, -1, 10**400, math.nan, math.inf, "", "no", "\udcff", b"", [], [1.0], {}, (), (None,), ((1.0, 2.0),), (1, (2,)),
           np.ones(2), torch.ones(2, 2), torch.tensor(2.0, device="meta"), object(), float, lambda: 1, 1j, ClassifierFreeGuidance(), ConstantEvidence()]  # fmt: skip
    required = {"layers": ("a",), "adapter": "a", "folder": "a", "network": torch.nn.Identity()}
    given = {name: value for name, value in required.items() if name in cls.parameters()}
    for name in cls.parameters():
        for value in odd:
            try:
                built = cls(**given | {name: value})
            except SteerclearError:
                continue
            kept = () if value is None and get_origin(cls.types()[name]) is tuple else value
            assert repr(getattr(built, name)) in (repr(kept), f"{kept}.0"), (name, value)
            hash(built)


# files


def test_a_part_inside_itself_without_end_is_a_sentence() -> None:
    deepest = ClassifierFreeGuidance()
    for _ in range(MOST_NESTED - 1):
        deepest = IntervalGuidance(deepest)
    assert Guidance.from_config(deepest.to_config()) == deepest
    with pytest.raises(InvalidSetting) as caught:
        IntervalGuidance(deepest)
    assert str(caught.value) == "the depth of interval is 17, but must be at most 16 parts inside one another."
    config = deepest.to_config()
    for _ in range(5000):
        config = {"_class_name": "IntervalGuidance", "inner": config}
    with pytest.raises(InvalidSetting, match="but must be"):
        Guidance.from_config(config)
    dots = ["inner=interval" if count == 0 else f"{'inner.' * count}inner=interval" for count in range(400)]
    for settings in (dots, dots[:MOST_NESTED], ["inner=" + "interval(inner=" * 5000 + "cfg" + ")" * 5000]):
        with pytest.raises(InvalidSetting, match="at most 16 parts inside one another"):
            build_guidance("interval", None, settings)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "it is nested more than 64 levels deep"),
        ("[" * 65 + "]" * 65, "it is nested more than 64 levels deep"),
        ('{"a":' * 70 + "1" + "}" * 70, "it is nested more than 64 levels deep"),
        ("{", "Expecting property name"),
        ("9" * 5000, "Exceeds the limit"),
    ],
)
def test_json_that_python_cannot_read_is_a_value_error(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse_json(text)
    assert parse_json("[" * 64 + "]" * 64)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be a JSON object with the settings of a guidance; Expecting property name"),
        ("[" * 100_000, "it is nested more than 64 levels deep; write the file again."),
        ('{"guidance":' * 3000 + "1" + "}" * 3000, "it is nested more than 64 levels deep; write the file again."),
        ("[]", "it is JSON, but not an object: list; write the file again."),
        ("\udcff", "'utf-8' codec can't decode byte 0xff"),
        ("{}", "_class_name is None, but must be one of"),
        ('{"guidance": 3}', "the guidance is 3, but must be a mapping with a _class_name, one of"),
        ('{"_class_name": ["AutoGuidance"]}', "_class_name is ['AutoGuidance'], but must be one of"),
        ('{"_class_name": "ClassifierFreeGuidance", "guidance_scale": {}}', "guidance_scale is {}, but must be a finite number."),
        ('{"_class_name": "ClassifierFreeGuidance", "guidance_scale": "3"}', "guidance_scale is '3', but must be a finite number."),
        ('{"_class_name": "DynamicNegativeGuidance", "evidence": {"_class_name": "OracleEvidence"}}', "log_odds is None, but must be"),
    ],
)  # fmt: skip
def test_a_damaged_file_of_a_guidance_is_a_sentence(text: str, message: str, tmp_path) -> None:
    (tmp_path / "guider_config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InvalidSetting) as caught:
        Guidance.from_pretrained(tmp_path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        {"_class_name": "ConstantEvidence"},
        {"_class_name": "IntervalGuidance", "inner": {"_class_name": "ConstantEvidence"}},
        {"_class_name": "AutoGuidance", "inner": {"_class_name": "ConstantEvidence"}},
    ],
)
def test_a_part_of_another_kind_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(UnknownName, match=r"^there is no guidance 'ConstantEvidence'; did you mean 'Int"):
        Guidance.from_config(config)


def test_what_is_stored_keeps_its_bits() -> None:
    evidence = TransitionEvidence(volume=((1.0, 0.5), (2.0, 0.25)), prior=(0.3, 0.4))
    assert Evidence.from_config(json.loads(json.dumps(evidence.to_config()))) == evidence
    assert replace(evidence, prior=(0.3, 0.4)) == evidence


def test_types_in_words() -> None:
    assert described(tuple[tuple[float, float], ...]) == "a tuple of tuples of 2 numbers"
    assert described(Guidance | None) == "a Guidance or None"


def test_the_page_of_names_types_what_is_read() -> None:
    page = (Path(__file__).parents[1] / "docs" / "names.md").read_text()
    rows = dict(re.findall(r"^\| ([a-z ]+) \| (`.*) \|$", page.partition("## Settings")[2], re.MULTILINE))
    typed = {name: re.findall(r"`([^`]+)`", text) for name, text in rows.items()}
    assert [read_setting(text, float) for text in typed["a number"]] == [3.0, 0.5, 0.001]
    assert [read_setting(text, bool) for text in typed["yes or no"]] == [True, False] * 4
    assert [read_setting(text, float | None) for text in typed["no value"]] == [None]
    assert [read_setting(text, float | tuple[float, ...]) for text in typed["one number for each negative prompt"]] == [
        (1.0, 0.5)
    ] * 2
    assert [read_setting(text, TransitionEvidence.types()["volume"]) for text in typed["a table"]] == [
        ((1.0, 0.0), (4.0, -2.0))
    ]
    forms = re.findall(r"^\| `([^`]+)` \|", page.partition("## Settings")[2].partition("A comma")[0], re.MULTILINE)
    assert [parse_part(text, Guidance) for text in forms] == [
        ClassifierFreeGuidance(),
        ClassifierFreeGuidance(4.0, 0.7),
        ClassifierFreeGuidance(4.0),
        IntervalGuidance(ClassifierFreeGuidance(4.0, 0.7), stop=0.5),
        IntervalGuidance(ClassifierFreeGuidance(4.0)),
    ]
    parts = [build_guidance("interval", None, [f"inner={text}"]).inner for text in typed["a guidance or an evidence"]]
    assert parts == [ClassifierFreeGuidance(), ClassifierFreeGuidance(), ClassifierFreeGuidance(4.0, 0.7)]
    assert f"At most {MOST_NESTED} guidances" in page
