"""threeshot's one entry point: every stage is a subcommand, `distill` runs them all in order.

accelerate launch train.py distill --config configs/demo.yaml
python train.py teacher --config configs/demo.yaml --teacher.epochs 50 --run.dir runs/mine
"""

import dataclasses
import json
import os
import re
import sys
from argparse import ArgumentError
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from jsonargparse import ArgumentParser, Namespace

from datasets.annotations import write_samples
from datasets.artifacts import (
    MANIFEST,
    Result,
    StageFolder,
    UserError,
    artifact_hash,
    plain,
    read_json,
)
from datasets.pictures import save_sheet, tile
from evaluation.compare import CompareStage, Comparison, compare
from student.export import ExportStage, export_student
from student.fit import StudentStage, fit_student
from teacher.adversarial import GeneratorStage, train_generator
from teacher.fit import TeacherStage, fit_teacher
from teacher.generators import convert_checkpoint, load_generator
from teacher.label import LabelStage, label_samples
from teacher.sampling import (
    choose_samples,
    draw_from_z,
    draw_samples,
    read_latents,
    z_of_seeds,
)


@dataclass(frozen=True)
class Run:
    """Where the stages' folders lie.

    Args:
        dir: the run's folder; each stage writes to a folder of its name in it.
        overwrite: make stages anew that were made with another config or from other inputs.
    """

    dir: Path = Path("runs/demo")
    overwrite: bool = False


@dataclass(frozen=True)
class Sources:
    """What the run is given.

    Args:
        labels: the label set.
        generator: a finished generator folder; none to train one in the run's stage `generator`.
        annotations: annotated samples for the teacher.
        test_annotations: annotated samples for the comparison.
    """

    labels: Path = Path("configs/labels/face8.yaml")
    generator: Path | None = None
    annotations: Path | None = None
    test_annotations: Path | None = None


@dataclass(frozen=True)
class Config:
    """Everything that can be said to a run."""

    run: Run = field(default_factory=Run)
    sources: Sources = field(default_factory=Sources)
    generator: GeneratorStage = field(default_factory=GeneratorStage)
    teacher: TeacherStage = field(default_factory=TeacherStage)
    label: LabelStage = field(default_factory=LabelStage)
    student: StudentStage = field(default_factory=StudentStage)
    compare: CompareStage = field(default_factory=CompareStage)
    export: ExportStage = field(default_factory=ExportStage)


@dataclass(frozen=True)
class SampleOptions:
    """Options of the subcommand `sample`: one of `count`, `seeds` and `latents`.

    Args:
        out: folder for the samples and a contact sheet of them.
        count: draw this many, each with noise of its own.
        seed: of those.
        seeds: draw what NVIDIA's tools draw for these seeds, as in 0-3,8; constant noise.
        latents: draw these z, a .npy file of float32 [N, latent size]; constant noise.
        choose: keep only this many, those most worth annotating.
        truncation: psi; 1 for full variety.
    """

    out: Path
    count: int | None = None
    seed: int = 0
    seeds: str | None = None
    latents: Path | None = None
    choose: int | None = None
    truncation: float = 1.0


@dataclass(frozen=True)
class ConvertOptions:
    """Options of the subcommand `convert`.

    Args:
        checkpoint: a StyleGAN2 generator: NVIDIA's .pkl (PyTorch or TensorFlow) or rosinality's .pt.
        out: folder for it.
    """

    checkpoint: Path
    out: Path


@dataclass(frozen=True)
class Stage:
    """A stage: its function, the part of the config it depends on, and the names of its inputs."""

    run: Callable[[Any, StageFolder], Result]
    config: Callable[[Config], Any]
    inputs: Callable[[Config], tuple[str, ...]]
    writes: str


