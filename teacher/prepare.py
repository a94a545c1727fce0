"""What a person does before a run: convert a checkpoint, draw samples, bring their masks together."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from datasets.annotations import read_unlabelled, write_annotations, write_samples
from datasets.artifacts import StageFolder, UserError, artifact_hash, plain
from datasets.folders import find_pictures, read_photograph, square, square_mask
from datasets.labels import LabelSet
from datasets.masks import read_masks
from datasets.pictures import save_sheet, tile
from datasets.state import Checkpoints
from teacher.choosing import choose_samples
from teacher.encoder import load_encoder
from teacher.generators import convert_checkpoint, load_generator
from teacher.invert import InversionConfig, Maps, invert
from teacher.sampling import draw, latents_of_seed, latents_of_z, read_latents, z_of_seeds


@dataclass(frozen=True)
class SampleOptions:
    """Options of the subcommand `sample`: one of `count`, `seeds` and `latents`.

    Args:
        out: folder for the samples and a contact sheet of them.
        count: draw this many, each with noise of its own.
        seed: of those.
        seeds: draw what NVIDIA's tools draw for these seeds, as in 0-3,8; constant noise.
        latents: draw these z, a .npy file of float32 [N, latent size]; constant noise.
        choose: keep only this many, those most worth annotating.
        truncation: psi; 1 for full variety.
    """

    out: Path
    count: int | None = None
    seed: int = 0
    seeds: str | None = None
    latents: Path | None = None
    choose: int | None = None
    truncation: float = 1.0


@dataclass(frozen=True)
class ConvertOptions:
    """Options of the subcommand `convert`.

    Args:
        checkpoint: a StyleGAN2 generator: NVIDIA's .pkl (PyTorch or TensorFlow) or rosinality's .pt.
        out: folder for it.
    """

    checkpoint: Path
    out: Path


@dataclass(frozen=True)
class AnnotateOptions:
    """Options of the subcommand `annotate`.

    Args:
        samples: what `sample` drew, or a folder of photographs.
        masks: their masks: PNG, LabelMe JSON, COCO JSON, CVAT's Segmentation mask 1.1; a folder, a
            zip file or one file.
        out: folder for the annotated samples.
        inversion: how the latents of photographs are found.
        maps: a network in whose feature maps they are compared as well: a finished student folder, or
            a timm model, whose pretrained weights are downloaded the first time or, as
            `local-dir:FOLDER`, lie in a folder.
        guess: a finished folder of the stage `encoder`, from whose guess their inversion may start.
    """

    samples: Path
    masks: Path
    out: Path
    inversion: InversionConfig = InversionConfig()
    maps: str | None = None
    guess: Path | None = None


def convert(options: ConvertOptions) -> None:
    """Turn a checkpoint of another system into a generator folder of ours."""
    folder = StageFolder(
        options.out,
        "convert",
        {},
        {"checkpoint": options.checkpoint},
        remedy="choose another --out",
    )
    if folder.is_done():
        print(f"convert: done already in {options.out}, nothing to do")
        return
    folder.begin()
    folder.finish(convert_checkpoint(folder))
    print(
        f"The generator is in {options.out}. Look at what it draws with\n"
        f"  python train.py sample --generator {options.out} --seeds 0-15 --truncation 0.7 --out DIR"
    )


def sample(path: Path, options: SampleOptions) -> None:
    """Draw samples of the generator `path` to look at or to annotate.

    Beside the pictures lies what makes their features again.
    """
    source = artifact_hash(path)
    if (options.out / "samples.json").exists():
        raise UserError(f"{options.out} holds samples already; choose another --out.")
    ways = {"count": options.count, "seeds": options.seeds, "latents": options.latents}
    if len([way for way in ways.values() if way is not None]) != 1:
        raise UserError("say which samples to draw by one of --count, --seeds, --latents.")
    generator = load_generator(path)

    origin: dict[str, Any] = {"truncation": options.truncation}
    if options.count is not None:
        latents = latents_of_seed(generator, options.seed, options.truncation)
        numbers = list(range(options.count))
        origin["seed"] = options.seed
    else:
        if options.seeds is not None:
            origin["seeds"] = seeds = read_numbers(options.seeds, "--seeds")
            z = z_of_seeds(generator, seeds)
        else:
            assert options.latents is not None
            z = read_latents(options.latents, generator.config.latent_size)
            origin["latents"] = artifact_hash(options.latents)
        latents = latents_of_z(generator, z, options.truncation)
        numbers = list(range(len(z)))
    if options.choose is not None:
        if not 0 < options.choose <= len(numbers):
            raise UserError(f"--choose {options.choose} must be between 1 and {len(numbers)}.")
        numbers = choose_samples(generator, latents, numbers, options.choose)
    samples = draw(generator, latents, numbers)
    origin["indices"] = numbers
    write_samples(options.out, samples, source, origin)
    save_sheet(tile(samples.images), options.out / "sheet.png")
    print(f"{len(samples)} samples in {options.out}; to annotate them, draw masks/0000.png, ...")


def read_numbers(text: str, option: str) -> list[int]:
    """0-3,8 -> [0, 1, 2, 3, 8]."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise UserError(f"{option} {text} is not a list of numbers such as 0-3,8.")
        numbers += range(int(first), int(last or first) + 1)
    if not numbers:
        raise UserError(f"{option} {text} names no number.")
    return numbers


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
        if options.maps:
            maps = load_maps(options.maps, generator.w_mean.device)
            folder = Path(options.maps.removeprefix("local-dir:"))
            by["maps"] = artifact_hash(folder) if folder.is_dir() else options.maps
        if options.guess:
            guess = load_encoder(options.guess, generator, source)
            by["guess"] = artifact_hash(options.guess)
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
