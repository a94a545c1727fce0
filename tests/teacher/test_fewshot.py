"""FewShotCNN: its members, its inputs, and how uncertain it is."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from common.errors import UserError
from teacher import fewshot
from teacher.edges import smooth_along_edges
from teacher.fewshot import FewShotCNN, FewShotConfig, image_score, uncertainty

FEATURES = {"4.0": 6, "8.0": 5, "8.1": 4}
CONFIG = FewShotConfig(widths=(8, 6, 4, 4))


def maps(batch: int = 2) -> list[torch.Tensor]:
    """Random feature maps."""
    return [
        torch.randn(batch, c, int(n.split(".")[0]), int(n.split(".")[0]))
        for n, c in FEATURES.items()
    ]


def member(ensemble: FewShotCNN, k: int, classes: int = 3) -> FewShotCNN:
    """Member number k as a network of its own."""
    config = replace(ensemble.config, members=1)
    alone = FewShotCNN(config, FEATURES, 8, classes)
    for mine, shared in zip(alone.parameters(), ensemble.parameters(), strict=True):
        mine.data = shared.data.chunk(ensemble.config.members)[k].clone()
    return alone


def test_an_ensemble_is_its_members_side_by_side() -> None:
    torch.manual_seed(0)
    ensemble, features = FewShotCNN(replace(CONFIG, members=3), FEATURES, 8, 3), maps()
    logits = ensemble(features)
    assert logits.shape == (2, 3, 3, 8, 8)
    alone = [member(ensemble, k)(features)[:, 0] for k in range(3)]
    for k in range(3):
        assert torch.allclose(logits[:, k], alone[k], atol=1e-5)
    mean = torch.stack([a.softmax(1) for a in alone]).mean(0)
    images = torch.randint(256, (2, 3, 8, 8))
    assert torch.allclose(ensemble.probabilities(features, images), mean, atol=1e-6)


def test_answers_follow_the_edges_of_the_image_if_they_are_to() -> None:
    torch.manual_seed(0)
    network, features = FewShotCNN(CONFIG, FEATURES, 8, 3), maps()
    following = FewShotCNN(replace(CONFIG, follow_edges=True), FEATURES, 8, 3)
    following.load_state_dict(network.state_dict())
    halves = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    halves[..., 4:] = 255
    plain, smooth = (n.probabilities(features, halves) for n in (network, following))
    assert torch.equal(smooth, smooth_along_edges(plain, halves))

    def roughness(answer: Tensor) -> Tensor:
        """Mean difference of neighbours that lie on the same side of the edge."""
        return (
            torch.cat([answer[..., :4].diff(dim=-1), answer[..., 4:].diff(dim=-1)], -1).abs().mean()
        )

    assert roughness(smooth) < 0.75 * roughness(plain)


def test_samples_go_through_in_parts_that_a_cache_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network, features = FewShotCNN(CONFIG, FEATURES, 8, 3), maps(5)
    whole = network(features)
    monkeypatch.setattr(fewshot, "_CACHED", 2 * network.widest)
    assert network.samples_at_once(torch.device("cpu")) == 2
    assert network.samples_at_once(torch.device("cuda")) == 0
    assert torch.allclose(network(features), whole, atol=1e-6)


def test_members_learn_as_if_they_were_alone() -> None:
    torch.manual_seed(0)
    ensemble, features = FewShotCNN(replace(CONFIG, members=2), FEATURES, 8, 3), maps(1)
    alone, target = member(ensemble, 1), torch.randint(0, 3, (1, 8, 8))
    for network in (ensemble, alone):
        optimiser = torch.optim.Adam(network.parameters(), 1e-2, weight_decay=1e-3)
        for _ in range(3):
            losses = [
                torch.nn.functional.cross_entropy(x, target) for x in network(features).unbind(1)
            ]
            optimiser.zero_grad()
            torch.stack(losses).sum().backward()
            optimiser.step()
    assert torch.allclose(ensemble(features)[:, 1], alone(features)[:, 0], atol=1e-4)
    assert not torch.allclose(ensemble(features)[:, 0], alone(features)[:, 0], atol=0.01)


def test_only_the_chosen_features_are_read() -> None:
    torch.manual_seed(0)
    network, features = FewShotCNN(replace(CONFIG, feature_maps=("8.0",)), FEATURES, 8, 3), maps()
    assert network.first.channels == [5]
    before = network(features)
    features[0], features[2] = torch.randn_like(features[0]), torch.randn_like(features[2])
    assert torch.equal(network(features), before)
    features[1] = torch.randn_like(features[1])
    assert not torch.equal(network(features), before)
    with pytest.raises(UserError, match=r"no 64\.0; it has 4\.0, 8\.0, 8\.1"):
        FewShotCNN(replace(CONFIG, feature_maps=("8.0", "64.0")), FEATURES, 8, 3)


def test_dropout_is_for_training_alone() -> None:
    torch.manual_seed(0)
    network, features = FewShotCNN(replace(CONFIG, head_dropout=0.5), FEATURES, 8, 3), maps()
    assert not torch.equal(network.train()(features), network(features))
    assert torch.equal(network.eval()(features), network(features))


def test_divergence_is_zero_where_members_agree_and_ln_2_where_two_are_sure_of_the_opposite() -> (
    None
):
    agree = torch.tensor([0.7, 0.2, 0.1]).view(1, 1, 3, 1, 1).expand(2, 4, 3, 5, 5)
    assert uncertainty(agree).abs().max() < 1e-6
    opposite = torch.eye(2).view(1, 2, 2, 1, 1)
    assert uncertainty(opposite).item() == pytest.approx(math.log(2))
    torch.manual_seed(0)
    some = torch.randn(3, 4, 5, 6, 6).softmax(2)
    assert uncertainty(some).min() >= 0 and uncertainty(some).max() <= math.log(4)


def test_of_a_single_network_the_entropy_counts() -> None:
    half = torch.tensor([0.5, 0.5]).view(1, 1, 2, 1, 1)
    assert uncertainty(half).item() == pytest.approx(math.log(2))


def test_an_image_counts_by_its_worst_pixels() -> None:
    pixels = torch.zeros(2, 10, 10)
    pixels[0, 0] = 1.0  # a tenth of the image
    pixels[1] = 0.5
    assert image_score(pixels).tolist() == [1.0, 0.5]


def test_balanced_it_learns_as_from_features_of_unit_deviation() -> None:
    """And settled it is an ordinary network of the features as they are."""
    torch.manual_seed(0)
    balanced, features = FewShotCNN(CONFIG, FEATURES, 8, 3), maps(1)
    loud = [torch.rand(f.shape[1]) * 50 + 0.1 for f in features]
    features = [f * d[:, None, None] for f, d in zip(features, loud, strict=True)]
    quiet = [f / d[:, None, None] for f, d in zip(features, loud, strict=True)]
    plain, names = copy.deepcopy(balanced), set(balanced.state_dict())
    balanced.standardise(loud)
    target = torch.randint(0, 3, (1, 8, 8))
    for network, seen in ((balanced, features), (plain, quiet)):
        optimiser = torch.optim.Adam(network.parameters(), 1e-3, weight_decay=1e-3)
        for _ in range(5):
            loss = torch.nn.functional.cross_entropy(network(seen)[:, 0], target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    assert torch.allclose(balanced(features), plain(quiet), atol=1e-4)
    expected = balanced(features)
    balanced.fold_scale()
    assert set(balanced.state_dict()) == names
    assert torch.allclose(balanced(features), expected, atol=1e-6)


def test_a_finished_teacher_learns_on_from_what_it_knows() -> None:
    torch.manual_seed(0)
    teacher, features = FewShotCNN(CONFIG, FEATURES, 8, 3), maps()
    before = teacher(features)
    stds = [torch.rand(channels) + 0.5 for channels in FEATURES.values()]
    teacher.standardise(stds, trained=True)
    assert torch.allclose(teacher(features), before, atol=1e-5)
    teacher.fold_scale()
    assert torch.allclose(teacher(features), before, atol=1e-5)


def test_silent_channels_do_not_blow_up() -> None:
    network = FewShotCNN(CONFIG, FEATURES, 8, 3)
    network.standardise([torch.ones(6), torch.zeros(5), torch.ones(4)])
    assert network(maps()).isfinite().all()
