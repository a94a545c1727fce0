"""Several machines: processes that know nothing of each other but an address and a disk."""

import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from common.files import read_json
from tests.conftest import ROOT, Chain, environment


def on_two_machines(
    *arguments: object, run_dirs: Sequence[Path], script: str | Path = "train.py"
) -> list[tuple[int, str]]:
    """Two launchers with the config for several machines, as on two hosts; exit codes and output."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    machines = [
        subprocess.Popen(
            [
                sys.executable, "-m", "accelerate.commands.launch",
                "--config_file", "configs/accelerate/machines.yaml", "--num_processes", "2",
                "--machine_rank", str(rank), "--main_process_ip", "127.0.0.1",
                "--main_process_port", str(port), str(script), *map(str, arguments),
                "--run.dir", str(run_dir),
            ],
            cwd=ROOT, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for rank, run_dir in enumerate(run_dirs)
    ]  # fmt: skip
    said = [machine.communicate(timeout=240)[0] for machine in machines]
    return [(machine.returncode, text) for machine, text in zip(machines, said, strict=True)]


def test_two_machines_meet_and_share_the_work(chain: Chain, tmp_path: Path) -> None:
    """On two hosts that see one disk."""
    made = on_two_machines(
        "student", "--config", chain.config, "--student.source", "faces", "--student.faces", 40,
        run_dirs=[tmp_path, tmp_path],
    )  # fmt: skip
    assert [code for code, _ in made] == [0, 0], made
    assert read_json(tmp_path / "student/manifest.json")["processes"] == 2
    assert all("student: finished" in text and "Warning" not in text for _, text in made), made


IMPATIENT = """
import sys
sys.path.insert(0, ".")
import common.stage_folder
from train import main
common.stage_folder._PATIENCE = 2  # network storage is given longer
sys.exit(main())
"""


def test_machines_that_share_no_disk_are_told_so(chain: Chain, tmp_path: Path) -> None:
    (tmp_path / "impatient.py").write_text(IMPATIENT)
    (_, _), (code, said) = on_two_machines(
        "student", "--config", chain.config, "--student.source", "faces", "--student.faces", 40,
        run_dirs=[tmp_path / "here", tmp_path / "there"], script=tmp_path / "impatient.py",
    )  # fmt: skip
    assert code != 0
    assert re.search(r"process 1 cannot see \S+/there/student: with several machines", said)
    assert not (tmp_path / "here/student/manifest.json").exists()
