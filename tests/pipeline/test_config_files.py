"""Config files as people and their editors leave them: read, or refused in one sentence."""

import codecs
from pathlib import Path

import pytest

from common.errors import UserError
from pipeline.config_files import read_config_files
from tests.conftest import ROOT, Completed, command_line, run_cli, run_process
from tests.mutations import check
from train import build_parser

BOMB = "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"b{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)
MERGES = "a: &a0 {k: 1}\n" + "".join(
    f"b{i}: &a{i}\n  <<: [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)


def dry_run(config: Path, *arguments: object) -> Completed:
    return run_cli("student", "--dry-run", "--config", config, *arguments)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"student: [a\n b: c", "is no valid YAML (line 2, column 3: "),
        (b"student:\n\tsteps: 3\n", "is no valid YAML (line 2, column 1: found character"),
        (b"student: {steps: 3}\n---\nrun: {}\n", "another document"),
        (b"student:\0\n  steps: 3\n", "special characters are not allowed"),
        (b"student:\n  steps: \x1b[31m3\n", "special characters are not allowed"),
        ("run: {dir: 中}\n".encode("gbk"), "another encoding than UTF-8 (byte 0xd6 in line 1)"),
        ("run: {dir: шум}\n".encode("cp1251"), "another encoding than UTF-8"),
        (b"", "holds no options"),
        (b"# nothing\n", "holds no options"),
        (b"- a\n- b\n", "is a list where a mapping of options belongs"),
        (b"hello", "is text where a mapping of options belongs"),
        (b"student:\n", "student has no options below it"),
        (b"student: steps\n", "student is text where a mapping of its options belongs"),
        (b"student: other.yaml\n", "student is text where a mapping of its options belongs"),
        (b"config: other.yaml\n", "config cannot name another file"),
        (b"1: 2\n", "the key 1 is no name of an option"),
        (b"student:\n  steps: 3\n  steps: 4\n", "has the key steps twice, again in line 3"),
        (b"student.steps: 3\nstudent: {steps: 4}\n", "gives student.steps twice"),
        (BOMB.encode(), "holds more than 100,000 values"),
        (MERGES.encode(), "holds more than 100,000 values"),
        (b"student: &a\n  network: *a\n", "contains itself in line "),
        (b"[" * 100_000, "is nested deeper than 64 levels"),
        (b"a: " + b"{a: " * 80 + b"}" * 80, "is nested deeper than 64 levels"),
        (b"#" * (1 << 21), "is larger than 1,048,576 characters"),
        (b"student: !!python/object/apply:os.system [echo]\n", "could not determine a constructor"),
        (b"sources: {test_sets: {a: {class_path: os.x}}}\n", "no option sources.test_sets.a.class_path"),
        (b"student: {steps: " + b"9" * 5000 + b"}\n", "holds a value that is no YAML"),
        (b"student: {steps: abc}\n", "student.steps needs a whole number, and is abc"),
        (b"student: {steps: 1e400}\n", "student.steps needs a whole number, and is inf"),
        (b"student: {precision: no}\n", "auto, no, bf16, fp16, and is False; write no and yes in quotes"),
        (b"student: {stepz: 3}\n", "there is no option student.stepz; is student.steps meant"),
    ],
)  # fmt: skip
def test_what_is_no_config_is_refused_in_one_sentence_that_names_the_file(
    tmp_path: Path, content: bytes, message: str
) -> None:
    config = tmp_path / "c.yaml"
    config.write_bytes(content)
    made = dry_run(config)
    assert made.returncode == 2
    assert made.stderr.startswith(f"error: {config}")
    assert message in made.stderr
    assert made.stderr.count("\n") == 1 and made.stderr.endswith(".\n")
    assert made.stdout == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("student: {steps: null}", "student.steps is null; give it a value"),
        ("student: {network: null}", "student.network is null"),
        ("run: {dir: }", "run.dir is null"),
        (
            "student: {learning_rate: .nan}",
            "student.learning_rate is nan; it needs a finite number",
        ),
        ("student: {learning_rate: 1e400}", "student.learning_rate is inf"),
        ("teacher: {network: {negative_slope: -.inf}}", "teacher.network.negative_slope is -inf"),
        ("student: {seed: 99999999999999999999}", "student.seed has more than 19 digits"),
    ],
)
def test_values_that_no_option_means_are_refused(
    tmp_path: Path, content: str, message: str
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(content)
    made = dry_run(config)
    assert made.returncode == 2 and message in made.stderr and made.stderr.count("\n") == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_editors_write(tmp_path: Path, encoding: str) -> None:
    config = tmp_path / "c.yaml"
    config.write_bytes(
        "run: {dir: шум}\nstudent: {steps: 7, learning_rate: 1e-3}\n".encode(encoding)
    )
    made = dry_run(config)
    assert made.returncode == 0, made.stderr
    assert '"steps": 7' in made.stdout and "writes шум/student" in made.stdout
    assert '"learning_rate": 0.001' in made.stdout


def test_files_that_say_the_same_in_other_ways(tmp_path: Path) -> None:
    """Anchors, a merge, dotted names, a document's beginning, Windows' line ends, two files."""
    plain, other = tmp_path / "a.yaml", tmp_path / "b.yaml"
    plain.write_text("teacher: {epochs: 5}\nstudent: {steps: 7, batch_size: 4}\n")
    wanted = dry_run(plain)
    assert wanted.returncode == 0, wanted.stderr
    for text in (
        "---\r\nteacher: {epochs: 5}\r\nstudent.steps: 7\r\nstudent.batch_size: 4\r\n",
        "teacher: {epochs: &n 5}\nstudent:\n  <<: [{steps: 9, batch_size: 4}]\n  steps: 7\n",
    ):
        other.write_bytes(text.encode())
        assert dry_run(other).stdout == wanted.stdout, dry_run(other).stderr
    other.write_text("student: {batch_size: 4}\n")
    plain.write_text("teacher: {epochs: 5}\nstudent: {steps: 7, batch_size: 8}\n")
    assert dry_run(plain, f"--config={other}").stdout == wanted.stdout


def test_files_that_are_none(tmp_path: Path) -> None:
    assert "c.yaml cannot be read (No such file" in dry_run(tmp_path / "c.yaml").stderr
    assert "cannot be read (Is a directory)" in dry_run(tmp_path).stderr
    assert "expected one argument" in run_cli("student", "--config").stderr
    (tmp_path / "student.yaml").write_text("steps: 3\n")
    made = run_cli("student", "--dry-run", "--student", tmp_path / "student.yaml")
    assert made.returncode == 2 and "name files with --config" in made.stderr
    made = run_cli("student", "--dry-run", "--student.network={levels: 3}")
    assert made.returncode == 0 and '"levels": 3' in made.stdout


def test_a_damaged_config_in_a_process(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_bytes(codecs.BOM_UTF8 + b"student: {steps: [\n")
    made = run_process(command_line("student", "--config", config))
    assert made.returncode == 2 and made.stdout == ""
    assert made.stderr.startswith(f"error: {config} is no valid YAML (line 2, column 1: ")
    assert made.stderr.count("\n") == 1


def test_mutated_configs(tmp_path: Path) -> None:
    """Some hundreds are read as far as the options' values, and a part of them to the end."""
    config = tmp_path / "c.yaml"
    config.write_bytes((ROOT / "configs/demo.yaml").read_bytes())
    refused = check(
        config,
        lambda path: read_config_files(["student", "--config", str(path)]),
        lambda found: found[0] == "student" and found[1].startswith("--config="),
    )
    assert refused > 50

    def plan(path: Path) -> str:
        made = dry_run(path)
        if made.returncode:
            assert made.returncode == 2 and made.stdout == "" and made.stderr.count("\n") == 1
            raise UserError(made.stderr.removeprefix("error: ").strip())
        return made.stdout

    assert build_parser("student").parse_args(["student", "--config", str(config)])
    assert check(config, plan, lambda found: "student: reads" in found, seed=1, times=100) > 30
