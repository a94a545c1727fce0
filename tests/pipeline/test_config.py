"""The run's configuration, and its short one."""

from evaluation.options import CompareStage
from pipeline.config import Config, smoke


def test_smoke_inverts_little() -> None:
    """Fifty images by three hundred steps are hours on a CPU."""
    short = smoke(Config(compare=CompareStage(inversion_images=50))).compare
    few = (short.inversion_images, short.inversion.steps, short.inversion.random_starts)
    assert few == (2, 4, 8)
    none = smoke(Config(compare=CompareStage(inversion_images=0))).compare
    assert none.inversion_images == 0
