"""`python -m student.predict` on images as people have them; real files, real processes."""

import json
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from datasets.faces import render_faces
from student.predict.__main__ import main
from student.predict.onnx_model import Array
from student.predict.sources import Source
from tests.conftest import ROOT

FACES = [f.permute(1, 2, 0).numpy() for f in render_faces(4, torch.arange(6), 48)[0]]
# Runs the command, then says how much memory it took at most, in MiB, and what it loaded.
MEASURED = (
    "import resource, sys; from student.predict.__main__ import main; code = main(sys.argv[1:]);"
    "heavy = [m for m in ('torch', 'timm', 'albumentations', 'cv2') if m in sys.modules];"
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, heavy); sys.exit(code)"
)


def face(number: int) -> Image.Image:
    return Image.fromarray(FACES[number % len(FACES)])


def mask(path: Path) -> Array:
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.asarray(image)


def predict(exported: Path, out: Path, *arguments: object) -> int:
    return main([*map(str, arguments), "--model", str(exported), "--out", str(out)])


def draw(folder: Path) -> dict[str, tuple[int, int]]:
    """Images of every kind; gives the size (h, w) that each mask must have."""
    folder.mkdir()
    wide = face(0).resize((60, 40))
    turned = Image.Exif()
    turned[0x0112] = 6  # lies on its side
    wide.save(folder / "turned.jpg", exif=turned)
    grey = np.asarray(wide.convert("L"))
    Image.fromarray(grey).save(folder / "grey8.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "grey16.png")
    Image.fromarray(grey.astype(np.float32) / 255).save(folder / "grey_float.tiff")
    Image.fromarray(grey.astype(np.int32) * 257).save(folder / "grey32.tiff")
    for mode, name in (
        ("RGB", "plain.bmp"), ("RGBA", "alpha.png"), ("LA", "grey_alpha.png"), ("CMYK", "ink.jpg"),
        ("1", "bits.png"), ("P", "palette.gif"), ("YCbCr", "video.tiff"), ("RGB", "web.webp"),
        ("RGB", "shout.JPEG"),
    ):  # fmt: skip
        wide.convert(mode).save(folder / name)
    face(1).resize((1, 1)).save(folder / "pixel.png")
    face(1).resize((300, 1)).save(folder / "strip.png")
    face(1).resize((1400, 700)).save(folder / "large.jpg")
    sizes = {path.stem: (40, 60) for path in folder.iterdir()}
    return sizes | {"turned": (60, 40), "pixel": (1, 1), "strip": (1, 300), "large": (700, 1400)}


def test_every_kind_of_image_gets_a_mask_of_its_size(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = draw(tmp_path / "in")
    (tmp_path / "in/notes.txt").write_text("no image")
    assert predict(exported, tmp_path / "out", tmp_path / "in", "--overlay") == 0
    for name, size in sizes.items():
        assert mask(tmp_path / f"out/{name}.png").shape == size, name
        with Image.open(tmp_path / f"out/{name}_overlay.png") as overlay:
            assert overlay.mode == "RGB" and overlay.size == size[::-1]
    assert len([*(tmp_path / "out").iterdir()]) == 2 * len(sizes) + 1
    grey = mask(tmp_path / "out/grey8.png")
    for name in ("grey16", "grey_float", "grey32"):
        assert (mask(tmp_path / f"out/{name}.png") == grey).mean() > 0.99, name
    areas = json.loads((tmp_path / "out/areas.json").read_text())
    assert areas["skipped"] == {}
    for name, each in areas["areas"].items():
        assert sum(each["pixels"].values()) == np.prod(sizes[name.rpartition(".")[0]])
        assert sum(each["shares"].values()) == pytest.approx(1, abs=1e-5)
    assert f"{len(sizes)} of {len(sizes)} segmented" in capsys.readouterr().out


def test_transparency_shows_white_and_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (10, 20, 30, 0)).save(tmp_path / "a.png")
    Image.fromarray(np.full((2, 2), 0x8000, np.uint16)).save(tmp_path / "b.png")
    (clear, grey) = (Source(tmp_path / n, PurePosixPath(n)).read(1) for n in ("a.png", "b.png"))
    assert (clear == 255).all()
    assert (grey == 127).all() and grey.shape == (2, 2, 3)


def test_masks_are_those_of_the_graph(exported: Path, tmp_path: Path) -> None:
    face(2).save(tmp_path / "a.png")
    assert predict(exported / "student.onnx", tmp_path / "out", tmp_path / "a.png") == 0
    import onnxruntime

    session = onnxruntime.InferenceSession(str(exported / "student.onnx"))
    (labels,) = session.run(["labels"], {"images": FACES[2][None]})
    assert (mask(tmp_path / "out/a.png") == labels[0]).all()


def test_folders_zip_files_and_patterns(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "in/b/c").mkdir(parents=True)
    for name in ("a.png", "b/a.png", "b/c/a.jpg", "b/c/a.png", "b/.hidden.png"):
        face(0).save(tmp_path / "in" / name)
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.write(tmp_path / "in/a.png", "z/a.png")
        archive.write(tmp_path / "in/a.png", "../../evil.png")
        archive.writestr("z/broken.png", b"nothing")
    for name in ("p1.png", "p2.png", "q.png"):
        face(1).save(tmp_path / name)
    given = (tmp_path / "in", tmp_path / "more.zip", tmp_path / "p*.png")
    out = tmp_path / "in/masks"  # what is there from the first time is no image the second time
    for _ in range(2):
        assert predict(exported, out, *given) == 1
        found = {str(p.relative_to(out)) for p in out.rglob("*.png")}
        assert found == {
            "a.png", "b/a.png", "b/c/a.jpg.png", "b/c/a.png.png", "z/a.png", "evil.png", "p1.png",
            "p2.png",
        }  # fmt: skip
    skipped = json.loads((out / "areas.json").read_text())["skipped"]
    assert [*skipped] == [f"{tmp_path / 'more.zip'}/z/broken.png"]
    assert not (tmp_path.parent / "evil.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/none.png"], "none.png does not exist"),
        (["{tmp}/*.gif"], "*.gif matches no file"),
        (["{tmp}/empty"], "empty holds no images"),
        (["{tmp}/a.png", "{tmp}/b/a.png"], "would both be a.png.png"),
        (["{tmp}", "--out", "{tmp}"], "would be overwritten"),
        (["{tmp}/a.png", "--model", "{tmp}/no.onnx"], "run the stage export"),
        (["{tmp}/a.png", "--model", "{tmp}/a.png"], "keep the files that the stage export wrote"),
        (["{tmp}/a.png", "--model", "{tmp}/b"], "holds no student.onnx"),
        (["{tmp}/a.png", "--out", "{tmp}/a.png"], "a.png"),
        (["{tmp}/broken.zip"], "no readable zip file"),
    ],
)
def test_bad_usage_is_one_sentence(
    exported: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    for name in ("empty", "b"):
        (tmp_path / name).mkdir()
    for name in ("a.png", "b/a.png"):
        face(0).save(tmp_path / name)
    (tmp_path / "broken.zip").write_bytes(b"PK")
    given = [argument.format(tmp=tmp_path) for argument in arguments]
    defaults = ["--model", str(exported), "--out", str(tmp_path / "out")]
    assert main([*defaults, *given]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("error:") == 1
    assert not list(tmp_path.rglob("*_overlay.png")) and not (tmp_path / "out/a.png").exists()


def test_images_too_large_are_skipped_unread(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    face(0).save(tmp_path / "good.png")
    content = bytearray((tmp_path / "good.png").read_bytes())
    content[16:24] = struct.pack(">II", 20_000, 20_000)  # the header's size, and its checksum
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "bomb.png").write_bytes(content)
    assert predict(exported, tmp_path / "out", tmp_path / "bomb.png", tmp_path / "good.png") == 1
    assert "bomb.png (20000x20000 pixels are more than --megapixels 200)" in capsys.readouterr().err
    assert (tmp_path / "out/good.png").exists()


def test_a_video_becomes_masks_and_a_tinted_video(exported: Path, tmp_path: Path) -> None:
    writer = cv2.VideoWriter(
        str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 12, (48, 48)
    )
    for image in FACES:
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    writer.release()
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    face(0).save(tmp_path / "still.png")
    given = (tmp_path / "clip.mp4", tmp_path / "broken.mp4", tmp_path / "still.png")
    assert predict(exported, tmp_path / "out", *given, "--overlay", "--batch-size", 4) == 1
    masks = sorted((tmp_path / "out/clip").iterdir())
    assert [path.name for path in masks] == [f"{i:06d}.png" for i in range(6)]
    assert mask(masks[0]).shape == (48, 48)
    capture = cv2.VideoCapture(str(tmp_path / "out/clip_overlay.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 6 and capture.get(cv2.CAP_PROP_FPS) == 12
    result = json.loads((tmp_path / "out/areas.json").read_text())
    assert {"clip.mp4/000000", "clip.mp4/000005", "still.png"} <= {*result["areas"]}
    assert [*result["skipped"]] == [str(tmp_path / "broken.mp4")]

    only = tmp_path / "only"
    assert predict(exported, only, tmp_path / "clip.mp4", "--overlay", "--no-masks") == 0
    assert {path.name for path in only.iterdir()} == {"clip_overlay.mp4", "areas.json"}


def test_a_video_without_opencv_ends_with_a_remedy(
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    (tmp_path / "clip.mp4").write_bytes(b"nothing")
    assert predict(exported, tmp_path / "out", tmp_path / "clip.mp4") == 2
    assert "pip install opencv-python-headless" in capsys.readouterr().err


def measured(
    exported: Path, images: Path, out: Path
) -> tuple[subprocess.CompletedProcess[str], int]:
    """The command in a process of its own, and the most MiB that it took."""
    made = subprocess.run(
        [sys.executable, "-c", MEASURED, images, "--model", exported, "--out", out],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    memory, heavy = made.stdout.splitlines()[-1].split(maxsplit=1)
    assert heavy == "[]"
    return made, int(memory)


def test_a_thousand_images_twenty_of_them_broken(exported: Path, tmp_path: Path) -> None:
    """All good ones done, all bad ones named, and no more memory than for a hundred."""
    state = np.random.default_rng(0)
    suffixes = (".jpg", ".png", ".webp", ".bmp", ".gif", ".tiff")
    encoded = {}
    for suffix in suffixes:
        for number, side in enumerate((40, 90, 150, 300)):
            path = tmp_path / f"one{suffix}"
            face(number).resize((side, side + 7 * number)).save(path)
            encoded[suffix, number] = path.read_bytes()
    broken = {*range(7, 1000, 50)}
    for folder, count in (("few", 100), ("many", 1000)):
        (tmp_path / folder).mkdir()
        for i in range(count):
            suffix = suffixes[i % len(suffixes)]
            content = encoded[suffix, int(state.integers(4))]
            if i in broken:
                content = (b"", b"no image", content[: len(content) // 3])[i // 50 % 3]
            (tmp_path / folder / f"{i:04d}{suffix}").write_bytes(content)
    _, few = measured(exported, tmp_path / "few", tmp_path / "out_few")
    made, many = measured(exported, tmp_path / "many", tmp_path / "out")
    assert made.returncode == 1
    names = {f"{i:04d}{suffixes[i % len(suffixes)]}" for i in broken}
    lines = [line for line in made.stderr.splitlines() if line.startswith("skipped: ")]
    assert {Path(line.split(" (")[0]).name for line in lines} == names and len(lines) == 20
    assert "980 of 1000 segmented" in made.stdout and "20 skipped" in made.stdout
    assert len([*(tmp_path / "out").glob("*.png")]) == 980
    assert many < few + 32, f"{few} MiB for a hundred, {many} MiB for a thousand"


def test_help_loads_nothing_slow() -> None:
    code = (
        "import sys, contextlib; from student.predict.__main__ import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "print([m for m in ('onnxruntime', 'torch', 'timm', 'cv2') if m in sys.modules])"
    )
    made = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert made.stdout.splitlines()[-1] == "[]"
    assert "IMAGES are files, folders" in made.stdout
