"""JSON of ours, which people's tools may have damaged."""

import json
from pathlib import Path

import pytest

from common.errors import UserError
from common.files import read_fields, read_json, write_json
from common.options import read_options
from common.stage_folder import artifact_hash
from student.base import NetworkConfig
from teacher.fewshot import FewShotConfig
from tests.mutations import check


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.json").write_bytes('{"a": "шум"}'.encode(encoding))
    assert read_json(tmp_path / "a.json") == {"a": "шум"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not valid JSON"),
        ('{"a": "шум"}'.encode("cp1251"), "is in another encoding than UTF-8"),
        (b"[" * 200_000, "is nested without end"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not valid JSON (Exceeds the limit"),
        (b"[1]", "is no mapping of names to values"),
        (b'"text"', "is no mapping of names to values"),
        (b'{"b": 1}', "has no a, or one that is no int"),
        (b'{"a": "1"}', "has no a, or one that is no int"),
        (b'{"a": true}', "has no a, or one that is no int"),
        (b'{"a": NaN}', "has no a, or one that is no int"),
        (b'{"a": null}', "has no a, or one that is no int"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as refused:
        read_fields(path, {"a": int})
    assert str(refused.value).startswith(str(path)) and message in str(refused.value)
    assert str(refused.value).endswith(".") and len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "values",
    [
        {"widths": 3}, {"widths": ["a"]}, {"widths": [True]}, {"negative_slope": float("nan")},
        {"upsampling": "x"}, {"upsampling": []}, {"members": 1.5}, {"other": 1}, {"feature_maps": [1]},
    ],
)  # fmt: skip
def test_options_of_other_types_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(
        UserError, match=f"f.json has no {next(iter(values))} that is used here; again"
    ):
        read_options(FewShotConfig, values, "f.json", "again")


def test_options_come_back_as_they_were(tmp_path: Path) -> None:
    config = FewShotConfig(
        widths=(8, 4), dilations=(1, 2, 1), feature_maps=("a",), negative_slope=0
    )
    write_json(tmp_path / "f.json", vars(config))
    assert read_options(FewShotConfig, read_json(tmp_path / "f.json"), "f.json", "again") == config
    network = NetworkConfig("resnet18", levels=3)
    assert read_options(NetworkConfig, vars(network), "f.json", "again") == network


def test_a_folder_of_people_may_have_a_config_of_its_own(tmp_path: Path) -> None:
    for content in ("5", "[]", '{"a": 1}'):
        (tmp_path / "config.json").write_text(content)
        assert len(artifact_hash(tmp_path)) == 64


@pytest.mark.parametrize("name", ["manifest.json", "config.json"])
def test_mutated_stage_folders(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.bin").write_bytes(b"1")
    about = {"stage": "student", "config": {"recipe": {"steps": 3}}, "inputs": {"labels": "ab"}}
    manifest = {**about, "figures": {"miou": 0.5}, "files": {"x.bin": "abcd"}, "seconds": 1.5}
    (tmp_path / "config.json").write_text(json.dumps(about, indent=2))
    (tmp_path / "manifest.json").write_text(json.dumps(manifest, indent=2))
    refused = check(
        tmp_path / name, lambda _: artifact_hash(tmp_path), lambda found: len(found) == 64
    )
    assert refused > 100
