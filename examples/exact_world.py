"""A world whose truth is known: does a guidance remove the concept, and leave everything else as it was?"""

from diffusers import DDIMScheduler

import steerclear
from steerclear.metrics.energy import energy_distance
from steerclear.testbeds.spiral import Spiral

world = Spiral()  # ten components along a spiral; three of them are the concept
seeds = range(512)
truth = world.draws(range(10_000, 12_000), without_concept=True)  # what a perfect negative prompt would leave

print(f"without guidance {world.prior:.3f} show the concept")
for name, guidance in {
    "negative prompt": steerclear.NegativePromptGuidance(2.0),
    "dynamic negative": steerclear.DynamicNegativeGuidance(1.0),
    "dynamic negative, exact posterior": steerclear.DynamicNegativeGuidance(
        1.0, evidence=steerclear.OracleEvidence(world.log_odds)
    ),
}.items():
    scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=False)
    run = steerclear.sample(
        world.denoiser(), guidance, scheduler, seeds, world.shape, num_inference_steps=50, negatives=1
    )
    shows = world.log_odds(run.samples.double(), 1.0, 0.0).sigmoid().mean()
    print(f"{name}: {shows:.3f} show it, {energy_distance(run.samples.double(), truth):.3f} from the truth")