STAGES = {
    "generator": Stage(
        train_generator, lambda c: c.generator, lambda c: (),
        "generator.safetensors, generator.json, samples.png",
    ),
    "teacher": Stage(
        fit_teacher, lambda c: c.teacher,
        lambda c: ("labels", "generator", "annotations", "test_annotations"),
        "teacher.safetensors, teacher.json, predictions.png",
    ),
    "label": Stage(
        label_samples, lambda c: c.label, lambda c: ("labels", "generator", "teacher"),
        "shard-*.zip, pseudo_labels.json",
    ),
    "student": Stage(
        fit_student, lambda c: c.student,
        lambda c: ("labels",) if c.student.source == "faces" else ("labels", "pseudo_labels"),
        "student.safetensors, last.safetensors, student.json",
    ),
    "compare": Stage(
        compare, lambda c: Comparison(c.compare, c.student),
        lambda c: (
            "labels", "generator", "annotations", "test_annotations", "teacher", "student",
        ),
        "comparison.json, comparison.png",
    ),
    "export": Stage(
        export_student, lambda c: c.export, lambda c: ("labels", "student"),
        "student.onnx, labels.json",
    ),
}  # fmt: skip


def input_path(config: Config, name: str) -> Path:
    """Where an input lies: named by `sources`, or made by an earlier stage of the run."""
    if name == "generator":
        return config.sources.generator or config.run.dir / "generator"
    if name == "pseudo_labels":
        return config.run.dir / "label"
    if name in STAGES:
        return config.run.dir / name
    path: Path | None = getattr(config.sources, name)
    if path is None:
        raise UserError(
            f"sources.{name} is not set; name a folder in the config or with --sources.{name}."
        )
    return path


def run_stage(name: str, config: Config) -> None:
    """Run one stage, unless it is done already."""
    stage, state = STAGES[name], PartialState()
    inputs = {key: input_path(config, key) for key in stage.inputs(config)}
    for key, path in inputs.items():
        maker = {"pseudo_labels": "label"}.get(key, key)
        made_here = maker in STAGES and path == config.run.dir / maker
        if made_here and not (path / MANIFEST).exists():
            raise UserError(
                f"the stage `{name}` needs {path}, which is not finished: run `train.py {maker}` "
                "with the same config first, or `train.py distill` for all stages."
            )
    folder = StageFolder(
        config.run.dir / name, name, stage.config(config), inputs, config.run.overwrite
    )
    done = folder.is_done()
    state.wait_for_everyone()  # all ranks have looked before one begins to write
    if done:
        state.print(f"{name}: done already in {folder.path}, nothing to do")
        return
    state.print(f"{name}: writing to {folder.path}")
    folder.begin()
    folder.finish(stage.run(stage.config(config), folder))
    seconds = read_json(folder.path / MANIFEST)["seconds"]
    state.print(f"{name}: finished in {seconds:.0f} s")


def distill(config: Config) -> None:
    """All stages in order; a generator that the config gives is not trained."""
    for name in STAGES:
        if name == "generator" and config.sources.generator:
            PartialState().print(f"generator: given, {config.sources.generator}")
            continue
        run_stage(name, config)


def sample(config: Config, options: SampleOptions) -> None:
    """Draw samples to look at or to annotate: pictures, and what makes their features again."""
    path = input_path(config, "generator")
    source = artifact_hash(path)
    if (options.out / "samples.json").exists():
        raise UserError(f"{options.out} holds samples already; choose another --out.")
    ways = {"count": options.count, "seeds": options.seeds, "latents": options.latents}
    if len([way for way in ways.values() if way is not None]) != 1:
        raise UserError("say which samples to draw by one of --count, --seeds, --latents.")
    generator = load_generator(path)

    origin: dict[str, Any] = {"truncation": options.truncation}
    if options.count is not None:
        numbers = list(range(options.count))
        samples = draw_samples(generator, options.seed, numbers, options.truncation)
        origin |= {"seed": options.seed}
    elif options.seeds is not None:
        numbers = read_numbers(options.seeds, "--seeds")
        samples = draw_from_z(generator, z_of_seeds(generator, numbers), options.truncation)
    else:
        assert options.latents is not None
        z = read_latents(options.latents, generator.config.latent_size)
        numbers = list(range(len(z)))
        samples = draw_from_z(generator, z, options.truncation)
        origin |= {"latents": artifact_hash(options.latents)}
    if options.choose is not None:
        if not 0 < options.choose <= len(samples):
            raise UserError(f"--choose {options.choose} must be between 1 and {len(samples)}.")
        chosen = choose_samples(generator, samples, options.choose)
        numbers, samples = [numbers[i] for i in chosen], samples.take(chosen)
    origin["seeds" if options.seeds else "indices"] = numbers
    write_samples(options.out, samples, source, origin)
    save_sheet(tile(samples.images), options.out / "sheet.png")
    print(f"{len(samples)} samples in {options.out}; to annotate them, draw masks/0000.png, ...")


