"""Several processes that train as one: what is summed over a batch is summed over all of it.

Gradients are averaged by accelerate. But the statistics of batch normalisation, and losses that divide
by what a batch holds, depend on the batch as a whole; taken per process, a run would change with their
number.
"""

from typing import Any

import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn


class _Sum(torch.autograd.Function):
    """Sum over all processes; since every process's loss depends on it, so is its gradient."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(context, gradient)


def total(x: Tensor) -> Tensor:
    """Sum over all processes, with gradients; of a single one, the tensor itself."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return x
    return _Sum.apply(x)  # type: ignore[no-any-return]


def _normalise(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Batch normalisation of x [B, C, H, W] by the statistics of all processes' batches."""
    assert norm.running_mean is not None and norm.running_var is not None
    assert norm.num_batches_tracked is not None and norm.momentum is not None
    wide = x.float()
    count = wide.new_full((x.shape[1],), x.numel() / x.shape[1])
    count, first, second = total(
        torch.stack([count, wide.sum((0, 2, 3)), wide.square().sum((0, 2, 3))])
    )
    mean = first / count
    variance = (second / count - mean.square()).clamp_min(0)
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    shift = norm.bias - mean * scale
    return (wide * scale[:, None, None] + shift[:, None, None]).to(x.dtype)


class _SharedNorm(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return _normalise(self, x) if self.training else super().forward(x)


class _SharedNormAct(BatchNormAct2d):  # type: ignore[misc]
    """timm's normalisation with an activation behind it."""

    def forward(self, x: Tensor) -> Any:
        return self.act(self.drop(_normalise(self, x))) if self.training else super().forward(x)


def sees_whole_batch(norm: nn.Module, device: torch.device) -> bool:
    """Whether `share_batch_norm` lets, or has let, a batch normalisation see all processes' batches."""
    kinds = (nn.BatchNorm2d, BatchNormAct2d, _SharedNorm, _SharedNormAct)
    return device.type == "cuda" or type(norm) in kinds


def share_batch_norm(network: nn.Module, device: torch.device) -> None:
    """Let batch normalisation see the whole batch, where there are several processes.

    Weights and their names stay. On GPUs PyTorch's own kernels do it; it has none for other devices.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    if device.type == "cuda":
        convert_sync_batchnorm(network)
        return
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = _SharedNorm
        elif type(module) is BatchNormAct2d:
            module.__class__ = _SharedNormAct
