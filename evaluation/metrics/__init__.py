"""The comparison's metrics: one file and one line in `METRICS` for each.

Tables, report and `comparison.json` loop over the table. mIoU is the one metric with a further part: the
differences between student and teacher, the ranking of images and the charts are about it.
"""

from evaluation.metrics.base import Metric
from evaluation.metrics.boundary_miou import BOUNDARY_MIOU
from evaluation.metrics.foreground_miou import FOREGROUND_MIOU
from evaluation.metrics.miou import MIOU
from evaluation.metrics.pixel_accuracy import PIXEL_ACCURACY

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (  # in the order of the tables' columns
        MIOU,
        FOREGROUND_MIOU,
        BOUNDARY_MIOU,
        PIXEL_ACCURACY,
    )
}
