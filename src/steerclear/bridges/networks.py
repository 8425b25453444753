"""The networks that a guidance asks for beside the pipeline's own: are they given, do they differ, and running them."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import UnsupportedModel, in_words_of
from ..core.guidance import Guidance, networks_of
from ..core.network import Network, Runner
from ..networks.shared.naming import called, to_give


def check_given(guidance: Guidance, negatives: int, given: Collection[str], function: str, remark: str = "") -> None:
    """Refuse a guidance that asks for a network which was not given, before anything runs.

    Args:
        guidance, negatives: the guidance, and the number of negative prompts.
        given: names of the networks that there are.
        function, remark: for the error: the Python function that takes networks, and a further remark.

    Raises:
        UnsupportedModel: names the network, and says how to give it.
        InvalidSetting: the guidance's settings do not fit the number of negatives.
    """
    for name in networks_of(guidance, negatives):
        if name not in given:
            example = in_words_of("NoisedWeights(strength=0.1)", "noised:0.1")
            raise UnsupportedModel(
                f"{guidance.name} asks for {called(name)}, and none is given; give {to_give(name, function)} another network "
                f"of the same shape, or a kind such as {example}{remark}"
            )


def of_unasked(guidance: Guidance, negatives: int, given: Collection[str]) -> Iterator[str]:
    """Networks that no branch of the guidance asks for: one sentence each."""
    asked = networks_of(guidance, negatives)
    for name in given:
        if name not in asked:
            yield f"{called(name)} has no effect: {guidance.name} with these settings never asks for it"


def of_idle(guidance: Guidance, negatives: int, given: Mapping[str, Network], network: Any) -> Iterator[str]:
    """Networks that are asked for and do not differ from the pipeline's own: one sentence each."""
    for name in networks_of(guidance, negatives):
        reason = given[name].idle(network) if name in given else None
        if reason is not None:
            example = in_words_of("NoisedWeights(strength=0.1)", to_give(name, "", "noised:0.1"))
            yield (
                f"{called(name)} has no effect: {reason}, so {guidance.name} has nothing to push away from; give one that is "
                f"worse, such as {example}"
            )


@dataclass(frozen=True)
class Attached:
    """Further networks beside those of a pipeline, from their first forward to the end of a block or a run.

    Args:
        networks: by name.
    """

    networks: Mapping[str, Network]
    stack: ExitStack = field(default_factory=ExitStack)
    runners: dict[tuple[str, int], Runner] = field(default_factory=dict)

    def has(self, name: str, network: Any) -> bool:
        """Whether the network of this name runs beside this one of the pipeline's already."""
        return (name, id(network)) in self.runners

    def runner(self, name: str, pipe: Any, network: Any) -> Runner:
        """What runs the network of this name beside one of the pipeline's, of which there may be several."""
        if not self.has(name, network):
            self.runners[name, id(network)] = self.stack.enter_context(self.networks[name].attached(pipe, network))
        return self.runners[name, id(network)]

    def close(self) -> None:
        """Leave all of them."""
        self.runners.clear()
        self.stack.close()
