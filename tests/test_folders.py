"""The folder of a run, at the program's doors: whose it is, what is found in it, and what is made again."""

import builtins
import errno
import io
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kills
from steerclear.cli.app import main
from steerclear.core.errors import FolderConflict
from steerclear.guidance.unguided import Unguided
from steerclear.models import loading
from steerclear.study import request
from steerclear.study.folders import only_process
from steerclear.study.gallery import write_text
from steerclear.study.generate import generate as generate_images
from steerclear.study.methods import Method
from steerclear.study.run import recipe_of

MAN, WOMAN = "portrait photo of a man", "portrait photo of a woman"
SMALL = ["--seeds", "0-3", "--steps", "2", "--batch-size", "2"]
METHODS = ["--methods", "unguided,cfg", "--steps", "2", "--batch-size", "2"]

pytestmark = pytest.mark.usefixtures("loaded_once", "few_references")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@pytest.fixture(autouse=True, scope="module")
def short_report() -> Any:
    """Drawing is tested elsewhere; here it is only looked at when and what is written."""
    from steerclear.telling import report

    def write_report(results: Any, folder: Path) -> None:
        write_text(folder / report.REPORT_FILE, results.model_dump_json())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "write_figures", lambda results, folder: None)
        patch.setattr(report, "write_report", write_report)
        yield


def generate(folder: Path, prompt: str = MAN, *more: str) -> int:
    return main(["generate", prompt, "--guidance", "unguided", *SMALL, "--outdir", str(folder), *more])


