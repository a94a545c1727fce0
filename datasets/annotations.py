"""Annotated samples of a generator: what a person labels, and what makes its features again exactly.

A folder holds `images/0000.png`, ..., the hand-drawn `masks/0000.png`, ..., the latents of all samples in
`latents.safetensors`, and `samples.json`, which names the generator.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from common.errors import UserError, brief
from common.files import atomic_write, read_json, write_json
from datasets.labels import LabelSet, Mask, read_image, read_mask, write_mask
from datasets.sheets import ImageArray, grid, save_sheet, to_array

ANNOTATIONS = "annotations"  # a stage's input; of several folders the others are annotations.2, ...
INDEX = "samples.json"
LATENTS = "latents.safetensors"
STROKES = "strokes"  # in the origin of samples whose masks are partial


@dataclass(frozen=True)
class Samples:
    """Samples of a generator.

    Attributes:
        latents: what a generator makes them from, by name, each [N, ...]; what they mean is its own affair.
        images: uint8 [N, 3, R, R].
    """

    latents: dict[str, Tensor]
    images: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Sequence[int]) -> "Samples":
        """Some of them."""
        chosen = list(indices)
        return Samples({k: t[chosen] for k, t in self.latents.items()}, self.images[chosen])


def image_path(folder: Path, number: int) -> Path:
    """The image of a sample."""
    return folder / "images" / f"{number:04d}.png"


def mask_path(folder: Path, number: int) -> Path:
    """The mask of an annotated sample."""
    return folder / "masks" / f"{number:04d}.png"


def write_samples(
    folder: Path, samples: Samples, generator_hash: str, origin: dict[str, Any], first: int = 0
) -> None:
    """Write samples for annotation.

    Args:
        origin: how they were drawn (seed, indices, truncation), for the record.
        first: image that is written first; those before it are there already.
    """
    for i, image in enumerate(samples.images[first:], first):
        with atomic_write(image_path(folder, i)) as partial:
            Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).save(partial, format="PNG")
    tensors = {name: _compact(latent.cpu()) for name, latent in samples.latents.items()}
    with atomic_write(folder / LATENTS) as partial:
        save_file(tensors, partial)
    write_index(folder, len(samples), generator_hash, origin)


def write_index(folder: Path, count: int, generator_hash: str, origin: dict[str, Any]) -> None:
    """Write the index of samples, last of their files."""
    write_json(folder / INDEX, {"generator": generator_hash, "count": count, "origin": origin})


def _compact(latent: Tensor) -> Tensor:
    """In half precision where that is exact: drawn noise is, a checkpoint's own need not be."""
    if latent.dtype != torch.float32:
        return latent.contiguous()
    half = latent.half()
    return (half if torch.equal(half.float(), latent) else latent).contiguous()


def read_samples(folder: Path) -> tuple[Samples, dict[str, Any]]:
    """Samples as they were drawn, and their index: `generator` (its hash), `count`, `origin`.

    Raises:
        UserError: a file is missing or damaged.
    """
    index = read_index(folder)
    try:
        tensors = load_file(folder / LATENTS)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{folder / LATENTS} cannot be read ({brief(error)}); draw the samples anew."
        ) from error
    count = index["count"]
    if wrong := [k for k, t in tensors.items() if t.shape[:1] != (count,)]:
        raise UserError(
            f"{folder / LATENTS} holds no {wrong[0]} for each of {count} samples; draw the samples anew."
        )
    arrays = [read_image(image_path(folder, i)) for i in range(count)]
    if len({array.shape for array in arrays}) > 1:
        raise UserError(
            f"{folder / 'images'} holds images of several sizes; draw the samples anew."
        )
    latents = {k: t.float() if t.dtype == torch.half else t for k, t in tensors.items()}
    return Samples(latents, torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)), index


def read_index(folder: Path) -> dict[str, Any]:
    """The index of samples, checked.

    Raises:
        UserError: it is missing or damaged.
    """
    index = read_json(folder / INDEX)
    expected = {"generator": str, "count": int, "origin": dict}
    if not isinstance(index, dict) or any(
        not isinstance(index.get(name), kind) for name, kind in expected.items()
    ):
        raise UserError(
            f"{folder / INDEX} lacks one of {', '.join(expected)}; draw the samples anew."
        )
    if index["count"] < 1:
        raise UserError(f"{folder / INDEX} says that there are no samples; draw the samples anew.")
    return index


def read_annotated(folder: Path, labels: LabelSet, generator_hash: str) -> tuple[Samples, Tensor]:
    """Samples and their masks, uint8 [N, R, R], checked.

    Raises:
        UserError: a file is missing or damaged, a mask is wrong, or the samples were drawn from
            another generator, so that their features cannot be made again.
    """
    samples, index = read_samples(folder)
    require_drawn_by(generator_hash, folder, index)
    size, is_partial = samples.images.shape[2:], STROKES in index["origin"]
    masks = [
        read_mask(mask_path(folder, i), labels, size, is_ours=True, is_partial=is_partial)
        for i in range(len(samples))
    ]
    read = torch.from_numpy(np.stack(masks))
    _require_two_classes(folder, read, labels)
    return samples, read


