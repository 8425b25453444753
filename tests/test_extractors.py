"""Features of images: what each extractor gives, image k alone, and the cache beside it."""

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import tiny_vision
from steerclear.core.errors import InvalidSetting, MissingPackage, NotFiniteError, SteerclearWarning, UnsupportedModel
from steerclear.core.features import Features
from steerclear.core.parsing import parse_part, part_text
from steerclear.features.clip import ClipFeatures
from steerclear.features.digits import DigitFeatures
from steerclear.features.dinov2 import Dinov2Features
from steerclear.features.inception import InceptionFeatures
from steerclear.features.label_classifier import LABEL_CLASSIFIER, LabelClassifier, classify
from steerclear.features.pixels import PixelFeatures
from steerclear.features.portrait_classifier import CLASSIFIER, PortraitClassifier, read
from steerclear.features.portraits import PortraitFeatures
from steerclear.features.shared import cache_size, network
from steerclear.features.shared.cache import cache_folder, cached, image_digest, read_vector, write_vector
from steerclear.features.shared.hub import load_network
from steerclear.features.siglip import SiglipFeatures
from steerclear.features.vision import VisionFeatures
from steerclear.models import shipped

MADE: dict[str, Callable[[Path], Path]] = {
    "clip": tiny_vision.clip, "siglip": tiny_vision.siglip, "dinov2": tiny_vision.dinov2, "vision": tiny_vision.classifier,
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("networks")
    found = {name: make(root / name) for name, make in MADE.items()}
    labels = LabelClassifier(3, 4).eval()
    labels.set_feature_scale(tiny_vision.images(40, 64))
    labels.save(root / "classifier.safetensors")
    return found | {"digits": root}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEERCLEAR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def of_folder(name: str, folders: dict[str, Path]) -> Features:
    given = {"digits": "folder"}.get(name, "model")
    return parse_part(f"{name}:{given}={folders[name]}" if name in folders else name, Features)


NETWORKS = ("clip", "siglip", "dinov2", "vision")
EVERY = (*NETWORKS, "pixels", "portraits", "digits")


def test_every_extractor_is_on_the_shelf() -> None:
    assert {*Features.known()} >= {*EVERY, "inception"}


@pytest.mark.parametrize("name", EVERY)
def test_image_k_does_not_depend_on_its_neighbors(
    name: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEERCLEAR_CACHE", "none")
    extractor, images = of_folder(name, folders), tiny_vision.images(5, 64)
    together = extractor.of(images)
    assert together.dtype == torch.float32
    assert (together[0] - together[1]).abs().max() > 1e-3
    alone = torch.cat([extractor.of(images[k : k + 1]) for k in range(5)])
    assert torch.allclose(together, alone, atol=1e-4)
    assert torch.allclose(extractor.of(images.flip(0)), together.flip(0), atol=1e-4)
    assert extractor.of(images[:0]).shape == (0, together.shape[1])


@pytest.mark.parametrize("name", EVERY)
def test_an_extractor_is_typed_and_stored(name: str, folders: dict[str, Path]) -> None:
    extractor = of_folder(name, folders)
    assert Features.from_config(json.loads(json.dumps(extractor.to_config()))) == extractor
    assert parse_part(part_text(extractor), Features) == extractor
    assert len(extractor.described) > 10
    assert len(extractor.key) == 32


def test_pixels_are_means_of_blocks() -> None:
    images = tiny_vision.images(3, 64)
    found = PixelFeatures(size=8).of(images)
    assert found.shape == (3, 192)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    plain = (torch.arange(3) * 51).to(torch.uint8).view(1, 3, 1, 1).expand(1, 3, 40, 24)
    assert torch.allclose(PixelFeatures(size=2).of(plain), torch.tensor([[0.0] * 4 + [0.2] * 4 + [0.4] * 4]), atol=1e-6)
    assert torch.allclose(PixelFeatures(size=2, gray=True).of(plain), torch.full((1, 4), 0.2), atol=1e-6)
    by_pillow = np.array(Image.fromarray(images[0].permute(1, 2, 0).numpy()).resize((8, 8), Image.Resampling.BILINEAR))
    apart = found[0].view(3, 8, 8) * 255 - torch.from_numpy(by_pillow).permute(2, 0, 1)
    assert float(apart.abs().max()) <= 1  # Pillow rounds twice


def test_the_shipped_classifiers_features_are_those_of_the_laboratory() -> None:
    images = tiny_vision.images(3, 64)
    own = read(PortraitClassifier.load(shipped()["portraits"] / CLASSIFIER), images)[1]
    assert torch.equal(PortraitFeatures().of(images), own)
    with pytest.raises(UnsupportedModel, match="see only images of 64 x 64, and these are 20 x 20"):
        PortraitFeatures().of(tiny_vision.images(1))


def test_the_label_classifiers_features(folders: dict[str, Path]) -> None:
    images = tiny_vision.images(3, 28)
    own = classify(LabelClassifier.load(folders["digits"] / CLASSIFIER), images)[1]
    assert torch.equal(DigitFeatures(str(folders["digits"])).of(images), own)


def test_networks_give_what_transformers_gives(folders: dict[str, Path], cache: Path) -> None:
    from transformers import AutoImageProcessor, CLIPModel, Dinov2Model

    images = tiny_vision.images(3, 20)
    each = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]

    def pixels(name: str) -> Tensor:
        return AutoImageProcessor.from_pretrained(folders[name], backend="pil")(images=each, return_tensors="pt")[
            "pixel_values"
        ]

    with torch.no_grad():
        vectors = CLIPModel.from_pretrained(folders["clip"]).get_image_features(pixels("clip")).pooler_output
        token = Dinov2Model.from_pretrained(folders["dinov2"]).eval()(pixels("dinov2")).last_hidden_state[:, 0]
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    assert torch.allclose(ClipFeatures(str(folders["clip"])).of(images), unit, atol=1e-5)
    assert torch.allclose(Dinov2Features(str(folders["dinov2"])).of(images), token, atol=1e-5)


def test_any_network_of_images_has_features(folders: dict[str, Path], cache: Path) -> None:
    from transformers import AutoImageProcessor, Dinov2Model, ViTForImageClassification

    images = tiny_vision.images(3, 32)
    each = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    with torch.no_grad():
        for name, kind in (("vision", ViTForImageClassification), ("dinov2", Dinov2Model)):
            pixels = AutoImageProcessor.from_pretrained(folders[name], backend="pil")(images=each, return_tensors="pt")
            model = kind.from_pretrained(folders[name]).eval()
            if name == "vision":  # without a pooling layer: the mean over its places
                expected = model.vit(**pixels).last_hidden_state.mean(1)
            else:
                expected = model(**pixels).pooler_output
            assert torch.allclose(VisionFeatures(str(folders[name])).of(images), expected, atol=1e-5)


# the cache


def test_a_second_look_runs_no_network(folders: dict[str, Path], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    plain = ClipFeatures.vectors
    monkeypatch.setattr(ClipFeatures, "vectors", lambda self, images: calls.append(len(images)) or plain(self, images))
    extractor, images = ClipFeatures(str(folders["clip"])), tiny_vision.images(70)
    first = extractor.of(images)
    assert calls == [32, 32, 6]
    assert torch.equal(extractor.of(images), first)
    assert torch.equal(extractor.of(images[10:20].flip(0)), first[10:20].flip(0))
    assert sum(calls) == 70
    more = torch.cat([images[:2], tiny_vision.images(3, seed=1), images[:1]])
    assert torch.equal(extractor.of(more)[[0, 1, 5]], first[[0, 1, 0]])
    assert calls[3:] == [3]
    assert len(list(cache.rglob("*.features"))) == 73
    assert list(cache.rglob("*.partial")) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[:40],
        lambda content: content[:-4] + b"\0\0\0\0",
        lambda content: bytes(len(content)),
        lambda content: content + content,
        lambda content: b"\x80\x04]." + content,
    ],
)
def test_a_damaged_file_is_computed_again(
    damage: Callable[[bytes], bytes], folders: dict[str, Path], cache: Path
) -> None:
    extractor, images = ClipFeatures(str(folders["clip"])), tiny_vision.images(2)
    first = extractor.of(images)
    files = sorted(cache.rglob("*.features"))
    whole = files[0].read_bytes()
    files[0].write_bytes(damage(whole))
    assert read_vector(files[0]) is None
    assert torch.allclose(extractor.of(images), first, atol=1e-6)
    assert torch.allclose(
        read_vector(files[0]), torch.from_numpy(np.frombuffer(whole[32:], dtype="<f4").copy()), atol=1e-6
    )


