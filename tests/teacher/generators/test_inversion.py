"""Inversion with the bundled generator, whose own faces it must find again."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from common.checkpoints import Checkpoints
from common.confusion import confusion_matrix, iou_figures
from common.errors import UserError
from common.stage_folder import StageFolder, artifact_hash
from datasets.annotations import Samples, read_annotated
from datasets.labels import LabelSet
from teacher.fewshot import FewShotConfig, load_teacher
from teacher.fit import TeacherStage, fit_teacher
from teacher.generators.base import FeatureGenerator, noise_names
from teacher.generators.image_distance import FeatureMaps
from teacher.generators.inversion import InversionConfig, invert
from teacher.generators.registry import load_generator
from teacher.generators.sampling import draw, latents_of_seed, latents_of_z
from teacher.predict import predict_samples
from tests.conftest import LABELS, ROOT

BUNDLED = ROOT / "assets/faces64"


@pytest.fixture(scope="module")
def generator() -> FeatureGenerator:
    return load_generator(BUNDLED / "generator")


@pytest.fixture(scope="module")
def faces(generator: FeatureGenerator) -> Samples:
    """Drawn from latents that nobody else knows."""
    z = torch.randn(10, generator.z_size, generator=torch.Generator().manual_seed(3))
    return draw(generator, latents_of_z(generator, z, 0.7), list(range(10)))


def psnr(drawn: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    error = (drawn.clamp(-1, 1) - (images.float() / 127.5 - 1)).square().mean((1, 2, 3)) / 4
    return -10 * error.log10()


def test_it_finds_generated_faces_again(generator: FeatureGenerator, faces: Samples) -> None:
    images = faces.images[:2]
    quick = invert(generator, images, InversionConfig(steps=2))
    found = invert(generator, images, InversionConfig(steps=80))
    assert found.psnr.min() > 24 and (found.psnr > quick.psnr + 3).all()
    samples = found.samples
    again, _ = generator.synthesise(samples.latents)
    assert torch.allclose(psnr(again, images), found.psnr, atol=1e-3)
    assert (
        torch.equal(samples.images, images)
        and samples.latents["w"].shape == quick.samples.latents["w"].shape
    )
    assert (found.drawn.float() - images.float()).abs().mean() < 10
    assert found.sheet().shape[1] > 2 * 64 and found.seconds > 0


def test_the_teacher_sees_nearly_as_much_in_what_it_found(
    generator: FeatureGenerator, tmp_path: Path
) -> None:
    """IoU from found features against IoU from the true ones, by a teacher fitted for a moment."""
    labels = LabelSet.load(LABELS)
    inputs = {
        "generator": BUNDLED / "generator", "annotations": BUNDLED / "annotated_train",
        "labels": LABELS,
    }  # fmt: skip
    stage = TeacherStage(
        FewShotConfig(widths=(32, 16, 16, 16)), epochs=25, lr_decay_epoch=20, learning_rate=3e-3,
        dice_weight=1.0, standardise=True, fresh_noise=True, val_every=25,
    )  # fmt: skip
    folder = StageFolder(tmp_path / "teacher", "teacher", stage, inputs)
    folder.begin()
    folder.finish(fit_teacher(stage, folder))
    teacher = load_teacher(folder.path, generator, labels.names)
    source = artifact_hash(BUNDLED / "generator")
    samples, truth = read_annotated(BUNDLED / "annotated_test", labels, source)
    samples, truth = samples.take(list(range(8))), truth[:8]
    found = invert(generator, samples.images, InversionConfig(steps=120))
    true, inverted = (
        iou_figures(
            confusion_matrix(truth, predict_samples(generator, teacher, s), 8), labels.names
        )
        for s in (samples, found.samples)
    )
    assert true["miou"] > 0.5
    assert inverted["miou"] > 0.9 * true["miou"]


def test_interrupted_it_goes_on_behind_the_finished_images(
    generator: FeatureGenerator, faces: Samples, tmp_path: Path
) -> None:
    config, seen = InversionConfig(steps=3, random_starts=8), Counter[str]()

    def maps(name: str, after: int | None = None) -> FeatureMaps:
        def look(images: torch.Tensor) -> list[torch.Tensor]:
            seen[name] += len(images)
            if after is not None and seen[name] > after:
                raise KeyboardInterrupt
            return [torch.nn.functional.avg_pool2d(images, 4)]

        return look

    whole = invert(generator, faces.images, config, maps("whole"))
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        invert(generator, faces.images, config, maps("cut", seen["whole"] - 3), checkpoints)
    rest = invert(generator, faces.images, config, maps("rest"), checkpoints)
    assert 0 < seen["rest"] < seen["whole"] / 2
    assert torch.equal(rest.samples.latents["w"], whole.samples.latents["w"])
    assert torch.equal(rest.psnr, whole.psnr) and torch.equal(rest.drawn, whole.drawn)
    # Other images are another task.
    other = invert(generator, faces.images.flip(0), config, None, checkpoints)
    assert not torch.equal(other.samples.latents["w"], whole.samples.latents["w"])


def test_it_stops_where_no_step_brings_anything(
    generator: FeatureGenerator, faces: Samples
) -> None:
    steps = Counter[str]()

    def counting(name: str) -> FeatureMaps:
        def look(images: torch.Tensor) -> list[torch.Tensor]:
            steps[name] += 1
            return [images]

        return look

    still = InversionConfig(steps=80, random_starts=4, learning_rate=1e-9, patience=5)
    invert(generator, faces.images[:1], still, counting("still"))
    invert(
        generator, faces.images[:1], InversionConfig(steps=80, random_starts=4), counting("moving")
    )
    assert steps["moving"] == 80 + 1  # and once for the truth
    assert steps["still"] < 40


def test_one_style_for_all_layers(generator: FeatureGenerator, faces: Samples) -> None:
    w = invert(generator, faces.images[:2], InversionConfig(steps=4, space="w")).samples.latents[
        "w"
    ]
    assert w.shape[1] == len(generator.layer_sides) and (w == w[:, :1]).all()


def test_noise_inputs_that_are_looked_for_stay_noise(generator: FeatureGenerator) -> None:
    def noise(samples: Samples) -> list[torch.Tensor]:
        return [samples.latents[name] for name in noise_names(samples.latents)]

    def likeness(samples: Samples) -> float:
        finest = noise(samples)[-1]
        return float((finest * finest.roll(1, 3)).mean().abs())

    other = draw(generator, latents_of_seed(generator, 5, 0.7), [0]).images  # with noise of its own
    found = {
        penalty: invert(
            generator, other,
            InversionConfig(steps=60, noise_learning_rate=0.05, noise_regularisation=penalty),
        )
        for penalty in (0.0, 100.0)
    }  # fmt: skip
    fixed = invert(generator, other, InversionConfig(steps=60))
    # What nothing keeps noise becomes a copy of the image's details.
    assert found[0.0].psnr > fixed.psnr + 1
    for samples in (result.samples for result in found.values()):
        assert not torch.equal(noise(samples)[-1], noise(fixed.samples)[-1])
        assert all(abs(float(n.mean())) < 1e-3 for n in noise(samples))
        assert all(float(n.square().mean()) == pytest.approx(1, abs=1e-3) for n in noise(samples))
    assert likeness(found[100.0].samples) < 0.5 * likeness(found[0.0].samples)


def test_a_loss_that_is_not_finite_stops_it_and_names_the_step(
    generator: FeatureGenerator, faces: Samples
) -> None:
    with pytest.raises(
        UserError, match=r"inversion's loss is (inf|nan) at step \d+; lower inversion"
    ):
        invert(generator, faces.images[:2], InversionConfig(steps=20, learning_rate=1e30))
