"""Our guidances as guiders of Modular Diffusers."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.guiders.guider_utils import BaseGuidance, GuiderOutput

from ...core.engine import of_schedule
from ...core.errors import InvalidSetting, SteerclearWarning, UnsupportedModel
from ...core.guidance import Guidance, negative_has_no_effect
from ...core.laboratory import Judge
from ...core.network import Network
from ...core.records import Trace
from ...core.schedulers import steps_begun
from ...core.settings import finite, read_object
from ...guidance.interval import active_steps
from ...guidance.unguided import Unguided
from ...networks.other_network import OtherNetwork
from ...networks.shared.naming import as_networks, named
from ..branches import is_prompt
from ..effects import of_latents, of_negatives, scale_of
from ..negatives import EMBEDDED, Negatives, check_complete, chosen, given_to_call, given_to_steer
from ..networks import check_given, of_unasked
from ..surroundings import check_looking
from .conditions import Conditions, Fields
from .running import Loop, running_loop
from .steps import GuiderRun
from .texts import check_text


class Guider(BaseGuidance):
    """A guidance as a guider of Modular Diffusers: ``pipeline.update_components(guider=guider)``.

    Made by :func:`guider`, which says what the arguments mean.

    Attributes (all but the trace can be set, and what is set is saved):
        guidance: how predictions become one.
        weak, networks: the networks beside the pipeline's own. A torch module is not saved: set it again on a guider that
            was loaded.
        trace: what the guidance did in the last run of the pipeline, per image and step.
        judge, files: what evidences may ask for; not saved. See :func:`guider`.
    """

    # the base class wants some; ours are chosen step by step
    _input_predictions = ["positive", "empty"]

    @register_to_config
    def __init__(
        self, *, guidance: Guidance | Mapping[str, Any], negative_prompt: str | Sequence[str] | None = None,
        weak: torch.nn.Module | Network | Mapping[str, Any] | None = None,
        networks: Mapping[str, torch.nn.Module | Network | Mapping[str, Any] | None] | None = None, start: float = 0.0,
        stop: float = 1.0, enabled: bool = True,
    ) -> None:  # fmt: skip
        for name, share in (("start", start), ("stop", stop)):
            finite(name, share, low=0, high=1)
        if start > stop:
            raise InvalidSetting("start", start, f"at most stop ({stop:g})")
        if not isinstance(enabled, bool):
            raise InvalidSetting("enabled", enabled, "True or False")
        super().__init__(start, stop, enabled)
        self.guidance = Guidance.from_config(guidance) if isinstance(guidance, Mapping) else guidance
        self.negatives = given_to_steer(negative_prompt)
        named(weak, networks)
        self.networks = {name: _restored(network) for name, network in (networks or {}).items() if network is not None}
        self.weak = _restored(weak)
        self.trace = Trace()
        self.judge: Judge | None = None
        self.files: str | Path | None = None
        self._run: GuiderRun | None = None
        self._idle = False  # whether the run began when no step was to be guided

    @classmethod
    def from_config(cls, config: Any = None, return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        """diffusers' own; also takes the file of a plain guidance, from :meth:`Guidance.save_pretrained`."""
        if isinstance(config, Mapping) and "guidance" not in config:
            config = {"guidance": dict(config)}
        return super().from_config(config, return_unused_kwargs, **kwargs)

    @classmethod
    def _dict_from_json_file(cls, json_file: str | Path) -> dict[str, Any]:
        """diffusers' reader, with a clear error for a file that is nested too deep or holds no object."""
        return read_object(Path(json_file), "the settings of a guider")

    def new(self, **kwargs: Any) -> "Guider":
        """A copy, with some settings changed; the networks and a judge are the same ones."""
        copied: Guider = super().new(**{"weak": self.weak, "networks": self.networks, **kwargs})
        copied.judge, copied.files = self.judge, self.files
        return copied

    @property
    def guidance(self) -> Guidance:
        return self._guidance

    @guidance.setter
    def guidance(self, guidance: Guidance) -> None:
        if not isinstance(guidance, Guidance):
            example = "such as ClassifierFreeGuidance(guidance_scale=3.0)"
            raise InvalidSetting("guidance", guidance, "a guidance", example)
        if guidance.redrawing() is not None:
            raise UnsupportedModel(
                f"the guidance {guidance.name} draws finished images again, and a guider sees no finished image, only the steps "
                f"of one run; use steerclear.steer with a pipeline that is not modular, or tries=1"
            )
        self._guidance = guidance
        self.register_to_config(guidance=guidance.to_config())

    @property
    def weak(self) -> torch.nn.Module | Network | None:
        return self._weak

    @weak.setter
    def weak(self, weak: torch.nn.Module | Network | None) -> None:
        as_networks(weak, self.networks)
        self._weak = weak
        self.register_to_config(weak=_stored(weak))

    @property
    def networks(self) -> Mapping[str, torch.nn.Module | Network]:
        return self._networks

    @networks.setter
    def networks(self, networks: Mapping[str, torch.nn.Module | Network]) -> None:
        as_networks(None, networks)
        self._networks = dict(networks)
        self.register_to_config(networks={name: _stored(network) for name, network in networks.items()})

    @property
    def guidance_scale(self) -> float:
        """What SDXL tells a network that takes the scale as input."""
        return scale_of(self.guidance)

    @property
    def num_conditions(self) -> int:
        """What pipelines look at before they encode an unconditional prompt: 2, or 1 when the guider is disabled."""
        return 2 if self._enabled else 1

    @property
    def is_conditional(self) -> bool:
        """Whether the loop runs a prompt at the moment."""
        running = None if self._run is None else self._run.running
        return running is None or is_prompt(running.branch.condition)

    def prepare_inputs(self, data: Mapping[str, Any]) -> Conditions:
        loop = self._loop()
        return self._prepare(loop, Fields.of_values(data, loop.block))

    def prepare_inputs_from_block_state(
        self, data: Any, input_fields: Mapping[str, str | tuple[str, str]]
    ) -> Conditions:
        return self._prepare(self._loop(), Fields.of_names(input_fields, data))

    def prepare_models(self, denoiser: torch.nn.Module) -> None:
        super().prepare_models(denoiser)
        if self._run is not None and self._run.running is not None:
            self._run.take_over(denoiser, self._loop_is_running)
            self.trace = self._run.trace  # the network begins; a run refused before leaves the last one's

    def cleanup_models(self, denoiser: torch.nn.Module) -> None:
        super().cleanup_models(denoiser)
        if self._run is not None:
            self._run.release()

    def __call__(self, data: Any) -> GuiderOutput:
        """The guided prediction of this step; ``data`` has been filled by the loop."""
        run = self._run
        if run is None or run.guided is None:
            raise UnsupportedModel(
                "the guider was asked for its prediction before the loop had run all of its conditions; iterate over "
                "what prepare_inputs returns, run the network on each, and then call the guider"
            )
        plain, other = run.prediction("positive"), run.prediction("empty", "negative")
        output = GuiderOutput(pred=run.guided, pred_cond=plain, pred_uncond=other)
        if run.last_index + 1 >= run.total:
            self._end()  # nothing of a finished run is held but its trace
        return output

    def _prepare(self, loop: Loop, fields: Fields) -> Conditions:
        run = self._run
        if run is not None and not (run.is_of(loop) and self._step > run.last_index):
            run = None  # an earlier one
        active = steps_begun(loop.pipe.scheduler, self._step + 1) - 1 in self._active_steps(loop)
        if run is None or (active and self._idle):  # in a run that goes on, it was enabled since
            trace = Trace() if run is None else run.trace
            self._end()
            run = self._run = self._begin(loop, fields, trace)
        run.release()
        return Conditions(run.step(fields, loop.block, self._step, self._timestep, active))

    def _active_steps(self, loop: Loop) -> range:
        """Steps as ``num_inference_steps`` counts them (diffusers' own guiders count evaluations); none where disabled."""
        total = steps_begun(loop.pipe.scheduler, len(loop.block.timesteps))
        return active_steps(self._start, self._stop, total) if self._enabled else range(0)

    def _begin(self, loop: Loop, fields: Fields, trace: Trace) -> GuiderRun:
        """Refuse what cannot work, and warn of what has no effect, before the first network evaluation of a run."""
        if getattr(loop.block, "disable_guidance", False):
            _warn(
                f"the guidance has no effect: the network of this {type(loop.pipe).__name__} is distilled, takes the "
                f"scale as input and has no unconditional prediction; use it without a guider, or another network"
            )
        active = bool(self._active_steps(loop))
        if self._enabled and not active:
            steps = steps_begun(loop.pipe.scheduler, len(loop.block.timesteps))
            _warn(
                f"the guidance has no effect: start={self._start:g} and stop={self._stop:g} leave none of the "
                f"{steps} steps to it; set them farther apart"
            )
        guidance = self.guidance if active else Unguided()
        networks = as_networks(self.weak, self.networks) if active else {}
        negatives = self._negatives(loop, fields) if active else Negatives()
        if active:
            self._check_use(loop, negatives, networks)
        run = GuiderRun(loop, guidance, negatives, networks, trace, self.judge, self.files)
        run.check(fields)
        self._idle = not active
        return run

    def _check_use(self, loop: Loop, negatives: Negatives, networks: Mapping[str, Network]) -> None:
        """Refuse a network that is asked for and not given, and warn of what is given and has no effect."""
        remark = (
            ", and set guider.weak or guider.networks on a guider that was loaded: a torch module is not saved with it"
        )
        check_given(self.guidance, len(negatives), networks, "steerclear.guider", remark)
        scheduler, evaluations = loop.pipe.scheduler, len(loop.block.timesteps)
        for message in (
            *of_negatives(self.guidance, negatives),
            *of_unasked(self.guidance, len(negatives), networks),
            *of_latents(scheduler),
            *of_schedule(self.guidance, scheduler, loop.block.timesteps[0], evaluations),
        ):
            _warn(message)

    def _end(self) -> None:
        if self._run is not None:
            self._run.close()
        self._run = None

    def _negatives(self, loop: Loop, fields: Fields) -> Negatives:
        for text in self.negatives.all_texts():
            check_text(loop, text)
        if loop.state.get("prompt") is not None:
            of_call = given_to_call(loop.state.get("negative_prompt"), None)
            check_complete(of_call, loop.state.values)
        elif fields.has_negative and not len(self.negatives) and negative_has_no_effect(self.guidance) is None:
            of_call = Negatives((EMBEDDED,), from_call=True)
        else:
            of_call = Negatives()
        return chosen(self.negatives, of_call)

    def _loop(self) -> Loop:
        loop = running_loop(self)
        if loop is None:
            raise UnsupportedModel(
                "this guider was called from outside of a modular pipeline that has it for a component, so its scheduler "
                "and its noisy sample are unknown; hand it over with pipeline.update_components(guider=guider), and for "
                "pipelines that are not modular use steerclear.steer"
            )
        return loop

    def _loop_is_running(self) -> bool:
        loop = running_loop(self)
        return loop is not None and self._run is not None and self._run.is_of(loop)


