"""Compare three ways of saying "no mustache" on the same seeds: what each removed, and what else it changed."""

import steerclear

comparison = steerclear.compare(
    "portraits",  # or a pipeline of yours
    "portrait photo of a man",
    negative_prompt="mustache",
    seeds=range(4),
    num_inference_steps=8,
    methods=["unguided", "negative", "dynamic-negative"],
)
print(comparison)  # in a notebook, write `comparison` alone: the table and the images
for row in comparison.rows():
    print(f"{row['method']}: {row['mustache']:.3f} show a mustache, {row['evaluations']:g} evaluations per image")
print("report:", comparison.report("out/example"))
