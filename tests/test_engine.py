"""The engine runs what is asked for, once, counts it, and stops at NaN."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from steerclear.bridges.diffusers.evaluation import Run
from steerclear.core.denoiser import Branch, Point, numbered
from steerclear.core.engine import GuidedDenoiser
from steerclear.core.errors import InvalidSetting, NotFiniteError, UnknownName
from steerclear.core.evidence import Belief, Evidence, Surroundings
from steerclear.core.guidance import Guidance, conditions_of, joined, networks_of
from steerclear.core.laws import Law
from steerclear.core.noise import PREDICTION_TYPES
from steerclear.core.records import Guided, State, Step, Trace, TraceStep
from steerclear.core.sampling import Sampled
from steerclear.guidance.classifier_free import ClassifierFreeGuidance
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.guidance.rescaled import RescaledGuidance
from steerclear.guidance.unguided import Unguided

VALUES = {"positive": 1.0, "empty": 2.0, "negative": 3.0, "weak:positive": 4.0}


@dataclass
class Recorder:
    """Predicts a constant a branch, plus the image's own number; remembers what it was asked."""

    prediction_type: str = "epsilon"
    calls: list[tuple[tuple[str, ...], list[int] | None]] = field(default_factory=list)
    poison: str = ""

    def predict(self, point: Point, branches: tuple[Branch, ...], rows: Tensor | None) -> list[Tensor]:
        names = tuple(b.condition if b.network == "main" else f"{b.network}:{b.condition}" for b in branches)
        self.calls.append((names, None if rows is None else rows.tolist()))
        sample = point.sample if rows is None else point.sample[rows]
        predictions = [sample + VALUES[name] for name in names]
        for name, prediction in zip(names, predictions, strict=True):
            if name == self.poison:
                prediction[1] = float("nan")
        return predictions


@dataclass(frozen=True)
class Asks(Guidance):
    """Asks for each group of branches in turn and returns the last prediction."""

    groups: tuple[tuple[str, ...], ...] = ()
    rows: tuple[int, ...] | None = None
    name: ClassVar[str] = "asks"

    def branches(self, negatives: int) -> tuple[str, ...]:
        return joined(("positive",), *self.groups)

    def __call__(self, step: Step, state: State) -> Guided:
        result = step.predict_one("positive")
        for group in self.groups:
            rows = None if self.rows is None else torch.tensor(self.rows, dtype=torch.long)
            last = step.predict(*group, rows=rows)[-1]
            result = last if rows is None else result.index_add(0, rows, last)
        return Guided(result, state, {"mean": result.flatten(1).mean(1)})

    @classmethod
    def laws(cls) -> tuple[Law, ...]:
        return ()


def run(guidance: Guidance, network: Recorder, batch: int = 3) -> tuple[Tensor, Trace]:
    sample = torch.arange(batch, dtype=torch.float32)[:, None] * 10
    guided = GuidedDenoiser(network, guidance, Surroundings(batch))
    return guided.predict(Point(sample, 0.6, 0.8, 500, 0, 4)), guided.trace


def test_asking_again_evaluates_nothing() -> None:
    network = Recorder()
    run(Asks((("empty", "positive"), ("positive", "empty"), ("empty", "negative", "empty"))), network)
    assert network.calls == [(("positive",), None), (("empty",), None), (("negative",), None)]


def test_what_is_asked_together_runs_together_in_the_order_asked() -> None:
    network = Recorder()
    prediction, trace = run(Asks((("weak:positive", "negative", "empty"),)), network)
    assert network.calls[1] == (("weak:positive", "negative", "empty"), None)
    assert prediction[:, 0].tolist() == [2.0, 12.0, 22.0]
    assert trace.branches == [("positive", "weak:positive", "negative", "empty")]
    assert trace.evaluations.tolist() == [4, 4, 4]


