"""Checkpoints of rosinality's stylegan2-pytorch: a dictionary with the state dict `g_ema`."""

from torch import Tensor

from teacher.generators.stylegan2.formats.base import Checkpoint, CheckpointFile, Naming, rename

_NAMING = Naming(
    mapping=lambda i: f"style.{i + 1}.",
    layer=lambda k, r: f"convs.{k - 1}." if k else "conv1.",
    noise=lambda k, r: f"noises.noise_{k}",
    to_rgb=lambda i, r: f"to_rgbs.{i - 1}." if i else "to_rgb1.",
    weight="conv.weight",
    style_weight="conv.modulation.weight",
    style_bias="conv.modulation.bias",
    strength="noise.weight",
    layer_bias="activate.bias",
    rgb_bias="bias",
    constant="input.input",
    w_mean="latent_avg",
    may_lack_noise=True,
)


def claims(file: CheckpointFile) -> bool:
    """Whether torch.save wrote a dictionary that has the moving average `g_ema`."""
    return (
        file.is_torch
        and isinstance(file.content, dict)
        and isinstance(file.content.get("g_ema"), dict)
    )


def read(file: CheckpointFile) -> Checkpoint:
    """Read `g_ema`; `latent_avg` is the mean of w, which files of a training lack."""
    content = file.content
    tensors = {k: v for k, v in content["g_ema"].items() if not k.endswith(".kernel")}
    if isinstance(content.get("latent_avg"), Tensor):
        tensors["latent_avg"] = content["latent_avg"]
    return rename(tensors, _NAMING, "rosinality stylegan2-pytorch")
