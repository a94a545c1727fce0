"""What a run does: check, open, run, finish, the same for every stage."""

import json
from collections.abc import Sequence
from pathlib import Path

from accelerate import PartialState

from common.errors import UserError
from common.files import read_fields
from common.stage_folder import CONFIG, MANIFEST, StageFolder, artifact_hash, plain, read_manifest
from pipeline.config import Config
from pipeline.inputs import Input, need, resolve
from pipeline.rounds import Step, round_config, steps_of
from pipeline.stages import STAGES
from teacher.generators.lineage import require_kin


def run_stage(name: str, config: Config, checked: bool = False) -> None:
    """Run one stage, unless it is done already.

    Args:
        checked: whether `check_steps` has seen it with this config.

    Raises:
        UserError: an input is not finished, or the stage's folder was made with another config.
    """
    stage, state, inputs = STAGES[name], PartialState(), stage_inputs(name, config)
    for found in inputs.values():
        _check_made(name, found, config)
    for key in ("teacher", "teacher_before"):
        if key in inputs and inputs[key].maker is None and "generator" in inputs:
            require_kin(inputs[key].path, inputs["generator"].path)
    folder = open_folder(name, config)
    done = folder.is_done()
    state.wait_for_everyone()  # all ranks have looked before one begins to write
    if done:
        state.print(f"{name}: done already in {folder.path}, nothing to do")
    else:
        if not checked:
            check_steps([Step(name, config)])
        state.print(f"{name}: writing to {folder.path}")
        folder.begin()
        folder.finish(stage.run(stage.config(config), folder))
        seconds = read_manifest(folder.path)["seconds"]
        state.print(f"{name}: finished in {seconds:.0f} s")
    stage.extend(config, folder)
    state.wait_for_everyone()


def distill(config: Config) -> None:
    """Run all stages in order, in as many rounds as the config asks, but those that it has no need of."""
    steps = steps_of(config, list(STAGES))
    # What can be said now is not said after hours of work. Later rounds read only what is made by then.
    here = [step for step in steps if step.config.run.dir == config.run.dir]
    check_steps([step for step in here if STAGES[step.stage].skip(step.config) is None])
    for name, of_round in steps:
        if (why := STAGES[name].skip(of_round)) is None:
            run_stage(name, of_round, checked=True)
        elif why:
            PartialState().print(f"{name}: {why}")


def stage_inputs(name: str, config: Config) -> dict[str, Input]:
    """What a stage reads, by name."""
    inputs = resolve(config)
    return {key: need(inputs, key) for key in STAGES[name].inputs(config)}


def open_folder(name: str, config: Config, remedy: str | None = None) -> StageFolder:
    """The folder that a stage writes to.

    Args:
        remedy: what to advise where it was made otherwise; with one, it is never replaced.
    """
    paths = {key: found.path for key, found in stage_inputs(name, config).items()}
    asked, path = STAGES[name].config(config), config.run.dir / name
    if remedy:
        return StageFolder(path, name, asked, paths, remedy=remedy)
    return StageFolder(path, name, asked, paths, config.run.overwrite)


def check_steps(steps: Sequence[Step]) -> None:
    """Refuse what could only fail in these stages; what is seen soonest first.

    Raises:
        UserError: an option is wrong, or what comes from outside of the run is not there.
    """
    for name, config in steps:
        STAGES[name].config(config)
        for found in stage_inputs(name, config).values():
            if not found.maker and not found.path.exists():
                raise UserError(
                    f"{found.path} does not exist; check the option or the config that names it."
                )
    for name, config in steps:
        STAGES[name].check(config)


def _check_made(name: str, found: Input, config: Config) -> None:
    """See that an input which the run makes is finished, and is what it says it is.

    Raises:
        UserError: it is not finished; it was made from what has changed since; or it is a reference that
            was trained otherwise than this config asks.
    """
    path, maker, number = found
    if maker is None:
        return
    if number:
        config = round_config(config, number)
    command = "distill" if number > 1 else maker
    if not (path / MANIFEST).exists():
        raise UserError(
            f"the stage `{name}` needs {path}, which is not finished: run `train.py {command}` "
            "with the same config first, or `train.py distill` for all stages."
        )
    remedy = f"run `train.py {command} --run.overwrite true` with this config, or `distill` with it"
    inputs = resolve(config)
    made = read_fields(path / CONFIG, {"inputs": dict}, remedy)
    for key, hash_then in made["inputs"].items():
        source = inputs.get(key)
        if source and source.path.exists() and not _has_hash(source.path, hash_then):
            raise UserError(
                f"the stage `{name}` needs {path}, which was made from another {source.path}: {remedy}."
            )
    if STAGES[maker].exact:
        open_folder(maker, config, remedy).is_done()


def _has_hash(path: Path, known: str) -> bool:
    """Whether an artefact has the hash that it had; what was made from one that is gone stays valid."""
    try:
        return artifact_hash(path) == known
    except UserError:
        return True


def print_plan(steps: Sequence[Step], config: Config) -> None:
    """Print the resolved config, and what each stage would read and write."""
    print(json.dumps(plain(config), indent=2))
    for name, of_round in steps:
        STAGES[name].config(of_round)  # refuses what is wrong in it
        reads = [str(found.path) for found in stage_inputs(name, of_round).values()]
        print(f"{name}: reads {', '.join(reads) or 'nothing'}")
        print(f"{' ' * len(name)}  writes {of_round.run.dir / name}: {STAGES[name].writes}")
