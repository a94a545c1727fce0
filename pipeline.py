"""What a run does: its stages, one after the other, each once; studies of several runs."""

import dataclasses
import json
from collections.abc import Sequence

from accelerate import PartialState

from config import Config, guesses, references, varied
from datasets.annotations import count_samples
from datasets.artifacts import CONFIG, MANIFEST, StageFolder, UserError, plain, read_json
from datasets.labels import LabelSet
from evaluation.references import REFERENCES, check_annotator
from evaluation.study import summarise, variants
from stages import STAGES, input_path
from student.export import add_page, has_page
from student.formats import check_exportable
from student.web.runtime import fetch_runtime


def _open_folder(name: str, config: Config) -> StageFolder:
    """Where a stage writes; its inputs must be finished."""
    inputs = {key: input_path(config, key) for key in STAGES[name].inputs(config)}
    asked = STAGES[name].config(config)
    return StageFolder(config.run.dir / name, name, asked, inputs, config.run.overwrite)


def run_stage(name: str, config: Config) -> None:
    """Run one stage, unless it is done already."""
    stage, state = STAGES[name], PartialState()
    for key in stage.inputs(config):
        maker, path = {"pseudo_labels": "label"}.get(key, key), input_path(config, key)
        made_here = maker in STAGES and path == config.run.dir / maker
        finished = not made_here or (path / MANIFEST).exists()
        # A report that says how the references were trained must not be about other ones.
        if finished and maker in REFERENCES:
            finished = _open_folder(maker, config).is_done()
        if not finished:
            raise UserError(
                f"the stage `{name}` needs {path}, which is not finished: run `train.py {maker}` "
                "with the same config first, or `train.py distill` for all stages."
            )
    folder = _open_folder(name, config)
    done = folder.is_done()
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
    chain = [name for name in STAGES if left_out(name, config) is None]
    for name in chain:
        STAGES[name].config(config)
    labels = LabelSet.load(config.sources.labels)
    if "perfect_teacher" in chain:
        check_annotator(input_path(config, "annotator"), labels)
    if not (config.run.dir / "student" / CONFIG).exists():
        check_exportable(config.student.network, len(labels))
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
    sources = config.sources
    sets = sources.test_annotations or sources.test_sets or config.compare.held_out
    if name == "generator" and sources.generator:
        return f"given, {sources.generator}"
    if name == "label" and config.student.source == "online":
        return "skipped, the samples are made while the student trains"
    if name == "perfect_teacher" and sources.annotator and config.student.source == "online":
        return "skipped, there are no stored pictures to label better"
    if name == "compare" and not sets:
        return "skipped, there is no test set in the config"
    asked = (*references(config), *(("encoder",) if guesses(config) else ()))
    if name in ("encoder", *REFERENCES) and not (sets and name in asked):
        return ""
    return None


def dry_run(names: list[str], config: Config) -> None:
    """Print the resolved config, and what each stage would read and write."""
    print(json.dumps(plain(config), indent=2))
    for name in names:
        stage = STAGES[name]
        reads = [str(input_path(config, key)) for key in stage.inputs(config)]
        print(f"{name}: reads {', '.join(reads) or 'nothing'}")
        print(f"{' ' * len(name)}  writes {config.run.dir / name}: {stage.writes}")


def study(config: Config, repeat: int, shots: Sequence[int]) -> None:
    """Whole chains over seeds, draws of the labelled samples and their number, held side by side.

    Each is a run in the folder `repeats`; what an earlier call has finished is taken as it is.

    Args:
        repeat: chains for each number of labelled samples. Their number is added to the seeds, and to
            `teacher.draw` where that is set.
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
