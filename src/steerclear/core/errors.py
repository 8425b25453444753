"""Every error that steerclear raises on purpose. Each says what is wrong, the value, what is allowed and what to do.

SteerclearError
├── InvalidSetting        a value out of range (also a ValueError)
│   └── GivenTwice        ... something given twice that may be given once
├── UnknownName           no such guidance, model, parameter, ... (suggests the nearest name)
├── PromptError           a prompt that cannot be used as given
│   ├── UnknownWords      ... because a testbed does not know its words
│   └── ImpossiblePrompt  ... because its probability in a testbed is 0
├── TooFewSamples         fewer images than a metric needs (also a ValueError)
├── UnfitFeatures         numbers that a metric cannot use (also a ValueError)
├── UnsupportedModel      a pipeline, network or scheduler that cannot be steered
├── MissingPackage        an optional package that is not installed (also an ImportError)
├── FolderConflict        an output folder that holds something else
├── NotEnoughMemory       the memory of the machine or its accelerator is full (also a MemoryError)
├── NotFiniteError        a network or a guidance returned NaN or infinity
└── TrainingDiverged      a loss that is not finite

SteerclearWarning         something requested has no effect; says why

Advice names Python arguments or command-line options, whichever are in use: ``in_words_of(python, command_line)``.
"""

import difflib
import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

_on_command_line: ContextVar[bool] = ContextVar("on_command_line", default=False)

NO_MEMORY = (
    "can't allocate memory", "Cannot allocate memory", "not enough memory", "out of memory", "std::bad_alloc",
    "Storage size calculation overflowed", "failed to map segment from shared object", "can't start new thread",
)  # fmt: skip
"""How torch, safetensors and the dynamic loader report a full memory. Only accelerators have an exception class for it."""

NO_MEMORY_WHOLE = "could not create a primitive"
"""How oneDNN reports it. With further words after it, the message means something else."""


@contextmanager
def on_command_line() -> Iterator[None]:
    """Within the block, errors and warnings name command-line options instead of Python arguments."""
    token = _on_command_line.set(True)
    try:
        yield
    finally:
        _on_command_line.reset(token)


def in_words_of(python: str, command_line: str) -> str:
    """The wording of some advice for Python or for the command line, whichever is in use.

    >>> in_words_of("give steer(..., weak=...)", "give --weak")
    'give steer(..., weak=...)'
    >>> with on_command_line():
    ...     in_words_of("give steer(..., weak=...)", "give --weak")
    'give --weak'
    """
    return command_line if _on_command_line.get() else python


def shortened(text: str, longest: int = 1000) -> str:
    """The text; without its middle if it has more than ``longest`` characters.

    >>> shortened("very " * 3, longest=10)
    'very v ...  (15 characters)'
    """
    if len(text) <= longest:
        return text
    head, tail = longest * 3 // 5, longest // 5
    return f"{text[:head]} ... {text[len(text) - tail :]} ({len(text):,} characters)"


