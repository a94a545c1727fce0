"""threeshot's one entry point: every stage is a subcommand, `distill` runs them all in order.

accelerate launch train.py distill --config configs/demo.yaml
python train.py teacher --config configs/demo.yaml --teacher.epochs 50 --run.dir runs/mine
"""

import dataclasses
import os
import re
import sys
from argparse import ArgumentError
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from jsonargparse import ArgumentParser, Namespace

from common.errors import UserError
from pipeline.config import Config, smoke
from pipeline.run import distill, dry_run, left_out, run_stage, study
from pipeline.stages import STAGES, input_path
from student.network import load_maps
from teacher.annotate import AnnotateOptions, annotate
from teacher.generators.convert import ConvertOptions, convert
from teacher.generators.sample import SampleOptions, read_numbers, sample

# Subcommands beside the stages: what they do, and their options.
TOOLS: dict[str, tuple[str, type[Any]]] = {
    "convert": ("read a generator checkpoint of another system", ConvertOptions),
    "sample": ("draw samples to look at or to annotate", SampleOptions),
    "annotate": ("bring samples and hand-drawn masks together", AnnotateOptions),
}


def use_tool(name: str, config: Config, options: Any) -> None:
    if name == "convert":
        convert(options)
    elif name == "sample":
        sample(input_path(config, "generator"), options)
    else:
        annotate(input_path(config, "generator"), config.sources.labels, options, load_maps)


def build_parser() -> ArgumentParser:
    """Subcommands that all take the same config."""
    parser = ArgumentParser("train.py", description=__doc__, exit_on_error=False)
    commands = parser.add_subcommands()
    texts = {name: f"run the stage `{name}`" for name in STAGES}
    texts |= {"distill": "run all stages in order"} | {n: text for n, (text, _) in TOOLS.items()}
    for name, text in texts.items():
        command = ArgumentParser(description=text, exit_on_error=False)
        commands.add_subcommand(name, command, help=text)
        command.add_argument("--config", action="config", help="a YAML file of what follows")
        if name in TOOLS:
            command.add_class_arguments(TOOLS[name][1], None)
        else:
            command.add_argument("--dry-run", action="store_true", help="print, and run nothing")
            command.add_argument("--smoke", action="store_true", help="a minute for each stage")
        if name == "compare":
            command.add_argument("--repeat", type=int, default=0, help="whole chains, summed up")
            command.add_argument("--shots", default="", help="the same for so many labels: 1,3,10")
        command.add_class_arguments(Config, None, fail_untyped=True)
    return parser


def _expand(arguments: list[str]) -> list[str]:
    """`--generator PATH` is short for `--sources.generator PATH`, `--web` for `--export.web true`."""
    short = {r"^--generator(?==|$)": "--sources.generator", r"^--web$": "--export.web=true"}
    for pattern, whole in short.items():
        arguments = [re.sub(pattern, whole, text) for text in arguments]
    return arguments


def start_processes() -> None:
    """Find this process's device and the other processes of the run; say what float32 means."""
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU")
    # One process may work for long while the others wait for it.
    PartialState(cpu=on_cpu, timeout=timedelta(hours=12))
    # Float32 means it: a GPU's TF32 has ten bits of mantissa, too few for R1 and for features that are to
    # be made again. Who wants speed asks for bf16.
    torch.backends.cudnn.allow_tf32 = False


def main(arguments: list[str] | None = None) -> int:
    parser = build_parser()
    try:
        parsed = parser.parse_args(_expand(sys.argv[1:] if arguments is None else arguments))
        command = parsed.subcommand
        values: Namespace = parser.instantiate(parsed)[command]
        config = Config(**{f.name: values[f.name] for f in dataclasses.fields(Config)})
        start_processes()
        if command in TOOLS:
            kind = TOOLS[command][1]
            options = kind(**{f.name: values[f.name] for f in dataclasses.fields(kind)})
            use_tool(command, config, options)
            return 0
        if values.smoke:
            config = smoke(config)
        if values.dry_run:
            chain = [name for name in STAGES if left_out(name, config) is None]
            dry_run([command] if command in STAGES else chain, config)
        elif command == "compare" and (values.repeat or values.shots):
            shots = read_numbers(values.shots, "--shots") if values.shots else []
            study(config, values.repeat or 1, shots)
        elif command == "distill":
            distill(config)
        else:
            run_stage(command, config)
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
