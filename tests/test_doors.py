"""The program where people really run it: any backend, any encoding, little memory; and its words."""

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

import steerclear
from steerclear.cli.app import main
from steerclear.core.errors import InvalidSetting, NotEnoughMemory, UnsupportedModel, lacks_memory, shortened
from steerclear.models.files import unloadable
from steerclear.study.commands import repeat_command
from steerclear.study.results import Results

MAN = "portrait photo of a man"
SMALL = ["--methods", "unguided", "--seeds", "0-1", "--steps", "1"]

pytestmark = pytest.mark.usefixtures("few_references")


@pytest.fixture(scope="module")
def run(few_references: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished comparison."""
    folder = tmp_path_factory.mktemp("doors") / "run"
    assert main(["compare", MAN, *SMALL, "--outdir", str(folder)]) == 0
    return folder


def shown(encoding: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str, str]:
    """Exit code, output and errors of the program on streams of an encoding."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=how) for how in ("strict", "backslashreplace")]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    code = main(arguments)
    assert [stream.errors for stream in streams] == ["strict", "backslashreplace"]  # as they were
    texts = []
    for stream in streams:
        stream.flush()
        texts.append(stream.buffer.getvalue().decode(encoding))
    return code, texts[0], texts[1]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_what_a_stream_cannot_show_is_shown_in_its_letters(
    encoding: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = shown(encoding, ["compare", MAN, *SMALL, "--outdir", str(run)], monkeypatch)
    assert (code, err.count("Traceback")) == (0, 0)
    frechet = "Frechet" if encoding == "ascii" else "Fréchet"
    assert f"note: The {frechet} distance is left out: it needs at least" in out
    assert "moved" in out
    assert "?" not in out + err
    assert "\\u" not in out + err
    code, out, err = shown(encoding, ["guidance", "list"], monkeypatch)
    assert (code, err) == (0, "")
    assert "autoguidance" in out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_help_is_shown_on_any_stream(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["--help"], ["compare", "--help"], ["generate", "--help"], ["guidance", "show", "negative"]):
        code, out, err = shown(encoding, arguments, monkeypatch)
        assert (code, err) == (0, "")
        assert len(out) > 100


def test_json_is_exact_on_any_stream(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["compare", MAN, *SMALL, "--outdir", str(run), "--format", "json"]
    for encoding in ("ascii", "utf-8"):
        code, out, _ = shown(encoding, arguments, monkeypatch)
        assert code == 0
        assert json.loads(out) == json.loads((run / "results.json").read_text(encoding="utf-8"))
        assert (
            Results.model_validate_json(out).notes[-1]
            == "2 images per method: read the intervals. A published figure needs at least 1,000."
        )
        assert ("é" in out, "\\u00e9" in out) == ((False, True) if encoding == "ascii" else (True, False))


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Fréchet", "Frechet"),
        ("56 % – 60 %", "56 % - 60 %"),
        ("↓ ↑ ◎", "v ^ o"),
        ("a → b", "a -> b"),
        ("σ² ≤ ∞", "sigma2 <= inf"),
        ("“hat” … ‘tie’", "\"hat\" ~ 'tie'"),
        ("Straße, Øre, Łódź", "Strasse, Ore, Lodz"),
        ("帽子", "??"),
        ("\udcff", "?"),
    ],
)
def test_letters_that_ascii_lacks(text: str, plain: str) -> None:
    from steerclear.cli.streams import SHOWABLE

    assert text.encode("ascii", SHOWABLE).decode() == plain
    assert text.encode("utf-8", SHOWABLE).decode() == text.replace("\udcff", "?")


def test_an_answer_of_people_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """PYTHONIOENCODING=ascii:xmlcharrefreplace says itself what is wanted."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="xmlcharrefreplace")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["--help"]) == 0
    assert stream.errors == "xmlcharrefreplace"


def test_bytes_of_another_locale(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """LC_ALL=POSIX: Python reads what is no ASCII as halves of characters, and what was typed is UTF-8."""
    odd = tmp_path / "caf\udcc3\udca9 \udcff"
    typed = "a caf\udcc3\udca9"
    assert main(["compare", typed, *SMALL, "--outdir", str(odd), "--format", "json"]) == 0
    found = Results.model_validate_json(capsys.readouterr().out)
    assert found.prompt == "a café"
    assert repeat_command(["compare", typed, "--outdir", "caf\udcc3\udca9 \udcff"]) == (
        "steerclear compare 'a café' --outdir 'café \ufffd'"
    )
    assert (odd / "report.html").is_file()
    for option, what in (("--model", "the model"), ("--weak", "the weak network"), ("--lora", "a LoRA")):
        assert main(["generate", MAN, option, "n\udcff"]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert (
            said
            == f"steerclear: {what} is 'n\\udcff', but must be a name in UTF-8; rename it, or set a locale of UTF-8."
        )


def ran(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh process, in which modules are loaded anew."""
    own = {"PYTHONPATH": str(Path(steerclear.__file__).parents[1])}  # this source tree's
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, env=os.environ | own | environment
    )


