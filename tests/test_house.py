"""The project's own order: who imports whom, how long files and functions are, what is documented."""

import ast
import dataclasses
import os
import re
import typing
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config
from tests.conftest import ROOT
from train import COMMANDS

# A room imports from those behind it; two in one place do not know each other.
ORDER = (
    ("train",),
    ("pipeline",),
    ("evaluation",),
    ("teacher", "student"),
    ("datasets",),
    ("common",),
)
PLACE = {room: place for place, rooms in enumerate(ORDER) for room in rooms}
# Code that uses the rooms and that no room uses.
USERS = ("tests", "benchmarks", "examples")
FILE_LINES, FUNCTION_LINES = 300, 60
_USERS_FOLDERS = {"runs", "data"}


def code_files(root: Path, *kinds: str) -> Iterator[Path]:
    """Files of these kinds, but those in hidden folders and in folders of people's runs and data."""
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(s for s in subfolders if s[0] != "." and s not in _USERS_FOLDERS)
        yield from (
            Path(folder, name) for name in sorted(names) if name.rpartition(".")[2] in kinds
        )


def module_name(root: Path, path: Path) -> str:
    """As it is imported."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(root: Path, path: Path) -> Iterator[tuple[int, str]]:
    """Line and module of every import, also those inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = path.relative_to(root).parts[: -node.level] if node.level else ()
            base = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                inner = root.joinpath(*base.split("."), alias.name)
                is_module = inner.is_dir() or inner.with_suffix(".py").is_file()
                yield node.lineno, f"{base}.{alias.name}" if is_module else base


def wrong_arrows(root: Path) -> list[str]:
    """Imports that go against the order of the rooms."""
    found = []
    for path in code_files(root, "py"):
        name = path.relative_to(root)
        room = name.with_suffix("").parts[0]
        for line, module in imports(root, path) if room in PLACE else ():
            target = module.split(".")[0]
            if target in USERS:
                found.append(f"{name}:{line}: {room} imports {module}, which only uses the rooms.")
            elif target in PLACE and target != room and PLACE[target] <= PLACE[room]:
                order = " -> ".join(", ".join(rooms) for rooms in ORDER)
                found.append(f"{name}:{line}: {room} imports {module}; imports go {order}.")
    return found


def circle(root: Path) -> list[str]:
    """Modules of the rooms that import each other in a circle, the first of them again at the end."""
    graph = {}
    for path in code_files(root, "py"):
        name = module_name(root, path)
        if name.split(".")[0] in PLACE:
            graph[name] = {module for _, module in imports(root, path)} - {name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def too_long(root: Path) -> list[str]:
    """Files and functions that nobody reads at a glance."""
    found = []
    for path in code_files(root, "py", "js", "css", "html", "jinja"):
        name, text = path.relative_to(root), path.read_text(encoding="utf-8")
        if (lines := len(text.splitlines())) > FILE_LINES:
            found.append(f"{name} has {lines} lines; {FILE_LINES} are the most.")
        for node in ast.walk(ast.parse(text)) if path.suffix == ".py" else ():
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    found.append(
                        f"{name}:{node.lineno}: {node.name} has {lines} lines; {FUNCTION_LINES} are "
                        "the most."
                    )
    return found


def strangers(root: Path) -> list[str]:
    """Code at the top level that belongs in a room."""
    tops = {path.relative_to(root).parts[0] for path in code_files(root, "py")}
    return sorted(tops - {"train.py", *PLACE, *USERS})


def undocumented(options: type[Any]) -> list[str]:
    """Fields of a dataclass and of those in it that its `Args:` do not explain."""
    described = (options.__doc__ or "").partition("Args:")[2]
    known = set(re.findall(r"^\s*(\w+): \S", described, re.MULTILINE))
    names = [field.name for field in dataclasses.fields(options)]
    found = [f"{options.__name__}.{name}" for name in names if name not in known]
    for hint in typing.get_type_hints(options).values():
        for kind in (hint, *typing.get_args(hint)):
            if isinstance(kind, type) and dataclasses.is_dataclass(kind):
                found += undocumented(kind)
    return found


def write(root: Path, **texts: str) -> Path:
    """A house of such modules; `__` in a name is a folder."""
    for name, text in texts.items():
        path = root.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_imports_point_one_way() -> None:
    assert wrong_arrows(ROOT) == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("common__files", "import datasets.labels", "common/files.py:1: common imports datasets.labels"),
        ("student__fit", "\nfrom teacher import label", "student/fit.py:2: student imports teacher.label"),
        ("teacher__a__b", "def f():\n    import train", "teacher/a/b.py:2: teacher imports train;"),
        ("pipeline__run", "from tests.conftest import run_cli", "pipeline imports tests.conftest, which"),
        ("evaluation__x", "from pipeline.run import go", "imports pipeline.run; imports go train ->"),
    ],
)  # fmt: skip
def test_a_wrong_arrow_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    house = write(
        tmp_path, **{name: text}, teacher__label="import torch", train="import pipeline.run",
        benchmarks__speed="import train", tests__conftest="from teacher import label",
    )  # fmt: skip
    (found,) = wrong_arrows(house)
    assert message in found