def test_rows_run_and_count_for_their_images_alone() -> None:
    network = Recorder()
    prediction, trace = run(Asks((("negative",),), rows=(2, 0)), network)
    assert network.calls[1] == (("negative",), [2, 0])
    assert prediction[:, 0].tolist() == [1.0 + 3.0, 11.0, 21.0 + 23.0]
    assert trace.evaluations.tolist() == [2, 1, 2]


def test_rows_of_what_is_known_cost_nothing() -> None:
    network = Recorder()
    run(Asks((("positive",),), rows=(1,)), network)
    assert network.calls == [(("positive",), None)]


def test_no_rows_are_not_run() -> None:
    network = Recorder()
    prediction, trace = run(Asks((("negative",),), rows=()), network)
    assert network.calls == [(("positive",), None)]
    assert trace.evaluations.tolist() == [1, 1, 1]
    assert prediction[:, 0].tolist() == [1.0, 11.0, 21.0]


def test_nan_names_the_branch_the_step_and_the_images() -> None:
    with pytest.raises(NotFiniteError) as raised:
        run(Asks((("empty",), ("negative",))), Recorder(poison="negative"))
    assert str(raised.value) == (
        "the prediction of branch 'negative' is not finite at step 1 of 4 (images [1] of the batch; branches evaluated: "
        "positive, empty, negative). No guidance has acted yet, so it comes from the network or its inputs. Try float32 "
        "instead of a half precision, or load the weights again."
    )


@dataclass(frozen=True)
class Scaled(Asks):
    """Has scales, and another guidance inside."""

    auto_scale: float = 2.0
    negative_scale: tuple[float, ...] = (1.0, -30.0)
    guidance_scale: float = 1.0
    inner: Guidance = field(default_factory=lambda: ClassifierFreeGuidance(7.5))
    name: ClassVar[str] = "scaled"


ALL_SCALES = (
    "Try a lower negative_scale (now 30) or inner.guidance_scale (now 7.5) or auto_scale (now 2), or float32 instead of a "
    "half precision."
)


@pytest.mark.parametrize(
    ("guidance", "remedy"), [(Scaled((("empty",),)), ALL_SCALES), (Asks((("empty",),)), "Try float32.")]
)
def test_nan_on_the_way_names_the_scales_that_the_guidance_has(guidance: Guidance, remedy: str) -> None:
    network = Recorder()
    guided = GuidedDenoiser(network, guidance, Surroundings(2))
    sample = torch.zeros(2, 4)
    guided.predict(Point(sample, 0.6, 0.8, 500, 0, 4))
    network.poison = "empty"
    with pytest.raises(NotFiniteError) as raised:
        guided.predict(Point(sample, 0.6, 0.8, 400, 1, 4))
    assert str(raised.value).endswith(f"). {remedy}")


def test_a_guidance_that_overflows_at_the_first_step_is_told_of_its_scale() -> None:
    with pytest.raises(NotFiniteError) as raised:
        run(ClassifierFreeGuidance(1e39), Recorder())
    assert str(raised.value).startswith("the guided prediction is not finite at step 1 of 4")
    assert str(raised.value).endswith("Try a lower guidance_scale (now 1e+39), or float32 instead of a half precision.")


def test_nan_in_some_rows_names_the_images_of_the_batch() -> None:
    with pytest.raises(NotFiniteError, match=r"images \[0\] of the batch"):
        run(Asks((("negative",),), rows=(2, 0)), Recorder(poison="negative"))


def test_a_large_but_finite_prediction_passes() -> None:
    huge = torch.full((3, 4), 3e38)
    guided = GuidedDenoiser(Recorder(), Unguided(), Surroundings(3))
    assert torch.isfinite(guided.predict(Point(huge, 0.6, 0.8, 500, 0, 4))).all()


# what a guidance declares, and what it answers