def require_drawn_by(generator_hash: str, folder: Path, index: dict[str, Any]) -> None:
    """Raises UserError where a generator has not drawn a folder's samples: their features are another's."""
    if index["generator"] != generator_hash:
        raise UserError(
            f"{folder} was drawn from another generator (hash {index['generator'][:12]}, now "
            f"{generator_hash[:12]}): use that one, or draw and annotate new samples."
        )


def _require_two_classes(folder: Path, masks: Tensor, labels: LabelSet) -> None:
    """Raises UserError where all masks of a folder together show one class: nothing is told from it."""
    found = [labels.names[i] for i in masks.unique().tolist() if i != labels.ignore_index]
    if len(found) < 2:
        raise UserError(
            f"the masks in {folder} show {', '.join(found) or 'no class'} alone; draw a second class."
        )


def read_all_annotated(
    inputs: Mapping[str, Path], labels: LabelSet, generator_hash: str, name: str = ANNOTATIONS
) -> tuple[Samples, Tensor]:
    """The samples of all folders that a stage's inputs name `annotations`, `annotations.2`, ..., in order.

    Args:
        name: another name of inputs.

    Raises:
        UserError: as `read_annotated`.
    """
    names = annotation_names(inputs, name)
    read = [read_annotated(inputs[one], labels, generator_hash) for one in names]
    return join_samples([some for some, _ in read]), torch.cat([masks for _, masks in read])


def join_samples(parts: Sequence[Samples]) -> Samples:
    """Samples of one generator, one part after another."""
    latents = {k: torch.cat([some.latents[k] for some in parts]) for k in parts[0].latents}
    return Samples(latents, torch.cat([some.images for some in parts]))


def annotation_names(inputs: Iterable[str], name: str = ANNOTATIONS) -> list[str]:
    """Those of a stage's inputs that are folders of annotated samples to learn from, in their order."""
    return [one for one in inputs if one.split(".")[0] == name]


def count_samples(folder: Path) -> int:
    """How many samples a folder holds."""
    return int(read_index(folder)["count"])


def choose_shots(count: int, shots: int, seed: int | None) -> list[int]:
    """Numbers of the samples to learn from, of `count` annotated ones.

    Args:
        shots: how many; 0 for all.
        seed: of a random choice; none for the first ones, the most valuable where `sample --choose`
            put them in order.

    Raises:
        UserError: there are not so many.
    """
    if not 0 <= shots <= count:
        raise UserError(
            f"teacher.shots is {shots}, but there are {count} annotated samples; annotate more, or "
            "lower it (0 takes all)."
        )
    if seed is None:
        return list(range(shots or count))
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return sorted(drawn[: shots or count].tolist())


def write_annotated(
    folder: Path,
    samples: Samples,
    masks: list[Mask],
    labels: LabelSet,
    generator_hash: str,
    origin: dict[str, Any],
) -> dict[str, Any]:
    """Write annotated samples, a sheet of masks laid over them, and what the masks hold.

    Returns:
        The report, also written as `report.json`: for each class its pixels and the samples that
        show it; pixels that are ignored; classes that no sample shows.
    """
    write_samples(folder, samples, generator_hash, origin)
    for i, mask in enumerate(masks):
        write_mask(mask_path(folder, i), mask, labels)
    return write_report(folder, samples, masks, labels)


def write_report(
    folder: Path, samples: Samples, masks: list[Mask], labels: LabelSet
) -> dict[str, Any]:
    """Write a sheet of masks laid over their samples, and what the masks hold, see `write_annotated`."""
    counts = np.stack([np.bincount(mask.flatten(), minlength=256) for mask in masks])
    classes = {
        name: {"pixels": int(counts[:, i].sum()), "samples": int((counts[:, i] > 0).sum())}
        for i, name in enumerate(labels.names)
    }
    report = {
        "samples": len(masks),
        "classes": classes,
        "ignored_pixels": int(counts[:, labels.ignore_index].sum()),
        "absent": [name for name, row in classes.items() if not row["samples"]],
    }
    write_json(folder / "report.json", report)

    images = [to_array(image) for image in samples.images]
    painted = [labels.paint(mask) for mask in masks]
    columns = {"sample": images, "mask": painted, "both": list(map(_blend, images, painted))}
    save_sheet(grid(columns, labels, 256), folder / "overlays.png")
    return report


def _blend(image: ImageArray, painted: ImageArray) -> ImageArray:
    return ((image.astype(np.uint16) + painted) // 2).astype(np.uint8)