def test_a_whole_file_of_another_width_is_not_believed(cache: Path) -> None:
    images = tiny_vision.images(3)
    write_vector(
        cache / "features" / "key" / image_digest(images[1])[:2] / f"{image_digest(images[1])}.features", torch.ones(5)
    )
    found = cached("key", images, lambda some: some.float().mean((2, 3)))
    assert torch.equal(found, images.float().mean((2, 3)))


def test_equal_images_are_computed_once(cache: Path) -> None:
    asked = []
    images = tiny_vision.images(1).expand(9, 3, 20, 20)
    found = cached("key", images, lambda some: asked.append(len(some)) or some.float().mean((2, 3)))
    assert (asked, found.shape) == ([1], (9, 3))


def test_two_extractors_share_nothing(folders: dict[str, Path], cache: Path, tmp_path: Path) -> None:
    images = tiny_vision.images(2)
    other = tiny_vision.clip(tmp_path / "other", seed=9)
    extractors = [ClipFeatures(str(folders["clip"])), ClipFeatures(str(other)), VisionFeatures(str(folders["dinov2"])),
                  Dinov2Features(str(folders["dinov2"]))]  # fmt: skip
    assert len({one.key for one in extractors}) == 4
    first, second = (one.of(images) for one in extractors[:2])
    assert (first - second).abs().max() > 0.01


