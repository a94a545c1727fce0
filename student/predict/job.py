"""Images and videos segmented: read, grouped into batches, segmented, written, side by side.

Needs numpy, Pillow and tqdm; imports neither torch nor timm.

Shapes: H, W = pixels.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from tqdm import tqdm

from common.files import atomic_write
from common.prefetch import prefetch
from student.predict.onnx_model import Array
from student.predict.segmenter import Segmenter
from student.predict.sources import Source
from student.predict.video import Video, VideoWriter

_BATCH_PIXELS = 1 << 23  # most pixels of a batch: large images go alone, so that memory stays flat

Item = TypeVar("Item")


@dataclass
class Job:
    """What to write for every image, how, and what came of it.

    Args:
        segmenter: an exported student.
        batch_size: most images segmented at once.
        threads: number of threads that read, and of those that write.
        masks: write a palette PNG for every image.
        overlay: write every image tinted by its mask.
        megapixels: larger images are skipped.

    Attributes:
        areas: by image, the pixels and shares of every class.
        skipped: by image, why it has no mask.
    """

    segmenter: Segmenter
    batch_size: int
    threads: int
    masks: bool
    overlay: bool
    megapixels: float
    areas: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def run(self, placed: dict[Source, Path]) -> None:
        """Segment sources; each has the path of its output, without a suffix."""
        self._segment_images({s: p for s, p in placed.items() if not s.is_video})
        for source, path in placed.items():
            if source.is_video:
                self._segment_video(source, path)

    def _segment_images(self, placed: dict[Source, Path]) -> None:
        """Threads read the next batch and write the last one while ONNX Runtime works on this one."""

        def read(source: Source) -> tuple[Source, Array | str]:
            try:
                return source, source.read(self.megapixels)
            except Exception as error:  # Pillow's decoders raise anything on damaged files
                return source, str(error) or type(error).__name__

        def write(done: tuple[Source, Array, Array]) -> tuple[Source, dict[str, Any]]:
            source, image, mask = done
            path = placed[source]
            if self.masks:
                _save(self.segmenter.as_png(mask), path.with_name(f"{path.name}.png"))
            if self.overlay:
                tinted = Image.fromarray(self.segmenter.overlay(image, mask))
                _save(tinted, path.with_name(f"{path.name}_overlay.png"))
            return source, self.segmenter.areas(mask)

        with (
            ThreadPoolExecutor(self.threads) as readers, ThreadPoolExecutor(self.threads) as writers,
            tqdm(total=len(placed), desc="predict", unit="img", disable=not placed) as bar,
        ):  # fmt: skip
            segmented = self._segmented(prefetch(readers, read, placed, self.threads))
            for source, areas in prefetch(writers, write, segmented, self.threads):
                self.areas[str(source.name)] = areas
                bar.update(len(self.areas) + len(self.skipped) - bar.n)
            bar.update(len(self.areas) + len(self.skipped) - bar.n)

    def _segment_video(self, source: Source, path: Path) -> None:
        """Masks of a video's frames, `NAME/000000.png` and so on, and with `overlay` a tinted video."""
        try:
            video = Video(source.path)
        except OSError as error:
            self.skipped[str(source)] = str(error)
            return

        def write(done: tuple[int, Array, Array]) -> tuple[int, dict[str, Any], Array | None]:
            number, frame, mask = done
            if self.masks:
                _save(self.segmenter.as_png(mask), path / f"{number:06d}.png")
            tinted = self.segmenter.overlay(frame, mask) if self.overlay else None
            return number, self.segmenter.areas(mask), tinted

        seen = 0
        target = VideoWriter(path.with_name(f"{path.name}_overlay.mp4"), video.rate)
        bar = tqdm(total=video.frames or None, desc=source.name.name, unit="frame")
        with bar, ThreadPoolExecutor(self.threads) as writers, target.opened():
            segmented = self._segmented(enumerate(video))
            for number, areas, tinted in prefetch(writers, write, segmented, self.threads):
                self.areas[f"{source.name}/{number:06d}"] = areas
                if tinted is not None:
                    target.add(tinted)
                seen += 1
                bar.update()
        if not seen:
            self.skipped[str(source)] = "not one frame can be read"

    def _segmented(
        self, read: Iterable[tuple[Item, Array | str]]
    ) -> Iterator[tuple[Item, Array, Array]]:
        """Images with their masks."""
        for group in self._groups(read):
            masks = self.segmenter(np.stack([image for _, image in group]))
            yield from ((*one, mask) for one, mask in zip(group, masks, strict=True))

    def _groups(
        self, read: Iterable[tuple[Item, Array | str]]
    ) -> Iterator[list[tuple[Item, Array]]]:
        """Neighbours of one size together, as many as a batch may hold; unreadable ones are noted."""
        group: list[tuple[Item, Array]] = []
        for item, image in read:
            if isinstance(image, str):
                self.skipped[str(item)] = image
                continue
            pixels = image.shape[0] * image.shape[1]
            fits = len(group) < min(self.batch_size, max(1, _BATCH_PIXELS // pixels))
            if group and not (fits and group[0][1].shape == image.shape):
                yield group
                group = []
            group.append((item, image))
        if group:
            yield group


def _save(image: Image.Image, path: Path) -> None:
    """Write a PNG."""
    with atomic_write(path, sync=False) as partial:
        image.save(partial, format="PNG", compress_level=4)
