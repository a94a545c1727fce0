"""Borders between classes that go along an image's own."""

import torch
from torch import Tensor

from teacher.edges import smooth_along_edges

SIDE = 16


def two_halves(border: int) -> Tensor:
    """True left of a column: [1, 1, R, R]."""
    return (torch.arange(SIDE) < border).expand(1, 1, SIDE, SIDE)


def unsure(left: Tensor) -> Tensor:
    """Probabilities of two classes: 0.6 for the one that is there."""
    first = torch.where(left, 0.6, 0.4)
    return torch.cat([first, 1 - first], 1)


def test_a_ragged_border_moves_to_the_edge_of_the_image() -> None:
    image = torch.where(two_halves(8), 200, 60).expand(1, 3, SIDE, SIDE).to(torch.uint8)
    said = two_halves(8).clone()
    said[0, 0, 3::4, 8] = True  # a pixel too far here and there
    said[0, 0, 1::4, 7] = False
    smooth = smooth_along_edges(unsure(said), image)
    assert (smooth.argmax(1) == (~two_halves(8)[:, 0]).long()).all()
    assert torch.allclose(smooth.sum(1), torch.ones(1, SIDE, SIDE), atol=1e-5)


def test_nothing_is_blurred_across_an_edge_and_all_is_where_there_is_none() -> None:
    probabilities = unsure(two_halves(8))
    image = torch.where(two_halves(8), 200, 60).expand(1, 3, SIDE, SIDE)
    assert torch.allclose(smooth_along_edges(probabilities, image), probabilities, atol=1e-5)
    plain = smooth_along_edges(probabilities, torch.full((1, 3, SIDE, SIDE), 128))
    assert 0.5 < plain[0, 0, 8, 7] < 0.55 and torch.isclose(plain[0, 0, 8, 0], torch.tensor(0.6))


def test_speckles_of_many_colours_keep_their_probabilities() -> None:
    image = torch.randint(0, 2, (1, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0))
    single = torch.zeros(1, 2, SIDE, SIDE)
    single[:, 1] = 1
    single[0, :, 5, 5] = torch.tensor([1.0, 0.0])
    image[0, :, 5, 5] = 2  # unlike all others
    assert smooth_along_edges(single, image * 100)[0, 0, 5, 5] > 0.95


def test_it_reaches_as_far_in_a_larger_image() -> None:
    probabilities = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)).softmax(1)
    image = torch.zeros(1, 3, 64, 64)
    small = smooth_along_edges(probabilities.repeat(1, 1, 8, 8), image)
    large = smooth_along_edges(
        probabilities.repeat(1, 1, 8, 8).repeat_interleave(2, 2).repeat_interleave(2, 3),
        torch.zeros(1, 3, 128, 128),
    )
    assert torch.allclose(large[..., 16:-16:2, 16:-16:2], small[..., 8:-8, 8:-8], atol=1e-5)