def test_the_key_follows_weights_and_preparation(tmp_path: Path) -> None:
    from steerclear.features.shared.hub import folder_key

    folder = tiny_vision.siglip(tmp_path / "one")
    keys = [folder_key(folder)]
    for name in ("preprocessor_config.json", "model.safetensors"):
        path = folder / name
        content = path.read_bytes()
        path.write_bytes(content.replace(b"0.5", b"0.4") if name.endswith("json") else content[:-1] + b"\1")
        keys.append(folder_key(folder))
    assert len({*keys}) == 3


def test_many_writers_of_one_file_leave_it_whole(cache: Path) -> None:
    images, wrong = tiny_vision.images(20), []

    def look() -> None:
        for _ in range(5):
            found = cached("key", images, lambda some: some.float().mean((2, 3)))
            wrong.extend([] if torch.equal(found, images.float().mean((2, 3))) else [1])

    threads = [threading.Thread(target=look) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len([path for path in cache.rglob("*") if path.is_file()]) == 20


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STEERCLEAR_CACHE", str(tmp_path / "file" / "cache"))
    images = tiny_vision.images(2)
    with pytest.warns(
        SteerclearWarning, match=r"features are not kept: the folder .* cannot be written .*STEERCLEAR_CACHE"
    ):
        found = cached("key", images, lambda some: some.float().mean((2, 3)))
    assert torch.equal(found, images.float().mean((2, 3)))


@pytest.mark.parametrize(
    ("environment", "platform", "expected"),
    [
        ({}, "linux", "~/.cache/steerclear"),
        ({"XDG_CACHE_HOME": "/x"}, "linux", "/x/steerclear"),
        ({"XDG_CACHE_HOME": "/x"}, "darwin", "~/Library/Caches/steerclear"),
        ({"LOCALAPPDATA": "/local"}, "win32", "/local/steerclear"),
        ({"STEERCLEAR_CACHE": "~/c", "XDG_CACHE_HOME": "/x"}, "linux", "~/c"),
    ],
)
def test_where_the_cache_is(environment: dict[str, str], platform: str, expected: str) -> None:
    assert cache_folder(environment, platform) == Path(os.path.expanduser(expected))


# what cannot be loaded


def test_damaged_networks_are_sentences(folders: dict[str, Path], tmp_path: Path) -> None:
    def said(change: Callable[[Path], Any], name: str) -> str:
        folder = tiny_vision.clip(tmp_path / name)
        change(folder)
        with pytest.raises(UnsupportedModel) as caught:
            ClipFeatures(str(folder)).of(tiny_vision.images(1))
        return str(caught.value)

    what = "the network of the features clip cannot be loaded"
    assert "has no weights as .safetensors; pickled ones are not read" in said(
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "pickled"
    )
    assert said(lambda folder: (folder / "model.safetensors").write_bytes(b"abc"), "short").startswith(what)
    assert "config.json is not a configuration" in said(
        lambda folder: (folder / "config.json").write_text("["), "config"
    )
    assert said(lambda folder: (folder / "preprocessor_config.json").unlink(), "unprepared").startswith(what)
    assert "has no config.json" in said(lambda folder: (folder / "config.json").unlink(), "bare")

    def lacking(folder: Path) -> None:
        save_file({"logit_scale": torch.ones(())}, folder / "model.safetensors", {"format": "pt"})

    assert "lack " in said(lacking, "lacking")

    def not_numbers(folder: Path) -> None:
        from safetensors.torch import load_file

        weights = load_file(folder / "model.safetensors")
        save_file(
            {name: value * torch.nan for name, value in weights.items()}, folder / "model.safetensors", {"format": "pt"}
        )

    folder = tiny_vision.clip(tmp_path / "nan")
    not_numbers(folder)
    with pytest.raises(NotFiniteError, match="Its weights are damaged"):
        ClipFeatures(str(folder)).of(tiny_vision.images(1))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nowhere", "'nowhere' is neither a folder nor a hub id like owner/model"),
        ("nobody/nothing-of-this-name", "is found neither locally nor on the hub"),
        ("a/b/c", "is neither a folder nor a hub id"),
    ],
)
def test_networks_that_are_not_there(name: str, sentence: str) -> None:
    for kind in (ClipFeatures, SiglipFeatures, Dinov2Features, VisionFeatures):
        with pytest.raises(UnsupportedModel, match=sentence):
            kind(name).of(tiny_vision.images(1))


