"""The subcommand `convert`: a generator checkpoint of another system, as a folder of ours."""

from dataclasses import dataclass
from pathlib import Path

from common.stage_folder import StageFolder
from teacher.generators.stylegan2.files import convert_checkpoint


@dataclass(frozen=True)
class ConvertOptions:
    """Options of the subcommand `convert`.

    Args:
        checkpoint: a StyleGAN2 generator: NVIDIA's .pkl (PyTorch or TensorFlow) or rosinality's .pt.
        out: folder for it.
    """

    checkpoint: Path
    out: Path


def convert(options: ConvertOptions) -> None:
    """Turn a checkpoint of another system into a generator folder of ours."""
    folder = StageFolder(
        options.out,
        "convert",
        {},
        {"checkpoint": options.checkpoint},
        remedy="choose another --out",
    )
    if folder.is_done():
        print(f"convert: done already in {options.out}, nothing to do")
        return
    folder.begin()
    folder.finish(convert_checkpoint(folder))
    print(
        f"The generator is in {options.out}. Look at what it draws with\n"
        f"  python train.py sample --generator {options.out} --seeds 0-15 --truncation 0.7 --out DIR"
    )
