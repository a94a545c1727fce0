"""What a folder of photographs holds, told before a long training: sizes, grey ones, turned ones, copies.

No face detector is asked. Which photographs are turned is learned from all of them together, and how faces
are framed is seen on their mean, beside the mean of a generator's samples.

Shapes: N, M = images, R = side of the images, K = framings.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from common.files import write_json
from datasets.sheets import ImageArray, grid, save_sheet, to_array

SHEET = "photographs.png"
COUNTS = "photographs.json"
_CUT = 1 / 3  # of the longer side, beyond the middle square
_GREY = 4.0  # mean distance of the channels, of 255
_SEEN = 64  # px at most, by which photographs are judged
# A perceptual hash of 256 bits. Of 900 rendered faces, copies that were compressed, resized or brightened
# differ in at most 14 bits, and the two most alike of different faces in 72.
_HASH_SIDE, _ALIKE = 16, 40
# Of 30 turned faces among 900, 25 to 30 are found by these, and up to 5 upright ones are suspected.
_CELLS, _RIDGE, _SURE = 8, 0.3, 0.3
_FEWEST = 40  # photographs from which it can be learned what is upright
_ZOOMS = [math.exp(0.04 * n) for n in range(-13, 14)]
_SHIFTS = [0.05 * n for n in range(-6, 7)]  # of the side
_OTHER_ZOOM, _OTHER_PLACE = 1.2, 0.09
_SHOWN = 8  # rows of the sheet
_CHUNK = 4096  # photographs in floating point at a time


@dataclass
class Overview:
    """Gathers what is known of photographs while they are read.

    Attributes:
        side: of the squares to learn from, in pixels.
        names: of the files.
        sizes: their widths and heights, in pixels.
        grey: whether they have no colour.
        small: their middle squares, at most 64 px, uint8 [3, R, R].
        hashes: perceptual hashes of these squares.
    """

    side: int = 0
    names: list[str] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    grey: list[bool] = field(default_factory=list)
    small: list[Tensor] = field(default_factory=list)
    hashes: list[npt.NDArray[np.bool_]] = field(default_factory=list)

    def add(self, name: str, size: tuple[int, int], square: Tensor) -> None:
        """Take in a photograph of `size` whose middle square, at the size to learn from, is [3, H, H]."""
        self.side = square.shape[-1]
        self.names.append(name)
        self.sizes.append(size)
        self.grey.append(float((square.amax(0) - square.amin(0)).float().mean()) < _GREY)
        image = Image.fromarray(to_array(square))
        seen = image.resize((min(self.side, _SEEN),) * 2, Image.Resampling.BOX)
        self.small.append(torch.from_numpy(np.array(seen)).permute(2, 0, 1))
        self.hashes.append(imagehash.phash(image, hash_size=_HASH_SIDE).hash.ravel())

    def tell(self, folder: Path, samples: Tensor | None) -> None:
        """Write what `write` writes, and print what there is to say."""
        for line in self.write(folder, samples):
            print(f"photographs: {line}")

    def write(self, folder: Path, samples: Tensor | None) -> list[str]:
        """Write `photographs.json` and `photographs.png`.

        Args:
            samples: what the generator draws so far, uint8 [M, 3, H, H]; none where it draws nothing yet.

        Returns:
            What there is to say, in sentences.
        """
        squares, groups = torch.stack(self.small), alike(np.stack(self.hashes))
        if samples is not None:
            samples = F.interpolate(samples.float(), squares.shape[2:], mode="area").to(torch.uint8)
        kinds = {
            "small": [i for i, size in enumerate(self.sizes) if min(size) < self.side],
            "cut": [i for i, size in enumerate(self.sizes) if min(size) < (1 - _CUT) * max(size)],
            "grey": [i for i, grey in enumerate(self.grey) if grey],
            "turned": turned_ones(squares),
        }
        found: dict[str, Any] = {"count": len(self.names), "resolution": self.side}
        found |= {kind: [self.names[i] for i in some] for kind, some in kinds.items()}
        found["alike"] = [[self.names[i] for i in group] for group in groups]
        if samples is not None:
            found["framing"] = framing(squares, samples)
        write_json(folder / COUNTS, found)
        shown = {kind: kinds[kind] for kind in ("grey", "turned")}
        shown["alike"] = [i for group in groups for i in group]
        save_sheet(_draw(squares, samples, shown), folder / SHEET)
        return told(found)


def told(found: dict[str, Any]) -> list[str]:
    """The content of `photographs.json` in sentences; what is in order is passed over."""
    count, side = found["count"], found["resolution"]
    said = {
        "small": f"are smaller than {side} px and were enlarged",
        "cut": "lost more than a third of their longer side to the middle square; crop them to the face",
        "grey": "are grey",
        "turned": f"may be turned; see {SHEET}",
    }
    lines = [f"{len(found[kind])} of {count} {what}" for kind, what in said.items() if found[kind]]
    if groups := found["alike"]:
        lines.append(
            f"{sum(map(len, groups))} of {count} are nearly the same as another one, in {len(groups)} "
            "groups; copies teach nothing, leave them out"
        )
    frame = found.get("framing")
    apart = _framing_told(frame) if frame else ""
    if apart:
        lines.append(
            f"faces are {apart} than in the generator's samples (see the means in {SHEET}); cropped like "
            "these, they are learned sooner"
        )
    return lines


def _framing_told(frame: dict[str, float]) -> str:
    """How faces lie to those of the generator; empty where they lie alike."""
    parts = []
    if not 1 / _OTHER_ZOOM < frame["zoom"] < _OTHER_ZOOM:
        parts.append(f"{frame['zoom']:.1f} times as large")
    for way, (less, more) in {"right": ("left", "right"), "down": ("up", "down")}.items():
        if abs(frame[way]) > _OTHER_PLACE:
            where = more if frame[way] > 0 else less
            parts.append(f"{100 * abs(frame[way]):.0f} % of the side further {where}")
    return " and ".join(parts)


def turned_ones(squares: Tensor) -> list[int]:
    """Which of uint8 [N, 3, R, R] seem to be turned by a quarter or a half, where most are upright.

    Every half of the photographs is judged by a ridge regression that has learned from the other half, and
    from its turned copies, what is upright; by light and edges in a few cells of the image.
    """
    count = len(squares)
    if count < _FEWEST:
        return []
    turned = torch.stack(
        [
            torch.cat([_cells(some.rot90(quarter, (2, 3))) for some in squares.split(_CHUNK)])
            for quarter in range(4)
        ]
    )
    score = torch.empty(count, 4)
    for half in (torch.arange(count) % 2 == rest for rest in (0, 1)):
        learned = turned[:, ~half].flatten(0, 1)
        truth = F.one_hot(torch.arange(4).repeat_interleave(int((~half).sum())), 4).float() - 0.25
        second = learned.T @ learned / len(learned) + _RIDGE * torch.eye(learned.shape[1])
        weights = torch.linalg.solve(second, learned.T @ truth / len(learned))
        answers = turned[:, half] @ weights  # [4, N / 2, 4]; the answer turns with the image
        score[half] = torch.stack([answers[r].roll(-r, 1) for r in range(4)]).mean(0)
    return (score[:, 1:].amax(1) > score[:, 0] + _SURE).nonzero().flatten().tolist()


def _cells(squares: Tensor) -> Tensor:
    """Light and edges of images [N, 3, R, R] in cells, standardised within each image, [N, features]."""
    luma = squares.float().mean(1, keepdim=True)
    across, down = luma.diff(dim=3).abs(), luma.diff(dim=2).abs()
    maps = torch.cat([F.adaptive_avg_pool2d(one, _CELLS) for one in (luma, across, down)], 1)
    deviation, mean = torch.std_mean(maps, (2, 3), keepdim=True)
    return ((maps - mean) / deviation.clamp_min(1e-6)).flatten(1)


def alike(hashes: npt.NDArray[np.bool_]) -> list[list[int]]:
    """Groups of those whose hashes [N, 256] nearly agree, each with all that a chain of them leads to."""
    words = np.packbits(hashes, axis=1).view(np.uint64)
    group = np.arange(len(words))
    for i in range(len(words) - 1):
        differ = np.bitwise_count(words[i + 1 :] ^ words[i]).sum(1)
        for other in group[i + 1 :][differ <= _ALIKE]:
            group[group == other] = group[i]
    _, inverse, sizes = np.unique(group, return_inverse=True, return_counts=True)
    return [np.flatnonzero(inverse == g).tolist() for g in np.flatnonzero(sizes > 1)]


def framing(squares: Tensor, samples: Tensor) -> dict[str, float]:
    """How the mean of photographs uint8 [N, 3, R, R] lies to the mean of samples uint8 [M, 3, R, R].

    Returns:
        `zoom`, how many times as large faces are in the photographs; `right` and `down`, how far their
        middle lies from that of the samples, as a share of the side.
    """
    photograph, sample = (_mean_luma(some) for some in (squares, samples))
    views = torch.cartesian_prod(torch.tensor(_ZOOMS), *[torch.tensor(_SHIFTS)] * 2)  # [K, 3]
    theta = torch.diag_embed(views[:, :1].expand(-1, 2))
    theta = torch.cat([theta, 2 * views[:, 1:, None]], 2)
    shape = [len(views), 1, *sample.shape]
    places = F.affine_grid(theta, shape, align_corners=False)
    seen = F.grid_sample(photograph.expand(shape), places, align_corners=False)[:, 0]
    inside = (places.abs() <= 1).all(-1).float()
    zoom, right, down = views[_likeness(seen, sample, inside).argmax()].tolist()
    return {"zoom": round(zoom, 3), "right": round(right, 3), "down": round(down, 3)}


def _mean_luma(images: Tensor) -> Tensor:
    """Mean of the luma of uint8 [N, 3, R, R], each image standardised, [R, R]."""
    total = torch.zeros(images.shape[2:])
    for some in images.split(_CHUNK):
        luma = some.float().mean(1)
        deviation, mean = torch.std_mean(luma, (1, 2), keepdim=True)
        total += ((luma - mean) / deviation.clamp_min(1e-6)).sum(0)
    return total / len(images)


def _likeness(seen: Tensor, sample: Tensor, inside: Tensor) -> Tensor:
    """Correlation [K] of views [K, R, R] with an image [R, R] where they overlap; less if little."""
    area = inside.sum((1, 2)).clamp_min(1)
    a, b = (
        inside * (one - ((one * inside).sum((1, 2)) / area)[:, None, None])
        for one in (seen, sample)
    )
    norm = (a.square().sum((1, 2)) * b.square().sum((1, 2))).sqrt().clamp_min(1e-6)
    return (a * b).sum((1, 2)) / norm * (2 * inside.mean((1, 2))).clamp_max(1)


def _draw(squares: Tensor, samples: Tensor | None, kinds: dict[str, list[int]]) -> ImageArray:
    """Columns: photographs, those of each remarkable kind, and the means."""
    some = torch.linspace(0, len(squares) - 1, min(3 * _SHOWN, len(squares))).long()
    columns = {}
    for n, part in enumerate(some.split(_SHOWN), 1):
        columns[f"photographs {n}"] = [to_array(squares[i]) for i in part]
    for kind, found in kinds.items():
        if found:
            columns[kind] = [to_array(squares[i]) for i in found[:_SHOWN]]
    columns["their mean"] = [_mean(squares)]
    if samples is not None:
        columns["mean sample"] = [_mean(samples)]
    return grid(columns)


def _mean(images: Tensor) -> ImageArray:
    return to_array((images.sum(0) / len(images)).to(torch.uint8))
