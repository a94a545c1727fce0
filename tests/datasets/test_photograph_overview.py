"""What is said of photographs before training, on faces whose faults are known."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from common.files import read_json
from datasets.faces import render_faces
from datasets.photograph_overview import COUNTS, SHEET, Overview, alike, framing, told, turned_ones
from datasets.photographs import Photographs
from datasets.portrait.world import STREET
from datasets.sheets import to_array

SIDE, COUNT = 64, 240


@pytest.fixture(scope="module")
def faces() -> Tensor:
    return render_faces(3, torch.arange(COUNT), SIDE)[0]


def overview_of(faces: Tensor) -> Overview:
    overview = Overview()
    for i, face in enumerate(faces):
        overview.add(f"{i}.png", (SIDE, SIDE), face)
    return overview


def test_nothing_is_said_of_photographs_in_order(faces: Tensor, tmp_path: Path) -> None:
    samples = render_faces(4, torch.arange(COUNT), SIDE)[0]
    assert overview_of(faces).write(tmp_path, samples) == []
    found = read_json(tmp_path / COUNTS)
    assert found["count"] == COUNT and found["resolution"] == SIDE
    assert found["grey"] == found["turned"] == found["alike"] == []
    with Image.open(tmp_path / SHEET) as sheet:
        assert min(sheet.size) > 4 * SIDE


def test_turned_photographs_are_found(faces: Tensor) -> None:
    turned = faces.clone()
    for quarter, places in ((1, slice(0, 6)), (2, slice(6, 12)), (3, slice(12, 18))):
        turned[places] = faces[places].rot90(quarter, (2, 3))
    found = turned_ones(turned)
    assert len([i for i in found if i < 18]) >= 14
    assert len([i for i in found if i >= 18]) <= 4
    assert turned_ones(turned[:30]) == []  # too few to learn from


def test_copies_are_found_whatever_was_done_to_them(faces: Tensor) -> None:
    def compressed(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=60)
        return Image.open(file)

    def brighter(image: Image.Image) -> Image.Image:
        return image.point(lambda value: min(255, round(1.15 * value)))

    def larger(image: Image.Image) -> Image.Image:
        return image.resize((150, 150)).resize((SIDE, SIDE))

    overview = overview_of(faces)
    for change in (compressed, brighter, larger):
        copy = np.array(change(Image.fromarray(to_array(faces[7]))))
        overview.add(change.__name__, (SIDE, SIDE), torch.from_numpy(copy).permute(2, 0, 1))
    assert alike(np.stack(overview.hashes)) == [[7, COUNT, COUNT + 1, COUNT + 2]]


@pytest.mark.parametrize(("side", "right", "down"), [(64, 0, 0), (45, 0, 0), (64, 6, -6)])
def test_framing(faces: Tensor, side: int, right: int, down: int) -> None:
    edge = (SIDE - side) // 2
    wide = torch.nn.functional.pad(faces.float(), (8,) * 4, mode="reflect")
    rows, columns = (slice(8 + edge - by, 8 + edge - by + side) for by in (down, right))
    cropped = torch.nn.functional.interpolate(wide[:, :, rows, columns], (SIDE, SIDE))
    found = framing(cropped.to(torch.uint8), render_faces(4, torch.arange(COUNT), SIDE)[0])
    assert found["zoom"] == pytest.approx(SIDE / side, rel=0.09)
    assert found["right"] == pytest.approx(right / SIDE, abs=0.05)
    assert found["down"] == pytest.approx(down / SIDE, abs=0.05)


def test_what_is_odd_is_counted_and_said(tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i, face in enumerate(render_faces(1, torch.arange(60), SIDE, STREET)[0]):
        image = Image.fromarray(to_array(face))
        if i < 3:
            image = image.convert("L")
        elif i < 5:
            image = image.resize((40, 40))
        elif i < 6:
            image = image.resize((100, 64))
        image.save(folder / f"{i:02}.png")
    image.save(folder / "copy.png")
    lines: list[str] = []
    photographs = Photographs(
        folder, SIDE, tmp_path / "packed", look=lambda o: lines.extend(o.write(tmp_path, None))
    )
    assert len(photographs) == 61
    found = read_json(tmp_path / COUNTS)
    assert found["grey"] == ["00.png", "01.png", "02.png"]
    assert found["small"] == ["03.png", "04.png"]
    assert found["cut"] == ["05.png"]
    assert ["59.png", "copy.png"] in found["alike"]
    assert "framing" not in found
    assert lines == told(found)
    assert "2 of 61 are smaller than 64 px and were enlarged" in lines
    assert "3 of 61 are grey" in lines
    lines.clear()
    Photographs(folder, SIDE, tmp_path / "packed", look=lambda o: lines.append("again"))
    assert lines == []


def test_other_framing_is_said_in_words() -> None:
    nothing: dict[str, list[str]] = {kind: [] for kind in ("small", "cut", "grey", "turned")}
    found = {"count": 9, "resolution": 64, "alike": [], **nothing}
    frame = {"zoom": 1.5, "right": -0.15, "down": 0.1}
    (line,) = told(found | {"framing": frame})
    assert line.startswith(
        "faces are 1.5 times as large and 15 % of the side further left and 10 % of the side further down"
    )
    assert told(found | {"framing": {"zoom": 1.1, "right": 0.05, "down": 0.0}}) == []
