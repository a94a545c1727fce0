"""Pixel accuracy: the share of pixels with the true class."""

from common.confusion import iou_figures
from evaluation.metrics.base import Measured, Metric, Segmentation


def measure(segmentation: Segmentation) -> Measured:
    """Pixels that are ignored do not count."""
    confusion = segmentation.confusion
    figures = iou_figures(confusion.sum(0), segmentation.labels.names)
    hit, pixels = confusion.diagonal(dim1=1, dim2=2).sum(1), confusion.sum((1, 2))
    return Measured(figures["pixel_accuracy"], hit.double() / pixels)


PIXEL_ACCURACY = Metric("pixel_accuracy", "pixels", "share of pixels with the true class", measure)
