"""State dicts of NVIDIA's PyTorch generators, saved by torch.save: tensors, and no settings beside them."""

from teacher.generators.stylegan2.formats.base import Checkpoint, CheckpointFile, Settings, rename
from teacher.generators.stylegan2.formats.nvidia_pytorch import NAMING, filters_of
from teacher.generators.stylegan2.formats.refusal import Refusal
from teacher.generators.stylegan2.formats.state_dicts import find_state

_CONSTANT = "synthesis.b4.const"


def claims(file: CheckpointFile) -> bool:
    """Whether a state dict in it has NVIDIA's names."""
    return find_state(file.content, _CONSTANT) is not None


def read(file: CheckpointFile) -> Checkpoint:
    """Read the generator, with NVIDIA's usual activation, gains and limits.

    Raises:
        Refusal: its blocks have no skips to RGB, or its low-pass filters differ.
    """
    found = find_state(file.content, _CONSTANT)
    assert found is not None
    tensors = dict(found.tensors)
    if any(name.endswith(".skip.weight") for name in tensors):
        raise Refusal(
            "its generator has the architecture resnet; read is skip, where every resolution adds to the "
            "image"
        )
    if "synthesis.b4.torgb.weight" not in tensors:
        raise Refusal(
            "its generator has the architecture orig; read is skip, where every resolution adds to the "
            "image"
        )
    kept = {name: t for name, t in tensors.items() if not name.endswith("resample_filter")}
    of_layers, of_images = filters_of(tensors)
    settings = Settings(
        filter=of_layers,
        image_filter=of_images,
        noise=any(name.endswith("noise_strength") for name in tensors),
        mean_known=NAMING.w_mean in tensors,
        notes=[
            *found.notes,
            "it holds tensors alone: leaky ReLU, no limit of activations, and a learning-rate multiplier "
            "of 0.01 in the mapping network are assumed",
        ],
    )
    return rename(kept, NAMING, "NVIDIA PyTorch, a state dict", settings)
