"""What a metric is given and what it returns.

Shapes: N = images, H, W = pixels, C = classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from datasets.labels import LabelSet


@dataclass(frozen=True)
class Segmentation:
    """One model's masks of a test set beside the ground truth.

    Attributes:
        truth: class indices, uint8 [N, H, W]; other values (the ignore index) do not count.
        masks: predicted class indices, uint8 [N, H, W].
        confusion: a confusion matrix for each image, int64 [N, C, C].
        labels: the classes.
    """

    truth: Tensor
    masks: Tensor
    confusion: Tensor
    labels: LabelSet


@dataclass(frozen=True)
class Measured:
    """A metric's values, each a share in [0, 1].

    Attributes:
        value: of the whole test set.
        per_image: of each image, [N]; NaN where an image has none.
        details: more entries for the model's row in `comparison.json`, by key.
    """

    value: float
    per_image: Tensor
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """A column of the comparison's tables.

    Attributes:
        name: its key in `comparison.json`.
        heading: its column's heading; short, as tables are wide.
        meaning: what it is, for the legend below the tables.
        measure: the metric itself.
    """

    name: str
    heading: str
    meaning: str
    measure: Callable[[Segmentation], Measured]
