"""The page for browsers, in one: opened from the disk, with no network, used as people use it."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.checkpoints import save_weights
from common.errors import UserError
from common.files import read_json
from common.stage_folder import artifact_hash
from datasets.faces import render_faces
from student.decoders.narrow_unet import NarrowUNet
from student.export.web.runtime import unpack
from student.network import WEIGHTS, load_student
from student.predict.onnx_model import Array
from student.predict.segmenter import Segmenter
from tests.browser import PROGRAM, Page, browser
from tests.conftest import SIZE, run_cli
from train import main

EXPORT = ("export", "--export.int8", "false", "--run.dir")
STATUS = "document.getElementById('status').textContent"
PAINTED = """(() => {
    const overlay = document.getElementById("overlay");
    const copy = new OffscreenCanvas(overlay.width, overlay.height);
    const context = copy.getContext("2d", { willReadFrequently: true });
    context.drawImage(overlay, 0, 0);
    const { data } = context.getImageData(0, 0, copy.width, copy.height);
    return data.filter((value, i) => i % 4 === 3 && value === 255).length;
})()"""


@dataclass(frozen=True)
class Added:
    """A finished export, its hash before the page was added, and what the command said."""

    export: Path
    hash_before: str
    said: str


@pytest.fixture(scope="module")
def lively(student_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the finished student, changed so that it finds all classes in a face."""
    run = tmp_path_factory.mktemp("lively")
    shutil.copytree(student_folder, run / "student")
    student, _ = load_student(run / "student")
    with torch.no_grad():
        logits = student(render_faces(1, torch.arange(20), SIZE)[0]).transpose(0, 1).flatten(1)
        assert isinstance(student, NarrowUNet) and student.classify.bias is not None
        student.classify.bias -= logits.mean(1)
        student.classify.bias /= logits.std(1)
        student.classify.weight /= logits.std(1)[:, None, None, None]
    save_weights(run / "student" / WEIGHTS, student.state_dict())
    return run


@pytest.fixture(scope="module")
def added(lively: Path) -> Added:
    if shutil.which("npm") is None:
        pytest.skip("no npm here: install Node.js with npm (Debian: apt-get install npm)")
    assert main([*EXPORT, str(lively)]) == 0
    before = artifact_hash(lively / "export")
    made = run_cli(*EXPORT, lively, "--web")
    if "npm cannot fetch" in made.stderr:
        pytest.skip(made.stderr.strip())
    assert made.returncode == 0, made.stderr
    return Added(lively / "export", before, made.stdout)


