from datasets.batches import EndlessBatches, Key


def batches(ranks: int, rank: int, first: int = 0, steps: int = 7) -> list[list[Key]]:
    return list(EndlessBatches(10, 4, first, steps, seed=3, rank=rank, ranks=ranks))


def test_every_epoch_shows_each_sample_once() -> None:
    keys = [key for batch in batches(1, 0, steps=5) for key in batch]
    for epoch in (0, 1):
        assert sorted(i for e, i in keys if e == epoch) == list(range(10))
    orders = [[i for e, i in keys if e == epoch] for epoch in (0, 1)]
    assert orders[0] != orders[1]


def test_ranks_share_the_same_batches() -> None:
    whole = batches(1, 0)
    halves = [a + b for a, b in zip(batches(2, 0), batches(2, 1), strict=True)]
    assert halves == whole


def test_a_resumed_order_goes_on() -> None:
    assert batches(1, 0, first=4) == batches(1, 0)[4:]