def typed(value: object) -> str:
    """A setting's value, exactly, as typed on the command line.

    >>> typed(None), typed(True), typed(3.0), typed((0.3, 0.25)), typed(((1.0, 0.5), (4.0, -2.0))), typed(())
    ('none', 'yes', '3', '0.3, 0.25', '[1, 0.5], [4, -2]', 'none')
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(f"[{typed(one)}]" if isinstance(one, tuple) else typed(one) for one in value) or "none"
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def shown(value: object) -> str:
    """A value as error messages show it: numbers as they are, everything else as its repr, shortened.

    On the command line None, True, False and tuples are shown as typed there.

    >>> shown((0.3, None)), shown(True), shown("a man")
    ('(0.3, None)', 'True', "'a man'")
    >>> with on_command_line():
    ...     shown((0.3, None)), shown(True), shown("a man"), shown(((1.0, 0.5), (4.0, -2.0)))
    ('0.3, none', 'yes', "'a man'", '[1.0, 0.5], [4.0, -2.0]')
    """
    try:
        if _on_command_line.get():
            if value is None or isinstance(value, bool):
                return typed(value)
            if isinstance(value, tuple):
                parts = [f"[{shown(one)}]" if isinstance(one, tuple) else shown(one) for one in value]
                return shortened(", ".join(parts) or typed(()))
        return shortened(str(value) if isinstance(value, (int, float)) else repr(value))
    except ValueError:  # Python refuses to print integers of more digits
        return "a number of more than 4,300 digits"
    except RecursionError:
        return f"of type {type(value).__name__} and nested too deep to print"


def lacks_memory(error: BaseException | None) -> bool:
    """Whether an error, or one in its chain of causes, says that the memory is full.

    >>> lacks_memory(MemoryError()), lacks_memory(RuntimeError("std::bad_alloc")), lacks_memory(RuntimeError("damaged"))
    (True, True, False)
    """
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        text = str(error)
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or text == NO_MEMORY_WHOLE:
            return True
        if getattr(error, "errno", None) == errno.ENOMEM or any(words in text for words in NO_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


KEPT = "what was done is kept"
"""The note on an exception that stops a run whose finished part is kept."""


@contextmanager
def keeping(done: Callable[[], object]) -> Iterator[None]:
    """Add the note :data:`KEPT` to any exception that leaves the block, Ctrl-C included, if ``done()`` is true by then."""
    try:
        yield
    except BaseException as error:
        if done() and not keeps(error):
            error.add_note(KEPT)
        raise


def keeps(error: BaseException) -> bool:
    """Whether an exception carries the note :data:`KEPT`."""
    return KEPT in getattr(error, "__notes__", ())


class SteerclearError(Exception):
    """An error that the user can act on. The command line prints its message and exits with code 2."""


class SteerclearWarning(UserWarning):
    """Something requested has no effect, or less than expected; the message says why."""


class InvalidSetting(SteerclearError, ValueError):
    """A value out of range.

    >>> print(InvalidSetting("guidance_scale", float("nan"), "a finite number", "leave it out for the default"))
    guidance_scale is nan, but must be a finite number; leave it out for the default.
    """

    def __init__(self, name: str, value: object, allowed: str, remedy: str = "") -> None:
        ending = f"; {remedy.rstrip('.')}." if remedy else "."
        super().__init__(f"{name} is {shown(value)}, but must be {allowed}{ending}")


class GivenTwice(InvalidSetting):
    """Something given twice that may be given once.

    >>> print(GivenTwice("the seed 1"))
    the seed 1 is given twice; give it once.
    >>> print(GivenTwice("guidance_scale", "3.0", "2"))
    guidance_scale is given twice, as 3.0 and as 2; give it once.
    """

    def __init__(self, what: str, *values: str) -> None:
        ways = " and ".join(f"as {shortened(value)}" for value in values)
        Exception.__init__(self, f"{what} is given twice{ways and f', {ways}'}; give it once.")


class UnknownName(SteerclearError, KeyError):
    """An unknown name.

    Args:
        kind: the kind of thing that is named.
        name: as given.
        known: the available names.
        within: restriction of the available names, such as "for this model".

    >>> print(UnknownName("guidance", "autoguidence", ["autoguidance", "cfg"]))
    there is no guidance 'autoguidence'; did you mean 'autoguidance'? Available: autoguidance, cfg.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], within: str = "") -> None:
        known = sorted(known)
        folded = {one.casefold(): one for one in known}
        near = difflib.get_close_matches(str(name).casefold(), folded, n=1, cutoff=0.5)
        hint = f"; did you mean {folded[near[0]]!r}?" if near else "."
        available = f"Available {within}".rstrip()
        self.message = f"there is no {kind} {shown(name)}{hint} {available}: {', '.join(known) or 'none'}."
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message  # KeyError would show it in quotes


class PromptError(SteerclearError, ValueError):
    """A prompt that cannot be used as given: empty, or longer than the text encoder reads."""


