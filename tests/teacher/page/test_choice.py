"""Which sample is most worth the next strokes."""

import numpy as np
import torch

from teacher.generators.choosing import Look, choose_samples
from teacher.generators.registry import load_generator
from teacher.generators.sampling import latents_of_seed
from teacher.page.candidates import Candidates
from teacher.page.choice import doubt_of, most_worth
from teacher.stroke_learner import Answer
from tests.conftest import ROOT

# Two crowds of four and an odd one far from all; every sample shows two parts.
LOOKS = [
    Look(torch.tensor([0.5, 0.5]), torch.tensor(place))
    for place in (
        *[(0.0, 0.1 * i) for i in range(4)],
        *[(5.0, 0.1 * i) for i in range(4)],
        (2.5, 40.0),
    )
]
FIRST, SECOND, ODD = {0, 1, 2, 3}, {4, 5, 6, 7}, 8


def doubts(first: float, second: float, odd: float) -> dict[int, float]:
    return {**dict.fromkeys(FIRST, first), **dict.fromkeys(SECOND, second), ODD: odd}


def test_a_crowd_in_doubt_comes_before_an_odd_sample_in_more() -> None:
    assert most_worth(doubts(0.2, 0.5, 0.9), LOOKS, [], []) in SECOND
    # None of those that are not wanted.
    assert most_worth(doubts(0.2, 0.5, 0.9), LOOKS, [], [5, 6]) in {4, 7}


def test_what_is_near_to_strokes_is_covered() -> None:
    same = doubts(0.5, 0.5, 0.01)
    assert most_worth(same, LOOKS, [1], []) in SECOND
    assert most_worth(same, LOOKS, [5], []) in FIRST
    assert most_worth(same, LOOKS, [*FIRST, *SECOND], []) == ODD
    assert most_worth(same, LOOKS, range(9), []) is None


def test_where_nothing_is_in_doubt_the_sample_that_shows_all_parts_comes_first() -> None:
    hidden = Look(torch.tensor([0.5, 0.5, 0.0]), torch.zeros(2))
    looks = [hidden] * 9
    looks[6] = Look(torch.tensor([0.4, 0.4, 0.2]), torch.zeros(2))
    assert most_worth(doubts(0.0, 0.0, 0.0), looks, [], []) == 6
    assert most_worth({0: 0.0}, looks, [], []) == 0


def test_doubt_about_classes_without_strokes_counts_more() -> None:
    classes = np.repeat(np.arange(2, dtype=np.uint8), 32).reshape(8, 8)
    doubt = np.where(classes == 1, 200, 0).astype(np.uint8)
    answer = Answer(classes, doubt)
    assert doubt_of(answer, [20, 0]) > 2 * doubt_of(answer, [0, 20])
    assert doubt_of(Answer(classes, np.zeros_like(doubt)), [1, 1]) == 0


def test_without_answers_samples_come_as_sample_chooses_them() -> None:
    generator = load_generator(ROOT / "assets/faces64/generator", torch.device("cpu"))
    source, count = latents_of_seed(generator, 3, 1.0), 30
    candidates = Candidates(generator, source, count, None)
    assert 0 < candidates.ready < count
    while candidates.ready < count:
        candidates.draw_more()
    assert [len(x) for x in (candidates.images, candidates.packs, candidates.looks)] == [count] * 3
    drawn: list[int] = []
    for _ in range(4):
        n = most_worth(dict.fromkeys(range(count), 1.0), candidates.looks, drawn, [])
        assert n is not None
        drawn.append(n)
    assert drawn == choose_samples(generator, source, range(count), 4)
