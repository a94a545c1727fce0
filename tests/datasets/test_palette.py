"""Colours of one image lent to another."""

import numpy as np
import pytest
import torch

from datasets.faces import RenderedFaces, render_faces
from datasets.palette import Palette
from datasets.portrait.world import STREET
from datasets.transforms import Augmentation, Augmented, Exact

STREETS = render_faces(1, torch.arange(30), 32, STREET)[0].numpy()
FACE = render_faces(2, torch.tensor([3]), 32)[0][0]


def colours(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    flat = pixels.reshape(3, -1).astype(float)
    return flat.mean(1), np.cov(flat)


def test_mean_and_covariance_are_carried_over() -> None:
    """As far as colours stay within 0 to 255: the other image is a pale one."""
    pale = (100 + STREETS[:1] // 6).astype(np.uint8)
    lent = Palette(pale, 1.0).lend(FACE, 5).numpy()
    for ours, others in zip(colours(lent), colours(pale[0]), strict=True):
        np.testing.assert_allclose(ours, others, atol=4)
    assert lent.dtype == np.uint8 and lent.shape == FACE.shape


def test_an_image_keeps_its_own_colours_by_its_own_palette() -> None:
    lent = Palette(FACE[None].numpy(), 1.0).lend(FACE, 0)
    assert int((lent.int() - FACE.int()).abs().max()) <= 1


def test_the_share_and_the_seed_decide() -> None:
    palette = Palette(STREETS, 0.25)
    lent = [palette.lend(FACE, seed) for seed in range(200)]
    kept = [torch.equal(image, FACE) for image in lent]
    assert 0.65 < sum(kept) / 200 < 0.85
    assert len({image.numpy().tobytes() for image in lent}) > 20
    assert all(torch.equal(palette.lend(FACE, seed), lent[seed]) for seed in range(20))


@pytest.mark.parametrize("shade", [0, 255])
def test_images_of_one_colour_are_no_trouble(shade: int) -> None:
    plain = torch.full((3, 16, 16), shade, dtype=torch.uint8)
    lent = Palette(STREETS, 1.0).lend(plain, 0)
    assert (lent.flatten(1).float().std(1) == 0).all()
    into_plain = Palette(plain[None].numpy(), 1.0).lend(FACE, 0)
    assert abs(float(into_plain.float().mean()) - shade) < 3


def test_samples_take_colours_on_and_the_average_sees_the_same() -> None:
    faces = Exact(RenderedFaces(0, 8, 32))
    bare = Augmentation(0, 0, 0, 0, 0, 0, 0, 0, 0)
    lent, own = (
        Augmented(faces, bare, 255, seed=1, traced=True, palette=palette)
        for palette in (Palette(STREETS, 1.0), None)
    )
    first, again, plain = lent[0, 4], lent[1, 4], own[0, 4]
    assert not torch.equal(first.image, plain.image)
    assert not torch.equal(first.image, again.image)  # others in the next epoch
    assert torch.equal(first.original, first.image)
    assert torch.equal(first.mask, plain.mask)
