"""Schedulers by the names that people type, and recipes that tell them apart."""

from pathlib import Path
from typing import Any

import diffusers
import pytest

from steerclear.bridges.diffusers.asking import check_asking
from steerclear.cli.app import main
from steerclear.core.errors import InvalidSetting, UnknownName, UnsupportedModel
from steerclear.core.schedulers import check_steps
from steerclear.guidance.classifier_free import ClassifierFreeGuidance
from steerclear.models import shipped
from steerclear.models.loading import load_model
from steerclear.models.samplers import SAMPLERS, scheduler_by_name, scheduler_text
from steerclear.study.methods import Method
from steerclear.study.run import recipe_of

FOLDER = shipped()["portraits"]
SDE, ODE = "sde-dpmsolver++", "dpmsolver++"


def own() -> Any:
    """The shipped model's scheduler."""
    return diffusers.DPMSolverMultistepScheduler.from_pretrained(FOLDER, subfolder="scheduler")


@pytest.mark.parametrize(
    ("names", "expected", "settings"),
    [
        (["euler", "Euler", "EULER", "k_euler", "EulerDiscrete"], "EulerDiscreteScheduler", {}),
        (["euler_a", "euler a", "Euler A", "euler_ancestral", "eulera"], "EulerAncestralDiscreteScheduler", {}),
        (["dpm++ 2m", "DPM++ 2M", "dpmpp_2m", "dpm++2m"], "DPMSolverMultistepScheduler", {"algorithm_type": ODE, "solver_order": 2}),
        (["dpm++ 2m sde", "DPM++ 2M SDE", "dpmpp_2m_sde"], "DPMSolverMultistepScheduler", {"algorithm_type": SDE, "solver_order": 2}),
        (["dpm++ 3m sde"], "DPMSolverMultistepScheduler", {"algorithm_type": SDE, "solver_order": 3}),
        (["dpm++ sde", "dpmpp_sde"], "DPMSolverSinglestepScheduler", {"algorithm_type": SDE, "solver_order": 2}),
        (["unipc", "UniPC", "uni_pc"], "UniPCMultistepScheduler", {}),
        (["ddim", "DDIM", "DDIMScheduler", "ddimscheduler"], "DDIMScheduler", {}),
        (["ddpm"], "DDPMScheduler", {}),
        (["heun"], "HeunDiscreteScheduler", {}),
        (["lms"], "LMSDiscreteScheduler", {}),
        (["pndm"], "PNDMScheduler", {}),
        (["plms"], "PNDMScheduler", {"skip_prk_steps": True}),
        (["deis"], "DEISMultistepScheduler", {"algorithm_type": "deis"}),
        (["lcm"], "LCMScheduler", {}),
        (["tcd"], "TCDScheduler", {}),
        (["sa-solver"], "SASolverScheduler", {"algorithm_type": "data_prediction"}),
        (["dpm2", "dpm_2"], "KDPM2DiscreteScheduler", {}),
        (["dpm2 a", "dpm_2_ancestral"], "KDPM2AncestralDiscreteScheduler", {}),
    ],
)  # fmt: skip
def test_short_names(names: list[str], expected: str, settings: dict[str, Any]) -> None:
    assert {name: scheduler_by_name(name, own()) for name in names} == dict.fromkeys(names, (expected, settings))


def test_a_spacing_of_the_noise_levels_is_a_word_behind_the_name() -> None:
    spacings = {"karras": (True, False, False), "exponential": (False, True, False), "normal": (False, False, False)}
    for word, expected in spacings.items():
        kind, settings = scheduler_by_name(f"DPM++ 2M {word}", own())
        assert kind == "DPMSolverMultistepScheduler"
        assert tuple(settings[f"use_{name}_sigmas"] for name in ("karras", "exponential", "beta")) == expected
    with pytest.raises(
        InvalidSetting, match="must be a name without 'karras'; DDIMScheduler has only one spacing of noise levels"
    ):
        scheduler_by_name("ddim karras", own())


def test_every_short_name_is_a_scheduler_that_can_be_made() -> None:
    for sampler in SAMPLERS:
        current = diffusers.FlowMatchEulerDiscreteScheduler() if "Flow" in sampler.scheduler else own()
        for name in sampler.names:
            kind, settings = scheduler_by_name(name, current)
            assert (kind, settings) == (sampler.scheduler, sampler.settings)
            made = getattr(diffusers, kind).from_config(current.config, **settings)
            assert {key: made.config[key] for key in settings} == settings


def test_euler_of_a_flow_model_is_its_own() -> None:
    flow = diffusers.FlowMatchEulerDiscreteScheduler()
    assert scheduler_by_name("euler", flow) == ("FlowMatchEulerDiscreteScheduler", {})
    with pytest.raises(
        UnknownName, match=r"'heun'.* Available for this model: FlowMatchEulerDiscreteScheduler, euler\."
    ):
        scheduler_by_name("heun", flow)


@pytest.mark.parametrize(
    ("name", "near"),
    [("eulr", "euler"), ("dpm++ 2mm", "dpm\\+\\+ 2m"), ("DDIMSchedular", "DDIMScheduler"), ("UNIPK", "unipc")],
)
def test_the_nearest_name_is_named(name: str, near: str) -> None:
    with pytest.raises(UnknownName, match=f"there is no scheduler '.*'; did you mean '{near}'"):
        scheduler_by_name(name, own())


