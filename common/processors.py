"""What the machine is good at: the cores that this process may run on, and bf16 or not."""

import os
from math import ceil
from pathlib import Path
from typing import Literal

import torch

_TOPOLOGY = Path("/sys/devices/system/cpu")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # version 2
_QUOTA_1 = Path("/sys/fs/cgroup/cpu")  # version 1


def usable_cores() -> int:
    """Cores that this process may run on: of its affinity (taskset), and of its container's quota.

    Two hyperthreads of a core count once: they share what computes.
    """
    try:
        cores = len({_siblings(number) for number in os.sched_getaffinity(0)})
    except AttributeError:  # not on Linux
        cores = os.cpu_count() or 1
    share = _cgroup_cores()
    return cores if share is None else max(1, min(cores, ceil(share)))


def _siblings(number: int) -> str:
    """The numbers of a core's hyperthreads, by the number of one of them."""
    try:
        return (_TOPOLOGY / f"cpu{number}/topology/thread_siblings_list").read_text()
    except OSError:  # not shown in every container
        return str(number)


def _cgroup_cores() -> float | None:
    """Cores' worth of time that a container gives, if it limits that."""
    try:
        if _QUOTA.exists():
            quota, period = _QUOTA.read_text().split()
        else:
            quota = (_QUOTA_1 / "cpu.cfs_quota_us").read_text()
            period = (_QUOTA_1 / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):  # no control group, or "max"
        return None


def use_threads(processes: int) -> str:
    """Have PyTorch use as many threads as this process has cores.

    Args:
        processes: of this run on this machine, which share the cores.

    Returns:
        A sentence where the variable OMP_NUM_THREADS asks for another number, otherwise nothing. A smaller
        one is used, as a launcher or a person may want it; a larger one would have threads wait for cores.
    """
    cores = usable_cores()
    share = max(1, cores // processes)
    asked = os.environ.get("OMP_NUM_THREADS", "")
    wanted = int(asked) if asked.isdigit() and int(asked) else share
    torch.set_num_threads(min(wanted, share))
    if wanted > share:
        return (
            f"OMP_NUM_THREADS asks for {wanted} threads, but each process has {share} of {cores} cores: "
            f"it uses {share}"
        )
    if wanted < share:
        return f"OMP_NUM_THREADS lets each process use {wanted} of the {share} cores that it has"
    return ""


def native_precision(device: torch.device) -> Literal["no", "bf16"]:
    """bf16 where a device computes in it; 32-bit floats, `no`, where it would have to emulate it."""
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        instructions = torch.cpu.get_capabilities()
        able = bool(instructions.get("avx512_bf16") or instructions.get("amx_bf16"))
    return "bf16" if able else "no"
