"""mIoU without the background, which is large and easy."""

from common.confusion import class_iou, iou_figures
from evaluation.metrics.base import Measured, Metric, Segmentation


def measure(segmentation: Segmentation) -> Measured:
    """As mIoU; class 0 is left out of the mean, not out of the confusion matrix."""
    confusion = segmentation.confusion
    figures = iou_figures(confusion.sum(0), segmentation.labels.names)
    return Measured(figures["miou_foreground"], class_iou(confusion)[:, 1:].nanmean(1))


FOREGROUND_MIOU = Metric("miou_foreground", "no bg", "mean IoU without background", measure)
