"""Steer a diffusers pipeline that you have loaded yourself; the pipeline stays unmodified."""

import torch

import steerclear

pipe = steerclear.load_model("portraits").pipe  # or any pipeline of diffusers, on any device
guidance = steerclear.DynamicNegativeGuidance(guidance_scale=3.0)
prompt, seeds = "portrait photo of a man", range(4)

with steerclear.steer(pipe, guidance, negative_prompt="mustache") as run:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    images = pipe([prompt] * len(seeds), generator=generators, num_inference_steps=8).images

weight = run.trace.table("weight").nan_to_num()  # [steps, images]: how hard each image was pushed away
for seed, image, of_image in zip(seeds, images, weight.T, strict=True):
    image.save(f"{seed}.png")
    print(f"seed {seed}: weight of the push at most {of_image.max():.2f}, {of_image[-1]:.2f} at the end")
print(f"evaluations per image: {run.trace.evaluations.tolist()}")