@pytest.mark.parametrize("model", ["", " ", None, 5, ()])
def test_a_network_has_a_name(model: Any) -> None:
    with pytest.raises(InvalidSetting, match=r"model is .*, but must be a folder or a hub id"):
        ClipFeatures(model)


def test_a_network_of_another_kind_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(
        UnsupportedModel, match=r"is a Dinov2Model in .*, which has no get_image_features; name a network"
    ):
        ClipFeatures(str(folders["dinov2"])).of(tiny_vision.images(1))


def test_a_network_is_loaded_once(folders: dict[str, Path]) -> None:
    assert load_network("x", str(folders["clip"])) is load_network("x", str(folders["clip"]))


def test_the_cache_has_a_largest_size_and_the_oldest_go_first(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file takes a block of 4,096 bytes or more on the disk: of 40 files at most nine tenths of 100 kB stay."""
    monkeypatch.setenv("STEERCLEAR_CACHE_GB", "0.0001")
    monkeypatch.setattr(cache_size, "_written", {})
    images, asked = tiny_vision.images(40), []

    def compute(some: torch.Tensor) -> torch.Tensor:
        asked.append(len(some))
        return some.float().mean((2, 3)).repeat(1, 300)  # 3,600 bytes

    expected = cached("key", images[:20], compute)
    first = {path.name for path in cache.rglob("*.features")}
    assert len(first) == 20
    for path in cache.rglob("*.features"):
        os.utime(path, (1, 1))
    later = cached("key", images[20:], compute)
    files = list(cache.rglob("*.features"))
    sizes = [max(path.stat().st_size, 512 * path.stat().st_blocks) for path in files]
    assert sum(sizes) + max(sizes) > 85_000
    assert sum(sizes) <= 90_000
    assert {image_digest(image) + ".features" for image in images[20:]} <= {
        path.name for path in files
    }  # the later ones stay
    asked.clear()
    assert torch.equal(cached("key", images[20:], compute), later)
    assert asked == []
    assert torch.equal(cached("key", images[:20], compute), expected)
    assert asked == [20 - len(first & {path.name for path in files})]


def test_a_cache_that_is_small_is_not_touched_nor_looked_through_each_time(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Path] = []
    monkeypatch.setattr(cache_size, "_written", {})
    monkeypatch.setattr(cache_size, "_files", lambda folder: looked.append(folder) or [(0, 10, "nowhere")])
    for _ in range(10):
        cache_size.make_room(cache, 400, 100_000)
    assert looked == [cache]
    cache_size.make_room(cache, 5000, 100_000)  # a twentieth
    assert looked == [cache, cache]


def test_what_others_keep_in_the_folder_stays(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is named by the user, and "features" in it may be theirs."""
    monkeypatch.setenv("STEERCLEAR_CACHE_GB", "0.0001")
    monkeypatch.setattr(cache_size, "_written", {})
    own = [cache / "features" / name for name in ("thesis.txt", "key/ab/notes.features", "key/ab/a.b")]
    for path in own:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(60_000))
        os.utime(path, (1, 1))
    left = cache / "features" / "key" / f"{64 * 'a'}.features.0123abcd.partial"
    left.write_bytes(bytes(99_000))
    os.utime(left, (2, 2))
    cached("key", tiny_vision.images(4), lambda some: some.float().mean((2, 3)).repeat(1, 300))
    assert all(path.is_file() for path in own)
    assert not left.exists()


