"""Config files as people write them, and what is wrong with an option in one sentence."""

import dataclasses
import difflib
import math
import re
import typing
from argparse import ArgumentError, Namespace
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from common.archives import read_text
from common.errors import UserError
from common.yaml_files import parse_yaml
from pipeline.config import Config
from pipeline.renamed import dotted_names, refuse_old_keys

_PARTS = [field.name for field in dataclasses.fields(Config)]
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "dict": "a mapping",
    "Path": "a path",
}
_LARGEST = 2**63  # of whole numbers that PyTorch takes


def read_config_files(arguments: Sequence[str]) -> list[str]:
    """The command line with the text of every config file in place of its path.

    Raises:
        UserError: a file cannot be read, or is no mapping of options.
    """
    read: list[str] = []
    for name, value in _paired(arguments, {"config", *_groups(Config)}):
        if value is None:
            read.append(name)
            continue
        if name != "--config":
            if not value.lstrip().startswith("{"):
                raise UserError(
                    f"{name} {value[:100]} is no mapping of options; name files with --config."
                )
            read.append(f"{name}={value}")
            continue
        path = Path(value)
        text = read_text(path)
        refuse_old_keys(path, _options_of(text, path))
        read.append(f"--config={text}")  # in one, since a text may begin with dashes
    return read


def _paired(arguments: Sequence[str], names: Collection[str]) -> Iterator[tuple[str, str | None]]:
    """The command line, some options and their values together; all else by itself."""
    rest = iter(arguments)
    for argument in rest:
        option, joined, value = argument.partition("=")
        if option.startswith("--") and option[2:] in names:
            yield option, value if joined else next(rest, None)
        else:
            yield argument, None


def _groups(kind: type[Any], prefix: str = "") -> Iterator[str]:
    """Names of the parts of a config, which the parser would read from files of their own."""
    for name, of in typing.get_type_hints(kind).items():
        if isinstance(of, type) and dataclasses.is_dataclass(of):
            yield f"{prefix}{name}"
            yield from _groups(of, f"{prefix}{name}.")


def _options_of(text: str, path: Path) -> dict[str, Any]:
    """The options in a config file.

    Raises:
        UserError: it is no mapping of options, or refers to another file.
    """
    content = parse_yaml(text, path)
    if content is None:
        raise UserError(f"{path} holds no options; write some, or leave --config out.")
    if not isinstance(content, dict):
        raise UserError(
            f"{path} is {_kind(content)} where a mapping of options belongs, as in "
            "`student: {steps: 800}`."
        )
    if "config" in content:
        raise UserError(f"{path}: config cannot name another file; give both with --config.")
    for name, value in content.items():
        if not isinstance(name, str):
            raise UserError(f"{path}: the key {name} is no name of an option.")
        if name in _PARTS and value is None:
            raise UserError(
                f"{path}: {name} has no options below it; write some, or take the line away."
            )
        if name in _PARTS and not isinstance(value, dict):
            raise UserError(
                f"{path}: {name} is {_kind(value)} where a mapping of its options belongs."
            )
    names = list(dotted_names(content))
    for name, times in Counter(names).items():
        if times > 1:
            raise UserError(f"{path} gives {name} twice; take one of them away.")
        if name.rpartition(".")[2] in ("class_path", "init_args"):
            raise UserError(f"{path}: there is no option {name}.")
    return content


def _kind(value: object) -> str:
    return {"list": "a list", "str": "text"}.get(type(value).__name__, "a value")


def check_values(kind: type[Any], values: Namespace) -> None:
    """Refuse values that no option means: none where one is needed, and numbers that are none.

    Args:
        kind: the dataclass that will hold them.
        values: as the parser gives them, before anything is made of them.

    Raises:
        UserError: there is one; it names the option.
    """
    for name, of, value in _leaves(kind, values):
        if value is None and type(None) not in typing.get_args(of):
            raise UserError(f"{name} is null; give it a value, or leave it out for its default.")
        for number in _numbers(value):
            if isinstance(number, float) and not math.isfinite(number):
                raise UserError(f"{name} is {value}; it needs a finite number.")
            if isinstance(number, int) and not -_LARGEST <= number < _LARGEST:
                raise UserError(f"{name} has more than 19 digits; it needs a smaller number.")


def _leaves(kind: type[Any], values: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Name, type and value of all options in a part of the config."""
    kinds = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        value, of = getattr(values, field.name), kinds[field.name]
        if dataclasses.is_dataclass(of) and isinstance(of, type) and value is not None:
            yield from _leaves(of, value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", of, value


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _numbers(item)
    elif isinstance(value, Namespace):
        yield from _numbers(vars(value))


def explain(error: ArgumentError, arguments: Sequence[str], parser: ArgumentParser) -> str:
    """What the parser says, in one sentence, with the config file that the option stands in.

    Args:
        arguments: the command line.
        parser: of the command, for names that are nearly right.
    """
    told = " ".join(str(error).split())
    if match := re.fullmatch(r"Subcommand '\w+' does not accept option '(.+)'", told):
        name = match[1]
        return f"{_where(name, arguments)}there is no option {name}{_nearest(name, parser)}."
    if not (match := re.fullmatch(r'Parser key "([^"]+)": (.+)', told)):
        return told if told.endswith(".") else f"{told}."
    name, said = match[1], match[2]
    if match := re.fullmatch(r"Expected a (.+?)\. Got value: (.*)", said):
        said = f"needs {_plain(match[1])}, and is {match[2][:100] or 'empty'}"
        if match[2] in ("True", "False") and "Literal" in match[1]:
            said += "; write no and yes in quotes, which YAML takes for false and true"
    elif match := re.fullmatch(r"Problem with given class_path '.*?': Option '(.*?)' .*", said):
        said = f"has no option {match[1]}"
    elif match := re.match(r"Not a valid subclass of \w+\. Got value: (.*?) Subclass types", said):
        said = f"needs a mapping of options, and holds {match[1][:100]}"
    elif said.startswith("Unable to load config"):
        said = "needs a mapping of options"
    elif said.startswith("Exceeds the limit"):
        said = "needs a number of fewer digits"
    else:
        said = f"cannot be read ({said[:400]})"
    return f"{_where(name, arguments)}{name} {said}."


def _plain(kind: str) -> str:
    """A type as the parser names it, in words."""
    if match := re.fullmatch(r"typing\.Literal\[(.*)\]", kind):
        return "one of " + match[1].replace("'", "")
    name = re.sub(r"<class '(?:.*\.)?(\w+)'>", r"\1", kind)
    return _KINDS.get(name, name)


def _where(name: str, arguments: Sequence[str]) -> str:
    """The config file that an option stands in, unless the command line has it."""
    if any(a.partition("=")[0] == f"--{name}" for a in arguments):
        return ""
    for _, value in _paired(arguments, ["config"]):
        if value is not None:
            path = Path(value)
            if name in dotted_names(parse_yaml(read_text(path), path)):
                return f"{path}: "
    return ""


def _nearest(name: str, parser: ArgumentParser) -> str:
    """Names of options that are alike, as a question."""
    known = [action.dest for action in parser._actions]
    alike = difflib.get_close_matches(name, known, 1)
    return f"; is {alike[0]} meant" if alike else ""
