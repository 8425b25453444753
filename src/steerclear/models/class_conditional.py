"""A pipeline of images with classes, called as a pipeline of texts is: a prompt is the name of a class, or empty for any.

It works on the pixels themselves, standardized and folded into patches; there is no autoencoder.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput, SchedulerMixin, UNet2DModel
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from torch.nn import functional as F

from ..core.class_names import class_number
from ..core.errors import InvalidSetting, PromptError, shown

OUTPUTS = ("pil", "np", "pt", "latent")


class ClassConditionalPipeline(DiffusionPipeline):
    r"""Images of a class, or of any class.

        pipe("3", negative_prompt="5", guidance_scale=2.0, num_inference_steps=30, generator=generator).images

    A prompt is the name of a class; a digit may be a word, and words before it like "a photo of a" are skipped. The empty
    prompt means no class, and so does "any". Of texts joined by commas all must name the same class: "any, 3" is "3".
    A latent is a patch of pixels, ``(pixel - mean) / deviation``.

    Args:
        unet: with one class embedding per class, and one more, the last, for no class.
        scheduler: any that diffusers' Stable Diffusion takes.
        class_names: by number: a sequence, or a mapping from numbers (or their texts, as JSON has them) to names.
        mean, deviation: of the pixels that the network was trained on, in [-1, 1].
        patch: pixels of a patch, each way, that are the channels of one place of the latents.
        channels: of an image: 1 for gray, 3 for color.

    Raises:
        InvalidSetting: these do not belong together.
    """

    model_cpu_offload_seq = "unet"
    _callback_tensor_inputs = ("latents",)

    def __init__(
        self, unet: UNet2DModel, scheduler: SchedulerMixin, class_names: Mapping[Any, str] | Sequence[str] = (), mean: float = 0.0,
        deviation: float = 1.0, patch: int = 1, channels: int = 3,
    ) -> None:  # fmt: skip
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        named = dict(class_names) if isinstance(class_names, Mapping) else dict(enumerate(class_names))
        # a dictionary, as a list in model_index.json stands for a component
        self.register_to_config(
            class_names={str(number): name for number, name in named.items()},
            mean=mean, deviation=deviation, patch=patch, channels=channels,
        )  # fmt: skip
        self._check()
        self._guidance_scale = 1.0

    def _check(self) -> None:
        config, names = self.unet.config, self.config.class_names
        if sorted(names) != sorted(map(str, range(len(names)))) or len(set(names.values())) < len(names):
            raise InvalidSetting("class_names", names, "a different name for every class from 0")
        if config.num_class_embeds != len(names) + 1:
            allowed = f"{len(names) + 1}: one per class, and one for no class"
            raise InvalidSetting("num_class_embeds of the unet", config.num_class_embeds, allowed)
        width = self.config.channels * self.config.patch**2
        if config.in_channels != width:
            allowed = (
                f"{width}: {self.config.channels} channels of patches of {self.config.patch} x {self.config.patch}"
            )
            raise InvalidSetting("in_channels of the unet", config.in_channels, allowed)

    # classes

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, by number."""
        names = self.config.class_names
        return tuple(names[str(number)] for number in range(len(names)))

    def class_number(self, text: str) -> int:
        """The class that a text names; the number of no class, ``len(classes)``, for "any" and an empty one.

        Raises:
            PromptError: none or several; says which classes there are.
        """
        return class_number(text, self.classes)

    def check_prompt(self, text: str) -> None:
        """Raises :class:`PromptError` where a text is not one class."""
        self.class_number(text)

    def encode_prompt(
        self, prompt: str | Sequence[str] | None, device: Any = None, num_images_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True, negative_prompt: str | Sequence[str] | None = None,
        prompt_embeds: Tensor | None = None, negative_prompt_embeds: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """The classes of prompts and of negative prompts, long ``[n]`` each, every one ``num_images_per_prompt`` times.

        Args:
            prompt, negative_prompt: texts; None where the classes are given.
            device: of the result; None for the network's.
            num_images_per_prompt: how many images each prompt is for.
            do_classifier_free_guidance: whether the negative ones are needed; None is given in their place otherwise.
            prompt_embeds, negative_prompt_embeds: the classes as numbers, one per prompt.

        Raises:
            PromptError: a text that is not one class, or not one negative text per prompt.
        """
        own = self._numbers(prompt, prompt_embeds, "prompt")
        if own is None:
            raise PromptError('prompt is None; give the name of a class, or "" for any')
        negative = None
        if do_classifier_free_guidance:
            negative = self._numbers(negative_prompt, negative_prompt_embeds, "negative_prompt")
            negative = torch.full_like(own, len(self.classes)) if negative is None else negative
            negative = negative.expand(len(own)) if len(negative) == 1 else negative
            if len(negative) != len(own):
                raise PromptError(
                    f"negative_prompt has {len(negative)} texts, and its prompt has {len(own)}; give one for all, or one each"
                )
            negative = negative.repeat_interleave(num_images_per_prompt).to(device or self._execution_device)
        return own.repeat_interleave(num_images_per_prompt).to(device or self._execution_device), negative

    def _numbers(self, texts: str | Sequence[str] | None, given: Tensor | None, what: str) -> Tensor | None:
        if given is not None:
            if given.ndim != 1 or not ((given >= 0) & (given <= len(self.classes))).all():
                allowed = f"whole numbers from 0 to {len(self.classes)} (no class), one per prompt"
                raise InvalidSetting(f"{what}_embeds", given, allowed)
            return given.long()
        if texts is None:
            return None
        several = [texts] if isinstance(texts, str) else list(texts)
        if not all(isinstance(text, str) for text in several) or not several:
            raise PromptError(f"{what} is {shown(texts)}, but must be a text or a list of texts")
        return torch.tensor([self.class_number(text) for text in several])

    # images

    def decode(self, latents: Tensor) -> Tensor:
        """Latents ``[n, places, height, width]`` -> float images in [0, 1], ``[n, 3, height, width]``."""
        pixels = F.pixel_shuffle(latents.float(), self.config.patch) * self.config.deviation + self.config.mean
        return (pixels / 2 + 0.5).clamp(0, 1).expand(-1, 3, -1, -1)

    # sampling

    @property
    def guidance_scale(self) -> float:
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        return self._guidance_scale > 1

    @property
    def num_timesteps(self) -> int:
        return self._num_timesteps

    def prepare_extra_step_kwargs(self, generator: Any, eta: float) -> dict[str, Any]:
        """What the scheduler's step takes beside the sample."""
        takes = inspect.signature(self.scheduler.step).parameters
        return {name: value for name, value in (("eta", eta), ("generator", generator)) if name in takes}

    def prepare_latents(self, images: int, generator: Any, latents: Tensor | None, device: Any) -> Tensor:
        """The noise of the first step, ``[images, places, height, width]``."""
        config = self.unet.config
        shape = (images, config.in_channels, config.sample_size, config.sample_size)
        if isinstance(generator, list) and len(generator) != images:
            raise InvalidSetting("the number of generators", len(generator), f"{images}, one for each image")
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=device, dtype=self.unet.dtype)
        elif tuple(latents.shape) != shape:
            raise InvalidSetting("the shape of latents", tuple(latents.shape), str(shape))
        return latents.to(device) * self.scheduler.init_noise_sigma

    @torch.no_grad()
    def __call__(
        self, prompt: str | Sequence[str] | None = "", negative_prompt: str | Sequence[str] | None = None,
        num_inference_steps: int = 50, guidance_scale: float = 2.0, num_images_per_prompt: int = 1, eta: float = 0.0,
        generator: torch.Generator | list[torch.Generator] | None = None, latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None, negative_prompt_embeds: Tensor | None = None, output_type: str = "pil",
        return_dict: bool = True, callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> ImagePipelineOutput | tuple[Any]:  # fmt: skip
        """Sample images.

        Args:
            prompt: the name of a class for all images, or a list; "" for any class.
            negative_prompt: the class that classifier-free guidance leads away from; None for no class.
            num_inference_steps: steps of the scheduler.
            guidance_scale: of classifier-free guidance; 1 and below is off.
            num_images_per_prompt: how many images each prompt is for.
            eta: of DDIM.
            generator: one for all images, or a list of one per image.
            latents: the noise to begin with, of variance 1; None draws it.
            prompt_embeds, negative_prompt_embeds: see :meth:`encode_prompt`.
            output_type: "pil", "np", "pt" (in [0, 1]) or "latent".
            return_dict: whether the result is an object with ``images``, or a tuple.
            callback_on_step_end: called with (pipeline, index, timestep, tensors); returns those that it changed.
            callback_on_step_end_tensor_inputs: which tensors it is given: "latents" is all there is.

        Raises:
            PromptError, InvalidSetting: an argument that cannot be; says what can.
        """
        if output_type not in OUTPUTS:
            raise InvalidSetting("output_type", output_type, ", ".join(OUTPUTS))
        self._guidance_scale = guidance_scale
        device, guided = self._execution_device, self.do_classifier_free_guidance
        labels, negative = self.encode_prompt(
            prompt=None if prompt_embeds is not None else prompt, device=device, num_images_per_prompt=num_images_per_prompt,
            do_classifier_free_guidance=guided, negative_prompt=negative_prompt, prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds,
        )  # fmt: skip
        told = labels if negative is None else torch.cat([negative, labels])
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        timesteps = self.scheduler.timesteps
        self._num_timesteps = len(timesteps)
        sample = self.prepare_latents(len(labels), generator, latents, device)
        extra = self.prepare_extra_step_kwargs(generator, eta)
        with self.progress_bar(total=len(timesteps)) as bar:
            for index, timestep in enumerate(timesteps):
                both = torch.cat([sample] * 2) if guided else sample
                both = self.scheduler.scale_model_input(both, timestep)
                predicted = self.unet(both, timestep, class_labels=told, return_dict=False)[0]
                if guided:
                    without, with_class = predicted.chunk(2)
                    predicted = without + guidance_scale * (with_class - without)
                sample = self.scheduler.step(predicted, timestep, sample, **extra, return_dict=False)[0]
                if callback_on_step_end is not None:
                    known = {"latents": sample}
                    given = {name: known[name] for name in callback_on_step_end_tensor_inputs}
                    sample = callback_on_step_end(self, index, timestep, given).pop("latents", sample)
                bar.update()
        images = self._finished(sample, output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _finished(self, latents: Tensor, output_type: str) -> Any:
        if output_type == "latent":
            return latents
        images = self.decode(latents)
        if output_type == "pt":
            return images
        arrays = images.permute(0, 2, 3, 1).cpu().numpy()
        return arrays if output_type == "np" else self.numpy_to_pil(arrays)
