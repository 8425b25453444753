"""steerclear: guidance for diffusion models that says what it changed.

    import steerclear
    with steerclear.steer(pipe, steerclear.DynamicNegativeGuidance(5.0), negative_prompt="mustache") as run:
        images = pipe("portrait photo of a man").images
    run.trace  # weight and posterior of every image at every step

Names are loaded when they are first used, so that importing steerclear is light.
"""

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("steerclear")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0.1.0"

_HOMES = {
    "guidance.auto": ("AutoGuidance",),
    "core.guidance": ("Guidance", "guidances"),
    "guidance.classifier_free": ("ClassifierFreeGuidance",),
    "guidance.dynamic_negative": ("DynamicNegativeGuidance",),
    "guidance.interval": ("IntervalGuidance",),
    "guidance.negative_prompt": ("NegativePromptGuidance",),
    "guidance.rescaled": ("RescaledGuidance",),
    "guidance.unguided": ("Unguided",),
    "evidence.constant": ("ConstantEvidence",),
    "evidence.oracle": ("OracleEvidence",),
    "evidence.published": ("PublishedEvidence",),
    "evidence.transition": ("TransitionEvidence",),
    "core.evidence": ("Belief", "Circumstances", "Evidence", "Surroundings"),
    "core.records": ("Guided", "State", "Step", "Trace"),
    "core.sampling": ("sample",),
    "bridges.diffusers.steer": ("steer",),
    "bridges.modular.guider": ("Guider", "guider"),
    "models.loading": ("load_model",),
    "core.network": ("Network",),
    "networks.dropout": ("SeededDropout",),
    "networks.dropped_layers": ("DroppedLayers",),
    "networks.narrow_context": ("NarrowContext",),
    "networks.noised_weights": ("NoisedWeights",),
    "networks.other_network": ("OtherNetwork",),
    "networks.quantized_weights": ("QuantizedWeights",),
    "networks.with_lora": ("WithLora",),
    "networks.without_lora": ("WithoutLora",),
    "telling.comparison": ("compare",),
    "telling.images": ("generate",),
    "core.errors": ("SteerclearError", "SteerclearWarning"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'steerclear' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