def test_schedulers_that_are_always_refused_are_not_offered() -> None:
    with pytest.raises(UnknownName) as error:
        scheduler_by_name("karras", own())
    said = str(error.value)
    assert said.startswith("there is no scheduler 'karras'. Available for this model: DDIMScheduler, DDPMScheduler, ")
    assert said.endswith(" tcd, unipc.")
    for name in ("DPMSolverSDEScheduler", "EDMEulerScheduler"):
        assert name not in said
        with pytest.raises(UnsupportedModel, match=f"{name} (takes no generator|scales).*; use another"):
            check_asking(load_model("portraits", scheduler=name).pipe, None, None)


def test_a_recipe_tells_settings_apart_and_the_models_own_stays_its_class() -> None:
    text = {}
    for name in (
        "DPMSolverMultistepScheduler",
        "dpm++ 2m sde",
        "dpm++ 2m",
        "dpm++ 2m normal",
        "euler",
        "unipc",
        "deis",
    ):
        kind, settings = scheduler_by_name(name, own())
        text[name] = scheduler_text(getattr(diffusers, kind).from_config(own().config, **settings), FOLDER)
    own_class = "DPMSolverMultistepScheduler"
    assert text == {
        own_class: own_class,
        "dpm++ 2m sde": own_class,  # which it is
        "dpm++ 2m": f'{own_class}(algorithm_type="dpmsolver++")',
        "dpm++ 2m normal": f'{own_class}(algorithm_type="dpmsolver++", use_karras_sigmas=false)',
        "euler": "EulerDiscreteScheduler",
        "unipc": "UniPCMultistepScheduler",  # which rewrites solver_type by itself
        "deis": 'DEISMultistepScheduler(algorithm_type="deis", solver_type="logrho")',
    }


def test_other_settings_are_another_recipe() -> None:
    cfg = Method("cfg", "cfg", "a man", (), ClassifierFreeGuidance())
    model = load_model("portraits")
    recipes = [recipe_of(model, cfg, 4)]
    for settings in ({}, {"algorithm_type": ODE}, {"algorithm_type": ODE, "use_karras_sigmas": False}):
        model.pipe.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(own().config, **settings)
        recipes.append(recipe_of(model, cfg, 4))
    digests = [recipe.digest() for recipe in recipes]
    assert (digests[0] == digests[1], len(set(digests))) == (True, 3)
    assert recipes[0].scheduler == "DPMSolverMultistepScheduler"


def test_settings_that_were_changed_in_python_are_told_apart_too() -> None:
    changed = diffusers.DDIMScheduler.from_config(own().config, eta=0.0, timestep_spacing="leading", clip_sample=False)
    assert scheduler_text(changed, FOLDER) in (
        'DDIMScheduler(clip_sample=false, timestep_spacing="leading")',
        'DDIMScheduler(timestep_spacing="leading")',  # where the model says itself that nothing is clipped
    )
    assert scheduler_text(changed, Path("nowhere")) == "DDIMScheduler"


@pytest.mark.parametrize(
    ("name", "steps", "fits"),
    [
        ("lcm", 60, False),
        ("lcm", 50, True),
        ("tcd", 51, False),
        ("pndm", 3, False),
        ("pndm", 4, True),
        ("plms", 1, True),
    ],
)
def test_steps_that_a_scheduler_cannot_make_are_a_sentence(name: str, steps: int, fits: bool) -> None:
    kind, settings = scheduler_by_name(name, own())
    scheduler = getattr(diffusers, kind).from_config(own().config, **settings)
    before = dict(vars(scheduler))
    if fits:
        check_steps(scheduler, steps)
    else:
        with pytest.raises(
            InvalidSetting, match=f"num_inference_steps is {steps}, but must be a number of steps that {kind}"
        ):
            check_steps(scheduler, steps)
    assert vars(scheduler) == before  # it was asked without a change


def test_steps_are_checked_before_anything_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [
        "generate",
        "a man",
        "--scheduler",
        "lcm",
        "--steps",
        "60",
        "--seeds",
        "0",
        "--outdir",
        str(tmp_path / "o"),
    ]
    assert main(asked) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith(
        "steerclear: --steps is 60, but must be a number of steps that LCMScheduler can make; The comb"
    )
    assert not (tmp_path / "o").exists()


def test_the_page_has_every_short_name() -> None:
    page = (Path(__file__).parents[1] / "docs" / "names.md").read_text(encoding="utf-8")
    for sampler in SAMPLERS:
        names = ", ".join(f"`{name}`" for name in sampler.names)
        settings = ", ".join(f"`{key}={value!r}`" for key, value in sampler.settings.items())
        assert f"| {names} | `{sampler.scheduler}` | {settings} |" in page


def test_a_scheduler_of_edm_is_refused_to_a_network_that_was_not_trained_so():
    """Its ``compatibles`` list one, and what comes out is noise."""
    with pytest.raises(
        UnsupportedModel, match="EDMEulerScheduler scales the input and output of its network in its own way"
    ):
        load_model("portraits", scheduler="EDMEulerScheduler")
