"""The subcommand `annotate`: bring samples, or photographs, and masks that people drew together."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from accelerate import PartialState

from common.checkpoints import Checkpoints
from common.errors import UserError
from common.stage_folder import artifact_hash, plain
from datasets.annotations import read_unlabelled, write_annotations
from datasets.image_files import find_pictures, read_photograph, square, square_mask
from datasets.labels import LabelSet
from datasets.masks import read_masks
from datasets.sheets import save_sheet
from teacher.generators.inversion import InversionConfig, Maps, invert
from teacher.generators.inversion_encoder import load_encoder
from teacher.generators.registry import load_generator


@dataclass(frozen=True)
class AnnotateOptions:
    """Options of the subcommand `annotate`.

    Args:
        samples: what `sample` drew, or a folder of photographs.
        masks: their masks: PNG, LabelMe JSON, COCO JSON, CVAT's Segmentation mask 1.1; a folder, a
            zip file or one file.
        out: folder for the annotated samples.
        inversion: how the latents of photographs are found.
        perceptual_network: a network in whose feature maps they are compared as well: a finished student folder, or
            a timm model, whose pretrained weights are downloaded the first time or, as
            `local-dir:FOLDER`, lie in a folder.
        inversion_encoder: a finished folder of the stage `inversion_encoder`, from whose guess their inversion may start.
    """

    samples: Path
    masks: Path
    out: Path
    inversion: InversionConfig = InversionConfig()
    perceptual_network: str | None = None
    inversion_encoder: Path | None = None


def annotate(
    path: Path,
    label_file: Path,
    options: AnnotateOptions,
    load_maps: Callable[[str, torch.device], Maps],
) -> None:
    """Bring samples, or photographs, and the masks that people drew of them together, checked.

    Args:
        path: the generator; photographs alone need it.
        label_file: the label set.
        load_maps: how to come by the network of `options.maps`.
    """
    labels = LabelSet.load(label_file)
    if (options.out / "samples.json").exists():
        raise UserError(f"{options.out} holds samples already; choose another --out.")
    unfinished = None
    if (options.samples / "samples.json").exists():
        samples, index = read_unlabelled(options.samples)
        source, origin = index["generator"], {"drawn": index["origin"]}
        names = [f"{i:04d}" for i in range(len(samples))]
        height, width = samples.images.shape[2:]
        masks = read_masks(options.masks, labels, dict.fromkeys(names, (height, width)))
        samples = samples.take([i for i, name in enumerate(names) if name in masks])
    else:
        source, generator = artifact_hash(path), load_generator(path, PartialState().device)
        size = generator.config.resolution
        files = find_pictures(options.samples)
        names = list(files)
        sizes = {name: read_photograph(file).size[::-1] for name, file in files.items()}
        masks = read_masks(options.masks, labels, sizes)
        labelled = [name for name in names if name in masks]
        masks = {name: square_mask(masks[name], size) for name in labelled}
        pictures = torch.stack([square(read_photograph(files[name]), size) for name in labelled])
        print(f"these are photographs: looking for the latents that draw them ({len(labelled)})")
        maps, guess, by = None, None, {"generator": source}
        if options.perceptual_network:
            maps = load_maps(options.perceptual_network, generator.w_mean.device)
            folder = Path(options.perceptual_network.removeprefix("local-dir:"))
            by["maps"] = artifact_hash(folder) if folder.is_dir() else options.perceptual_network
        if options.inversion_encoder:
            guess = load_encoder(options.inversion_encoder, generator, source)
            by["guess"] = artifact_hash(options.inversion_encoder)
        # Goes on behind finished pictures, but not behind those that were sought otherwise.
        unfinished = options.out / f".inverted-by-{sha256(repr(by).encode()).hexdigest()[:12]}"
        found = invert(generator, pictures, options.inversion, maps, Checkpoints(unfinished), guess)
        samples = found.samples
        save_sheet(found.sheet(), options.out / "inverted.png")
        decibels = {n: round(q, 1) for n, q in zip(labelled, found.psnr.tolist(), strict=True)}
        origin = {"inverted": plain(options.inversion), "by": by, "psnr": decibels}
        for name, value in decibels.items():
            print(f"{name:>12} drawn again with a PSNR of {value} dB")
    ordered = [masks[name] for name in names if name in masks]
    report = write_annotations(options.out, samples, ordered, labels, source, origin)
    if unfinished:
        shutil.rmtree(unfinished)
    for name, row in report["classes"].items():
        print(f"{name:>12} {row['pixels']:9d} pixels in {row['samples']} of {report['samples']}")
    if report["ignored_pixels"]:
        print(f"{'(ignored)':>12} {report['ignored_pixels']:9d} pixels")
    for name in report["absent"]:
        print(f"warning: no mask shows {name}; nothing can learn it from them")
    left = len(names) - len(ordered)
    print(
        f"{len(ordered)} annotated samples in {options.out}"
        f"{f', {left} without a mask left out' if left else ''}; look at overlays.png"
    )
