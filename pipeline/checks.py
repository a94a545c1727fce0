"""What a stage checks before long work, and what is added to a finished one."""

from dataclasses import replace

import torch
from accelerate import PartialState

from common.errors import UserError
from common.files import read_fields
from common.stage_folder import CONFIG, StageFolder
from datasets.labels import LabelSet
from evaluation.references import check_annotator
from evaluation.rivals import try_rival
from evaluation.rows import OWN_ROWS
from pipeline.config import Config
from pipeline.inputs import need, resolve
from student.export.graph import check_exportable
from student.export.stage import add_page, has_page
from student.export.web.runtime import fetch_runtime
from student.network import build_student, load_maps
from student.normalisation import check_batch, check_normalised, takes_single_images
from student.rounds import start_weights
from teacher.generators.registry import load_generator
from teacher.generators.stylegan2.start import network_of_start, read_start


def check_generator(config: Config) -> None:
    """What the training is to begin with can be read, and has the architecture that is asked for."""
    if path := config.generator.start:
        network_of_start(config.generator.network, read_start(path).network, path)


def check_student(config: Config) -> None:
    """The batch can be shared out and normalised; a warning for an option that this student ignores."""
    if config.student.source == "online" and config.label.drop_uncertain:
        PartialState().print(
            "warning: label.drop_uncertain is ignored: online, the most uncertain samples cannot be "
            "known first"
        )
    state, recipe = PartialState(), config.student
    check_batch(recipe, state.num_processes)
    if (before := config.sources.student) and config.rounds.student.from_weights:
        classes = len(LabelSet.load(config.sources.labels))
        start_weights(before, recipe, classes, _resolution(config))
    if takes_single_images(recipe, state.num_processes):
        classes, side = len(LabelSet.load(config.sources.labels)), _resolution(config)
        network = build_student(replace(recipe.network, pretrained=False), classes, side)
        check_normalised(network, recipe, side, state.num_processes, state.device)


def check_export(config: Config) -> None:
    """A student that is not trained yet can be exported, and its page can be made."""
    if not (resolve(config)["student"].path / CONFIG).exists():
        classes = len(LabelSet.load(config.sources.labels))
        check_exportable(config.student.network, classes, _resolution(config))
    if config.export.web and PartialState().is_main_process:
        fetch_runtime()  # npm keeps what it has


def _resolution(config: Config) -> int:
    """Side of the images that the student will be trained on, in pixels."""
    if config.student.source == "faces":
        return config.student.resolution
    if config.sources.generator:
        return load_generator(config.sources.generator).resolution
    if config.generator.start:
        return read_start(config.generator.start).network.resolution
    return config.generator.network.resolution


def add_page_if_asked(config: Config, folder: StageFolder) -> None:
    """Add the page for browsers to a finished export."""
    if config.export.web and PartialState().is_main_process and not has_page(folder.path):
        add_page(folder, fetch_runtime())


def check_perfect_teacher(config: Config) -> None:
    """The annotator has the run's classes."""
    annotator = need(resolve(config), "annotator").path
    check_annotator(annotator, LabelSet.load(config.sources.labels))


def check_compare(config: Config) -> None:
    """There is a test set, and what the comparison is given from elsewhere can be used.

    Raises:
        UserError: it cannot.
    """
    if not config.has_test_set and not config.sources.kept_back:
        raise UserError(
            "there is no test set: name sources.test_annotations or sources.test_sets, or raise "
            "compare.held_out_images or sources.kept_back."
        )
    if config.sources.kept_back:
        _check_kept_back(config)
    for name, path in config.sources.rivals.items():
        if name in OWN_ROWS:
            raise UserError(f"sources.rivals: {name} is a row of its own; choose another name.")
        try_rival(path, LabelSet.load(config.sources.labels))
    settings = config.compare
    for network in filter(None, (settings.perceptual_network, settings.frozen_features.encoder)):
        load_maps(network, torch.device("cpu"))


def _check_kept_back(config: Config) -> None:
    """Nothing that is finished has learned from the photographs that are to be kept back."""
    inputs, asked = resolve(config), config.sources.kept_back
    for name in ("generator", "student"):
        path = inputs[name].path / CONFIG
        if not path.is_file():
            continue
        made = read_fields(path, {"config": object, "inputs": dict}, "make it anew")
        if "photographs" not in made["inputs"] or not isinstance(made["config"], dict):
            continue
        kept = made["config"].get("kept_back", 0)
        if not isinstance(kept, int) or kept < asked:
            raise UserError(
                f"sources.kept_back is {asked}, but {path.parent} has learned from all photographs but "
                f"{kept}; lower sources.kept_back to that, or run `distill` with --run.overwrite true."
            )
