"""The results in words: a difference is claimed only if the 95 % intervals do not overlap."""

import math
from collections.abc import Sequence

from ..core.laboratory import Column, Measurement
from ..study.results import MethodResult, Results
from .table import cell, concept_columns, side_effect_column, true_value, truth, truth_cell


def quoted(words: str) -> str:
    return f"“{words}”"


def listed(parts: Sequence[str]) -> str:
    """The parts joined as in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def question(results: Results) -> str:
    """The question of a comparison, in one sentence."""
    if results.folders:
        return _question_of_folders(results)
    prompt = quoted(results.prompt)
    if not results.negative_prompts:
        return f"What do {len(results.methods)} ways of guiding {prompt} change?"
    negatives = " or ".join(map(quoted, results.negative_prompts))
    return f"{prompt}, but no {negatives}: what does each way of saying so remove, and what else does it change?"


def _question_of_folders(results: Results) -> str:
    """The question of measured folders."""
    concepts = " or ".join(map(quoted, results.negative_prompts))
    several = len(results.methods) > 1
    where = (
        f"the images of {len(results.methods)} folders"
        if several
        else f"the images in {quoted(results.methods[0].label)}"
    )
    if not concepts:
        return f"How do {where} differ from the reference?"
    else_ = "" if results.target is None else ", and what else is other than it should be"
    return f"How often do {where} show {concepts}{else_}?"


def apart(lower: Measurement | None, higher: Measurement | None) -> bool:
    """Whether one number is clearly below another: their 95 % intervals do not overlap; False without an interval.

    >>> apart(Measurement(value=0.1, low=0.0, high=0.2), Measurement(value=0.5, low=0.3, high=0.7))
    True
    >>> apart(Measurement(value=0.1), Measurement(value=0.5))
    False
    """
    if lower is None or higher is None or lower.high is None or higher.low is None:
        return False
    return lower.high < higher.low  # false for NaN as well


def summary(results: Results) -> list[str]:
    """The results in about two sentences: which methods removed the concept, and what else they changed."""
    if results.folders and not results.negative_prompts:
        return [side for side in [_side_effect(results, [])] if side]
    if not results.methods or not results.negative_prompts:
        return [
            "There is no negative prompt, so there was nothing to remove; the table shows what each method changed."
        ]
    concepts = concept_columns(results)
    if not concepts:
        negatives = " or ".join(map(quoted, results.negative_prompts))
        return [f"No judge recognizes {negatives}, so how often it shows was not measured: look at the images."]
    sentences = []
    for concept in concepts:
        sentence, removers = _removal(results, concept)
        sentences.append(sentence)
    # with several concepts, about the methods that removed the last one
    side_effect = _side_effect(results, removers)
    return [*sentences, side_effect] if side_effect else sentences


def baseline(results: Results) -> MethodResult | None:
    """The unguided method with the prompt alone, or None."""
    for method in results.methods:
        plain = not method.negative_prompts and method.prompt == results.prompt
        if plain and method.guidance.get("_class_name") == "Unguided":
            return method
    return None


def _measured(methods: Sequence[MethodResult], column: Column) -> list[MethodResult]:
    """Methods with a finite number in the column, lowest first."""
    found = [method for method in methods if column.name in method.measurements]
    finite = [method for method in found if math.isfinite(method.measurements[column.name].value)]
    return sorted(finite, key=lambda method: method.measurements[column.name].value)


def _named(method: MethodResult, column: Column) -> str:
    return f"{quoted(method.label)} ({cell(method.measurements[column.name], column.percent)})"


def _removal(results: Results, concept: Column) -> tuple[str, list[MethodResult]]:
    """A sentence about the methods that show the concept less often, and these methods."""
    plain, name = baseline(results), concept.name
    methods = _measured(results.methods, concept)
    if results.folders and len(methods) == 1:
        shown = cell(methods[0].measurements[name], concept.percent)
        return f"{quoted(concept.label)} shows in {shown} of the images.", []
    if plain is None or plain not in methods:
        return _lowest(methods, concept), [] if results.folders else methods
    fewer = [one for one in methods if apart(one.measurements[name], plain.measurements[name])]
    more = [one for one in methods if apart(plain.measurements[name], one.measurements[name])]
    shown = f"{quoted(concept.label)} shows in {cell(plain.measurements[name], concept.percent)} of the unguided images"
    if fewer:
        sentence = f"{shown}, clearly less often with {listed([_named(one, concept) for one in fewer])}"
        if len(fewer) > 1:
            sentence += f"; {_against(fewer[0], fewer[1:], concept)}"
    else:
        sentence = f"{shown}, and no other method can be claimed to be lower: the intervals overlap"
    if more:
        sentence += f"; it shows clearly more often with {listed([_named(one, concept) for one in more])}"
    return sentence + ".", fewer


def _best(methods: list[MethodResult], column: Column, known: float | None) -> str:
    """A sentence about a column's best number: the lowest, the highest or the one nearest to the truth."""
    values = {method.name: method.measurements[column.name].value for method in methods}
    if column.better == "truth" and known is not None:
        nearest = min(methods, key=lambda method: abs(values[method.name] - known))
        return f"The {column.label} nearest to the truth is that of {_named(nearest, column)}."
    if column.better == "higher":
        return f"The highest {column.label} measured is that of {_named(methods[-1], column)}."
    return _lowest(methods, column)


def _lowest(methods: list[MethodResult], column: Column) -> str:
    """A sentence about a column's lowest number, and whether it is clearly below the others."""
    first, *others = methods
    sentence = f"The lowest {column.label} measured is that of {_named(first, column)}"
    return sentence + (f"; {_against(first, others, column, numbers=True)}." if others else ".")


def _against(first: MethodResult, others: Sequence[MethodResult], column: Column, *, numbers: bool = False) -> str:
    """A clause about the other methods: those it is clearly below, and those it cannot be told apart from."""
    above = [one for one in others if apart(first.measurements[column.name], one.measurements[column.name])]
    verbs = {"is clearly below": above, "cannot be told apart from": [one for one in others if one not in above]}

    def names(methods: list[MethodResult]) -> str:
        return listed([_named(one, column) if numbers else quoted(one.label) for one in methods])

    parts = [f"{verb} {names(some)}" for verb, some in verbs.items() if some]
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
        sentence = _best(methods, column, truth(results, column))
        if removers:
            sentence = f"Of these, {sentence[0].lower()}{sentence[1:]}"
    known = true_value(results, column)
    if known is None:
        return sentence
    perfect = "true images" if results.folders else "a perfect method"
    return f"{sentence.removesuffix('.')}; {perfect} would have {truth_cell(known, column.percent)}."
