"""The ensemble that learns from strokes."""

import numpy as np
import pytest
import torch
from torch import Tensor

import teacher.stroke_learner
from datasets.labels import Mask
from teacher.packing import at_pixels
from teacher.stroke_learner import StrokeLearner, together

NOTHING, SIDE, CHANNELS = 255, 16, [6, 6, 4]


def sample(seed: int) -> tuple[list[Tensor], Mask]:
    """Features, and a mask of two classes that one channel of the largest map tells apart."""
    state = torch.Generator().manual_seed(seed)
    pack = [
        torch.randn(1, c, side, side, generator=state)
        for c, side in zip(CHANNELS, (4, 8, 16), strict=True)
    ]
    return pack, (pack[2][0, 1] > 0).numpy().astype(np.uint8)


def speckles() -> Tensor:
    """An image without two like pixels side by side, along which nothing is smoothed."""
    state = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, SIDE, SIDE), generator=state).to(torch.uint8)


def few_pixels(mask: Mask, seed: int, count: int = 30) -> Mask:
    known = np.full_like(mask, NOTHING)
    chosen = np.random.default_rng(seed).choice(mask.size, count, replace=False)
    known.flat[chosen] = mask.flat[chosen]
    return known


def learner(classes: int = 3, side: int = SIDE) -> StrokeLearner:
    return StrokeLearner(CHANNELS, classes, side, NOTHING, seed=1)


def taught(steps: int = 300, unlabelled: int = 0) -> StrokeLearner:
    student = learner()
    for seed in range(4):
        pack, mask = sample(seed)
        student.see(seed, pack, few_pixels(mask, seed))
    for seed in range(10, 10 + unlabelled):
        student.offer(sample(seed)[0])
    student.learn(steps)
    return student


def test_a_map_and_its_pixels_get_the_same_answer() -> None:
    network, pack = taught().network, sample(9)[0]
    columns = at_pixels(pack, torch.arange(SIDE * SIDE), SIDE)
    with torch.no_grad():
        assert torch.allclose(network.of_pixels(columns), network.of_maps(pack, SIDE), atol=1e-4)


@pytest.mark.parametrize("unlabelled", [0, 6])
def test_a_few_pixels_are_enough_for_the_others(unlabelled: int) -> None:
    student = taught(unlabelled=unlabelled)
    pack, mask = sample(20)
    answer = student.answer(pack, speckles())
    assert (answer.classes == mask).mean() > 0.9
    # The class that nobody drew is not found, and doubt lies where the answer is wrong.
    assert set(np.unique(answer.classes)) == {0, 1}
    wrong = answer.classes != mask
    assert answer.doubt[wrong].mean() > 2 * answer.doubt[~wrong].mean()
    assert answer.doubt.dtype == np.uint8 and answer.doubt.max() > 20


def test_an_answer_goes_along_the_edges_of_the_image() -> None:
    student, pack = taught(), sample(20)[0]
    plain = torch.full((3, SIDE, SIDE), 128, dtype=torch.uint8)
    as_it_is, blurred = (student.answer(pack, image).classes for image in (speckles(), plain))
    borders = [int((np.diff(classes.astype(int)) != 0).sum()) for classes in (as_it_is, blurred)]
    assert borders[1] < 0.7 * borders[0]


def test_the_same_strokes_make_the_same_answers() -> None:
    pack, _ = sample(20)
    first, second = (taught(50, unlabelled=3).answer(pack, speckles()) for _ in range(2))
    assert (first.classes == second.classes).all() and (first.doubt == second.doubt).all()


def test_of_a_whole_mask_some_pixels_of_each_class_are_learned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(teacher.stroke_learner, "_MOST", 20)
    student = learner()
    for seed in range(4):
        student.see(seed, *sample(seed))
    classes = student._all_seen().classes
    assert torch.bincount(classes).tolist() == [80, 80]
    student.learn(300)
    pack, mask = sample(20)
    assert (student.answer(pack, speckles()).classes == mask).mean() > 0.9


def test_what_is_erased_is_forgotten() -> None:
    student = learner()
    pack, mask = sample(0)
    student.see(0, pack, few_pixels(mask, 0))
    assert not student.knows_nothing
    student.see(0, pack, np.full_like(mask, NOTHING))
    assert student.knows_nothing


def test_a_large_image_is_answered_at_full_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher.stroke_learner, "_LARGEST_ANSWER", 8)
    student = taught()
    answer = student.answer(sample(3)[0], speckles())
    assert answer.classes.shape == answer.doubt.shape == (SIDE, SIDE)
    assert together(student.members(sample(3)[0]), speckles()).shape == (1, 3, SIDE, SIDE)
