"""Few-shot GAN segmentation, distilled: three labelled faces in, a fast face segmenter out."""

import dataclasses
import os
import re
import sys
from argparse import SUPPRESS, Action, ArgumentError, RawDescriptionHelpFormatter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from common.errors import UserError
from common.options import read_numbers
from common.processors import use_threads
from pipeline.config import Config, smoke
from pipeline.config_files import check_values, explain, read_config_files
from pipeline.precision import follow_launcher
from pipeline.renamed import refuse_old_names
from pipeline.rounds import IN_ROUNDS, Step, round_config, steps_of
from pipeline.run import distill, print_plan, run_stage
from pipeline.stages import STAGES
from pipeline.study import run_study
from pipeline.tools import TOOLS
from student.recipe import launched_precision


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Attributes:
        help: what it does, in a sentence.
        options: what of the config its `--help` shows, by the beginning of the names.
        example: arguments that make sense behind its name.
        own: its own options, for tools that are no stage.
    """

    help: str
    options: tuple[str, ...]
    example: str = "--config configs/demo.yaml"
    own: type[Any] | None = None


COMMANDS = {
    "distill": Command("Run all stages in order.", ("sources", *STAGES, "rounds")),
    **{name: Command(stage.help, stage.options) for name, stage in STAGES.items()},
    **{
        name: Command(tool.help, tool.options, tool.example, tool.own)
        for name, tool in TOOLS.items()
    },
}
# Options that are short for others.
_SHORT = {
    r"^--generator(?==|$)": "--sources.generator",
    r"^--photographs(?==|$)": "--sources.photographs",
    r"^--class(?==|$)": "--class_number",
    r"^--web$": "--export.web=true",
    r"^--no-open$": "--open=false",
}


class _HelpFormatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the lines of examples, and calls paths by their name."""

    def _get_type_str(self, action: Action) -> str | None:
        kind = super()._get_type_str(action)
        return re.sub(r"<class 'Path'>|\bPath\b", "path", kind) if kind else kind


def build_parser(command: str = "") -> ArgumentParser:
    """A subcommand for every stage and tool. All take the same config; each explains what it uses.

    Args:
        command: the one that is to be parsed, which saves a second; empty for all.
    """
    parser = ArgumentParser(
        "train.py", description=__doc__, formatter_class=_HelpFormatter, exit_on_error=False
    )
    parser.usage = "python train.py COMMAND [options]; python train.py COMMAND --help explains each"
    subcommands = parser.add_subcommands(title="commands", metavar="COMMAND")
    for name in [command] if command in COMMANDS else COMMANDS:
        subcommands.add_subcommand(name, _build_command(name), help=COMMANDS[name].help)
    return parser


