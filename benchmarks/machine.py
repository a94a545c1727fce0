"""What a benchmark ran on, for its JSON."""

import platform
from pathlib import Path
from typing import Any

import torch

from common.processors import usable_cores

_KNOWN_FLAGS = {
    "avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimddp",
}  # fmt: skip


def processor() -> dict[str, Any]:
    """Name, cores and instruction sets of the processor.

    `capability` is what PyTorch makes of them; an environment variable may hold it to less.
    """
    told = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = dict(line.split("\t: ", 1) for line in told.splitlines() if "\t: " in line)
    fields = {key.strip(): value for key, value in fields.items()}
    return {
        "name": fields.get("model name", platform.processor() or platform.machine()),
        "cores": usable_cores(),
        "flags": sorted(
            _KNOWN_FLAGS & set(fields.get("flags", fields.get("Features", "")).split())
        ),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def machine(device: str = "cpu") -> dict[str, Any]:
    """The processor or the GPU that computed, and PyTorch's version."""
    gpu = {} if device == "cpu" else {"gpu": torch.cuda.get_device_name()}
    return {"machine": processor() | gpu, "torch": torch.__version__}