@dataclass(frozen=True)
class Declares(Guidance):
    """Declares anything, and does anything."""

    says: object = ("positive",)
    does: Callable[[Step], object] = lambda step: Guided(step.predict_one("positive"), State())
    name: ClassVar[str] = "odd"

    def branches(self, negatives: int) -> tuple[str, ...]:
        return self.says  # type: ignore[return-value]

    def __call__(self, step: Step, state: State) -> Guided:
        return self.does(step)  # type: ignore[return-value]

    @classmethod
    def laws(cls) -> tuple[Law, ...]:
        return ()


@pytest.mark.parametrize(
    ("says", "wrong"),
    [
        (None, "what branches() of odd returns is None, but must be a tuple, such as ('empty', 'positive')."),
        (
            "positive",
            "what branches() of odd returns is 'positive', but must be a tuple, such as ('empty', 'positive').",
        ),
        (("positive", "negative_0"), "a branch that odd declares is 'negative_0', but must be positive, empty,"),
        (("Weak:positive",), "a branch that odd declares is 'Weak:positive', but must be positive, empty,"),
        ((1,), "a branch that odd declares is 1, but must be positive, empty,"),
    ],
)
def test_what_is_no_declaration_is_refused_before_the_first_step(says: object, wrong: str) -> None:
    for read in (conditions_of, networks_of, lambda guidance, _: run(guidance, Recorder())):
        with pytest.raises(InvalidSetting) as raised:
            read(Declares(says), 1)
        assert str(raised.value).startswith(wrong)


def elsewhere(step: Step) -> Step:
    return step.at(step.sample, step.sample, 0.5)


@pytest.mark.parametrize(
    ("name", "ask"),
    [
        ("empty", lambda step: step.predict("positive", "empty")),
        ("empty", lambda step: step.predict("empty", rows=torch.tensor([], dtype=torch.long))),
        ("weak:positive", lambda step: step.predict_one("weak:positive", rows=torch.tensor([1]))),
        ("negative", lambda step: elsewhere(step).predict("positive", "negative")),
        ("negative", lambda step: elsewhere(elsewhere(step)).predict_one("negative")),
    ],
)
def test_a_branch_that_is_not_declared_is_refused_and_not_evaluated(name: str, ask: Callable[[Step], object]) -> None:
    network = Recorder()
    guided = GuidedDenoiser(network, Declares(("positive", "main:negative_2"), ask), Surroundings(3))
    at = Point(torch.zeros(3, 1), 0.6, 0.8, 500, 0, 4, levels=lambda level: (1.0, level, 500))
    with pytest.raises(InvalidSetting) as raised:
        guided.predict(at)
    assert str(raised.value) == (
        f"a branch that odd asks for is '{name}', but must be one that it declares (positive, negative_2); its method "
        "branches() declares them."
    )
    assert network.calls == []


def test_a_wrapper_may_ask_for_what_it_declares_itself() -> None:
    inner = Declares(("empty",), lambda step: Guided(step.predict_one("empty"), State()))
    guided = GuidedDenoiser(Recorder(), RescaledGuidance(inner, 0.5), Surroundings(1))
    prediction = guided.predict(Point(torch.tensor([[0.0, 2.0]]), 0.6, 0.8, 500, 0, 4))
    assert prediction.tolist() == [[2.0, 4.0]]
    assert guided.trace.branches == [("empty", "positive")]


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (lambda p: p, "the type of the answer of odd is 'Tensor', but must be Guided."),
        (lambda p: Guided(p[:1], State()), "the shape of the prediction in the answer of odd is (1, 1), but must be the sample's, (3, 1)."),
        (lambda p: Guided(p[:, 0], State()), "the shape of the prediction in the answer of odd is (3,), but must be the sample's, (3, 1)."),
        (lambda p: Guided(p, State(), {"x": p.mean()}),
         "the shape of info['x'] in the answer of odd is (), but must be (3,), a tensor of one number per image."),
        (lambda p: Guided(p, State(), {"x": p}),
         "the shape of info['x'] in the answer of odd is (3, 1), but must be (3,), a tensor of one number per image."),
        (lambda p: Guided(p, State(), {"x": [1.0, 2.0, 3.0]}),
         "the shape of info['x'] in the answer of odd is None, but must be (3,), a tensor of one number per image."),
    ],
)  # fmt: skip
def test_an_answer_that_would_mix_images_is_refused(answer: Callable[[Tensor], object], wrong: str) -> None:
    with pytest.raises(InvalidSetting) as raised:
        run(Declares(does=lambda step: answer(step.predict_one("positive"))), Recorder())
    assert str(raised.value) == wrong


