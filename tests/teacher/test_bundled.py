"""The generator and the annotations that ship with the project."""

import torch

from common.stage_folder import artifact_hash
from datasets.annotations import read_annotated
from datasets.labels import LabelSet
from teacher.fewshot import FewShotCNN, FewShotConfig
from teacher.fit import TeacherStage
from teacher.generators.base import channels_of
from teacher.generators.registry import load_generator
from teacher.generators.sampling import to_uint8
from teacher.predict import Annotated, evaluate_teacher
from teacher.shots import training_features
from tests.conftest import ROOT

ASSETS = ROOT / "assets/faces64"


def test_bundled_samples_are_the_bundled_generators(labels: LabelSet) -> None:
    generator = load_generator(ASSETS / "generator")
    source = artifact_hash(ASSETS / "generator")
    for name, least in (("annotated_train", 3), ("annotated_test", 100)):
        samples, masks = read_annotated(ASSETS / name, labels, source)
        assert len(samples) >= least
        few = samples.take([0, 1, 2])
        image, _ = generator.synthesise(few.latents)
        # Another processor may round another way.
        assert (to_uint8(image).int() - few.images.int()).abs().max() <= 1
        assert masks.unique().tolist() == list(range(8))


def test_three_masks_teach_more_than_chance(labels: LabelSet) -> None:
    """A minute's real training: the teacher must get well on its way."""
    torch.manual_seed(0)
    generator = load_generator(ASSETS / "generator")
    source = artifact_hash(ASSETS / "generator")
    samples, masks = read_annotated(ASSETS / "annotated_train", labels, source)
    tests, truths = read_annotated(ASSETS / "annotated_test", labels, source)
    test = Annotated(tests.take(range(20)), truths[:20])
    config = TeacherStage(fresh_noise=True)
    teacher = FewShotCNN(FewShotConfig(), channels_of(generator), 64, 8)
    before = evaluate_teacher(generator, teacher, test, labels)["miou"]
    optimiser = torch.optim.Adam(teacher.parameters(), 1e-3)
    for _ in range(25):
        logits = teacher(training_features(generator, samples, config)).squeeze(1)
        loss = torch.nn.functional.cross_entropy(logits, masks.long())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    after = evaluate_teacher(generator, teacher, test, labels)["miou"]
    assert before < 0.15
    assert after > 0.25
