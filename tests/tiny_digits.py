"""A tiny model of digits with random weights, as a folder."""

from pathlib import Path

import torch
from diffusers import UNet2DModel
from safetensors.torch import save_file

from steerclear.features.label_classifier import LABEL_CLASSIFIER, LabelClassifier
from steerclear.laboratories.digits import REFERENCE
from steerclear.models.class_conditional import ClassConditionalPipeline
from steerclear.testbeds.labelled_images import DIGITS
from steerclear.training.diffusion import build_scheduler


def write_model(folder: Path) -> Path:
    """The model, its classifier, and features of "real" images; returns the folder."""
    torch.manual_seed(0)
    network = UNet2DModel(
        sample_size=4, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 8), norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, num_class_embeds=11, attention_head_dim=4,
    )  # fmt: skip
    torch.nn.init.normal_(network.class_embedding.weight, std=3.0)
    pipe = ClassConditionalPipeline(
        network.eval(), build_scheduler(), class_names=DIGITS.classes, mean=-0.5, deviation=0.6, patch=2, channels=1
    )
    pipe.save_pretrained(folder)
    classifier = LabelClassifier(1, 10)
    made = pipe([""] * 64, num_inference_steps=2, generator=torch.Generator().manual_seed(1), output_type="pt").images
    for _ in range(50):  # the statistics of its layers are those of such images, so that it sees several classes
        features = classifier.body(made[:, :1] * 2 - 1)
    torch.nn.init.normal_(classifier.head.weight)
    classifier.head.bias.data = -(features @ classifier.head.weight.T).mean(0).detach()
    classifier.save(folder / LABEL_CLASSIFIER)
    labels = torch.arange(400, dtype=torch.uint8) % 10
    save_file({"features": torch.randn(400, 64).half(), "labels": labels, "seen": labels.clone()}, folder / REFERENCE)
    return folder
