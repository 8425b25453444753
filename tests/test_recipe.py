"""What decides how an image looks, and seeds as people write them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from steerclear.core.errors import InvalidSetting, PromptError, UnknownName
from steerclear.core.guidance import Guidance
from steerclear.guidance.classifier_free import ClassifierFreeGuidance
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.models.loras import LoRA
from steerclear.models.networks import NetworkSource
from steerclear.study.calibrations import CalibrationSource
from steerclear.study.guidance_settings import build_guidance
from steerclear.study.recipe import Recipe, format_seeds, parse_seeds

PLAIN = {"model": "m", "model_digest": "d", "prompt": "a man", "guidance": ClassifierFreeGuidance(2.0).to_config(),
         "scheduler": "DDIMScheduler"}  # fmt: skip


@given(st.lists(st.integers(0, 200), unique=True, min_size=1).map(sorted))
def test_seeds_come_back_from_their_text(seeds: list[int]) -> None:
    assert parse_seeds(format_seeds(seeds)) == tuple(seeds)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "seeds is '', but must be like 0-63 or 1,5,9; seeds are whole numbers of at least 0."),
        ("-3", "seeds is '-3', but must be like 0-63 or 1,5,9; seeds are whole numbers of at least 0."),
        ("5-3", "seeds is '5-3', but must be an increasing range, like 0-63."),
        ("1,1", "the seed 1 is given twice; give it once."),
        (
            "4294967296",
            "a seed is 4294967296, but must be a whole number from 0 to 4294967295.",
        ),
        ("0-4000000", "seeds is '0-4000000', but must be at most a million seeds."),
    ],
)
def test_what_are_no_seeds(text: str, message: str) -> None:
    with pytest.raises(InvalidSetting) as error:
        parse_seeds(text)
    assert str(error.value) == message


def test_the_digest_sees_all_that_was_asked_for_and_not_where_it_was_made() -> None:
    recipe = Recipe(**PLAIN)
    other = {"model": "x", "model_digest": "x", "prompt": "x", "negative_prompts": ("x",), "guidance": {"x": 1},
             "networks": {"weak": NetworkSource("x")}, "loras": (LoRA("x", 1.0, "d"),), "calibrations": (CalibrationSource("x", "d"),), "scheduler": "x",
             "num_inference_steps": 7, "height": 64, "width": 64, "dtype": "float16"}  # fmt: skip
    same = {"version": "9", "config": "m", "device": "cuda", "offload": "model"}
    assert set(other) | set(same) == set(Recipe.model_fields)
    digests = {recipe.model_copy(update={name: value}).digest() for name, value in other.items()}
    assert len(digests | {recipe.digest()}) == len(other) + 1
    assert {recipe.model_copy(update={name: value}).digest() for name, value in same.items()} == {recipe.digest()}


def test_the_digest_sees_every_part_of_a_lora() -> None:
    loras = [(), (LoRA("a", 1.0, "d"),), (LoRA("a", 0.5, "d"),), (LoRA("a", 1.0, "e"),),
             (LoRA("a", 1.0, "d"), LoRA("b", 1.0, "f")), (LoRA("b", 1.0, "f"), LoRA("a", 1.0, "d"))]  # fmt: skip
    assert len({Recipe(**PLAIN, loras=chosen).digest() for chosen in loras}) == len(loras)


def test_calibrations_count_by_what_they_say_and_none_change_nothing() -> None:
    recipe, told = Recipe(**PLAIN), "a calibration's name and digest"
    assert "calibrations" not in recipe.asked()
    measured = [Recipe(**PLAIN, calibrations=(CalibrationSource(name, "d"),)) for name in ("here.safetensors", told)]
    assert measured[0].digest() == measured[1].digest() != recipe.digest()
    assert measured[0].asked()["calibrations"] == ["d"]
    assert Recipe.model_validate_json(measured[1].model_dump_json()).calibrations[0].name == told


def test_a_recipe_comes_back_from_json_with_its_guidance() -> None:
    guidance = DynamicNegativeGuidance(2.0, negative_scale=1.5)
    recipe = Recipe(**{**PLAIN, "guidance": guidance.to_config()})
    again = Recipe.model_validate_json(recipe.model_dump_json())
    assert again.digest() == recipe.digest()
    assert again.built_guidance() == guidance


def test_empty_prompts_are_refused() -> None:
    with pytest.raises((PromptError, ValidationError), match="the prompt is empty"):
        Recipe(**{**PLAIN, "prompt": "  "})
    with pytest.raises((PromptError, ValidationError), match="the negative prompt is empty"):
        Recipe(**{**PLAIN, "negative_prompts": ("",)})


def test_settings_reach_into_parts() -> None:
    built = build_guidance("autoguidance", None, ["auto_scale=1.5", "inner=dynamic-negative", "inner.negative_scale=2"])
    assert (built.auto_scale, built.inner.negative_scale) == (1.5, 2)
    with pytest.raises(UnknownName, match="no parameter of autoguidance 'guidance_scale'; did you mean 'auto_scale'"):
        build_guidance("autoguidance", 1.5)
    assert build_guidance("dynamic-negative", None, ["evidence.prior=0.3"]).evidence.prior == 0.3
    deep = build_guidance("interval", None, ["inner=dynamic-negative", "inner.evidence.prior=0.3"])
    assert deep.inner.evidence.prior == 0.3
    assert build_guidance("dynamic-negative", None, ["evidence=constant"]).evidence.posterior == 0.5


def test_a_setting_takes_a_number_for_each_negative() -> None:
    assert build_guidance("negative", 3.0, ["negative_scale=1.0,0.5"]).negative_scale == (1.0, 0.5)
    built = build_guidance("rescaled", None, ["inner=dynamic-negative", "inner.evidence.prior=[0.25, 0.1]"])
    assert built.inner.evidence.prior == (0.25, 0.1)
    assert hash(Guidance.from_config(json.loads(json.dumps(built.to_config())))) == hash(built)


@pytest.mark.parametrize(
    ("name", "settings", "error", "message"),
    [
        ("autoguidence", [], UnknownName, "there is no guidance 'autoguidence'; did you mean 'autoguidance'?"),
        ("cfg", ["guidance_scal=3"], UnknownName, "there is no parameter of cfg 'guidance_scal'; did you mean 'guidance_scale'?"),
        ("cfg", ["guidance_scale"], InvalidSetting, "the setting is 'guidance_scale', but must be key=value"),
        ("cfg", ["guidance_scale=NaN"], InvalidSetting, "guidance_scale is nan, but must be a finite number."),
        ("cfg", ["guidance_scale=fast"], InvalidSetting, "guidance_scale is 'fast', but must be a finite number."),
        ("cfg", ["guidance_rescale=2"], InvalidSetting, "guidance_rescale is 2.0, but must be a finite number from 0 to 1."),
        ("dynamic-negative", ["evidence.prior=0"], InvalidSetting, "prior is 0.0, but must be between 0 and 1, both excluded."),
        ("dynamic-negative", ["evidence.prio=0.2"], UnknownName, "there is no parameter of transition 'prio'; did you mean 'prior'?"),
        ("autoguidance", ["inner.guidance_scale=3"], UnknownName, "there is no parameter of unguided 'guidance_scale'"),
        ("cfg", ["guidance_scale=2", "guidance_scale=3"], InvalidSetting, "guidance_scale is given twice, as 2 and as 3; give it once."),
        ("interval", ["inner=null"], InvalidSetting, "inner is None, but must be a guidance."),
        ("dynamic-negative", ["evidence=oracle"], InvalidSetting, "log_odds is None, but must be a function of an exact testbed; networks have no oracle; use"),
        ("interval", ["inner=autoguidance", "inner.inner=cgf"], UnknownName, "there is no guidance 'cgf'; did you mean 'cfg'?"),
        ("interval", ["start=0.5", "stop=0.5"], InvalidSetting, "start is 0.5, but must be below stop (0.5)."),
    ],
)  # fmt: skip
def test_what_cannot_be_built(name: str, settings: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        build_guidance(name, None, settings)
    assert str(raised.value).startswith(message)