@pytest.mark.parametrize("size", ["much", "0", "-1", "inf", "nan"])
def test_a_largest_size_that_is_none_is_refused(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERCLEAR_CACHE_GB", size)
    with pytest.raises(InvalidSetting, match=r"\$STEERCLEAR_CACHE_GB is .*, but must be a number above 0"):
        cached("key", tiny_vision.images(1), lambda some: some.float().mean((2, 3)))


def test_another_version_of_a_library_is_another_key(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    extractors = [ClipFeatures(str(folders["clip"])), VisionFeatures(str(folders["vision"]))]
    keys = [one.key for one in extractors]
    assert [one.key for one in extractors] == keys
    monkeypatch.setattr(network, "version", lambda library: {"transformers": "99.0", "timm": "1"}[library])
    newer = [one.key for one in extractors]
    assert not {*newer} & {*keys}
    monkeypatch.setattr(network, "version", lambda library: {"transformers": "99.0", "timm": "2"}[library])
    assert [one.key == key for one, key in zip(extractors, newer, strict=True)] == [
        True,
        False,
    ]  # CLIP does without timm


def test_a_network_that_was_trained_again_is_loaded_again(tmp_path: Path, cache: Path) -> None:
    extractor, images = ClipFeatures(str(tiny_vision.clip(tmp_path / "one"))), tiny_vision.images(2)
    first, key = extractor.of(images), extractor.key
    tiny_vision.clip(tmp_path / "one", seed=9)
    assert extractor.key != key
    assert (extractor.of(images) - first).abs().max() > 0.01


# Inception


class _TinyInception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, 50)

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[-2:] == (299, 299)
        return self.first(images).mean((2, 3))


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder as timm's are on the hub, and a timm that makes a tiny network."""
    torch.manual_seed(0)
    model = _TinyInception()
    monkeypatch.setitem(
        sys.modules, "timm", SimpleNamespace(create_model=lambda name, pretrained, num_classes: _TinyInception())
    )
    weights = {**model.state_dict(), "fc.weight": torch.zeros(2, 2), "AuxLogits.fc.bias": torch.zeros(2)}
    save_file(weights, tmp_path / "model.safetensors")
    config = {"architecture": "inception_v3", "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.25, 0.5]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_a_classifier_that_was_trained_again_is_loaded_again(tmp_path: Path) -> None:
    images, path = tiny_vision.images(3), tmp_path / LABEL_CLASSIFIER
    for seed in (0, 1):
        torch.manual_seed(seed)
        classifier = LabelClassifier(3, 2).eval()
        classifier.save(path)
        assert torch.equal(DigitFeatures(str(tmp_path)).of(images), classify(classifier, images)[1])


def test_inceptions_features(timm: Path, cache: Path) -> None:
    images = torch.full((2, 3, 30, 40), 255, dtype=torch.uint8)
    found = InceptionFeatures(str(timm)).of(images)
    model = _TinyInception()
    from safetensors.torch import load_file

    model.load_state_dict({k: v for k, v in load_file(timm / "model.safetensors").items() if k.startswith("first")})
    seen = torch.tensor([1.0, 2.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 299, 299)  # (1 - mean) / deviation
    assert torch.allclose(found, model(seen).detach().expand(2, 6), atol=1e-5)


def test_inception_that_was_copied_anew_is_loaded_anew(timm: Path, cache: Path) -> None:
    images = torch.full((1, 3, 30, 40), 255, dtype=torch.uint8)
    before = InceptionFeatures(str(timm)).of(images)
    weights = {name: torch.zeros_like(value) for name, value in _TinyInception().state_dict().items()}
    save_file(weights, timm / "model.safetensors")
    after = InceptionFeatures(str(timm)).of(images)
    assert before.any()
    assert not after.any()


def test_inception_with_other_weights_is_refused(timm: Path) -> None:
    save_file({"second.weight": torch.zeros(2)}, timm / "model.safetensors")
    with pytest.raises(UnsupportedModel, match=r"is not its network: first.weight does not fit"):
        InceptionFeatures(str(timm)).of(tiny_vision.images(1))


def test_inception_without_timm(timm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingPackage, match=r"the features inception needs the package timm, .* pip install timm"):
        InceptionFeatures(str(timm)).of(tiny_vision.images(1))
