from pathlib import Path

import pytest
import torch

from common.checkpoints import Checkpoints, load_state, save_state, save_weights
from common.seeding import step_seed


def test_training_state_comes_back_and_goes_on_alike(tmp_path: Path) -> None:
    def network() -> torch.nn.Linear:
        torch.manual_seed(0)
        return torch.nn.Linear(3, 2)

    def step(model: torch.nn.Linear, optimiser: torch.optim.Optimizer) -> None:
        optimiser.zero_grad()
        model(torch.ones(4, 3)).square().sum().backward()
        optimiser.step()

    first = network()
    optimiser = torch.optim.AdamW(first.parameters(), 0.1)
    step(first, optimiser)
    save_state(
        tmp_path / "s.safetensors",
        {"model": first.state_dict(), "optimiser": optimiser.state_dict(), "step": 1, "note": None},
    )
    step(first, optimiser)

    state = load_state(tmp_path / "s.safetensors")
    assert state["step"] == 1
    assert state["note"] is None
    second = network()
    second.load_state_dict(state["model"])
    resumed = torch.optim.AdamW(second.parameters(), 0.1)
    resumed.load_state_dict(state["optimiser"])
    step(second, resumed)
    assert torch.equal(first.weight, second.weight)


def test_newest_readable_checkpoint_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.newest() is None
    for step in (2, 10, 9):
        checkpoints.save(step, {"step": step, "x": torch.ones(100)})
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "state-10.safetensors",
        "state-9.safetensors",
    ]
    newest = tmp_path / "state-10.safetensors"
    newest.write_bytes(newest.read_bytes()[:200])
    state = checkpoints.newest()
    assert state is not None
    assert state["step"] == 9
    assert "state-10.safetensors is damaged" in capsys.readouterr().out


@pytest.mark.parametrize("other", [(1, 2), (0, 3), (0,), (0, 2, 0)])
def test_seeds_differ(other: tuple[int, ...]) -> None:
    assert step_seed(0, 2) == step_seed(0, 2)
    assert step_seed(0, 2) != step_seed(*other)


def test_weights_can_be_read_by_whom_any_other_file_can(tmp_path: Path) -> None:
    save_weights(tmp_path / "a.safetensors", {"w": torch.zeros(2)})
    (tmp_path / "b").write_text("any other")
    modes = [(tmp_path / name).stat().st_mode for name in ("a.safetensors", "b")]
    assert modes[0] == modes[1]
