"""Judges that ask a model of images and texts: tiny CLIPs and SigLIPs with random weights, through transformers' own classes."""

import json
import shutil
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    SiglipProcessor,
    SiglipTextConfig,
    SiglipVisionConfig,
)

from steerclear.core.errors import InvalidSetting, NotFiniteError, UnsupportedModel
from steerclear.core.laboratory import Asked
from steerclear.core.sums import write_sums
from steerclear.laboratories.clip import Clip
from steerclear.laboratories.portraits import Portraits
from steerclear.laboratories.shared.pairs import CALIBRATION, Calibration, PairJudge
from steerclear.laboratories.shared.statements import GENERAL, nouns, pairs
from steerclear.laboratories.shared.towers import load_towers
from steerclear.laboratories.siglip import Siglip
from steerclear.models.loading import load_model
from steerclear.study.measure import find_judge, named_judge

ASKED = Asked("a photo of a man in a garden", ("mustache", "red hat, A beard"), watch=("glasses", "man"))
THINGS = ("mustache", "red hat", "beard", "glasses", "man")
LENGTH = 48


def letters() -> Tokenizer:
    """One token per letter: no vocabulary to learn."""
    words = {letter: number for number, letter in enumerate([*string.ascii_lowercase, " ", "[UNK]", "[PAD]", "[END]"])}
    tokenizer = Tokenizer(models.BPE(vocab=words, merges=[], unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "isolated")
    return tokenizer


def tiny_clip(folder: Path) -> Path:
    torch.manual_seed(0)
    marks = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    words = marks | {
        letter + end: 2 + 2 * number + (end != "")
        for number, letter in enumerate(string.ascii_lowercase)
        for end in ("", "</w>")
    }
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    reading = CLIPTextConfig(vocab_size=len(words), max_position_embeddings=LENGTH, bos_token_id=0, eos_token_id=1, pad_token_id=1, projection_dim=8, **shape)  # fmt: skip
    seeing = CLIPVisionConfig(image_size=16, patch_size=8, projection_dim=8, **shape)
    model = CLIPModel(CLIPConfig(text_config=reading.to_dict(), vision_config=seeing.to_dict(), projection_dim=8))
    model.save_pretrained(folder)
    seen = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    CLIPProcessor(
        image_processor=seen, tokenizer=CLIPTokenizer(vocab=words, merges=[], model_max_length=LENGTH)
    ).save_pretrained(folder)
    return folder


def tiny_siglip(folder: Path) -> Path:
    torch.manual_seed(1)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=letters(), unk_token="[UNK]", pad_token="[PAD]", eos_token="[END]", model_max_length=LENGTH,
        model_input_names=["input_ids"],
    )  # fmt: skip
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    reading = SiglipTextConfig(vocab_size=len(tokenizer), max_position_embeddings=LENGTH, pad_token_id=28, bos_token_id=29, eos_token_id=29, **shape)  # fmt: skip
    seeing = SiglipVisionConfig(image_size=16, patch_size=8, **shape)
    model = SiglipModel(SiglipConfig(text_config=reading.to_dict(), vision_config=seeing.to_dict()))
    with torch.no_grad():
        model.logit_scale.fill_(2.0)
        model.logit_bias.fill_(-3.0)
    model.save_pretrained(folder)
    seen = SiglipImageProcessorPil(size={"height": 16, "width": 16})
    SiglipProcessor(image_processor=seen, tokenizer=tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("towers")
    return {"clip": tiny_clip(root / "clip"), "siglip": tiny_siglip(root / "siglip")}


@pytest.fixture(params=["clip", "siglip"])
def laboratory(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Clip | Siglip:
    kind = Clip if request.param == "clip" else Siglip
    return kind(model=str(folders[request.param]))


def pictures(count: int = 5, size: int = 24) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    coarse = torch.randint(0, 256, (count, 3, 4, 4), generator=generator).float()
    return torch.nn.functional.interpolate(coarse, size=(size, size)).byte()


def judged(laboratory: Any, asked: Asked = ASKED) -> PairJudge:
    return laboratory.judge(None, asked)


def by_transformers(laboratory: Any, images: Tensor, thing: str) -> Tensor:
    """The probability of a thing from the model's own ``logits_per_image``."""
    towers, found = load_towers(laboratory.model, "cpu"), []
    for having, lacking in pairs(thing, ASKED.prompt):
        inputs = towers.processor(
            text=[having, lacking], images=[one.permute(1, 2, 0).numpy() for one in images], padding="max_length",
            max_length=LENGTH, return_tensors="pt",
        )  # fmt: skip
        with torch.no_grad():
            logits = towers.model(**inputs).logits_per_image.double()
        shares = logits.softmax(1) if isinstance(laboratory, Clip) else logits.sigmoid()
        found.append(shares[:, 0].log() - shares[:, 1].log())
    odds = torch.stack(found).mean(0).exp()
    return odds / (1 + odds)


def test_a_model_that_was_trained_again_in_its_folder_is_loaded_again(tmp_path: Path) -> None:
    images, folder = pictures(), tiny_clip(tmp_path / "clip")
    before = load_towers(str(folder), "cpu")
    assert load_towers(str(folder), "cpu") is before
    again = CLIPModel.from_pretrained(folder)
    with torch.no_grad():
        again.visual_projection.weight.neg_()
    again.save_pretrained(folder)
    after = load_towers(str(folder), "cpu")
    assert torch.allclose(after.of_images(images, 8), -before.of_images(images, 8), atol=1e-5)


def test_probabilities_are_those_of_the_models_own_logits(laboratory: Clip | Siglip) -> None:
    images = pictures()
    seen = judged(laboratory).see(images)
    assert tuple(seen.probabilities) == tuple(seen.shown) == THINGS
    for thing, value in seen.probabilities.items():
        torch.testing.assert_close(value.double(), by_transformers(laboratory, images, thing), atol=2e-5, rtol=1e-4)
        assert seen.shown[thing].tolist() == (value > 0.5).long().tolist()
    spread = torch.stack(list(seen.probabilities.values())).double()
    assert float((spread.amax(1) - spread.amin(1)).min()) > 1e-4  # the images are told apart


def test_an_image_alone_in_any_order_and_in_any_batch(laboratory: Clip | Siglip) -> None:
    images, judge = pictures(7), judged(laboratory)
    whole = judge.see(images)
    order = torch.tensor([4, 0, 6, 2, 5, 1, 3])
    for few in (judge.see(images[order]), judged(laboratory.changed(batch=2)).see(images[order])):
        for thing in THINGS:
            torch.testing.assert_close(few.probabilities[thing], whole.probabilities[thing][order], atol=1e-5, rtol=0)
    for index in range(len(images)):
        alone = judge.see(images[index : index + 1])
        assert alone.features is not None
        assert whole.features is not None
        torch.testing.assert_close(alone.features[0], whole.features[index], atol=1e-5, rtol=0)
        for thing in THINGS:
            assert float(alone.probabilities[thing][0]) == pytest.approx(
                float(whole.probabilities[thing][index]), abs=1e-5
            )


def test_features_are_the_unit_vectors_of_the_images(laboratory: Clip | Siglip) -> None:
    judge = judged(laboratory)
    vectors = judge.see(pictures()).features
    assert vectors is not None
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(5))
    assert judge.features == f"unit vectors of images by {laboratory.model}"
    assert judge.see(pictures(0)).features.shape == (0, vectors.shape[1])  # type: ignore[union-attr]


def test_columns_and_rates(laboratory: Clip | Siglip) -> None:
    judge = judged(laboratory)
    assert [(column.name, column.role, column.better) for column in judge.columns()] == [
        ("mustache", "concept", "lower"), ("red hat", "concept", "lower"), ("beard", "concept", "lower"),
        ("glasses", "rate", None), ("man", "rate", None),
    ]  # fmt: skip
    seen = judge.see(pictures(8))
    measured = judge.measure(seen)
    assert {name: one.value for name, one in measured.items()} == {
        name: float(shown.double().mean()) for name, shown in seen.shown.items()
    }
    assert all(one.truth is None and one.interval == "wilson" for one in measured.values())


def test_the_watch_list() -> None:
    assert nouns("portrait photo of a smiling old man with a red hat, a beautiful wooden building, 4k") == (
        "man",
        "hat",
        "building",
    )
    assert pairs("glasses", "") == (("a photo of glasses", "a photo"), ("a picture with glasses", "a picture"))
    assert all(
        " no " not in f" {text} " for thing in ("hat", "text") for pair in pairs(thing, "a man") for text in pair
    )


def test_what_is_watched_unless_asked(folders: dict[str, Path]) -> None:
    clip = Clip(model=str(folders["clip"]))
    judge = judged(clip, Asked("a photo of a man in a garden", ("garden",)))
    assert (judge.concepts, judge.watched) == (("garden",), ("man", *GENERAL))
    assert judged(clip, Asked("a man", ("hat",), watch=())).watched == ()
    assert [column.role for column in judged(clip, Asked("", (), watch=("a Dog", "dog"))).columns()] == ["rate"]


def test_a_calibration_beside_the_weights(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders["clip"], tmp_path / "clip"))
    stored = Calibration(2.0, -0.5, {"mustache": (0.5, 1.0)}, ("beard",), {"mustache": 0.02}, "ten portraits")
    stored.write(folder)
    assert Calibration.read(folder) == stored
    plain, read = (judged(Clip(model=str(place))).see(pictures()).probabilities for place in (folders["clip"], folder))
    for thing, (temperature, offset) in (("mustache", (0.5, 1.0)), ("glasses", (2.0, -0.5))):
        expected = (plain[thing].double().logit() / temperature + offset).sigmoid()
        torch.testing.assert_close(read[thing].double(), expected, atol=1e-4, rtol=0)
    judge = judged(Clip(model=str(folder)), Asked("a man", ("mustache",)))
    assert (judge.watched, judge.errors(), judge.error_source) == (("beard",), {"mustache": 0.02}, "ten portraits")
    assert any("was not calibrated for beard" in note for note in judge.notes(5))
    given = judged(Clip(model=str(folder), temperature=4.0))
    assert any("are not calibrated: compare methods" in note for note in given.notes(5))
    assert (given.errors(), given.error_source) == ({}, "")
    hot = given.see(pictures()).probabilities["mustache"]
    torch.testing.assert_close(hot.double(), (plain["mustache"].double().logit() / 4).sigmoid(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("content", ["{", "[]", '{"temperature": "warm"}', '{"words": {"hat": [1]}}', '{"temperature": 0}', '{"words": {"hat": [-1, 0]}}'])  # fmt: skip
def test_a_damaged_calibration(folders: dict[str, Path], tmp_path: Path, content: str) -> None:
    folder = Path(shutil.copytree(folders["clip"], tmp_path / "clip"))
    (folder / CALIBRATION).write_text(content)
    with pytest.raises(UnsupportedModel, match=r"judging\.json .*copy the file again"):
        judged(Clip(model=str(folder)))


def test_the_threshold_and_what_is_near_it(folders: dict[str, Path]) -> None:
    judge = judged(Clip(model=str(folders["clip"]), temperature=1000.0))
    judge.see(pictures())
    doubts = judge.notes(5)[-1]
    assert "is unsure (probability 0.2 to 0.8; the threshold is 0.5): " in doubts
    assert all(f"{thing} 100.0%" in doubts for thing in THINGS)
    low = judged(Clip(model=str(folders["clip"]), temperature=1000.0, threshold=0.01))
    assert all(shown.tolist() == [1] * 5 for shown in low.see(pictures()).shown.values())


def test_a_prompt_that_is_too_long_is_left_out_of_the_statements(folders: dict[str, Path]) -> None:
    judge = judged(Clip(model=str(folders["clip"])), Asked("a man " * 20, ("hat",)))
    assert judge.pairs["hat"] == pairs("hat")
    assert any("asked without the prompt" in note for note in judge.notes(1))
    with pytest.raises(UnsupportedModel, match=f"too long for .*which reads {LENGTH} tokens; name it shorter"):
        judged(Clip(model=str(folders["clip"])), Asked("a man", ("hat " * 20,)))


def test_what_is_no_clip_is_refused_before_any_image(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="is a SigLIP; ask for the judge siglip:model="):
        judged(Clip(model=str(folders["siglip"])))
    with pytest.raises(UnsupportedModel, match="is a CLIP; ask for the judge clip:model="):
        judged(Siglip(model=str(folders["clip"])))
    text = tmp_path / "text"
    CLIPTextModel(CLIPTextConfig(vocab_size=99, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(text)  # fmt: skip
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json"):
        if (folders["clip"] / name).exists():
            shutil.copy(folders["clip"] / name, text)
    with pytest.raises(UnsupportedModel, match="a CLIPTextModel, which does not compare images with texts"):
        judged(Clip(model=str(text)))
    with pytest.raises(UnsupportedModel, match=r"there is no folder '.*/nowhere'; give model=PLACE"):
        judged(Clip(model=str(tmp_path / "nowhere")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnsupportedModel, match="cannot be loaded to judge images"):
        judged(Clip(model=str(tmp_path / "empty")))


def test_damaged_files(folders: dict[str, Path], tmp_path: Path) -> None:
    pickled = Path(shutil.copytree(folders["clip"], tmp_path / "pickled"))
    weights = pickled / "model.safetensors"
    torch.save({}, pickled / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(UnsupportedModel, match="cannot be loaded to judge images"):
        judged(Clip(model=str(pickled)))
    lacking = Path(shutil.copytree(folders["clip"], tmp_path / "lacking"))
    from safetensors.torch import load_file, save_file

    tensors = load_file(lacking / "model.safetensors")
    save_file({name: one for name, one in tensors.items() if name != "logit_scale"}, lacking / "model.safetensors")
    with pytest.raises(UnsupportedModel, match="lacks weights, as logit_scale"):
        judged(Clip(model=str(lacking)))
    summed = Path(shutil.copytree(folders["clip"], tmp_path / "summed"))
    write_sums(summed)
    save_file(tensors | {"logit_scale": torch.tensor(float("nan"))}, summed / "model.safetensors")
    with pytest.raises(UnsupportedModel, match="does not match its digest"):
        judged(Clip(model=str(summed)))
    (summed / "SHA256SUMS").unlink()
    broken = {
        name: torch.full_like(one, torch.nan) if "visual_projection" in name else one for name, one in tensors.items()
    }
    save_file(broken, summed / "model.safetensors")
    with pytest.raises(NotFiniteError, match="for these images"):
        judged(Clip(model=str(summed))).see(pictures())


@pytest.mark.parametrize(
    "settings",
    [{"threshold": -0.1}, {"threshold": 1.5}, {"threshold": float("nan")}, {"temperature": 0.0}, {"batch": 0}, {"model": 3}],
)  # fmt: skip
def test_bad_settings(settings: dict[str, Any]) -> None:
    for kind in (Clip, Siglip):
        with pytest.raises(InvalidSetting):
            kind(**settings)


def test_a_device_that_is_not_there(folders: dict[str, Path]) -> None:
    with pytest.raises(InvalidSetting, match="device is 'abacus'"):
        judged(Clip(model=str(folders["clip"]), device="abacus"))


def test_neither_judges_unless_asked_for() -> None:
    model = load_model("portraits")
    assert find_judge(None, model, Asked("a man", ("mustache",))).laboratory == Portraits()
    assert named_judge("siglip:model=owner/model,threshold=0.3") == Siglip(model="owner/model", threshold=0.3)
    assert replace(Clip(), threshold=0.4).to_config()["threshold"] == 0.4
    assert json.loads(json.dumps(Clip().to_config()))["_class_name"] == "Clip"
