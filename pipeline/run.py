"""What a run does: its stages, one after the other, each once; studies of several runs."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from accelerate import PartialState

from common.errors import UserError
from common.files import read_json
from common.stage_folder import CONFIG, MANIFEST, StageFolder, artifact_hash, plain
from datasets.annotations import count_samples
from evaluation.references import REFERENCES
from evaluation.study import summarise, variants
from pipeline.config import Config, guesses, has_test_set, references, varied
from pipeline.stages import STAGES, find_input, input_path, maker_of
from student.export.stage import add_page, has_page
from student.export.web.runtime import fetch_runtime


def _open_folder(name: str, config: Config, overwrite: bool, **remedy: str) -> StageFolder:
    """Where a stage writes; its inputs must be finished."""
    inputs = {key: input_path(config, key) for key in STAGES[name].inputs(config)}
    asked = STAGES[name].config(config)
    return StageFolder(config.run.dir / name, name, asked, inputs, overwrite, **remedy)


def _check(names: Sequence[str], config: Config) -> None:
    """Refuse what could only fail in these stages, what is seen soonest first.

    Raises:
        UserError: an option is wrong, or what comes from outside of the run is not there.
    """
    for name in names:
        STAGES[name].config(config)
        for key in STAGES[name].inputs(config):
            if not maker_of(config, key) and not (path := input_path(config, key)).exists():
                raise UserError(
                    f"{path} does not exist; check the option or the config that names it."
                )
    for name in names:
        STAGES[name].check(config)


def _check_input(name: str, maker: str, config: Config) -> None:
    """See that an input which the run makes is finished, and is what it says it is.

    Raises:
        UserError: it is not finished; it was made from what has changed since; or it is a reference that
            was trained otherwise than this config asks, which a report would not show.
    """
    path = config.run.dir / maker
    if not (path / MANIFEST).exists():
        raise UserError(
            f"the stage `{name}` needs {path}, which is not finished: run `train.py {maker}` "
            "with the same config first, or `train.py distill` for all stages."
        )
    remedy = f"run `train.py {maker} --run.overwrite true` with this config, or `distill` with it"
    for key, made_from in read_json(path / CONFIG)["inputs"].items():
        source = find_input(config, key)
        if source and not _is_still(source, made_from):
            raise UserError(
                f"the stage `{name}` needs {path}, which was made from another {source}: {remedy}."
            )
    if maker in REFERENCES:
        _open_folder(maker, config, overwrite=False, remedy=remedy).is_done()


def _is_still(path: Path, known: str) -> bool:
    """Whether an artefact has the hash that it had; what was made from one that is gone stays."""
    try:
        return artifact_hash(path) == known
    except UserError:
        return True


def run_stage(name: str, config: Config) -> None:
    """Run one stage, unless it is done already."""
    stage, state = STAGES[name], PartialState()
    for key in stage.inputs(config):
        if maker := maker_of(config, key):
            _check_input(name, maker, config)
    folder = _open_folder(name, config, config.run.overwrite)
    done = folder.is_done()
    if not done:
        _check([name], config)
    page = name == "export" and config.export.web and not (done and has_page(folder.path))
    runtime = fetch_runtime() if page and state.is_main_process else None
    state.wait_for_everyone()  # all ranks have looked before one begins to write
    if done and not page:
        state.print(f"{name}: done already in {folder.path}, nothing to do")
    if not done:
        state.print(f"{name}: writing to {folder.path}")
        folder.begin()
        folder.finish(stage.run(stage.config(config), folder))
        seconds = read_json(folder.path / MANIFEST)["seconds"]
        state.print(f"{name}: finished in {seconds:.0f} s")
    if runtime:
        add_page(folder, runtime)
    state.wait_for_everyone()


def distill(config: Config) -> None:
    """All stages in order; a generator that the config gives is not trained."""
    # What can be said now is not said after hours of work.
    _check([name for name in STAGES if left_out(name, config) is None], config)
    if (
        config.export.web
        and PartialState().is_main_process
        and not has_page(config.run.dir / "export")
    ):
        fetch_runtime()  # npm keeps what it has
    for name in STAGES:
        why_not = left_out(name, config)
        if why_not is None:
            run_stage(name, config)
        elif why_not:
            PartialState().print(f"{name}: {why_not}")


def left_out(name: str, config: Config) -> str | None:
    """Why `distill` does without a stage, empty where few want it; None if it runs."""
    sources, sets = config.sources, has_test_set(config)
    if name == "generator" and sources.generator:
        return f"given, {sources.generator}"
    if name == "label" and config.student.source == "online":
        return "skipped, the samples are made while the student trains"
    if name == "perfect_teacher" and sources.annotator and config.student.source == "online":
        return "skipped, there are no stored pictures to label better"
    if name == "compare" and not sets:
        return "skipped, there is no test set in the config"
    asked = (*references(config), *(("inversion_encoder",) if guesses(config) else ()))
    if name in ("inversion_encoder", *REFERENCES) and not (sets and name in asked):
        return ""
    return None


def dry_run(names: list[str], config: Config) -> None:
    """Print the resolved config, and what each stage would read and write."""
    print(json.dumps(plain(config), indent=2))
    for name in names:
        stage = STAGES[name]
        stage.config(config)  # refuses what is wrong in it
        reads = [str(input_path(config, key)) for key in stage.inputs(config)]
        print(f"{name}: reads {', '.join(reads) or 'nothing'}")
        print(f"{' ' * len(name)}  writes {config.run.dir / name}: {stage.writes}")


def study(config: Config, repeat: int, shots: Sequence[int]) -> None:
    """Whole chains over seeds, draws of the labelled samples and their number, held side by side.

    Each is a run in the folder `repeats`; what an earlier call has finished is taken as it is.

    Args:
        repeat: chains for each number of labelled samples. Their number is added to the seeds, and to
            `teacher.shots_seed` where that is set.
        shots: numbers of labelled samples; none for the config's own.
    """
    folder, runs = config.run.dir / "repeats", []
    generator = input_path(config, "generator")
    base = config.teacher.shots or count_samples(input_path(config, "annotations"))
    for variant in variants(repeat, shots or [base]):
        run = dataclasses.replace(config.run, dir=folder / variant.name)
        sources = dataclasses.replace(config.sources, generator=generator)
        PartialState().print(f"study: {run.dir}")
        distill(varied(dataclasses.replace(config, run=run, sources=sources), variant, base))
        runs.append(run.dir)
    if PartialState().is_main_process:
        summarise(folder, runs)
        print(f"study: open {folder / 'report.html'}")
