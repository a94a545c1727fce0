"""Annotated generator samples: what a person labels, and what remakes its features exactly.

A folder holds `images/0000.png`, ..., the hand-drawn `masks/0000.png`, ..., the latents and noise
inputs of all samples in `latents.safetensors`, and `samples.json`, which names the generator.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from datasets.artifacts import UserError, atomic_write, read_json, write_json
from datasets.labels import LabelSet, read_image, read_mask

INDEX = "samples.json"
LATENTS = "latents.safetensors"


@dataclass(frozen=True)
class Samples:
    """Drawn samples: w [N, L, D], a noise map [N, 1, r, r] per feature layer, uint8 [N, 3, R, R]."""

    w: Tensor
    noise: list[Tensor]
    images: Tensor

    def __len__(self) -> int:
        return len(self.w)

    def take(self, indices: list[int]) -> "Samples":
        return Samples(self.w[indices], [n[indices] for n in self.noise], self.images[indices])


def write_samples(
    folder: Path, samples: Samples, generator_hash: str, origin: dict[str, object]
) -> None:
    """Write samples for annotation.

    Args:
        origin: how they were drawn (seed, indices, truncation), for the record.
    """
    for i, image in enumerate(samples.images):
        path = folder / "images" / f"{i:04d}.png"
        with atomic_write(path) as partial:
            Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).save(partial, format="PNG")
    tensors = {f"noise.{k}": _compact(n.cpu()) for k, n in enumerate(samples.noise)}
    with atomic_write(folder / LATENTS) as partial:
        save_file({"w": samples.w.cpu().contiguous(), **tensors}, partial)
    write_json(
        folder / INDEX, {"generator": generator_hash, "count": len(samples), "origin": origin}
    )


def _compact(noise: Tensor) -> Tensor:
    """In half precision where that is exact: drawn noise is, a checkpoint's own need not be."""
    half = noise.half()
    return (half if torch.equal(half.float(), noise) else noise).contiguous()


def read_samples(folder: Path, labels: LabelSet, generator_hash: str) -> tuple[Samples, Tensor]:
    """Samples and their masks, uint8 [N, R, R], checked.

    Raises:
        UserError: a file is missing or damaged, a mask is wrong, or the samples were drawn from
            another generator, so that their features cannot be made again.
    """
    index = read_json(folder / INDEX)
    if index["generator"] != generator_hash:
        raise UserError(
            f"{folder} was drawn from another generator (hash {index['generator'][:12]}, now "
            f"{generator_hash[:12]}): use that one, or draw and annotate new samples."
        )
    try:
        tensors = load_file(folder / LATENTS)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{folder / LATENTS} cannot be read ({error}); draw the samples anew."
        ) from error
    images, masks = [], []
    for i in range(index["count"]):
        image = read_image(folder / "images" / f"{i:04d}.png")
        images.append(image)
        masks.append(read_mask(folder / "masks" / f"{i:04d}.png", labels, image.shape[:2]))
    noise = [tensors[f"noise.{k}"].float() for k in range(len(tensors) - 1)]
    pictures = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return Samples(tensors["w"], noise, pictures), torch.from_numpy(np.stack(masks))
