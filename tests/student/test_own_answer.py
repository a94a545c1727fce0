"""Labels joined with the average's own answer, and images without masks, which it labels alone."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from common.errors import UserError
from datasets.faces import RenderedFaces
from datasets.pseudo_labels import Labelled
from datasets.transforms import Augmentation, Augmented, Sample
from student.data import joined, split
from student.own_answer import mixed, open_unlabelled, with_own_answer
from student.recipe import OwnAnswer, StudentStage
from tests.conftest import SIZE

RENDERED = StudentStage(own_answer=OwnAnswer(unlabelled="rendered", unlabelled_faces=8))
IGNORE = 255


def item(top_k: int = 1) -> Labelled:
    mask = torch.zeros(SIZE, SIZE, dtype=torch.uint8)
    image = torch.zeros(3, SIZE, SIZE, dtype=torch.uint8)
    return Labelled(image, mask, mask, mask.expand(2 * (top_k - 1), SIZE, SIZE))


def pixels(masks: list[int], confidence: list[float], runners_up: list[list[int]]) -> Sample:
    """A batch of one image, a row of pixels."""
    image = torch.zeros(1, 3, 1, len(masks), dtype=torch.uint8)
    others = torch.tensor(runners_up, dtype=torch.uint8).view(1, len(runners_up), 1, len(masks))
    return Sample(
        image, torch.tensor(masks).view(1, 1, -1), torch.tensor(confidence).view(1, 1, -1), others,
        torch.tensor([7]), image, torch.arange(len(masks)).view(1, 1, -1),
    )  # fmt: skip


def test_images_come_without_their_masks() -> None:
    images = open_unlabelled(RENDERED, item(3), IGNORE, None, Path())
    assert images is not None and len(images) == 8
    assert torch.equal(images[5].image, RenderedFaces(0, 8, SIZE)[5][0])
    assert images[5].mask.unique().tolist() == [IGNORE]
    assert images[5].confidence.unique().tolist() == [0]
    assert images[5].runners_up.shape == (4, SIZE, SIZE)
    assert open_unlabelled(StudentStage(), item(), IGNORE, None, Path()) is None


def test_photographs_are_cropped_and_read(tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i in range(3):
        Image.new("RGB", (40, 30), (50 * i, 0, 0)).save(folder / f"{i}.png")
    recipe = StudentStage(own_answer=OwnAnswer(unlabelled="photographs"))
    images = open_unlabelled(recipe, item(), IGNORE, folder, tmp_path / "packed")
    assert images is not None and len(images) == 3
    assert {int(images[i].image[0, 0, 0]) for i in range(3)} == {0, 50, 100}


def test_colours_need_images_that_have_them() -> None:
    with pytest.raises(UserError, match=r"colours is 0\.5, but there are no images"):
        OwnAnswer(colours=0.5)
    assert OwnAnswer(colours=0.5, unlabelled="rendered").beside


def test_every_pixel_says_where_it_comes_from() -> None:
    images = open_unlabelled(RENDERED, item(), IGNORE, None, Path())
    assert images is not None
    turned = Augmentation(flip=1, shift=0.2, scale=0, rotate=0, colour=0, hue=0, blur=0, noise=0)
    keys = [(0, 0), (0, 3), (1, 3), (2, 5)]
    for sample in Augmented(images, turned, IGNORE, 1, traced=True).__getitems__(keys):
        assert torch.equal(sample.original, images[int(sample.number)].image)
        source = sample.original.flatten(1)[:, sample.places].float()
        # Shifts are parts of pixels, and colours between two pixels are mixed.
        near = (sample.image.float() - source).abs().mean()
        assert near < 0.5 * (sample.image.float() - sample.original.float()).abs().mean()
    whole = Augmented(images, Augmentation(), IGNORE, 1, traced=True)
    plain = Augmented(images, Augmentation(), IGNORE, 1)
    assert torch.equal(whole[1, 3].image, plain[1, 3].image)
    assert torch.equal(whole[1, 3].places, whole.__getitems__(keys)[2].places)
    assert plain[0, 0].places.numel() == plain[0, 0].original.numel() == 0
    still = Augmented(images, None, IGNORE, 1, traced=True)[0, 0]
    assert torch.equal(still.places.flatten(), torch.arange(SIZE**2))


def test_the_answer_moves_with_the_pixels() -> None:
    batch = pixels([IGNORE] * 3, [0.0] * 3, [])
    batch = batch._replace(runners_up=torch.zeros(1, 0, 1, 3, dtype=torch.uint8))
    batch = batch._replace(places=torch.tensor([[[2, 0, 1]]]))
    own = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]).T.view(1, 2, 1, 3)
    made = with_own_answer(batch, own, OwnAnswer(), IGNORE)
    assert made.mask.tolist() == [[[1, 0, 1]]]
    assert torch.allclose(made.confidence, torch.tensor([[[0.7, 0.9, 0.8]]]))


def test_labels_and_answer_are_joined_by_their_weight() -> None:
    batch = pixels([0, 0], [0.7, 0.7], [[1, 1], [round(255 * 0.2), round(255 * 0.2)]])
    own = torch.tensor([[0.1, 0.8, 0.1], [0.8, 0.1, 0.1]]).T.view(1, 3, 1, 2)
    made = with_own_answer(batch, own, OwnAnswer(teacher_weight=0.25), IGNORE)
    labels = torch.tensor([[0.7, 0.2, 0.1]] * 2).T.view(1, 3, 1, 2)
    expected = labels**0.25 * own**0.75
    expected = expected / expected.sum(1, keepdim=True)
    assert made.mask.tolist() == [[[1, 0]]]
    assert torch.allclose(made.confidence, expected.amax(1), atol=2e-3)
    assert made.runners_up[0, 0].tolist() == [[0, 1]]
    alone = with_own_answer(batch, own, OwnAnswer(teacher_weight=1.0), IGNORE)
    assert alone.mask.tolist() == [[[0, 0]]]
    assert torch.allclose(alone.confidence, torch.tensor(0.7), atol=2e-3)


def test_where_there_is_no_label_the_answer_stands_alone_if_it_is_sure() -> None:
    batch = pixels([IGNORE, IGNORE, 0], [0.0, 0.0, 0.4], [])
    batch = batch._replace(runners_up=torch.zeros(1, 0, 1, 3, dtype=torch.uint8))
    own = torch.tensor([[0.9, 0.1], [0.45, 0.55], [0.5, 0.5]]).T.view(1, 2, 1, 3)
    config = OwnAnswer(teacher_weight=0.5, least_confidence=0.6)
    made = with_own_answer(batch, own, config, IGNORE)
    assert made.mask.tolist()[0][0][:2] == [0, 1]
    assert torch.allclose(made.confidence[0, 0, :2], torch.tensor([0.9, 0.0]))
    assert made.confidence[0, 0, 2] > 0  # the pseudo-label stands beside it
    both = joined(batch, made)
    assert both.number.tolist() == [7, 7] and len(split(both, 2)) == 2


def test_parts_of_labelled_images_cover_those_without_masks() -> None:
    """Whole classes move, with image, label, confidence and runners-up; all else stays."""
    shape = (3, 4, 4)
    mask = torch.randint(0, 6, shape, generator=torch.Generator().manual_seed(0))
    number = (
        torch.arange(3).view(3, 1, 1).expand(shape)
    )  # what every column of image i is filled with
    batch = Sample(
        number.unsqueeze(1).expand(3, 3, 4, 4).to(torch.uint8), mask, number.float(),
        number.unsqueeze(1).expand(3, 2, 4, 4).to(torch.uint8), torch.arange(3),
        torch.empty(3, 0), torch.empty(3, 0),
    )  # fmt: skip
    bare, seen = torch.tensor([False, True, True]), []
    for seed in range(20):
        made = mixed(batch, bare, 6, 1.0, (0, seed))
        assert torch.equal(made.image[0], batch.image[0]) and torch.equal(made.mask[0], mask[0])
        for i in (1, 2):
            covered = made.image[i, 0] == 0
            classes = set(mask[0][covered].tolist())
            assert torch.equal(covered, torch.isin(mask[0], torch.tensor(sorted(classes))))
            assert torch.equal(made.mask[i], torch.where(covered, mask[0], mask[i]))
            assert torch.equal(made.confidence[i] == 0, covered)
            assert torch.equal(made.runners_up[i, 1] == 0, covered)
            seen.append(classes)
    assert 2 < sum(map(len, seen)) / len(seen) < 4 and len({*map(frozenset, seen)}) > 20
    assert all(a is b for a, b in zip(mixed(batch, bare, 6, 0.0, (0, 0)), batch, strict=True))
    assert mixed(batch, torch.zeros(3, dtype=torch.bool), 6, 1.0, (0, 0)) is batch


def test_images_meet_whoever_holds_which_share() -> None:
    """Four labelled images and two without masks, as one batch and as the shares of two processes."""
    state = torch.Generator().manual_seed(0)
    mask = torch.randint(0, 6, (6, 4, 4), generator=state)
    image = torch.randint(0, 256, (6, 3, 4, 4), generator=state).to(torch.uint8)
    others = torch.empty(6, 0, 4, 4, dtype=torch.uint8)
    empty = torch.empty(6, 0)
    batch = Sample(image, mask, mask.float(), others, torch.arange(10, 16), empty, empty)
    bare = torch.arange(6) > 3
    whole = mixed(batch, bare, 6, 1.0, (3, 4))
    assert not torch.equal(whole.image, image)
    for share in ([0, 1, 4], [2, 3, 5]):
        part = mixed(Sample(*(column[share] for column in batch)), bare[share], 6, 1.0, (3, 4))
        assert torch.equal(part.image, whole.image[share])
        assert torch.equal(part.mask, whole.mask[share])
