"""From drawn samples or photographs and hand-drawn masks to annotated samples."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from common.files import read_json
from common.stage_folder import artifact_hash
from datasets.annotations import read_annotated
from datasets.labels import LabelSet, read_image, read_mask, write_mask
from tests.conftest import LABELS, ROOT, SIZE, Chain
from train import main

BUNDLED = ROOT / "assets/faces64/generator"


def polygon(label: str, *points: list[int]) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": "polygon"}


def test_labelme_files_of_some_samples(
    tmp_path: Path, chain: Chain, labels: LabelSet, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn, out = tmp_path / "drawn", tmp_path / "annotated"
    source = ["--generator", str(chain.generator)]
    assert main(["sample", *source, "--count", "4", "--seed", "9", "--out", str(drawn)]) == 0
    (tmp_path / "json").mkdir()
    for i in (1, 3):
        shapes = [
            polygon("skin", [2, 2], [13, 2], [13, 13], [2, 13]),
            polygon("l_eye", [4, 4], [6, 4], [6, 6], [4, 6]),
        ]
        content = {
            "shapes": shapes, "imagePath": f"{i:04d}.png", "imageHeight": SIZE, "imageWidth": SIZE,
        }  # fmt: skip
        (tmp_path / f"json/{i:04d}.json").write_text(json.dumps(content))
    command = ["annotate", "--samples", str(drawn), "--masks", str(tmp_path / "json")]
    capsys.readouterr()
    assert main([*command, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "2 annotated samples" in said and "2 without a mask left out" in said
    assert "warning: no mask shows hair" in said

    samples, masks = read_annotated(out, labels, artifact_hash(chain.generator))
    assert len(samples) == 2 and (masks == labels.names.index("eye")).sum() == 2 * 9
    original = read_image(drawn / "images/0003.png")
    assert np.array_equal(read_image(out / "images/0001.png"), original)
    assert read_json(out / "report.json")["classes"]["eye"] == {"pixels": 18, "samples": 2}
    assert read_image(out / "overlays.png").shape[1] > 3 * 256
    assert main([*command, "--out", str(out)]) == 2  # never written over
    assert "choose another --out" in capsys.readouterr().err


def test_palette_images_of_an_editor(
    tmp_path: Path, labels: LabelSet, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its palette says nothing to us: refused, until one says what it means."""
    drawn = ROOT / "assets/faces64/annotated_train"
    truth = read_mask(drawn / "masks/0001.png", labels, (64, 64))
    image = Image.fromarray(truth)
    image.putpalette([7 * i % 256 for i in range(3 * 8)])
    (tmp_path / "masks").mkdir()
    image.save(tmp_path / "masks/0001.png")
    command = ["annotate", "--generator", str(BUNDLED), "--samples", str(drawn)]
    command += ["--masks", str(tmp_path / "masks"), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "0001.png has a palette that is neither" in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert main([*command, "--palette", "index"]) == 0
    masks = read_annotated(tmp_path / "out", labels, artifact_hash(BUNDLED))[1]
    assert len(masks) == 1 and np.array_equal(masks[0].numpy(), truth)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "3", "--seeds", "1"], "one of --count, --seeds, --latents"),
        ([], "one of --count, --seeds, --latents"),
        (["--seeds", "1-x"], "not a list of numbers"),
        (["--latents", "wrong.npy"], "z of this generator"),
        (["--latents", "objects.npy"], "of other things than numbers (Python objects)"),
        (["--count", "3", "--choose", "9"], "between 1 and 3"),
    ],
)
def test_mistakes_in_sampling(
    tmp_path: Path,
    chain: Chain,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    np.save(tmp_path / "wrong.npy", np.zeros((2, 5), np.float32))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    monkeypatch.chdir(tmp_path)
    source = ["--sources.labels", str(LABELS), "--generator", str(chain.generator)]
    assert main(["sample", *source, "--out", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_labelled_photographs_are_inverted(
    tmp_path: Path, labels: LabelSet, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, masks, out = tmp_path / "photos", tmp_path / "masks", tmp_path / "out"
    photos.mkdir()
    annotated = ROOT / "assets/faces64/annotated_train"
    face = read_image(annotated / "images/0000.png")
    drawn = read_mask(annotated / "masks/0000.png", labels, (64, 64))
    Image.fromarray(np.pad(face, ((0, 0), (16, 16), (0, 0)))).save(photos / "anna.png")
    write_mask(masks / "anna.png", np.pad(drawn, ((0, 0), (16, 16))), labels)
    command = ["annotate", "--generator", str(BUNDLED), "--samples", str(photos)]
    command += ["--masks", str(masks), "--out", str(out), "--inversion.steps", "40"]
    assert main(command) == 0
    assert "anna drawn again with a PSNR of" in capsys.readouterr().out
    samples, mask = read_annotated(out, labels, artifact_hash(BUNDLED))
    assert np.array_equal(mask[0].numpy(), drawn)
    assert np.array_equal(samples.images[0].permute(1, 2, 0).numpy(), face)
    assert read_json(out / "samples.json")["origin"]["psnr"]["anna"] > 18
    assert (out / "inverted.png").exists() and not list(out.glob(".inverted*"))


def test_a_killed_inversion_goes_on_with_the_same_network_alone(
    tmp_path: Path,
    labels: LabelSet,
    student_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What was found in one network's maps, or in none, is not taken for what another would find."""
    annotated = ROOT / "assets/faces64/annotated_train"
    command = ["annotate", "--generator", str(BUNDLED), "--samples", str(annotated / "images")]
    command += ["--masks", str(annotated / "masks"), "--inversion.steps", "2"]
    seen = ["--perceptual_network", str(student_folder)]

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("teacher.annotate.write_annotated", killed)
        assert main([*command, "--out", str(tmp_path / "out")]) == 130
    assert main([*command, *seen, "--out", str(tmp_path / "out")]) == 0, capsys.readouterr().err
    assert main([*command, *seen, "--out", str(tmp_path / "whole")]) == 0
    mine, theirs = (
        read_annotated(tmp_path / name, labels, artifact_hash(BUNDLED))[0].latents["w"]
        for name in ("out", "whole")
    )
    assert torch.equal(mine, theirs)
    by = read_json(tmp_path / "out/samples.json")["origin"]["by"]
    assert by == {"generator": artifact_hash(BUNDLED), "maps": artifact_hash(student_folder)}