def _build_command(name: str) -> ArgumentParser:
    """The parser of one subcommand."""
    command = COMMANDS[name]
    parser = ArgumentParser(
        description=command.help,
        epilog=f"example:\n  python train.py {name} {command.example}",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.usage = f"python train.py {name} [--config FILE] [options]"
    parser.add_argument("--config", action="config", help="YAML file of the options below")
    if command.own:
        parser.add_class_arguments(command.own, None)
    else:
        _add_run_options(parser, name)
    parser.add_class_arguments(Config, None, fail_untyped=True)
    _hide_all_but(parser, command)
    return parser


def _add_run_options(parser: ArgumentParser, name: str) -> None:
    """What is said to a command rather than to a stage."""
    parser.add_argument(
        "--dry-run", action="store_true", help="print the config and the plan, and run nothing"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="cut every stage to about a minute, as a test"
    )
    if name == "compare":
        parser.add_argument(
            "--repeat", type=int, default=0,
            help="run so many whole chains with other seeds, and sum them up",
        )  # fmt: skip
        parser.add_argument(
            "--shots", default="",
            help="the same for several numbers of labelled samples, as in 1,3,10",
        )  # fmt: skip


def _hide_all_but(parser: ArgumentParser, command: Command) -> None:
    """Leave options of the config that a command does not use out of its help; a config may hold them."""
    parts = {f.name for f in dataclasses.fields(Config)}
    shown = (*command.options, *(() if command.own else ("run",)))
    for action in parser._actions:
        name = action.dest
        hidden = name.split(".")[0] in parts and not any(
            f"{name}.".startswith(f"{s}.") for s in shown
        )
        # Neither `--teacher FILE` nor `--print_config`: --config and --dry-run serve better.
        if hidden or name == "print_config" or type(action).__name__ == "_ActionConfigLoad":
            action.help = SUPPRESS


def _expand(arguments: list[str]) -> list[str]:
    """`--generator PATH` is short for `--sources.generator PATH`, `--web` for `--export.web true`."""
    for pattern, whole in _SHORT.items():
        arguments = [re.sub(pattern, whole, text) for text in arguments]
    return arguments


def start_processes() -> str:
    """Find this process's device, its threads and the other processes of the run.

    Returns:
        What there is to say of the threads, see `use_threads`.
    """
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU")
    # One process may work for long while the others wait for it.
    state = PartialState(cpu=on_cpu, timeout=timedelta(hours=12))
    # TF32 is off: ten mantissa bits are too few for R1 and for reproducing features exactly. For speed use
    # --student.precision bf16.
    torch.backends.cudnn.allow_tf32 = False
    return use_threads(int(os.environ.get("LOCAL_WORLD_SIZE", state.num_processes)))


def use_tool(name: str, config: Config, options: Any) -> None:
    """Run a command that is no stage."""
    TOOLS[name].run(config, options)


def use_stages(command: str, config: Config, values: Namespace) -> None:
    """Run one stage, all of them, or a study of whole runs."""
    if values.smoke:
        config = smoke(config)
    if command in IN_ROUNDS:
        config = round_config(config, 1)
    if values.dry_run:
        chain = steps_of(config, list(STAGES))
        wanted = [step for step in chain if STAGES[step.stage].skip(step.config) is None]
        print_plan([Step(command, config)] if command in STAGES else wanted, config)
    elif command == "compare" and (values.repeat or values.shots):
        shots = read_numbers(values.shots, "--shots") if values.shots else []
        run_study(config, values.repeat or 1, shots)
    elif command == "distill":
        distill(config)
    else:
        run_stage(command, config)


def _parse(parser: ArgumentParser, given: list[str], read: list[str]) -> Namespace:
    """The values of all options.

    Args:
        given: the command line.
        read: the same with the text of its config files.

    Raises:
        UserError: one of them is wrong.
    """
    try:
        parsed = parser.parse_args(read)
    except ArgumentError as error:
        name = given[0] if given else ""
        known = _build_command(name) if name in COMMANDS else parser
        raise UserError(explain(error, given, known)) from error
    values, own = parsed[parsed.subcommand], COMMANDS[parsed.subcommand].own
    check_values(Config, values)
    if own:
        check_values(own, values)
    return parsed


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and do what it says.

    Returns:
        The exit code: 0, 2 for bad input, 130 when interrupted.
    """
    try:
        given = _expand(sys.argv[1:] if arguments is None else arguments)
        refuse_old_names(given)
        parser = build_parser(next(iter(given), ""))
        read = read_config_files(given)
        parsed = _parse(parser, given, read)
        command = parsed.subcommand
        values: Namespace = parser.instantiate(parsed)[command]
        config = Config(**{f.name: values[f.name] for f in dataclasses.fields(Config)})
        threads = start_processes()
        if kind := COMMANDS[command].own:
            options = kind(**{f.name: values[f.name] for f in dataclasses.fields(kind)})
            use_tool(command, config, options)
        else:
            if launched_precision():
                bare = parser.parse_args(read, defaults=False)  # what was given alone
                config = follow_launcher(config, f"{command}.student.precision" in bare)
            if threads and not values.dry_run:
                PartialState().print(f"threads: {threads}")
            use_stages(command, config, values)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
