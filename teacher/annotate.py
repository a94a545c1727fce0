"""The subcommand `annotate`: bring samples, or photographs, and masks that people drew together."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from common.checkpoints import Checkpoints
from common.errors import UserError, printable
from common.stage_folder import artifact_hash, plain
from datasets.annotations import INDEX, Samples, read_samples, write_annotated
from datasets.image_files import centre_square, centre_square_mask, find_images, open_image
from datasets.labels import LabelSet, Mask
from datasets.mask_images import Palette
from datasets.masks import read_masks
from datasets.sheets import save_sheet
from teacher.generators.base import FeatureGenerator
from teacher.generators.image_distance import FeatureMaps
from teacher.generators.inversion import Guess, InversionConfig, invert
from teacher.generators.inversion_encoder import load_inversion_encoder
from teacher.generators.registry import load_generator

LoadMaps = Callable[[str, torch.device], FeatureMaps]  # a network's name -> its feature maps


@dataclass(frozen=True)
class AnnotateOptions:
    """Options of the subcommand `annotate`.

    Args:
        samples: folder that `sample` wrote, or a folder of photographs.
        masks: their masks, as PNG, LabelMe JSON, COCO JSON or CVAT's Segmentation mask 1.1: a folder, a
            zip file or one file.
        out: folder for the annotated samples.
        palette: whether masks that are palette images mean their indices or their colours; `auto` finds out
            where it can only be one.
        inversion: how the latents of photographs are found.
        perceptual_network: network in whose feature maps photographs are compared as well: a finished
            student folder, or a timm model, whose pretrained weights are downloaded the first time or, as
            `local-dir:FOLDER`, lie in a folder.
        inversion_encoder_folder: finished folder of the stage `inversion_encoder`, from whose guess the
            inversion of photographs may start.
    """

    samples: Path
    masks: Path
    out: Path
    palette: Palette = "auto"
    inversion: InversionConfig = InversionConfig()
    perceptual_network: str | None = None
    inversion_encoder_folder: Path | None = None


@dataclass(frozen=True)
class _Annotated:
    """Samples with their masks, in order, and what is known of them.

    Attributes:
        generator: hash of the generator.
        origin: how the samples came about, for the record.
        without_mask: how many were left out.
        unfinished: folder of an inversion's checkpoints, to be removed when all is written.
    """

    samples: Samples
    masks: list[Mask]
    generator: str
    origin: dict[str, Any] = field(default_factory=dict)
    without_mask: int = 0
    unfinished: Path | None = None


def annotate(path: Path, label_file: Path, options: AnnotateOptions, load_maps: LoadMaps) -> None:
    """Check samples, or photographs, and the masks that people drew of them, and write them as one folder.

    Args:
        path: the generator; photographs alone need it.
        label_file: the label set.
        load_maps: how to come by the network of `options.perceptual_network`.

    Raises:
        UserError: `out` holds samples already, or an image or mask is wrong.
    """
    labels = LabelSet.load(label_file)
    if (options.out / INDEX).exists():
        raise UserError(f"{options.out} holds samples already; choose another --out.")
    if (options.samples / INDEX).exists():
        found = _annotated_samples(options, labels)
    else:
        found = _annotated_photographs(path, options, labels, load_maps)
    report = write_annotated(
        options.out, found.samples, found.masks, labels, found.generator, found.origin
    )
    if found.unfinished:
        shutil.rmtree(found.unfinished)
    print_report(report)
    left_out = f", {found.without_mask} without a mask left out" if found.without_mask else ""
    count = len(found.masks)
    print(f"{count} annotated samples in {options.out}{left_out}; look at overlays.png")


def _annotated_samples(options: AnnotateOptions, labels: LabelSet) -> _Annotated:
    """Drawn samples, whose latents are known, and their masks."""
    samples, index = read_samples(options.samples)
    names = [f"{i:04d}" for i in range(len(samples))]
    height, width = samples.images.shape[2:]
    sizes = dict.fromkeys(names, (height, width))
    masks = read_masks(options.masks, labels, sizes, options.palette)
    labelled = [i for i, name in enumerate(names) if name in masks]
    return _Annotated(
        samples.take(labelled), [masks[names[i]] for i in labelled], index["generator"],
        {"drawn": index["origin"]}, len(names) - len(labelled),
    )  # fmt: skip


def _annotated_photographs(
    path: Path, options: AnnotateOptions, labels: LabelSet, load_maps: LoadMaps
) -> _Annotated:
    """Photographs, whose latents an inversion finds, and their masks."""
    source, generator = artifact_hash(path), load_generator(path, PartialState().device)
    size = generator.resolution
    files = find_images(options.samples)
    sizes = {name: open_image(file).size[::-1] for name, file in files.items()}
    masks = read_masks(options.masks, labels, sizes, options.palette)
    labelled = [name for name in files if name in masks]
    images = torch.stack([centre_square(open_image(files[name]), size) for name in labelled])
    print(f"these are photographs: looking for the latents that draw them ({len(labelled)})")

    maps, guess, by = _inversion_helpers(generator, source, options, load_maps)
    # Goes on behind finished images, but not behind those that were sought otherwise.
    unfinished = options.out / f".inverted-by-{sha256(repr(by).encode()).hexdigest()[:12]}"
    found = invert(generator, images, options.inversion, maps, Checkpoints(unfinished), guess)
    save_sheet(found.sheet(), options.out / "inverted.png")
    psnr = {n: round(q, 1) for n, q in zip(labelled, found.psnr.tolist(), strict=True)}
    for name, value in psnr.items():
        print(f"{printable(name):>12} drawn again with a PSNR of {value} dB")
    origin = {"inverted": plain(options.inversion), "by": by, "psnr": psnr}
    squares = [centre_square_mask(masks[name], size) for name in labelled]
    left_out = len(files) - len(labelled)
    return _Annotated(found.samples, squares, source, origin, left_out, unfinished)


def _inversion_helpers(
    generator: FeatureGenerator, source: str, options: AnnotateOptions, load_maps: LoadMaps
) -> tuple[FeatureMaps | None, Guess | None, dict[str, str]]:
    """The perceptual network and the inversion encoder that are asked for, and the hashes of all."""
    maps, guess, by = None, None, {"generator": source}
    if options.perceptual_network:
        maps = load_maps(options.perceptual_network, generator.device)
        folder = Path(options.perceptual_network.removeprefix("local-dir:"))
        by["maps"] = artifact_hash(folder) if folder.is_dir() else options.perceptual_network
    if options.inversion_encoder_folder:
        guess = load_inversion_encoder(options.inversion_encoder_folder, generator, source)
        by["guess"] = artifact_hash(options.inversion_encoder_folder)
    return maps, guess, by


def print_report(report: dict[str, Any]) -> None:
    """Print how many pixels every class has in annotated samples, and what nothing can be learned of."""
    for name, row in report["classes"].items():
        print(f"{name:>12} {row['pixels']:9d} pixels in {row['samples']} of {report['samples']}")
    if report["ignored_pixels"]:
        print(f"{'(ignored)':>12} {report['ignored_pixels']:9d} pixels")
    for name in report["absent"]:
        print(f"warning: no mask shows {name}; nothing can learn it from them")