def test_no_modules_import_each_other() -> None:
    assert circle(ROOT) == []


def test_a_circle_is_named(tmp_path: Path) -> None:
    house = write(
        tmp_path, student__a="from student import b", student__b="from student.c import x",
        student__c="from .a import y",
    )  # fmt: skip
    assert set(circle(house)) == {"student.a", "student.b", "student.c"}


def test_files_and_functions_are_short() -> None:
    assert too_long(ROOT) == []


def test_what_is_too_long_is_named(tmp_path: Path) -> None:
    house = write(tmp_path, common__long="def f():\n" + "    x = 1\n" * 60 + "a = 1\n" * 300)
    (house / "page.css").write_text("a {}\n" * 301)
    (house / ".venv").mkdir()
    (house / ".venv/theirs.js").write_text("1;\n" * 999)
    assert sorted(too_long(house)) == [
        "common/long.py has 361 lines; 300 are the most.",
        "common/long.py:1: f has 61 lines; 60 are the most.",
        "page.css has 301 lines; 300 are the most.",
    ]


def test_the_top_level_holds_no_code_but_train() -> None:
    assert strangers(ROOT) == []


def test_code_at_the_top_level_is_named(tmp_path: Path) -> None:
    house = write(tmp_path, train="", teacher__fit="", helpers="", utils__io="", runs__mine="")
    assert strangers(house) == ["helpers.py", "utils"]


@pytest.mark.parametrize(
    "options",
    [Config, *(command.own for command in COMMANDS.values() if command.own)],
)
def test_every_option_is_documented(options: type[Any]) -> None:
    assert undocumented(options) == []


def test_an_option_without_a_sentence_is_named() -> None:
    assert undocumented(_Outer) == ["_Outer.b", "_Inner.c"]


@dataclasses.dataclass
class _Inner:
    """Nothing is said of c."""

    c: int = 3


@dataclasses.dataclass
class _Outer:
    """Two of three.

    Args:
        a: said
        more: by name
    """

    a: int = 1
    b: int = 2
    more: dict[str, _Inner] = dataclasses.field(default_factory=dict)


def imported_with_the_student(root: Path) -> str:
    """What stands in the package's own file: all of its modules load that first."""
    return (root / "student/__init__.py").read_text(encoding="utf-8")


def test_the_student_package_is_empty() -> None:
    """What runs an exported student imports it, and must not load torch by that."""
    assert imported_with_the_student(ROOT) == ""


def test_a_student_package_that_is_not_empty_is_seen(tmp_path: Path) -> None:
    (tmp_path / "student").mkdir()
    (tmp_path / "student/__init__.py").write_text("import torch\n")
    assert imported_with_the_student(tmp_path) != ""