def test_the_backend_of_a_notebook_does_not_matter_and_stays_its_own() -> None:
    script = (
        "import os, steerclear.telling.figures.base as base, matplotlib; "
        "print(len(base.png(base.sentence('a', base.LIGHT))) > 100, os.environ['MPLBACKEND'], matplotlib.get_backend())"
    )
    unknown = "module://matplotlib_inline.backend_inline"
    done = ran("-c", script, MPLBACKEND=unknown)
    assert (done.stderr, done.stdout.split()[:2]) == ("", ["True", unknown])
    assert ran("-c", script, MPLBACKEND="svg").stdout.split() == ["True", "svg", "svg"]


def test_python_m_steerclear_is_the_program() -> None:
    done = ran("-m", "steerclear", "--version")
    assert (done.returncode, done.stdout.split()[0], done.stderr) == (0, "steerclear", "")


FULL = "steerclear: there is not enough memory"
FULL_LOADING = (
    "steerclear: there is not enough memory to load the model 'portraits'; free memory, or load with --dtype float16."
)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to ..."
        ),
        RuntimeError("std::bad_alloc"),
        RuntimeError("could not create a primitive"),
        RuntimeError("can't start new thread"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        SafetensorError("Cannot allocate memory (os error 12)"),
    ],
)
@pytest.mark.parametrize("told", ["alone", "in another's words"])
def test_too_little_memory_is_a_sentence_wherever_it_comes(
    error: Exception, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """While loading, where libraries hide it behind errors of their own, as well as outside of it."""

    def full(*arguments: object, **settings: object) -> None:
        if told == "alone":
            raise error
        try:
            raise error
        except Exception as cause:
            raise RuntimeError("Failed to import diffusers (look up to see its traceback)") from cause

    # the first is outside, the second inside of what turns errors of libraries into sentences about files
    for place in ("_check_parts", "_parts"):
        with monkeypatch.context() as patch:
            patch.setattr(f"steerclear.models.loading.{place}", full)
            assert main(["generate", MAN, "--seeds", "0", "--steps", "1", "--outdir", str(tmp_path / "o")]) == 2
        printed = " ".join(capsys.readouterr().err.split())
        assert printed == FULL_LOADING


def test_the_sentence_about_memory_needs_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The console loads modules when it first prints."""

    def full(*arguments: object, **settings: object) -> None:
        raise MemoryError

    monkeypatch.setattr("rich.console.Console.print", full)
    monkeypatch.setattr("steerclear.models.loading._check_parts", full)
    assert main(["generate", MAN]) == 2
    assert capsys.readouterr().err.startswith(FULL)


def test_words_between_colons_are_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", MAN, "--guidance", ":cat:"]) == 2
    assert "there is no guidance ':cat:'" in capsys.readouterr().err


def test_an_error_that_is_not_about_memory_stays_itself() -> None:
    for error in (
        RuntimeError("could not create a primitive descriptor for a matmul"),
        OSError("damaged"),
        KeyError(1),
    ):
        assert not lacks_memory(error)


def test_a_network_for_which_there_is_no_memory_is_not_called_damaged() -> None:
    with pytest.raises(NotEnoughMemory, match="load the model 'm'; free memory, or load with dtype='float16'"):
        raise unloadable("the model 'm'", "its unet is damaged", MemoryError())
    with pytest.raises(UnsupportedModel, match="the model 'm' cannot be loaded: its unet is damaged"):
        raise unloadable("the model 'm'", "its unet is damaged", KeyError("conv_in"))


def test_a_limit_of_memory_is_a_sentence(tmp_path: Path) -> None:
    """Where loading itself has too little."""
    resource = pytest.importorskip("resource")
    script = (
        "import resource, sys, torch, diffusers, transformers; from pathlib import Path; "
        "from steerclear.cli.app import main; import steerclear.models.loading, diffusers.pipelines.pipeline_utils; "
        "pages = int(Path('/proc/self/statm').read_text().split()[0]); "
        "limit = pages * resource.getpagesize() + 2**20; resource.setrlimit(resource.RLIMIT_AS, (limit, limit)); "
        f"sys.exit(main(['generate', '{MAN}', '--seeds', '0', '--outdir', {str(tmp_path / 'o')!r}]))"
    )
    assert resource.RLIMIT_AS is not None
    done = ran("-c", script)
    assert (done.returncode, done.stderr.count("Traceback")) == (2, 0)
    assert done.stderr.startswith(FULL)


LONG = "very " * 20_000


@pytest.mark.parametrize(
    ("arguments", "start", "end"),
    [
        (["compare", MAN + " " + LONG], "steerclear: the prompt is longer than the ", "Shorten it, or put what matters first."),
        (["generate", MAN, "--guidance", "negative", "--negative-prompt", LONG], "steerclear: the negative prompt is longer than the", "put what matters first."),
        (["compare", " " * 100_000], "steerclear: the prompt is empty (' ", "say in a few words what the image should show."),
        (["compare", MAN, "--methods", LONG], "steerclear: there is no method 'very very", "safe-latent, unguided."),
        (["compare", MAN, "--model", LONG], "steerclear: there is no model folder or shipped model 'very", "Available: digits, portraits."),
        (["compare", MAN, "--weak", LONG], "steerclear: the weak network 'very ", "snapshot."),
        (["compare", MAN, "--lora", "a" * 100_000], "steerclear: there is no LoRA 'aaaa", "owner/model/file.safetensors."),
        (["compare", MAN, "--scheduler", LONG], "steerclear: there is no scheduler 'very very", "unipc."),
        (["generate", MAN, "--set", "guidance_scale=" + LONG], "steerclear: guidance_scale is 'very very", "a finite number."),
        (["compare", MAN, "--seeds", "9," * 50_000], "steerclear: seeds is '9,9,9", "seeds are whole numbers of at least 0."),
        (["compare", MAN, "--device", LONG], "steerclear: device is 'very very", "."),
        (["compare", MAN, "--outdir", "a" * 100_000], "steerclear: File name too long 'aaaa", "(100,002 characters); give another --outdir (training: or --folder)."),
    ],
)  # fmt: skip
def test_what_is_long_is_not_echoed_whole(
    arguments: list[str], start: str, end: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = " ".join(capsys.readouterr().err.split())
    assert printed.startswith(start)
    assert printed.endswith(end)
    assert len(printed) < 2500


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENAMETOOLONG])
def test_a_folder_that_cannot_be_made_is_said_with_what_to_do(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: object, **settings: object) -> None:
        raise OSError(number, os.strerror(number), "/proc/run")

    monkeypatch.setattr("steerclear.study.request.refuse_early", refused)
    assert main(["compare", MAN, "--outdir", "run"]) == 2
    remedy = "give another --outdir (training: or --folder)"
    assert " ".join(capsys.readouterr().err.split()) == f"steerclear: {os.strerror(number)} '/proc/run'; {remedy}."


def test_a_number_of_more_digits_than_python_writes() -> None:
    assert (
        str(InvalidSetting("seed", 10**5000, "a seed"))
        == "seed is a number of more than 4,300 digits, but must be a seed."
    )
    assert str(InvalidSetting("seed", -3, "a seed")) == "seed is -3, but must be a seed."


def test_shortened_texts_say_how_long_they_are() -> None:
    assert shortened("a" * 1000) == "a" * 1000
    assert shortened("a" * 1001) == "a" * 600 + " ... " + "a" * 200 + " (1,001 characters)"
