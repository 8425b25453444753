"""Your own judge, and a truth that the model draws itself: nobody has to know the exact one."""

import torch

import steerclear


def seen(images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Probabilities per image, of uint8 images [n, 3, height, width]; a network of yours would do the same."""
    red, green, blue = images.double().mean((2, 3)).unbind(1)
    return {"red": torch.sigmoid((red - green - 15) / 4), "bright": torch.sigmoid((red + green + blue - 505) / 8)}


comparison = steerclear.compare(
    "portraits",
    "portrait photo of a man",
    "red",
    methods=["unguided", "cfg", "negative"],
    seeds=range(16),
    num_inference_steps=4,
    judge=steerclear.Classifier(seen, concepts=("red", "bright")),
    features="pixels",  # in which images are compared; a judge with features of its own needs no others
    reference_images=64,  # further images, of which those without the concept are the truth
    progress=False,
)
truth = comparison.results.truth
print(f"the truth: {truth.kept} of {truth.drawn} images; bright {truth.rates['bright']:.3f}")
for method in comparison.results.methods:
    bright, shift = method.measurements["bright"], method.measurements["collateral_shift"]
    low, high = bright.beside_truth
    print(f"{method.name}: bright {bright.value:.3f} ({low:.2f} to {high:.2f} of the truth), shift {shift.value:.3f}")