def read_numbers(text: str, option: str) -> list[int]:
    """0-3,8 -> [0, 1, 2, 3, 8]."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise UserError(f"{option} {text} is not a list of numbers such as 0-3,8.")
        numbers += range(int(first), int(last or first) + 1)
    if not numbers:
        raise UserError(f"{option} {text} names no number.")
    return numbers


def convert(options: ConvertOptions) -> None:
    """Turn a checkpoint of another system into a generator folder of ours."""
    folder = StageFolder(
        options.out,
        "convert",
        {},
        {"checkpoint": options.checkpoint},
        remedy="choose another --out",
    )
    if folder.is_done():
        print(f"convert: done already in {options.out}, nothing to do")
        return
    folder.begin()
    folder.finish(convert_checkpoint(folder))
    print(
        f"The generator is in {options.out}. Look at what it draws with\n"
        f"  python train.py sample --generator {options.out} --seeds 0-15 --truncation 0.7 --out DIR"
    )


def dry_run(names: list[str], config: Config) -> None:
    """Print the resolved config, and what each stage would read and write."""
    print(json.dumps(plain(config), indent=2))
    for name in names:
        stage = STAGES[name]
        reads = [str(input_path(config, key)) for key in stage.inputs(config)]
        print(f"{name}: reads {', '.join(reads) or 'nothing'}")
        print(f"{' ' * len(name)}  writes {config.run.dir / name}: {stage.writes}")


def build_parser() -> ArgumentParser:
    """Subcommands that all take the same config."""
    parser = ArgumentParser("train.py", description=__doc__, exit_on_error=False)
    commands = parser.add_subcommands()
    texts = {name: f"run the stage `{name}`" for name in STAGES}
    texts |= {
        "distill": "run all stages in order",
        "sample": "draw samples to look at or to annotate",
        "convert": "read a generator checkpoint of another system",
    }
    for name, text in texts.items():
        command = ArgumentParser(description=text, exit_on_error=False)
        commands.add_subcommand(name, command, help=text)
        if name == "convert":
            command.add_class_arguments(ConvertOptions, None)
            continue
        command.add_argument("--config", action="config", help="a YAML file of what follows")
        if name == "sample":
            command.add_class_arguments(SampleOptions, None)
        else:
            command.add_argument("--dry-run", action="store_true", help="print, and run nothing")
        command.add_class_arguments(Config, None, fail_untyped=True)
    return parser


def _expand(arguments: list[str]) -> list[str]:
    """`--generator PATH` is short for `--sources.generator PATH`."""
    return [re.sub(r"^--generator(?==|$)", "--sources.generator", text) for text in arguments]


def main(arguments: list[str] | None = None) -> int:
    parser = build_parser()
    try:
        parsed = parser.parse_args(_expand(sys.argv[1:] if arguments is None else arguments))
        command = parsed.subcommand
        values: Namespace = parser.instantiate(parsed)[command]
        if command == "convert":
            convert(ConvertOptions(values.checkpoint, values.out))
            return 0
        config = Config(**{f.name: values[f.name] for f in dataclasses.fields(Config)})
        if command == "sample":
            options = {f.name: values[f.name] for f in dataclasses.fields(SampleOptions)}
            sample(config, SampleOptions(**options))
        elif values.dry_run:
            dry_run([command] if command in STAGES else list(STAGES), config)
        else:
            # One process may work for long while the others wait for it.
            on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU")
            PartialState(cpu=on_cpu, timeout=timedelta(hours=12))
            distill(config) if command == "distill" else run_stage(command, config)
    except (UserError, ArgumentError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
