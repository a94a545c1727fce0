"""mIoU: intersection over union, averaged over the classes."""

from common.confusion import iou_figures, mean_iou
from evaluation.metrics.base import Measured, Metric, Segmentation


def measure(segmentation: Segmentation) -> Measured:
    """From one confusion matrix over all pixels of the set, background included."""
    confusion = segmentation.confusion
    figures = iou_figures(confusion.sum(0), segmentation.labels.names)
    return Measured(figures["miou"], mean_iou(confusion))


MIOU = Metric("miou", "mIoU", "mean IoU over the classes", measure)
