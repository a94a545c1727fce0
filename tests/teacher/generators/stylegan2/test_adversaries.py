"""One step of the adversaries: what the options of regularisation do."""

import pytest
import torch
from torch import Tensor

from common.errors import UserError
from common.seeding import seed_everything
from teacher.generators.stylegan2.adversaries import Adversaries, mix_styles
from teacher.generators.stylegan2.network import GeneratorConfig
from teacher.generators.stylegan2.options import GeneratorStage

NETWORK = GeneratorConfig(channels=(8, 8, 8), latent_size=8)


def adversaries(**options: float) -> Adversaries:
    config = GeneratorStage(
        network=NETWORK,
        batch_size=8,
        precision="no",
        path_length_every=1,
        **options,  # type: ignore[arg-type]
    )
    return Adversaries(config, torch.device("cpu"))


def path_lengths(one: Adversaries) -> Tensor:
    """How far the image of each of 64 latents changes with w."""
    generator = one.generator
    styles = generator.mapping(torch.randn(64, 8)).unsqueeze(1).repeat(1, generator.style_count, 1)
    image = generator.synthesis(styles, generator.random_noise(64))[0]
    squares = torch.zeros(64)
    for _ in range(30):
        y = torch.randn_like(image) / image.shape[-1]
        (slope,) = torch.autograd.grad((image * y).sum(), styles, retain_graph=True)
        squares += slope.square().sum(2).mean(1)
    return squares.sqrt()


def test_styles_change_at_one_place() -> None:
    seed_everything(0)
    first, second = torch.zeros(400, 3), torch.ones(400, 3)
    styles = mix_styles(first, second, 6, 0.7)
    assert styles.shape == (400, 6, 3)
    assert (styles[:, 0] == 0).all()  # the first layer always has the first latent
    assert (styles.diff(dim=1) >= 0).all() and (styles == styles[:, :, :1]).all()
    mixed = styles[:, -1, 0]
    assert 0.6 < float(mixed.mean()) < 0.8
    begins = 6 - styles[mixed == 1, :, 0].sum(1)
    assert set(begins.tolist()) == {1, 2, 3, 4, 5}
    assert (mix_styles(first, second, 6, 0.0) == 0).all()


def test_the_path_length_is_how_far_a_step_in_w_changes_the_image() -> None:
    """Over noise, the squared length of J^T y has the mean |J|^2, measured here by finite differences."""
    one = adversaries(path_length_weight=1.0)
    generator = one.generator.double()
    w = generator.mapping(torch.randn(1, 8, dtype=torch.double))
    noise = [n.double() for n in generator.random_noise(1)]
    styles = w.unsqueeze(1).repeat(1, generator.style_count, 1).requires_grad_(True)
    image = generator.synthesis(styles, noise)[0]
    squares = []
    for _ in range(300):
        y = torch.randn_like(image) / image.shape[-1]
        (slope,) = torch.autograd.grad((image * y).sum(), styles, retain_graph=True)
        squares.append(slope.square().sum())
    step, jacobian = 1e-5, 0.0
    for place in range(styles.numel()):
        moved = styles.detach().clone()
        moved.view(-1)[place] += step
        change = (generator.synthesis(moved, noise)[0] - image) / step
        jacobian += float(change.detach().square().sum()) / image.shape[-1] ** 2
    assert float(torch.stack(squares).mean()) == pytest.approx(jacobian, rel=0.15)


def test_lengths_are_drawn_to_their_running_mean() -> None:
    """It begins at zero, so at first they shrink."""

    def length(weight: float) -> float:
        one = adversaries(path_length_weight=weight)
        real = torch.rand(8, 3, 16, 16) * 2 - 1
        for step in range(60):
            seed_everything(1, step)
            losses = one.step(real, step)
        if not weight:
            assert "loss/path" not in losses
        seed_everything(2)
        return float(path_lengths(one).mean().detach())

    assert length(20.0) < 0.7 * length(0.0)


def test_a_probability_above_one_is_refused() -> None:
    with pytest.raises(UserError, match=r"style_mixing is 1\.5"):
        adversaries(style_mixing=1.5)
    with pytest.raises(UserError, match=r"wait_images is -1"):
        adversaries(wait_images=-1)
