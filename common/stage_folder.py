"""Stage folders: how one stage hands its result to the next.

A folder holds `config.json` (what the stage was asked for), the payload, and `manifest.json`, written
last: without a manifest the stage is not done. Inputs are identified by the hashes of their contents, never
by their paths, so that a copied or moved folder stays valid.
"""

import dataclasses
import hashlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from accelerate import PartialState
from torch.utils.tensorboard import SummaryWriter

from common.errors import UserError
from common.files import hash_file, read_fields, read_json, write_json

MANIFEST = "manifest.json"
CONFIG = "config.json"
DECIDED = "decided.json"  # beside the checkpoints
_PATIENCE = 40  # seconds; NFS looks again after 30


def artifact_hash(path: Path) -> str:
    """Identity of a finished stage folder (by its payload), of any other folder, or of a file."""
    if path.is_file():
        return hash_file(path)
    if not path.exists():
        raise UserError(f"{path} does not exist; check the option or the config that names it.")
    if is_stage_folder(path):
        if not (path / MANIFEST).exists():
            raise UserError(f"{path} has no {MANIFEST}: the stage that makes it has not finished.")
        manifest = read_manifest(path)
        files = manifest["files"]
        for name in files:
            if not (path / name).is_file():
                raise UserError(f"{path / name} is missing; copy the whole folder or make it anew.")
        if manifest.get("same_as"):
            return str(manifest["same_as"])
    else:  # a folder that people filled
        found = [p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")]
        files = {p.relative_to(path).as_posix(): hash_file(p) for p in found}
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def is_stage_folder(path: Path) -> bool:
    """Whether a stage made a folder, rather than people."""
    about = read_json(path / CONFIG) if (path / CONFIG).exists() else None
    return isinstance(about, dict) and "stage" in about


def read_manifest(path: Path) -> dict[str, Any]:
    """What a finished stage folder says of itself.

    Raises:
        UserError: it is not finished, or its manifest is damaged.
    """
    kinds = {"stage": str, "inputs": dict, "figures": dict, "files": dict}
    return read_fields(path / MANIFEST, kinds, "copy the whole folder or make it anew")


def code_version() -> str:
    """Package version, and the commit where the checkout has one."""
    version = metadata.version("threeshot")
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
        commit = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return version
    return f"{version}+{commit}"


def plain(config: Any) -> Any:
    """A dataclass (or any tree) as JSON has it, so that it equals what is read back."""
    is_one = dataclasses.is_dataclass(config) and not isinstance(config, type)
    values = dataclasses.asdict(config) if is_one else config
    return json.loads(json.dumps(values, default=str))


def first_difference(old: Any, new: Any, prefix: str = "") -> str:
    """Say where two JSON trees part, as `teacher.epochs: 50, now 100`."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(k for k in new if k not in old)]:
            if old.get(key) != new.get(key):
                return first_difference(old.get(key), new.get(key), f"{prefix}.{key}".strip("."))
    return f"{prefix}: {json.dumps(old)}, now {json.dumps(new)}"


class Result(NamedTuple):
    """What a stage gives back: its payload, relative to its folder, and what it measured.

    `same_as` is the hash of a file that the payload equals in other words: the folder then goes by it.
    """

    files: list[str]
    figures: Mapping[str, Any]
    same_as: str | None = None


class StageFolder:
    """The output folder of one stage, open for writing.

    Args:
        path: the folder.
        stage: the stage's name.
        config: the stage's frozen dataclass.
        inputs: every artefact folder or file that the stage reads, by name.
        overwrite: replace what another config or other inputs made.
        remedy: what to advise where the folder was made otherwise.
    """

    def __init__(
        self,
        path: Path,
        stage: str,
        config: Any,
        inputs: Mapping[str, Path],
        overwrite: bool = False,
        remedy: str = (
            "add --run.overwrite true to make it anew, or choose another folder with --run.dir"
        ),
    ) -> None:
        self.path, self.stage, self.inputs = path, stage, dict(inputs)
        self.overwrite, self._remedy = overwrite, remedy
        self._asked: dict[str, Any] = {
            "stage": stage,
            "config": plain(config),
            "inputs": {name: artifact_hash(path) for name, path in self.inputs.items()},
        }
        self._started = time.monotonic()
        self._tensorboard: SummaryWriter | None = None

    def input_hash(self, name: str) -> str:
        return str(self._asked["inputs"][name])

    def is_done(self) -> bool:
        """Whether this very stage is finished; another config's folder is an error.

        Raises:
            UserError: the folder was made by another config or from other inputs.
        """
        config = self.path / CONFIG
        if not config.exists():
            return False
        made = read_json(config)
        if made == self._asked:
            return (self.path / MANIFEST).exists()
        if self.overwrite:
            return False
        raise UserError(
            f"{self.path} was made with another config ({first_difference(made, self._asked)}): "
            f"{self._remedy}."
        )

    def begin(self) -> None:
        """Create the folder, or take up the one that an interrupted run left. Call on all ranks.

        Raises:
            UserError: this rank does not see what the main one made.
        """
        state = PartialState()
        if state.is_main_process:
            config = self.path / CONFIG
            # What goes is moved aside first: killed half-way, none of it is taken for the new run's.
            old = self.path.with_name(f".{self.path.name}.old")
            if old.exists():
                shutil.rmtree(old)
            if config.exists() and read_json(config) != self._asked:
                self.path.replace(old)  # is_done allowed it: overwrite
                shutil.rmtree(old)
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(config, self._asked)
        state.wait_for_everyone()
        # Network storage may remember for a while that a file was not there.
        end = time.monotonic() + _PATIENCE
        while not (self.path / CONFIG).exists() and time.monotonic() < end:
            time.sleep(1)
        if not (self.path / CONFIG).exists():
            raise UserError(
                f"process {state.process_index} cannot see {self.path}: with several machines, run.dir "
                "must be on storage that all of them share."
            )

    def decided(self, name: str, decide: Callable[[], str]) -> str:
        """What this stage goes by where an option says `auto`: the manifest has it, and it is printed.

        A run that was interrupted keeps what it began with, also on another machine.

        Args:
            name: the option, as in "student.precision".
            decide: decides where no earlier process has; all ranks' must agree.
        """
        path, state = self.checkpoints / DECIDED, PartialState()
        known: dict[str, str] = read_json(path) if path.exists() else {}
        if name not in known:
            known[name] = decide()
            if state.is_main_process:
                write_json(path, known)
        state.print(f"{self.stage}: {name} is {known[name]}, decided by the machine")
        return known[name]

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One line of metrics.jsonl, and the same to TensorBoard. Main process only."""
        with (self.path / "metrics.jsonl").open("a") as handle:
            handle.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self.tensorboard.add_scalar(name, value, step)

    @property
    def tensorboard(self) -> SummaryWriter:
        if self._tensorboard is None:
            self._tensorboard = SummaryWriter(str(self.path / "tensorboard"))
            self._tensorboard.add_text("config", f"```\n{json.dumps(self._asked, indent=2)}\n```")
        return self._tensorboard

    @property
    def checkpoints(self) -> Path:
        """Where a stage keeps what it resumes from; dropped when the stage is done."""
        return self.path / "checkpoints"

    def finish(self, result: Result) -> None:
        """Hash the payload and write the manifest; the stage counts as done from here on.

        Call on all ranks; the main process's result counts.
        """
        state = PartialState()
        if state.is_main_process:
            if self._tensorboard is not None:
                self._tensorboard.close()
            decided = self.checkpoints / DECIDED
            manifest = {
                **self._asked,
                **({"decided": read_json(decided)} if decided.exists() else {}),
                "figures": plain(result.figures),
                **({"same_as": result.same_as} if result.same_as else {}),
                "files": {name: hash_file(self.path / name) for name in sorted(result.files)},
                "code": code_version(),
                "processes": state.num_processes,
                "seconds": round(time.monotonic() - self._started, 1),
            }
            write_json(self.path / MANIFEST, manifest)
            shutil.rmtree(self.checkpoints, ignore_errors=True)
        state.wait_for_everyone()

    def add(self, files: list[str]) -> None:
        """Take up what was made from the payload of a stage that is done. Main process only.

        The folder goes on by the hash that it had: what was made from it stays valid.
        """
        manifest, same_as = read_manifest(self.path), artifact_hash(self.path)
        hashes = {name: hash_file(self.path / name) for name in files}
        manifest |= {"same_as": same_as, "files": manifest["files"] | hashes}
        write_json(self.path / MANIFEST, manifest)