@dataclass(frozen=True)
class AsksFurther(Evidence):
    """Asks for a branch of its own beside the concept."""

    says: tuple[str, ...] = ()
    name: ClassVar[str] = "asks-further"
    paper: ClassVar[str] = "none"

    def branches(self, concept: str) -> tuple[str, ...]:
        return tuple(name.replace("concept", concept) for name in self.says)

    def begin(self, surroundings: Surroundings) -> State:
        return State()

    def update(self, step: Step, positive: Tensor, concept: Tensor, state: State) -> Belief:
        return Belief((step.predict_one("weak:positive") - positive)[:, 0].double() - 3, state)


def test_an_evidence_declares_the_branches_that_it_asks_for() -> None:
    guidance = DynamicNegativeGuidance(
        1.0, negative_scale=(1.0, 0.0, 1.0), concept="negative", evidence=AsksFurther(("positive", "weak:concept"))
    )
    assert guidance.branches(3) == ("positive", "negative", "negative_3", "weak:negative", "weak:negative_3")
    asks = DynamicNegativeGuidance(1.0, concept="negative", evidence=AsksFurther(("weak:positive",)))
    sample = torch.zeros(2, 1)
    guided = GuidedDenoiser(Recorder(), asks, Surroundings(2, negatives=1))
    prediction = guided.predict(Point(sample, 0.6, 0.8, 500, 0, 4))
    assert guided.trace.branches == [("positive", "negative", "weak:positive")]
    assert prediction.tolist() == [[-1.0], [-1.0]]  # log-odds 4 - 1 - 3 = 0, so the push is once 3 - 1
    silent = DynamicNegativeGuidance(1.0, concept="negative", evidence=AsksFurther())
    with pytest.raises(
        InvalidSetting, match=r"dynamic-negative asks for is 'weak:positive', .* \(positive, negative\)"
    ):
        GuidedDenoiser(Recorder(), silent, Surroundings(2, negatives=1)).predict(Point(sample, 0.6, 0.8, 500, 0, 4))


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_a_prediction_of_some_rows_is_read_at_their_samples(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    sample, prediction = (torch.randn(3, 2, generator=generator) for _ in range(2))
    step, rows = Step(Point(sample, 0.6, 0.8, 500, 0, 4), kind, 0, lambda names, rows: []), torch.tensor([2, 0])
    for convert in (step.denoised, step.noise, step.from_denoised):
        assert torch.equal(convert(prediction[rows], rows), convert(prediction)[rows])
        with pytest.raises(InvalidSetting) as raised:
            convert(prediction[:1])
        assert str(raised.value) == (
            "the number of images of a prediction is 1, but must be 3, as the sample's; name its rows=."
        )
        with pytest.raises(InvalidSetting, match="of a prediction is 3, but must be 2"):
            convert(prediction, rows=rows)


# traces


def test_traces_of_batches_join_as_one() -> None:
    parts = [
        Trace([TraceStep(0, 2.0, ("positive",), torch.full((size,), 1.0 + size), {"w": torch.arange(size).float()})])
        for size in (2, 3)
    ]
    whole = Trace.joined(parts)
    assert whole.table("w").tolist() == [[0, 1, 0, 1, 2]]
    assert whole.evaluations.tolist() == [3, 3, 4, 4, 4]
    assert whole.levels == [2.0]
    with pytest.raises(UnknownName, match=r"there is no measurement in this trace 'weight'\. Available: w"):
        whole.table("weight")


def evaluated(index: int, level: float, *branches: str, **info: list[float]) -> TraceStep:
    count = torch.full((2,), float(len(branches)))
    return TraceStep(index, level, branches, count, {name: torch.tensor(values) for name, values in info.items()})


def heun() -> Trace:
    """Two steps of a sampler that evaluates twice in its first."""
    trace = Trace()
    trace.add(evaluated(0, 8.0, "empty", "positive", weight=[1.0, 2.0]))
    trace.add(evaluated(0, 2.0, "positive", weight=[3.0, 4.0]))
    trace.add(evaluated(1, 2.0, "empty", "positive", "negative", posterior=[0.5, 0.25]))
    return trace


def test_a_row_is_a_step_and_its_further_evaluations_are_told_apart() -> None:
    trace = heun()
    assert [step.index for step in trace.steps] == [0, 1]
    assert trace.levels == [8.0, 2.0]
    assert trace.branches == [("empty", "positive"), ("empty", "positive", "negative")]
    assert trace.table("weight")[0].tolist() == [1.0, 2.0]
    assert [step.evaluations.tolist() for step in trace.steps] == [[3.0, 3.0], [3.0, 3.0]]
    assert trace.evaluations.tolist() == [6.0, 6.0]
    (further,) = trace.steps[0].further
    assert (further.noise_to_signal, further.branches) == (2.0, ("positive",))
    assert further.info["weight"].tolist() == [3.0, 4.0]
    assert further.evaluations.tolist() == [1.0, 1.0]
    assert trace.steps[1].further == ()


def test_further_evaluations_of_batches_join_too() -> None:
    whole = Trace.joined([heun(), heun()])
    assert whole.evaluations.tolist() == [6.0] * 4
    assert whole.steps[0].further[0].info["weight"].tolist() == [3.0, 4.0, 3.0, 4.0]


def test_traces_show_themselves_in_one_line() -> None:
    assert repr(heun()) == "Trace(2 steps, 2 images, 6 evaluations per image; shows weight, posterior)"
    assert repr(heun().steps[0]) == "TraceStep(0: sigma/alpha 8, empty positive, 1 further; shows weight)"
    assert repr(Trace()) == "Trace(no steps)"
    uneven = TraceStep(0, 2.0, ("positive",), torch.tensor([1.0, 3.0]), {})
    assert repr(Trace([uneven])) == "Trace(1 step, 2 images, 1 to 3 evaluations per image)"
    assert repr(Run(heun(), 4)) == f"Run(4 forwards, {heun()!r})"
    assert repr(Sampled(torch.zeros(2, 3), heun())) == f"Sampled([2, 3], {heun()!r})"


def test_a_step_that_did_not_show_a_measurement_has_none() -> None:
    steps = [TraceStep(k, 2.0, ("positive",), torch.ones(2), {} if k == 1 else {"w": torch.ones(2)}) for k in range(3)]
    table = Trace(steps).table("w")
    assert table[[0, 2]].tolist() == [[1, 1], [1, 1]]
    assert bool(table[1].isnan().all())


@pytest.mark.parametrize(
    ("name", "network", "condition"),
    [
        ("positive", "main", "positive"),
        ("weak:negative_3", "weak", "negative_3"),
        ("conjunction_2", "main", "conjunction_2"),
    ],
)
def test_branches_have_names(name: str, network: str, condition: str) -> None:
    assert Branch.parse(name) == Branch(network, condition)


@pytest.mark.parametrize("name", ["", "postive", "weak:", "negative_", ":positive", "positive_2", "weak positive"])
def test_what_is_no_branch(name: str) -> None:
    with pytest.raises(InvalidSetting, match="must be positive, empty, negative or conjunction"):
        Branch.parse(name)


def test_numbers_of_negatives() -> None:
    assert [numbered("negative", index) for index in range(3)] == ["negative", "negative_2", "negative_3"]