def compare(folder: Path, *more: str) -> int:
    return main(["compare", MAN, *METHODS, "--outdir", str(folder), *more])


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def images(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Path -> when it was written, and its bytes."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.glob("**/*.png") if path.parent != folder}
    found |= {path.name: path for path in folder.glob("0*.png")}
    return {name: (path.stat().st_mtime_ns, path.read_bytes()) for name, path in found.items()}


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def fails() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_run_that_fails_before_its_first_image_leaves_the_folder_free(tmp_path: Path) -> None:
    with kills.at("forward", 1, fails):
        assert generate(tmp_path / "o") == 2
    assert not (tmp_path / "o").exists()
    (tmp_path / "there").mkdir()
    with kills.at("forward", 1, fails):
        assert compare(tmp_path / "there", "--seeds", "0") == 2
    assert list((tmp_path / "there").iterdir()) == []  # a folder that was there stays


@forks
def test_a_run_that_is_killed_before_its_first_image_leaves_the_folder_free(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with kills.at("forward", 1):
            generate(tmp_path / "o")
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert (tmp_path / "o" / "run.json").exists()
    assert generate(tmp_path / "o", WOMAN) == 0
    assert json.loads((tmp_path / "o" / "run.json").read_text())["prompt"] == WOMAN


def test_a_comparison_is_extended_by_seeds_and_by_methods(tmp_path: Path) -> None:
    assert compare(tmp_path / "grows", "--seeds", "0-1") == 0
    before = images(tmp_path / "grows")
    assert compare(tmp_path / "grows", "--seeds", "0-3") == 0
    found = json.loads((tmp_path / "grows" / "results.json").read_text())
    assert (found["seeds"], [len(method["images"]) for method in found["methods"]]) == ("0-3", [4, 4])
    after = images(tmp_path / "grows")
    assert {name: after[name] for name in before} == before
    assert compare(tmp_path / "at once", "--seeds", "0-3") == 0
    assert {name: data for name, (_, data) in after.items()} == {
        name: data for name, (_, data) in images(tmp_path / "at once").items()
    }
    assert compare(tmp_path / "grows", "--seeds", "0-3", "--methods", "cfg,unguided,rescaled") == 0
    found = json.loads((tmp_path / "grows" / "results.json").read_text())
    assert [method["name"] for method in found["methods"]] == ["cfg", "unguided", "rescaled"]
    assert "rescaled" in (tmp_path / "grows" / "report.html").read_text()
    assert {name: data for name, data in images(tmp_path / "grows").items() if name in after} == after


@forks
def test_the_second_process_in_a_folder_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (begun, begins), (goes, go) = os.pipe(), os.pipe()

    def wait() -> None:
        os.write(begins, b".")
        os.read(goes, 1)

    child = os.fork()
    if child == 0:
        with kills.at("half", 2, wait):
            os._exit(generate(tmp_path / "o"))
    os.read(begun, 1)
    try:
        second, said = generate(tmp_path / "o"), printed(capsys)
    finally:
        os.write(go, b".")
        ended = os.WEXITSTATUS(os.waitpid(child, 0)[1])
    assert (second, ended) == (2, 0)
    assert "steerclear: another process is using the folder" in said
    assert names(tmp_path / "o") == [*(f"{seed:05d}.png" for seed in range(4)), "run.json", "sheet.png"]
    assert generate(tmp_path / "o", MAN, "--seeds", "0-4") == 0


def test_a_benchmark_has_its_images_to_itself_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    with only_process(tmp_path / "images"):
        assert main(["benchmark", "autoguidance", "--seeds", "0-47", "--outdir", str(tmp_path)]) == 2
    assert f"another process is using the folder {str(tmp_path / 'images')!r}" in printed(capsys)


@pytest.mark.parametrize(
    ("run", "damage"),
    [
        (generate, '{"command": "gen'),
        (generate, "[1]"),
        (generate, None),
        (lambda folder: compare(folder, "--seeds", "0-1"), ""),
    ],
)
def test_a_damaged_claim_is_written_again_from_the_images(
    run: Any, damage: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "o") == 0
    claim, before = tmp_path / "o" / "run.json", images(tmp_path / "o")
    whole = claim.read_bytes()
    claim.unlink() if damage is None else claim.write_text(damage)
    capsys.readouterr()
    assert generate(tmp_path / "o", WOMAN) == 2  # of another question the images say nothing
    assert "FolderConflict" not in printed(capsys)
    assert run(tmp_path / "o") == 0
    assert f"{claim} {'is missing' if damage is None else 'is damaged'}; it is written again" in printed(capsys)
    assert (claim.read_bytes(), images(tmp_path / "o")) == (whole, before)


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a folder one on a disk that can only be read, also for who may write everywhere."""

    def refuse(folder: Path, number: int) -> None:
        file_open, system_open = io.open, os.open

        def within(path: Any) -> bool:
            return isinstance(path, (str, os.PathLike)) and str(path).startswith(str(folder))

        def opened(path: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
            if within(path) and set(mode) & set("wax+"):
                raise OSError(number, os.strerror(number), str(path))
            return file_open(path, mode, *arguments, **named)

        def system_opened(path: Any, flags: int, *arguments: Any, **named: Any) -> Any:
            if within(path) and flags & (os.O_CREAT | os.O_RDWR | os.O_WRONLY):
                raise OSError(number, os.strerror(number), str(path))
            return system_open(path, flags, *arguments, **named)

        monkeypatch.setattr(io, "open", opened)
        monkeypatch.setattr(builtins, "open", opened)
        monkeypatch.setattr(os, "open", system_opened)

    return refuse


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_finished_run_on_a_disk_that_can_only_be_read_is_shown_again(
    number: int, read_only: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(tmp_path / "images") == 0
    assert compare(tmp_path / "compare", "--seeds", "0-1") == 0
    capsys.readouterr()
    read_only(tmp_path, number)
    assert generate(tmp_path / "images") == 0
    assert compare(tmp_path / "compare", "--seeds", "0-1") == 0
    assert "warning" not in printed(capsys)
    assert compare(tmp_path / "compare", "--seeds", "0") == 0  # what is found is shown, and cannot be saved
    assert f"results.json stays unchanged: the folder cannot be written ({os.strerror(number)})" in printed(capsys)
    assert generate(tmp_path / "images", MAN, "--seeds", "0-4") == 2  # an image is missing
    said = printed(capsys)
    assert os.strerror(number) in said
    assert "what was done is kept" in said


def test_two_questions_without_a_folder_go_to_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["--guidance", "unguided", "--seeds", "0", "--steps", "1"]
    for prompt in (MAN, WOMAN, MAN, "..", "猫/../x"):
        assert main(["generate", prompt, *small]) == 0
    assert main(["generate", MAN, *small, "--seeds", "0-1"]) == 0  # more images of the same question
    found = {folder.name.rsplit("-", 1)[0]: len(names(folder)) for folder in Path("out/generate").iterdir()}
    assert len(list(Path("out/generate").iterdir())) == 4
    assert (found["portrait-photo-of-a-man"], found["portrait-photo-of-a-woman"]) == (4, 3)
    assert main(["compare", MAN, "--methods", "unguided", "--seeds", "0", "--steps", "1"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert sorted(path.name for path in Path("out").iterdir()) == ["compare", "generate"]


def test_a_question_has_one_folder_however_its_names_are_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[Path] = []

    def refuse_early(folder: Path, known: object) -> None:
        seen.append(folder)
        raise FolderConflict("enough is known")

    monkeypatch.setattr(request, "refuse_early", refuse_early)

    def chosen(*ways: tuple[str, ...]) -> list[int]:
        seen.clear()
        for command in ("generate", "compare"):
            for way in ways:
                assert main([command, MAN, *way]) == 2
        return [len(set(seen[: len(ways)])), len(set(seen[len(ways) :]))]

    assert chosen(*(("--scheduler", name) for name in ("euler_a", "euler a", "Euler A"))) == [1, 1]
    assert chosen(*(("--scheduler", name) for name in ("euler_a", "euler", "ddim"))) == [3, 3]
    kinds = ("noised:0.1", "noised:strength=0.1", "noised: strength=1e-1, seed=0", "Noised")
    assert chosen(*(("--weak", kind) for kind in kinds)) == [1, 1]
    assert chosen(*(("--weak", kind) for kind in ("noised:0.1", "noised:0.10000001", "noised:seed=1"))) == [3, 3]


def test_a_kind_of_weak_network_is_one_however_it_is_typed(tmp_path: Path) -> None:
    asked = ["generate", MAN, "--guidance", "autoguidance", "--steps", "1", "--outdir", str(tmp_path)]
    assert main([*asked, "--seeds", "0", "--weak", "noised:0.2"]) == 0
    stamp = (tmp_path / "00000.png").stat().st_mtime_ns
    assert main([*asked, "--seeds", "0-1", "--batch-size", "1", "--weak", "noised:strength=0.20, seed=0"]) == 0
    assert (tmp_path / "00000.png").stat().st_mtime_ns == stamp
    assert json.loads((tmp_path / "run.json").read_text())["networks"] == {
        "weak": {"source": "noised:strength=0.2", "digest": None}
    }


def test_a_home_folder_is_found_where_the_shell_left_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert generate(Path("~/x")) == 0
    assert (tmp_path / "home" / "x" / "00000.png").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert generate(Path("~nobody-of-this-name/x")) == 2
    model = loading.load_model("portraits")
    made = recipe_of(model, Method("unguided", "unguided", MAN, (), Unguided()), 1)
    assert generate_images(model, made, [0], "~/y")[0].path == tmp_path / "home" / "y" / "00000.png"
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the folder is '', but must be a path; '.' is the folder you are in."),
        ("a\0b", r"the folder is 'a\x00b', but must be a path; take the character NUL out of it."),
        ("~nobody-of-this-name", "the folder is '~nobody-of-this-name', but must be a path; it names no home folder"),
    ],
)
def test_what_names_no_folder_is_a_sentence(text: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["generate", MAN], ["compare", MAN], ["benchmark", "shipped"], ["train", "portraits"]):
        assert main([*command, "--outdir", text]) == 2
        assert f"steerclear: Invalid value for '--outdir': {sentence}" in printed(capsys)


def test_a_folder_is_refused_before_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(tmp_path / "o") == 0
    assert compare(tmp_path / "c", "--seeds", "0") == 0
    (tmp_path / "file").touch()
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mother.txt").touch()
    monkeypatch.setattr(loading, "load_model", lambda *arguments, **named: pytest.fail("the model was loaded"))
    capsys.readouterr()
    for sentence, run in {
        f"holds another run (prompt: {MAN!r} there, {WOMAN!r} now)": lambda: generate(tmp_path / "o", WOMAN),
        "holds another run (num_inference_steps: 2 there, 3 now)": lambda: generate(
            tmp_path / "o", MAN, "--steps", "3"
        ),
        "holds another run (command: 'generate' there": lambda: compare(tmp_path / "o", "--seeds", "0"),
        "holds another run (cfg.guidance_scale: 3.0 there, 4.0": lambda: compare(
            tmp_path / "c", "--guidance-scale", "4"
        ),
        "is a file, not a folder": lambda: generate(tmp_path / "file"),
        "is not empty and does not hold a run": lambda: compare(tmp_path / "letters"),
        "there is no method 'cgf'": lambda: compare(tmp_path / "new", "--methods", "cgf"),
        "guidance_scale is nan": lambda: compare(tmp_path / "new", "--guidance-scale", "nan"),
        "the prompt is empty": lambda: main(["compare", " "]),
        "must be an increasing range": lambda: main(["benchmark", "shipped", "--seeds", "3-1"]),
    }.items():
        assert run() == 2
        assert sentence in printed(capsys)
    assert not (tmp_path / "new").exists()


@pytest.fixture
def own_signals() -> Iterator[None]:
    """Signals as a process in a terminal has them: one that runs in the background may have been told to ignore some."""
    usual = {"SIGINT": signal.default_int_handler, "SIGHUP": signal.SIG_DFL, "SIGTERM": signal.SIG_DFL}
    before = {
        number: signal.signal(number, usual[name])
        for name in usual
        if (number := getattr(signal, name, None)) is not None
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_ends_a_run_as_ctrl_c_does(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    number = getattr(signal, name, None)
    if number is None:
        pytest.skip("this system has no such signal")
    before = signal.getsignal(number)
    with kills.at("half", 2, lambda: os.kill(os.getpid(), number)):
        assert generate(tmp_path / "o") == 128 + number
    said = printed(capsys)
    assert (
        "steerclear: stopped; what was done is kept. Run the same command to go on (training: with --resume)." in said
    )
    assert names(tmp_path / "o") == ["00000.png", "run.json"]
    assert signal.getsignal(number) == before
    assert generate(tmp_path / "o") == 0
    with kills.at("forward", 1, lambda: os.kill(os.getpid(), number)):
        assert generate(tmp_path / "other") == 128 + number
    said = printed(capsys)
    assert said.endswith("steerclear: stopped.")
    assert not (tmp_path / "other").exists()


@pytest.mark.usefixtures("own_signals")
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_a_closed_terminal_ends_a_run_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar and the last sentence have nowhere to go."""
    closed: list[bool] = []

    class Terminal(io.StringIO):
        def write(self, text: str) -> int:
            if closed:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().write(text)

    def close() -> None:
        closed.append(True)
        os.kill(os.getpid(), signal.SIGHUP)

    monkeypatch.setattr(sys, "stderr", Terminal())
    with kills.at("half", 2, close):
        assert generate(tmp_path / "o") == 128 + signal.SIGHUP
    assert names(tmp_path / "o") == ["00000.png", "run.json"]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_a_signal_that_is_ignored_stays_so(tmp_path: Path) -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with kills.at("half", 2, lambda: os.kill(os.getpid(), signal.SIGHUP)):
            assert generate(tmp_path / "o") == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_program_runs_in_a_thread_and_without_sighup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(generate(tmp_path / "thread")))
    thread.start()
    thread.join()
    monkeypatch.delattr(signal, "SIGHUP", raising=False)  # as on Windows
    codes.append(generate(tmp_path / "windows"))
    assert codes == [0, 0]
