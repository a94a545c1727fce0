"""Annotated samples among the pseudo-labelled images that a student learns."""

from pathlib import Path

import pytest
import torch

from common.files import read_json
from datasets.faces import RenderedFaces
from datasets.pseudo_labels import Labelled
from datasets.transforms import Exact
from student.annotated import WithAnnotated
from tests.conftest import Chain, run_cli

SIZE = 16


def test_they_take_turns_behind_the_others() -> None:
    source = Exact(RenderedFaces(0, 18, SIZE))
    images = torch.arange(3, dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, SIZE, SIZE)
    masks = torch.arange(3, dtype=torch.uint8).view(3, 1, 1).expand(3, SIZE, SIZE)
    both = WithAnnotated(source, images, masks, 1 / 3)
    assert len(both) == 24
    for i in range(18):
        assert torch.equal(both[i].image, source[i].image)
    assert [int(both[i].mask.unique()) for i in range(18, 24)] == [0, 1, 2, 0, 1, 2]
    mixed = both.__getitems__([20, 3, 19, 17])
    assert torch.equal(mixed[1].image, source[3].image)
    assert torch.equal(mixed[3].mask, source[17].mask)
    assert [int(mixed[i].image.unique()) for i in (0, 2)] == [2, 1]
    assert mixed[0].confidence.unique().tolist() == [255]


def test_they_have_as_many_runners_up_as_the_others() -> None:
    plane = torch.zeros(SIZE, SIZE, dtype=torch.uint8)
    item = Labelled(plane.expand(3, -1, -1), plane, plane, plane.expand(4, -1, -1))
    both = WithAnnotated([item] * 4, item.image[None], plane[None], 1.0)  # type: ignore[arg-type]
    assert len(both) == 8 and both[7].runners_up.shape == (4, SIZE, SIZE)


def test_a_student_learns_them(finished: Path, chain: Chain, tmp_path: Path) -> None:
    given = [f"--sources.teacher={finished / 'teacher'}", "--student.annotated_share", "0.3"]
    options = ["--config", chain.config, "--run.dir", tmp_path]
    for stage in ("teacher", "label", "student"):
        made = run_cli(stage, *options, "--student.annotated_share", "0.3")
        assert made.returncode == 0, made.stderr
    manifest = read_json(tmp_path / "student/manifest.json")
    assert {"annotations", "generator"} <= set(manifest["inputs"])
    weights = [
        (folder / "student/student.safetensors").read_bytes() for folder in (tmp_path, finished)
    ]
    assert weights[0] != weights[1]
    # Without annotations it asks for nothing.
    bare = ["--sources.annotations=null", "--compare.held_out_images", "4"]
    made = run_cli("student", *options, *given, *bare, "--dry-run")
    assert made.returncode == 0, made.stderr
    assert '"annotated_share": 0.3' in made.stdout


@pytest.mark.parametrize("share", ["1.5", "-0.1"])
def test_a_share_beyond_the_possible_is_refused(share: str, tmp_path: Path) -> None:
    made = run_cli("student", "--run.dir", tmp_path, f"--student.annotated_share={share}")
    assert made.returncode == 2
    assert "student.annotated_share is" in made.stderr and "from 0 to 1" in made.stderr
