import pytest
import torch

from common.errors import UserError
from datasets.faces import CLASS_NAMES, RenderedFaces, render_faces
from datasets.labels import LabelSet


def test_a_face_depends_on_seed_and_index_alone() -> None:
    together = render_faces(5, torch.arange(40), 64)
    for one in range(40):
        alone = render_faces(5, torch.tensor([one]), 64)
        assert all(
            torch.equal(many[one], few[0]) for many, few in zip(together, alone, strict=True)
        )
    other, _ = render_faces(6, torch.tensor([37]), 64)
    assert not torch.equal(other[0], together[0][37])


def test_large_seeds_and_indices_are_told_apart() -> None:
    images, _ = render_faces(2**40, torch.tensor([1, 2**33 + 1]), 16)
    small, _ = render_faces(0, torch.tensor([1]), 16)
    assert not torch.equal(images[0], images[1])
    assert not torch.equal(images[0], small[0])


@pytest.mark.parametrize("resolution", [16, 48, 64, 128])
def test_shapes_and_all_classes(resolution: int) -> None:
    images, masks = render_faces(0, torch.arange(24), resolution)
    assert images.shape == (24, 3, resolution, resolution)
    assert images.dtype == masks.dtype == torch.uint8
    assert masks.unique().tolist() == list(range(len(CLASS_NAMES)))


def test_shares_are_those_of_portraits() -> None:
    _, masks = render_faces(1, torch.arange(200), 64)
    share = torch.bincount(masks.flatten().long(), minlength=8) / masks.numel()
    assert 0.25 < share[0] < 0.6
    assert 0.15 < share[1] < 0.4
    assert 0.1 < share[2] < 0.4
    assert (share[3:] > 0.005).all()
    assert (share[3:] < 0.06).all()


def test_a_mask_follows_the_image_at_every_size() -> None:
    """The same face at twice the size has the same mask, up to the outline."""
    _, small = render_faces(2, torch.arange(16), 64)
    _, large = render_faces(2, torch.arange(16), 128)
    middle = large[:, ::2, ::2]
    assert (small == middle).float().mean() > 0.95


def test_faces_vary() -> None:
    images, masks = render_faces(0, torch.arange(100), 32)
    assert images.float().std(0).mean() > 30  # colours of one pixel over faces
    has_ears = (masks == 7).flatten(1).any(1).float().mean()
    assert 0.5 < has_ears < 0.999  # seen or hidden


def test_data_set_draws_batches_as_it_draws_one() -> None:
    faces = RenderedFaces(3, 100, 16, first=10)
    assert len(faces) == 100
    batch = faces.__getitems__([4, 7])
    assert torch.equal(batch[1][0], faces[7][0])
    assert torch.equal(batch[1][0], render_faces(3, torch.tensor([17]), 16)[0][0])


def test_masks_are_told_in_another_label_set() -> None:
    coarse = LabelSet(
        ("background", "face", "hair"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)),
        merges={"face": ("skin", "eye", "eyebrow", "nose", "mouth", "ear")},
    )  # fmt: skip
    fine, told = RenderedFaces(3, 4, 32), RenderedFaces(3, 4, 32, labels=coarse)
    for i in range(4):
        expected = torch.tensor([0, 1, 2, 1, 1, 1, 1, 1], dtype=torch.uint8)[fine[i][1].long()]
        assert torch.equal(told[i][1], expected)
    with pytest.raises(UserError, match="skin has no place"):
        RenderedFaces(3, 4, 32, labels=LabelSet(("background", "face"), ((0, 0, 0), (1, 1, 1))))