@pytest.fixture(scope="module")
def page(added: Added, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page alone, as it is sent to somebody, opened by a double click."""
    if PROGRAM is None:
        pytest.skip("no Chromium here: install it (Debian: apt-get install chromium)")
    sent = tmp_path_factory.mktemp("sent") / "the page.html"
    shutil.copyfile(added.export / "student/web/index.html", sent)
    with browser(tmp_path_factory.mktemp("browser")) as page:
        page.open(sent.as_uri())
        page.wait(f"{STATUS} === 'Ready.'")
        yield page


def face(path: Path, height: int, width: int, clear: bool = False) -> Path:
    pixels = render_faces(9, torch.arange(1), 256)[0][0].permute(1, 2, 0).numpy()
    image = Image.fromarray(pixels).resize((width, height))
    if clear:  # half of it
        ramp = np.linspace(0, 511, width).clip(0, 255).astype(np.uint8)
        image.putalpha(Image.fromarray(np.tile(ramp, (height, 1))))
    image.save(path)
    return path


def on_white(path: Path) -> Array:
    """An image as `student.predict` reads it."""
    with Image.open(path) as file:
        image = file.convert("RGBA")
    ground = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(ground, image).convert("RGB"))


def press(page: Page, name: str) -> None:
    page.run(f"document.getElementById('{name}').click()")


def saved_mask(page: Page, folder: Path, name: str) -> Image.Image:
    """What the page saves."""
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    press(page, "save")
    page.until((folder / name).exists, "the saved mask")
    with Image.open(folder / name) as mask:
        mask.load()
    return mask


@pytest.mark.parametrize(
    ("height", "width", "clear"), [(256, 256, False), (41, 90, False), (120, 77, True)]
)
def test_a_face_that_is_dropped_in_gets_the_labels_that_python_gives(
    page: Page, added: Added, tmp_path: Path, height: int, width: int, clear: bool
) -> None:
    path = face(tmp_path / f"face {height}.png", height, width, clear)
    page.drop(path)
    page.wait(f"{STATUS} === '{path.name} is segmented.'")
    mask = saved_mask(page, tmp_path, f"{path.stem}_mask.png")

    segmenter = Segmenter(added.export / "student", 1)
    mine = segmenter(on_white(path)[None])[0]
    assert mask.mode == "P" and mask.getpalette() == segmenter.palette.flatten().tolist()
    assert np.asarray(mask).shape == mine.shape and len(np.unique(mine)) > 5
    assert (np.asarray(mask) == mine).mean() >= 0.999
    shares = page.run(
        "[...document.querySelectorAll('.share')].map((e) => parseFloat(e.textContent))"
    )
    assert shares == pytest.approx(
        [100 * n for n in segmenter.areas(mine)["shares"].values()], abs=0.2
    )


def test_a_class_that_is_switched_off_is_not_painted(page: Page) -> None:
    press(page, "example")
    page.wait(f"{STATUS} === 'example.png is segmented.'")
    everything = page.run(PAINTED)
    boxes = "document.querySelectorAll('#legend input')"
    painted = []
    for index in range(page.run(f"{boxes}.length")):
        page.run(f"{boxes}[{index}].click()")
        painted.append(page.run(PAINTED))
        page.run(f"{boxes}[{index}].click()")
    assert painted[0] >= everything and min(painted) < everything
    assert page.run(PAINTED) == everything  # background is off at first, all others on
    page.run(
        "(() => { const slider = document.getElementById('opacity'); slider.value = 25;"
        "slider.dispatchEvent(new Event('input')); })()"
    )
    assert page.run("getComputedStyle(document.getElementById('overlay')).opacity") == "0.25"


def test_a_large_image_is_reduced_and_a_file_that_is_none_refused(
    page: Page, tmp_path: Path
) -> None:
    page.choose("#file", face(tmp_path / "large.png", 30, 4000))
    page.wait(f"{STATUS} === 'large.png is segmented at 2048 × 15 pixels, reduced from 4000 × 30.'")
    (tmp_path / "letter.png").write_text("Dear browser")
    page.choose("#file", tmp_path / "letter.png")
    page.wait(f"{STATUS}.startsWith('letter.png cannot be read as an image')")


def test_the_camera_is_live_until_it_is_stopped(page: Page) -> None:
    allow = {"permission": {"name": "camera"}, "setting": "granted"}
    page.call("Browser.setPermission", **allow)
    press(page, "camera")
    page.wait(f"{STATUS}.startsWith('Live') && !document.getElementById('save').disabled")
    page.run("for (const cell of document.querySelectorAll('.share')) cell.textContent = ''")
    page.wait("document.querySelector('.share').textContent !== ''")  # the next frame
    press(page, "camera")
    page.wait(f"{STATUS} === 'The camera is off.'")
    page.call("Browser.setPermission", **allow | {"setting": "denied"})
    press(page, "camera")
    page.wait(f"{STATUS}.startsWith('The camera may not be used')")


def test_nothing_was_sent_and_nothing_complained(page: Page) -> None:
    """Of all that the tests above did."""
    asked = [e["params"] for e in page.events if e["method"] == "Network.requestWillBeSent"]
    urls = [params["request"]["url"] for params in asked]
    assert urls and all(url.startswith(("file:", "blob:", "data:")) for url in urls)
    kinds = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    assert [event for event in page.events if event["method"] in kinds] == []
    # The browser would not let it.
    sent = "fetch('https://127.0.0.1/').then(() => 'sent', (error) => error.message)"
    page.run(sent)
    assert "Content Security Policy" in str(page.events)


def test_the_page_is_an_addition_to_what_is_done(
    added: Added, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is made again, neither the export nor what was made from it."""
    assert "export: writing" not in added.said and "web/index.html" in added.said
    assert artifact_hash(added.export) == added.hash_before
    files = read_json(added.export / "manifest.json")["files"]
    assert {"student/web/index.html", "student/web/LICENSE.onnxruntime"} <= {*files}
    assert (added.export / "student/README.md").read_text().count("web/index.html") == 1
    for more in (["--web"], ["--export.web", "true"], []):
        assert main([*EXPORT, str(added.export.parent), *more]) == 0
        assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("npm", "said"),
    [(None, "no npm to fetch it: install"), ("echo code ENOTFOUND >&2; exit 1", "ENOTFOUND")],
)
def test_a_runtime_that_cannot_be_had_is_missed_before_the_work_starts(
    student_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    npm: str | None,
    said: str,
) -> None:
    run = tmp_path / "run"
    shutil.copytree(student_folder, run / "student")
    (tmp_path / "bin").mkdir()
    if npm:
        (tmp_path / "bin/npm").write_text(f"#!/bin/sh\n{npm}\n")
        (tmp_path / "bin/npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert main(["export", "--run.dir", str(run), "--web"]) == 2
    error = capsys.readouterr().err
    assert said in error and "leave --web out" in error and len(error.splitlines()) == 1
    assert not (run / "export").exists()


def test_another_package_is_refused() -> None:
    with pytest.raises(UserError, match="not the package that was pinned"):
        unpack(b"something else")