class UnsupportedModel(SteerclearError):
    """A pipeline, network or scheduler that cannot be steered; says what is missing."""


class MissingPackage(SteerclearError, ImportError):
    """An optional package that is not installed.

    >>> print(MissingPackage("to_pandas()", "pandas"))
    to_pandas() needs the package pandas, which is not installed here; install it: pip install pandas.
    """

    def __init__(self, what: str, package: str) -> None:
        missing = f"{what} needs the package {package}, which is not installed here"
        super().__init__(f"{missing}; install it: pip install {package}.")


class FolderConflict(SteerclearError):
    """An output folder that holds the results of other settings."""


class NotEnoughMemory(SteerclearError, MemoryError):
    """The memory is full.

    Args:
        loaded: what was being loaded; empty while images are generated.

    >>> print(NotEnoughMemory("the model 'm'"))
    there is not enough memory to load the model 'm'; free memory, or load with dtype='float16'.
    >>> print(NotEnoughMemory())
    there is not enough memory; lower batch_size or free memory, then run again.
    """

    def __init__(self, loaded: str = "") -> None:
        half, smaller = in_words_of("dtype='float16'", "--dtype float16"), in_words_of("batch_size", "--batch-size")
        loading = f" to load {loaded}; free memory, or load with {half}."
        running = f"; lower {smaller} or free memory, then run again."
        super().__init__(f"there is not enough memory{loading if loaded else running}")


class NotFiniteError(SteerclearError, ArithmeticError):
    """A network or a guidance returned NaN or infinity.

    >>> print(NotFiniteError("the decoded image", "for seed 3", "Try float32."))
    the decoded image is not finite for seed 3. Try float32.
    """

    def __init__(self, what: str, where: str, remedy: str) -> None:
        super().__init__(f"{what} is not finite {where}. {remedy}")


class TrainingDiverged(SteerclearError, ArithmeticError):
    """A training loss or its gradient is not finite."""

    def __init__(self, stage: str, step: int, value: float, what: str = "loss") -> None:
        super().__init__(
            f"the {what} of stage {stage!r} became {value} at step {step}. "
            f"Resume with a lower learning rate, or restart with another seed."
        )


class UnknownWords(PromptError):
    """A prompt with words that a testbed does not know, listed in ``words``."""

    def __init__(self, prompt: str, words: Sequence[str], known: str) -> None:
        self.words = tuple(words)
        quoted = shortened(", ".join(repr(word) for word in words))
        super().__init__(
            f"the prompt {shown(prompt)} contains {quoted}, which this world does not know. "
            f"Leave that out, or use the words it knows: {known}."
        )


class ImpossiblePrompt(PromptError):
    """A prompt whose probability in a testbed is 0, so there is no truth to compare with."""

    def __init__(self, prompt: str, without: str | None) -> None:
        wish = shown(prompt) if without is None else f"{shown(prompt)} without {shown(without)}"
        super().__init__(
            f"the prompt {wish} has probability 0 in this world, so there is no truth to compare with. "
            f"Ask for less, or remove the words that exclude it."
        )


class TooFewSamples(SteerclearError, ValueError):
    """Fewer images than a metric needs."""

    def __init__(self, metric: str, count: int, needed: int, what: str = "samples") -> None:
        super().__init__(f"{metric} needs at least {needed} {what} and was given {count}. Generate more images.")


class UnfitFeatures(SteerclearError, ValueError):
    """Numbers that a metric cannot use: not finite, or of the wrong shape."""


def first_line(error: BaseException) -> str:
    """The message of another library's error in one line: its first line, without the final full stop.

    A line that ends with a colon is joined with the next. An error without a message is named by its type.

    >>> first_line(ValueError("wrong settings:\\n  - in_channels is -4\\nsee the manual")), first_line(KeyError())
    ('wrong settings: - in_channels is -4', 'KeyError')
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    told = 1
    while lines[told - 1].endswith(":") and told < len(lines):
        told += 1
    return shortened(" ".join(lines[:told]).rstrip("."))
