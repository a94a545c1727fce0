"""The whole way through the Python API: three annotated samples in, the mask of an image out.

    python -m examples.distill runs/example

A stage is a function of its options and of an open folder that names its inputs. The demo calls the same
functions with more epochs, samples and steps. This takes about a minute on two CPU cores. The mask is
written to runs/example/mask.png.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.stage_folder import Result, StageFolder
from student.base import NetworkConfig
from student.export.stage import ExportJob, ExportStage, export_student
from student.fit import fit_student
from student.predict.segmenter import Segmenter
from student.recipe import StudentStage, StudentTraining
from teacher.fit import TeacherStage, fit_teacher
from teacher.label import label_samples
from teacher.labeller import LabelStage

FACES = Path("assets/faces64")
LABELS = Path("configs/labels/face8.yaml")


def run(
    stage: Callable[[Any, StageFolder], Result], config: Any, path: Path, **inputs: Path
) -> Path:
    """Run a stage, unless its folder is finished already; gives the folder."""
    folder = StageFolder(path, path.name, config, {"labels": LABELS, **inputs})
    if not folder.is_done():
        folder.begin()
        folder.finish(stage(config, folder))
    return path


def main(out: Path) -> None:
    """From annotated samples of the bundled generator to a segmented image."""
    generator, annotations = FACES / "generator", FACES / "annotated_train"

    # The teacher learns masks from the generator's feature maps of three annotated samples.
    recipe = TeacherStage(epochs=20, learning_rate=0.003, lr_decay_epoch=15, standardise=True)
    inputs = {"generator": generator, "annotations": annotations}
    teacher = run(fit_teacher, recipe, out / "teacher", **inputs)

    # It labels fresh samples.
    samples = LabelStage(count=240, shard_size=120)
    labelled = run(label_samples, samples, out / "label", generator=generator, teacher=teacher)

    # The student learns from these to segment images.
    short = StudentStage(
        NetworkConfig("regnetx_002", decoder_width=24), steps=150, batch_size=8,
        learning_rate=0.005, warmup_steps=10, ema_decay=0.9, val_images=40, val_every=50, workers=0,
    )  # fmt: skip
    student = run(fit_student, StudentTraining(short), out / "student", pseudo_labels=labelled)

    # Exported, it needs neither PyTorch nor the generator.
    job = ExportJob(ExportStage(int8=False))
    exported = run(export_student, job, out / "export", student=student, pseudo_labels=labelled)
    segmenter = Segmenter(exported / "student")
    image = np.asarray(Image.open(FACES / "annotated_test/images/0000.png").convert("RGB"))
    mask = segmenter(image[None])[0]
    segmenter.as_png(mask).save(out / "mask.png")
    for name, share in segmenter.areas(mask)["shares"].items():
        print(f"{name}: {share:.1%}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
