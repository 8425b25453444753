"""The answer in words, no stronger than the measurements: a difference is claimed only where intervals are apart."""

import math
from collections.abc import Sequence

from ..core.laboratory import Column, Measurement
from ..study.results import MethodResult, Results
from .table import cell, concept_columns, side_effect_column, truth, truth_text


def quoted(words: str) -> str:
    return f"“{words}”"


def listed(parts: Sequence[str]) -> str:
    """Parts as in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def question(results: Results) -> str:
    """What was asked, in one sentence."""
    prompt = quoted(results.prompt)
    if not results.negative_prompts:
        return f"What do {len(results.methods)} ways of guiding {prompt} change?"
    negatives = " or ".join(map(quoted, results.negative_prompts))
    return f"{prompt}, but no {negatives}: what does each way of saying so remove, and what else does it change?"


def apart(lower: Measurement | None, higher: Measurement | None) -> bool:
    """Whether one number is below another as far as their 95 % intervals can say: these do not meet.

    A number without an interval is never apart from another.

    >>> apart(Measurement(value=0.1, low=0.0, high=0.2), Measurement(value=0.5, low=0.3, high=0.7))
    True
    >>> apart(Measurement(value=0.1), Measurement(value=0.5))
    False
    """
    if lower is None or higher is None or lower.high is None or higher.low is None:
        return False
    return lower.high < higher.low  # false for NaN as well


def summary(results: Results) -> list[str]:
    """The answer in about two sentences: what removed the concept, and what that did to everything else.

    Args:
        results: what ``compare`` found.
    """
    if not results.methods or not results.negative_prompts:
        return ["There is no negative prompt, so nothing was to be removed; the table says what each method changed."]
    concepts = concept_columns(results)
    if not concepts:
        negatives = " or ".join(map(quoted, results.negative_prompts))
        return [f"Nothing here can see {negatives}, so how often it shows was not measured: look at the images."]
    sentences = []
    for concept in concepts:
        sentence, removers = _removal(results, concept)
        sentences.append(sentence)
    # With several concepts, the last sentence is about the methods that removed the last of them.
    side_effect = _side_effect(results, removers)
    return [*sentences, side_effect] if side_effect else sentences


def baseline(results: Results) -> MethodResult | None:
    """The method that asks for nothing but the prompt, without guidance."""
    for method in results.methods:
        plain = not method.negative_prompts and method.prompt == results.prompt
        if plain and method.guidance.get("_class_name") == "Unguided":
            return method
    return None


def _measured(methods: Sequence[MethodResult], column: Column) -> list[MethodResult]:
    """Those with a number in the column, the lowest first."""
    found = [method for method in methods if column.name in method.measurements]
    finite = [method for method in found if math.isfinite(method.measurements[column.name].value)]
    return sorted(finite, key=lambda method: method.measurements[column.name].value)


def _named(method: MethodResult, column: Column) -> str:
    return f"{quoted(method.label)} ({cell(method.measurements[column.name], column.percent)})"


def _removal(results: Results, concept: Column) -> tuple[str, list[MethodResult]]:
    """Which methods show the concept less, and those methods."""
    plain, name = baseline(results), concept.name
    methods = _measured(results.methods, concept)
    if plain is None or plain not in methods:
        return _lowest(methods, concept), methods
    fewer = [one for one in methods if apart(one.measurements[name], plain.measurements[name])]
    more = [one for one in methods if apart(plain.measurements[name], one.measurements[name])]
    shown = f"{quoted(concept.label)} shows in {cell(plain.measurements[name], concept.percent)} of the unguided images"
    if fewer:
        sentence = f"{shown}, clearly less often with {listed([_named(one, concept) for one in fewer])}"
        if len(fewer) > 1:
            sentence += f"; {_against(fewer[0], fewer[1:], concept)}"
    else:
        sentence = f"{shown}, and with no other method can fewer be claimed: the intervals overlap"
    if more:
        sentence += f"; it shows clearly more often with {listed([_named(one, concept) for one in more])}"
    return sentence + ".", fewer


def _lowest(methods: list[MethodResult], column: Column) -> str:
    """The lowest number of a column, what it is clearly below, and what it cannot be told apart from."""
    first, *others = methods
    sentence = f"The lowest {column.label} measured is that of {_named(first, column)}"
    return sentence + (f"; {_against(first, others, column, numbers=True)}." if others else ".")


def _against(first: MethodResult, others: Sequence[MethodResult], column: Column, *, numbers: bool = False) -> str:
    """Which of the others a method is clearly below, and which it cannot be told apart from."""
    above = [one for one in others if apart(first.measurements[column.name], one.measurements[column.name])]
    alike = [one for one in others if one not in above]

    def names(methods: list[MethodResult]) -> str:
        return listed([_named(one, column) if numbers else quoted(one.label) for one in methods])

    parts = [f"is clearly below {names(above)}"] * bool(above) + [f"cannot be told apart from {names(alike)}"] * bool(
        alike
    )
    return f"{'it' if numbers else quoted(first.label)} {' and '.join(parts)}"


def _side_effect(results: Results, removers: list[MethodResult]) -> str | None:
    column = side_effect_column(results)
    if column is None:
        return None
    methods = _measured(removers or results.methods, column)
    if not methods:
        return None
    if len(methods) == 1:
        measured = cell(methods[0].measurements[column.name], column.percent)
        sentence = f"The {column.label} of {quoted(methods[0].label)} is {measured}."
    else:
        sentence = _lowest(methods, column)
        if removers:
            sentence = f"Of these, {sentence[0].lower()}{sentence[1:]}"
    known = truth(results, column)
    if known is None:
        return sentence
    return f"{sentence.removesuffix('.')}; a perfect answer would have {truth_text(known, column.percent)}."
