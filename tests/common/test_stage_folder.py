import errno
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from common.errors import UserError
from common.files import atomic_write, read_json
from common.stage_folder import MANIFEST, Result, StageFolder, artifact_hash


@dataclass(frozen=True)
class Settings:
    epochs: int = 3


def finished(path: Path, epochs: int = 3, **inputs: Path) -> StageFolder:
    folder = StageFolder(path, "test", Settings(epochs), inputs)
    assert not folder.is_done()
    folder.begin()
    (path / "payload.txt").write_text(f"{epochs} epochs")
    folder.checkpoints.mkdir()
    folder.finish(Result(["payload.txt"], {"score": 0.5}))
    return folder


def test_a_finished_folder_is_done_and_a_begun_one_is_not(tmp_path: Path) -> None:
    finished(tmp_path / "a")
    assert StageFolder(tmp_path / "a", "test", Settings(3), {}).is_done()
    manifest = read_json(tmp_path / "a" / MANIFEST)
    assert manifest["figures"] == {"score": 0.5}
    assert list(manifest["files"]) == ["payload.txt"]
    assert not (tmp_path / "a/checkpoints").exists()
    (tmp_path / "a" / MANIFEST).unlink()
    assert not StageFolder(tmp_path / "a", "test", Settings(3), {}).is_done()


def test_another_config_is_refused_with_the_difference(tmp_path: Path) -> None:
    finished(tmp_path / "a")
    with pytest.raises(UserError, match=r"config\.epochs: 3, now 4.*--run\.overwrite"):
        StageFolder(tmp_path / "a", "test", Settings(4), {}).is_done()


def test_overwrite_starts_anew(tmp_path: Path) -> None:
    finished(tmp_path / "a")
    folder = StageFolder(tmp_path / "a", "test", Settings(4), {}, overwrite=True)
    assert not folder.is_done()
    folder.begin()
    assert not (tmp_path / "a/payload.txt").exists()
    assert read_json(tmp_path / "a/config.json")["config"]["epochs"] == 4
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_overwriting_run_that_is_killed_leaves_nothing_old_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished(tmp_path / "a")

    def killed(path: Path, **options: Any) -> None:
        for name in ("config.json", MANIFEST):
            (path / name).unlink(missing_ok=True)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("common.stage_folder.shutil.rmtree", killed)
        StageFolder(tmp_path / "a", "test", Settings(4), {}, overwrite=True).begin()
    again = StageFolder(tmp_path / "a", "test", Settings(4), {})
    assert not again.is_done()
    again.begin()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["config.json"]


def test_inputs_are_known_by_content_not_by_place(tmp_path: Path) -> None:
    finished(tmp_path / "first")
    finished(tmp_path / "second", source=tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "moved")
    again = StageFolder(tmp_path / "second", "test", Settings(3), {"source": tmp_path / "moved"})
    assert again.is_done()
    finished(tmp_path / "other", epochs=9)
    with pytest.raises(UserError, match=r"inputs\.source"):
        StageFolder(
            tmp_path / "second", "test", Settings(3), {"source": tmp_path / "other"}
        ).is_done()


def test_unfinished_missing_and_incomplete_inputs_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        artifact_hash(tmp_path / "none")
    folder = StageFolder(tmp_path / "a", "test", Settings(), {})
    folder.begin()
    with pytest.raises(UserError, match="has not finished"):
        artifact_hash(tmp_path / "a")
    finished(tmp_path / "b")
    (tmp_path / "b/payload.txt").unlink()
    with pytest.raises(UserError, match=r"payload\.txt is missing"):
        artifact_hash(tmp_path / "b")


def test_a_folder_that_people_filled_is_known_by_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/0.png").write_bytes(b"one")
    before = artifact_hash(tmp_path)
    assert artifact_hash(tmp_path) == before
    (tmp_path / "masks/0.png").write_bytes(b"two")
    assert artifact_hash(tmp_path) != before


def test_atomic_write_leaves_the_old_file_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="cut off"), atomic_write(path) as partial:
        partial.write_text("half")
        raise RuntimeError("cut off")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ),
    ],
)
def test_a_full_disk_is_named(tmp_path: Path, error: Exception) -> None:
    (tmp_path / "x").write_text("old")
    full = pytest.raises(UserError, match=r"x cannot be written, the disk is full")
    with full, atomic_write(tmp_path / "x"):
        raise error
    assert (tmp_path / "x").read_text() == "old"


def test_other_errors_of_the_disk_are_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), atomic_write(tmp_path / "x"):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_broken_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UserError, match=r"x\.json is not valid JSON"):
        read_json(tmp_path / "x.json")
    with pytest.raises(UserError, match="cannot be read"):
        read_json(tmp_path / "y.json")


def test_metrics_are_lines_of_json(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path / "a", "test", Settings(), {})
    folder.begin()
    folder.log(1, {"loss": 2.0})
    folder.log(2, {"loss": 1.0})
    lines = (tmp_path / "a/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [2.0, 1.0]
    assert list((tmp_path / "a/tensorboard").iterdir())


def test_what_auto_means_stays_for_a_run_that_goes_on_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = StageFolder(tmp_path / "a", "test", Settings(), {})
    first.begin()
    assert first.decided("test.precision", lambda: "bf16") == "bf16"
    assert capsys.readouterr().out == "test: test.precision is bf16, decided by the machine\n"

    killed = StageFolder(tmp_path / "a", "test", Settings(), {})
    killed.begin()
    assert killed.decided("test.precision", lambda: "no") == "bf16"  # another processor's
    killed.finish(Result([], {}))
    assert read_json(tmp_path / "a" / MANIFEST)["decided"] == {"test.precision": "bf16"}
    assert not (tmp_path / "a/checkpoints").exists()


def test_nothing_is_decided_where_no_option_is_auto(tmp_path: Path) -> None:
    finished(tmp_path / "a")
    assert "decided" not in read_json(tmp_path / "a" / MANIFEST)
