"""Which sample is most worth the next strokes."""

import numpy as np
import torch

from teacher.page.choice import doubt_of, in_sight, most_worth, profile_of
from teacher.stroke_learner import Answer

# Two crowds of four and an odd one far from all.
PROFILES = [
    torch.tensor(place)
    for place in (
        *[(0.0, 0.1 * i) for i in range(4)],
        *[(5.0, 0.1 * i) for i in range(4)],
        (2.5, 40.0),
    )
]
FIRST, SECOND, ODD = {0, 1, 2, 3}, {4, 5, 6, 7}, 8
ALL_SEEN = dict.fromkeys(range(9), 1.0)


def doubts(first: float, second: float, odd: float) -> dict[int, float]:
    return {**dict.fromkeys(FIRST, first), **dict.fromkeys(SECOND, second), ODD: odd}


def test_a_crowd_in_doubt_comes_before_an_odd_sample_in_more() -> None:
    assert most_worth(doubts(0.2, 0.5, 0.9), ALL_SEEN, PROFILES, [], []) in SECOND
    # The nearest to all of its crowd, and none of those that are not wanted.
    assert most_worth(doubts(0.2, 0.5, 0.9), ALL_SEEN, PROFILES, [], [5, 6]) in {4, 7}


def test_what_is_near_to_strokes_is_covered() -> None:
    same = doubts(0.5, 0.5, 0.01)
    assert most_worth(same, ALL_SEEN, PROFILES, [1], []) in SECOND
    assert most_worth(same, ALL_SEEN, PROFILES, [5], []) in FIRST
    assert most_worth(same, ALL_SEEN, PROFILES, [*FIRST, *SECOND], []) == ODD
    assert most_worth(same, ALL_SEEN, PROFILES, range(9), []) is None


def test_of_like_samples_the_one_that_shows_all_classes_comes_first() -> None:
    same = doubts(0.2, 0.5, 0.01)
    hidden = ALL_SEEN | dict.fromkeys([4, 5, 7], 0.6)
    assert most_worth(same, hidden, PROFILES, [], []) == 6
    # A crowd in doubt of which nothing is seen is left for another.
    assert most_worth(same, ALL_SEEN | dict.fromkeys(SECOND, 0.4), PROFILES, [ODD], []) in FIRST


def test_a_sample_shows_a_class_as_far_as_the_mean_does() -> None:
    whole, half, none = (np.zeros((8, 8), np.uint8) for _ in range(3))
    whole[:, :4], half[:, :2] = 1, 1  # 32, 16 and 0 pixels of 192, the mean is 16
    doubt = np.zeros((8, 8), np.uint8)
    seen = in_sight({n: Answer(m, doubt) for n, m in enumerate((whole, half, none))}, 2)
    assert seen[1] == 1 and seen[2] == 0.5 and 0.8 < seen[0] < 1
    assert in_sight({}, 2) == {}


def test_doubt_about_classes_without_strokes_counts_more() -> None:
    classes = np.repeat(np.arange(2, dtype=np.uint8), 32).reshape(8, 8)
    doubt = np.where(classes == 1, 200, 0).astype(np.uint8)
    answer = Answer(classes, doubt)
    assert doubt_of(answer, [20, 0]) > 2 * doubt_of(answer, [0, 20])
    assert doubt_of(Answer(classes, np.zeros_like(doubt)), [1, 1]) == 0


def test_a_profile_is_a_vector_of_any_maps() -> None:
    pack = [torch.ones(1, 3, side, side).half() for side in (2, 4, 16)]
    assert profile_of(pack).tolist() == [1.0] * (3 * 3 * 16)