def _restored(network: Any) -> Any:
    return Network.from_config(network) if isinstance(network, Mapping) else network


def _stored(network: torch.nn.Module | Network | None) -> dict[str, Any] | None:
    """The plain values of a kind; None for a torch module, which has none."""
    return network.to_config() if isinstance(network, Network) and not isinstance(network, OtherNetwork) else None


def _warn(message: str) -> None:
    warnings.warn(message, SteerclearWarning, stacklevel=2)


def guider(
    guidance: Guidance, negative_prompt: str | Sequence[str] | None = None,
    weak: torch.nn.Module | Network | None = None, *, networks: Mapping[str, torch.nn.Module | Network] | None = None,
    start: float = 0.0, stop: float = 1.0, enabled: bool = True, judge: Judge | None = None,
    files: str | Path | None = None,
) -> Guider:  # fmt: skip
    """A guidance as a guider of Modular Diffusers: ``pipeline.update_components(guider=steerclear.guider(guidance))``.

    It takes the scheduler, the noisy sample and the prompt from the pipeline that runs it, runs only the branches that the
    guidance asks for, and encodes further prompts with the pipeline's own text encoder block.

    Args:
        guidance, negative_prompt, networks, judge, files: see :func:`~steerclear.steer`.
        weak: see :func:`~steerclear.steer`; a kind of network is made anew for each run.
        start, stop: shares of the steps in [0, 1], as in diffusers' own guiders: outside [start, stop) the prediction is the
            plain conditional one. :class:`~steerclear.IntervalGuidance` can also bound the noise level.
        enabled: False for the plain conditional prediction; pipelines may set it (SDXL does, by its network).

    Raises:
        InvalidSetting: not a guidance, not a network, or a share of the steps outside [0, 1].
        PromptError: an empty negative prompt.
        UnsupportedModel: a guidance that draws finished images again.

    When the pipeline runs, before the first step that is guided:

    Raises:
        UnsupportedModel: a network is missing or does not fit, or the guider is not a component of the pipeline.
        PromptError: a negative prompt that is too long or also given to the call, or a text that cannot be encoded.

    Warns:
        SteerclearWarning: a setting has no effect; says which, and why.
    """
    check_looking(judge, files)
    made = Guider(
        guidance=guidance, negative_prompt=negative_prompt, weak=weak, networks=networks, start=finite("start", start, low=0, high=1),
        stop=finite("stop", stop, low=0, high=1), enabled=enabled,
    )  # fmt: skip
    made.judge, made.files = judge, files
    return made
