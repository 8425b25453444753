"""Your own judge in one file: a function of images. From a terminal: --judge judge_with_your_own_function:colors"""

import torch

import steerclear


def colors(images: torch.Tensor) -> dict[str, torch.Tensor]:
    """uint8 images, [n, 3, height, width] -> name -> probability that an image shows it, [n]; here your detector would look."""
    values = images.double() / 255
    blue = values[:, 2] > values[:, 0]
    return {"bright": values.mean((1, 2, 3)), "blue": blue.double().mean((1, 2))}


if __name__ == "__main__":
    comparison = steerclear.compare(
        "portraits", "portrait photo of a man", "mustache", methods=["cfg", "negative"], seeds=range(4), num_inference_steps=4,
        judge=steerclear.Classifier(colors, ("bright", "blue")),
    )  # fmt: skip
    for row in comparison.rows():
        print(f"{row['label']}: {row['bright']:.0%} bright, {row['blue']:.0%} blue")
