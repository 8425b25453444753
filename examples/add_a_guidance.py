"""A guidance in one file: classifier-free guidance whose push is orthogonal to the prompt's own prediction."""

from dataclasses import dataclass
from typing import ClassVar

from diffusers import DDIMScheduler

from steerclear import Guidance, Guided, State, Step, sample
from steerclear.core.laws import Identity, Law
from steerclear.core.numerics import dot, norm, over_images
from steerclear.testbeds.spiral import Spiral


@dataclass(frozen=True)
class OrthogonalGuidance(Guidance):
    """D = D_prompt + (w - 1) (d - <d, D_prompt> / <D_prompt, D_prompt> D_prompt),   d = D_prompt - D_empty"""

    guidance_scale: float = 3.0  # w; 1 is the plain conditional prediction

    name: ClassVar[str] = "orthogonal"

    def __call__(self, step: Step, state: State) -> Guided:
        empty, prompt = step.predict("empty", "positive")
        push = prompt - empty
        push = push - over_images(dot(push, prompt) / dot(prompt, prompt), prompt) * prompt
        cosine = dot(push, prompt) / (norm(push) * norm(prompt))
        return Guided(prompt + (self.guidance_scale - 1) * push, state, {"cosine": cosine})

    def branches(self, negatives: int) -> tuple[str, ...]:
        return ("empty", "positive")

    @classmethod
    def laws(cls) -> tuple[Law, ...]:  # what it claims; the tests measure each law
        return (Identity(cls(1.0)),)


for scale in (1.0, 3.0):
    run = sample(Spiral().denoiser(), OrthogonalGuidance(scale), DDIMScheduler(clip_sample=False), range(64), (2,))
    push, cosine = run.trace.table("guidance_norm").mean(), run.trace.table("cosine").abs().mean()
    print(f"scale {scale:g}: mean push {push:.3f}, mean |cosine| with the prompt's prediction {cosine:.5f}")
