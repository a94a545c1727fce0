"""`--help` of every command has texts, titles and an example; old names are refused with the new ones."""

import copy
import dataclasses
import re
import shlex
from argparse import SUPPRESS, Action
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from jsonargparse import ArgumentParser

from common.errors import UserError
from common.stage_folder import plain
from evaluation.options import CompareStage
from pipeline.config import Config
from pipeline.renamed import RENAMED, refuse_old_names
from pipeline.stages import STAGES
from student.recipe import OwnAnswer, StudentStage
from tests.conftest import ROOT, run_cli
from train import COMMANDS, build_parser, main

Commands = dict[str, ArgumentParser]


@pytest.fixture(scope="module")
def commands() -> Commands:
    """The parser of every command."""
    subcommands = build_parser()._subcommands_action
    assert subcommands is not None
    return dict(subcommands.choices)


def shown(parser: ArgumentParser) -> list[Action]:
    """The options in a command's help."""
    return [action for action in parser._actions if action.help is not SUPPRESS]


def option_names(parser: ArgumentParser) -> set[str]:
    """Names of the options in a command's help, without the dashes."""
    return {text.lstrip("-") for action in shown(parser) for text in action.option_strings}


def faults(parser: ArgumentParser) -> list[str]:
    """What is missing in a command's help."""
    found = [f"{a.dest} has no text" for a in shown(parser) if not (a.help or "").strip(" .")]
    for group in parser._action_groups:
        if any(action.help is not SUPPRESS for action in group._group_actions):
            title = group.title or ""
            if not title or re.match(r"<class|\w+\(", title):  # made of the code
                found.append(f"the group of {group._group_actions[0].dest} has no title")
    if not str(parser.description).endswith("."):
        found.append("there is no sentence that says what it does")
    if "example:" not in str(parser.epilog):
        found.append("there is no example")
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_group_and_command_is_explained(name: str, commands: Commands) -> None:
    assert faults(commands[name]) == []


def test_an_option_without_a_text_is_found() -> None:
    @dataclasses.dataclass
    class Bare:
        width: int = 3

    parser = ArgumentParser()
    parser.add_class_arguments(Bare, "net")
    found = faults(parser)
    assert "net.width has no text" in found and "there is no example" in found
    assert any("has no title" in fault for fault in found)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_is_a_command_that_is_accepted(
    name: str, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    program, file, command, *arguments = shlex.split(str(commands[name].epilog).split(":", 1)[1])
    assert (program, file, command) == ("python", "train.py", name)
    accepted: list[Any] = []
    monkeypatch.setattr("train.use_stages", lambda *given: accepted.append(given))
    monkeypatch.setattr("train.use_tool", lambda *given: accepted.append(given))
    assert main([command, *arguments]) == 0
    assert accepted[0][0] == name


def test_the_help_of_sample_is_a_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main(["sample", "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) <= 60
    for other in ("--student", "--teacher", "--label."):
        assert other not in said
    assert "--count" in said and "--sources.generator" in said


def test_the_help_of_all_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    for name, command in COMMANDS.items():
        assert name in said and command.help in said


def test_options_that_a_command_does_not_use_are_hidden(commands: Commands) -> None:
    parts = {field.name for field in dataclasses.fields(Config)}
    for name, command in COMMANDS.items():
        own = set() if command.own is None else {f.name for f in dataclasses.fields(command.own)}
        used = {option.split(".")[0] for option in command.options} | own
        used |= set() if command.own else {"run"}
        seen = {option.split(".")[0] for option in option_names(commands[name])}
        assert seen & parts <= used, name
    assert "compare" not in {o.split(".")[0] for o in option_names(commands["student"])}
    assert "sources.photographs" not in option_names(commands["teacher"])


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Name, owner and field of every number in a tree of dataclasses."""
    for field in dataclasses.fields(node):
        value, name = getattr(node, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{name}.")
        elif isinstance(value, int | float):
            yield name, node, field.name


@pytest.mark.parametrize("source", ["pseudo_labels", "online"])
@pytest.mark.parametrize("name", STAGES)
def test_every_number_that_a_stage_depends_on_is_in_its_help(
    name: str, source: Literal["pseudo_labels", "online"], commands: Commands
) -> None:
    seen = option_names(commands[name])
    compare, own = CompareStage(supervised_images=1000), OwnAnswer(unlabelled="rendered")
    student = StudentStage(source=source, own_answer=own)
    base = Config(compare=compare, student=student)
    asked = plain(STAGES[name].config(base))
    for option, *_ in leaves(base):
        changed = copy.deepcopy(base)
        owner, field = next((o, f) for other, o, f in leaves(changed) if other == option)
        value = getattr(owner, field)
        other = not value if isinstance(value, bool) else value + 1
        object.__setattr__(owner, field, other)
        if plain(STAGES[name].config(changed)) != asked:
            assert option in seen, f"{name} depends on {option}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["student", "--student.rate", "1"], "--student.rate is now --student.learning_rate"),
        (["label", "--label.batch=8"], "--label.batch is now --label.batch_size"),
        (
            ["compare", "--compare.inverted", "3"],
            "--compare.inverted is now --compare.inversion_images",
        ),
        (
            ["annotate", "--inversion.starts", "3"],
            "--inversion.starts is now --inversion.random_starts",
        ),
        (["distill", "--encoder.images", "8"], "--encoder.images is now --inversion_encoder.images"),
        (["encoder", "--run.dir", "x"], "the stage `encoder` is now `inversion_encoder`"),
    ],
)  # fmt: skip
def test_an_old_name_is_refused_with_the_new_one(arguments: list[str], message: str) -> None:
    refused = run_cli(*arguments)
    assert refused.returncode == 2
    assert refused.stderr == f"error: {message}.\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"teacher": {"draw": 3}}, "teacher.draw is now teacher.shots_seed"),
        ({"encoder": {"images": 3}}, "encoder is now inversion_encoder"),
        (
            {"sources": {"test_sets": {"own": {"pictures": "x", "masks": "y"}}}},
            "sources.test_sets.own.pictures is now sources.test_sets.own.images",
        ),
    ],
    ids=["option", "part", "test set"],
)  # fmt: skip
@pytest.mark.parametrize("joined", [True, False])
def test_an_old_name_in_a_config_file_is_refused(
    tmp_path: Path, content: dict[str, Any], message: str, joined: bool
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(content))
    given = [f"--config={file}"] if joined else ["--config", file]
    refused = run_cli("distill", *given)
    assert refused.returncode == 2
    assert refused.stderr == f"error: {file}: {message}.\n"


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_new_names_are_options_and_old_ones_are_not(old: str, new: str, commands: Commands) -> None:
    options = {o for parser in commands.values() for o in option_names(parser)}
    parts = {name.rsplit(".", n)[0] for name in options for n in range(1, name.count(".") + 1)}
    assert new in options | parts
    assert old not in options | parts
    with pytest.raises(UserError, match=f"--{old} is now --{new}"):
        refuse_old_names(["distill", f"--{old}", "1"])
