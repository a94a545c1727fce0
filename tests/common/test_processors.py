"""Threads follow from the cores that a process may run on, in processes of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from common import processors

ROOT = Path(__file__).resolve().parents[2]
TELL = (
    "import torch; from common.processors import usable_cores, use_threads; "
    "said = use_threads({processes}); print(usable_cores(), torch.get_num_threads(), said, sep='|')"
)


def threads(*command: str, processes: int = 1, omp: str = "") -> tuple[int, int, str]:
    """Cores, threads and the sentence in a new process."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": omp} if omp else {}
    done = subprocess.run(
        [*command, sys.executable, "-c", TELL.format(processes=processes)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    cores, count, said = done.stdout.strip().split("|")
    return int(cores), int(count), said


def test_threads_are_as_many_as_the_cores_at_hand() -> None:
    cores, count, said = threads()
    assert (count, said) == (cores, "")


def test_processes_of_a_run_share_the_cores() -> None:
    cores, count, _ = threads(processes=2)
    assert count == max(1, cores // 2)
    assert threads(processes=1000)[1] == 1


@pytest.mark.skipif(not shutil.which("taskset"), reason="there is no taskset")
def test_a_process_bound_to_a_core_uses_one_thread() -> None:
    core = str(min(os.sched_getaffinity(0)))
    assert threads("taskset", "--cpu-list", core) == (1, 1, "")


def test_omp_num_threads_lowers_the_number_and_says_so() -> None:
    cores, count, said = threads(omp="1")
    assert count == 1
    assert bool(said) == (cores > 1)


def test_omp_num_threads_does_not_oversubscribe() -> None:
    cores, count, said = threads(omp="1000")
    assert count == cores
    assert "OMP_NUM_THREADS asks for 1000 threads" in said


@pytest.mark.parametrize(
    ("text", "cores"), [("150000 100000", 1.5), ("max 100000", None), ("", None)]
)
def test_a_containers_quota_counts(
    text: str, cores: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text(text)
    monkeypatch.setattr(processors, "_QUOTA", quota)
    assert processors._cgroup_cores() == cores
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*range(8)})
    monkeypatch.setattr(processors, "_TOPOLOGY", tmp_path)
    assert processors.usable_cores() == (2 if cores else 8)


def test_hyperthreads_of_a_core_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        (tmp_path / f"cpu{number}/topology").mkdir(parents=True)
        (tmp_path / f"cpu{number}/topology/thread_siblings_list").write_text(
            f"{number % 2},{number % 2 + 2}\n"
        )
    monkeypatch.setattr(processors, "_TOPOLOGY", tmp_path)
    monkeypatch.setattr(processors, "_QUOTA", tmp_path / "absent")
    monkeypatch.setattr(processors, "_QUOTA_1", tmp_path)
    for numbers, cores in (({0, 1, 2, 3}, 2), ({0, 2}, 1), ({0, 1}, 2), ({3}, 1)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, numbers=numbers: numbers)
        assert processors.usable_cores() == cores


def test_an_older_containers_quota_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpu.cfs_quota_us").write_text("300000\n")
    (tmp_path / "cpu.cfs_period_us").write_text("100000\n")
    monkeypatch.setattr(processors, "_QUOTA", tmp_path / "absent")
    monkeypatch.setattr(processors, "_QUOTA_1", tmp_path)
    assert processors._cgroup_cores() == 3


@pytest.mark.parametrize(("able", "precision"), [(True, "bf16"), (False, "no")])
def test_a_gpu_computes_in_bf16_only_where_it_need_not_emulate_it(
    able: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return able or including_emulation  # an older GPU emulates

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert processors.native_precision(torch.device("cuda")) == precision


@pytest.mark.parametrize(
    ("instructions", "precision"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx512_f": True}, "no")],
)
def test_a_processor_computes_in_bf16_only_with_the_instructions(
    instructions: dict[str, bool], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    assert processors.native_precision(torch.device("cpu")) == precision
