"""Seeds made of tuples such as (seed, step, rank): randomness that needs no saved state."""

import torch


def step_seed(*numbers: int) -> int:
    """A seed that is a pure function of the numbers."""
    value = 0x9E3779B97F4A7C15
    for number in numbers:
        value = ((value ^ (number + 0x1234567)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        value ^= value >> 29
    return value & (2**63 - 1)


def seed_everything(*numbers: int) -> None:
    """Seed PyTorch's global generators with `step_seed(*numbers)`."""
    torch.manual_seed(step_seed(*numbers))
