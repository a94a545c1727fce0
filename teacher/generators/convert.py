"""The subcommand `convert`: a generator checkpoint of another system, as a folder of ours."""

from dataclasses import dataclass
from pathlib import Path

from common.stage_folder import StageFolder
from teacher.generators.stylegan2.files import of_class, write_converted
from teacher.generators.stylegan2.formats import read_checkpoint


@dataclass(frozen=True)
class ConvertOptions:
    """Options of the subcommand `convert`.

    Args:
        checkpoint: a StyleGAN2 generator: NVIDIA's .pkl (PyTorch or TensorFlow), rosinality's .pt, a file
            of pSp or e4e, or a state dict of these.
        out: folder for it.
        class_number: class that the folder's generator draws, of a conditional one; none for all of them,
            to be chosen when samples are drawn. Short: --class.
    """

    checkpoint: Path
    out: Path
    class_number: int | None = None


def convert(options: ConvertOptions) -> None:
    """Turn a checkpoint of another system into a generator folder of ours.

    Raises:
        UserError: the checkpoint is refused; nothing is written then.
    """
    folder = StageFolder(
        options.out,
        "convert",
        {} if options.class_number is None else {"class": options.class_number},
        {"checkpoint": options.checkpoint},
        remedy="choose another --out",
    )
    if folder.is_done():
        print(f"convert: done already in {options.out}, nothing to do")
        return
    checkpoint = of_class(read_checkpoint(options.checkpoint), options.class_number)
    folder.begin()
    folder.finish(write_converted(checkpoint, folder))
    chosen = "--class 0 " if checkpoint.config.classes and options.class_number is None else ""
    psi = "0.7" if checkpoint.config.mean_known else "1"
    print(
        f"The generator is in {options.out}. Look at what it draws with\n"
        f"  python train.py sample --generator {options.out} --seeds 0-15 {chosen}"
        f"--truncation {psi} --out DIR"
    )
