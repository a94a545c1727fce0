"""Segment pictures with an exported student: `python -m student.predict --model M PICTURES --out D`.

PICTURES are files, folders with all that is in them, zip files, quoted patterns such as 'faces/**/*.jpg',
and videos. Each picture's mask is a palette PNG of its name; folders within folders are kept. areas.json
says how much of each picture every class takes. Pictures that cannot be read are named and skipped: exit
code 1 then, 2 where nothing could be begun.

Needs onnxruntime, numpy, Pillow and tqdm, for videos OpenCV; neither torch nor timm is loaded.
"""

import argparse
import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from tqdm import tqdm

from student.predict.segmenter import Array, Refused, Segmenter, cores
from student.predict.sources import Source, find_sources, targets
from student.predict.video import Video, VideoWriter

AREAS = "areas.json"
_PIXELS_AT_ONCE = 1 << 23  # of a batch: large pictures go alone, so that memory stays flat

Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass
class Work:
    """What is to be done, and what came of it.

    Attributes:
        areas: by picture, the pixels and shares of every class.
        skipped: by picture, why it has no mask.
    """

    segmenter: Segmenter
    out: Path
    batch: int
    threads: int
    masks: bool
    overlay: bool
    megapixels: float
    areas: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    Image.MAX_IMAGE_PIXELS = None  # --megapixels is our limit
    try:
        segmenter = Segmenter(options.model, options.threads)
        sources = find_sources(options.pictures, options.out)
        placed = targets(sources, options.out)
        work = Work(
            segmenter, options.out, options.batch, options.threads, options.masks, options.overlay,
            options.megapixels,
        )  # fmt: skip
        options.out.mkdir(parents=True, exist_ok=True)
        segment_pictures(work, {s: p for s, p in placed.items() if not s.is_video})
        for source, path in placed.items():
            if source.is_video:
                segment_video(work, source, path)
        _write_text(work.out / AREAS, json.dumps({"areas": work.areas, "skipped": work.skipped}))
    except (Refused, OSError) as error:  # reading is guarded one by one: this is the output's
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; masks that were written are whole", file=sys.stderr)
        return 130
    for name, why in work.skipped.items():
        print(f"skipped: {name} ({why})", file=sys.stderr)
    done = len(sources) - len(work.skipped)
    print(f"{done} of {len(sources)} segmented into {work.out}, {len(work.skipped)} skipped")
    return 1 if work.skipped else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m student.predict", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("pictures", nargs="+", help="files, folders, zip files, patterns, videos")
    parser.add_argument(
        "--model", type=Path, required=True,
        help="the folder that the stage export wrote, or an ONNX file in it",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder for the masks")
    parser.add_argument("--overlay", action="store_true", help="write tinted pictures as well")
    parser.add_argument(
        "--no-masks", dest="masks", action="store_false", help="write no masks, areas alone"
    )
    parser.add_argument("--batch", type=_positive, default=8, help="pictures at a time")
    parser.add_argument("--threads", type=_positive, default=cores(), help="default: all cores")
    parser.add_argument(
        "--megapixels", type=float, default=200, help="larger pictures are skipped (200)"
    )
    return parser


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number


def segment_pictures(work: Work, placed: dict[Source, Path]) -> None:
    """Masks of pictures: while ONNX Runtime works on a batch, threads read the next and write the last."""

    def read(source: Source) -> tuple[Source, Array | str]:
        try:
            return source, source.read(work.megapixels)
        except Exception as error:  # Pillow's decoders raise whatever they like on damaged files
            return source, str(error) or type(error).__name__

    def write(job: tuple[Source, Array, Array]) -> tuple[Source, dict[str, Any]]:
        source, picture, mask = job
        return source, _write(work, placed[source], picture, mask)

    def segmented() -> Iterator[tuple[Source, Array, Array]]:
        for group in _groups(_ahead(readers, read, placed, work.threads), work):
            masks = work.segmenter(np.stack([picture for _, picture in group]))
            yield from ((*one, mask) for one, mask in zip(group, masks, strict=True))

    with (
        ThreadPoolExecutor(work.threads) as readers, ThreadPoolExecutor(work.threads) as writers,
        tqdm(total=len(placed), desc="predict", unit="img", disable=not placed) as bar,
    ):  # fmt: skip
        for source, areas in _ahead(writers, write, segmented(), work.threads):
            work.areas[str(source.name)] = areas
            bar.update(len(work.areas) + len(work.skipped) - bar.n)
        bar.update(len(work.areas) + len(work.skipped) - bar.n)


def segment_video(work: Work, source: Source, path: Path) -> None:
    """Masks of a video's frames, `NAME/000000.png` and so on, and with `overlay` a tinted video."""
    try:
        video = Video(source.path)
    except OSError as error:
        work.skipped[str(source)] = str(error)
        return
    seen = 0

    def segmented() -> Iterator[tuple[int, Array, Array]]:
        frames = ((number, frame) for number, frame in enumerate(video))
        for group in _groups(frames, work):
            masks = work.segmenter(np.stack([frame for _, frame in group]))
            yield from ((*one, mask) for one, mask in zip(group, masks, strict=True))

    def write(job: tuple[int, Array, Array]) -> tuple[int, dict[str, Any], Array | None]:
        number, frame, mask = job
        if work.masks:
            _save(work.segmenter.as_png(mask), path / f"{number:06d}.png")
        tinted = work.segmenter.overlay(frame, mask) if work.overlay else None
        return number, work.segmenter.areas(mask), tinted

    target = VideoWriter(path.with_name(f"{path.name}_overlay.mp4"), video.rate)
    bar = tqdm(total=video.frames or None, desc=source.name.name, unit="frame")
    with bar, ThreadPoolExecutor(work.threads) as writers, target.opened():
        for number, areas, tinted in _ahead(writers, write, segmented(), work.threads):
            work.areas[f"{source.name}/{number:06d}"] = areas
            if tinted is not None:
                target.add(tinted)
            seen += 1
            bar.update()
    if not seen:
        work.skipped[str(source)] = "not one frame can be read"


def _groups(
    read: Iterable[tuple[Item, Array | str]], work: Work
) -> Iterator[list[tuple[Item, Array]]]:
    """Neighbours of one size together, as many as a batch may hold; the unreadable are noted."""
    group: list[tuple[Item, Array]] = []
    for item, picture in read:
        if isinstance(picture, str):
            work.skipped[str(item)] = picture
            continue
        pixels = picture.shape[0] * picture.shape[1]
        fits = len(group) < min(work.batch, max(1, _PIXELS_AT_ONCE // pixels))
        if group and not (fits and group[0][1].shape == picture.shape):
            yield group
            group = []
        group.append((item, picture))
    if group:
        yield group


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[Item], Made], items: Iterable[Item], depth: int
) -> Iterator[Made]:
    """function(item) for every item, in order, with up to `depth` made before they are asked for.

    As `datasets.overlap.ahead`, which cannot be had without PyTorch.
    """
    waiting: deque[Future[Made]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _write(work: Work, path: Path, picture: Array, mask: Array) -> dict[str, Any]:
    """Write what is asked for of one picture; gives the areas of its classes."""
    if work.masks:
        _save(work.segmenter.as_png(mask), path.with_name(f"{path.name}.png"))
    if work.overlay:
        tinted = Image.fromarray(work.segmenter.overlay(picture, mask))
        _save(tinted, path.with_name(f"{path.name}_overlay.png"))
    return work.segmenter.areas(mask)


def _save(image: Image.Image, path: Path) -> None:
    """Write a PNG that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        image.save(partial, format="PNG", compress_level=4)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)


if __name__ == "__main__":
    sys.exit(main())
