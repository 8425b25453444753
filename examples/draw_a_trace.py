"""What a guidance did on the way: its numbers for every image and step, as a table and as a figure."""

import steerclear

images = steerclear.generate(
    "portraits", "portrait photo of a man", negative_prompt="mustache", seeds=range(4), num_inference_steps=8
)
print(images)
for seed, trace in zip(images.seeds, images.traces, strict=True):
    known = [value for value in trace["posterior"] if value is not None]
    print(f"seed {seed}: p(mustache) from {known[0]:.2f} to {known[-1]:.2f}, largest weight {max(trace['weight']):.2f}")
images.figure().savefig("trace.png")  # images.figure("push_norm") draws another number
