"""What teacher and student learn from and are measured on: images, masks, annotations, pseudo-labels."""

# A second library called `datasets` is common in Python environments, and accelerate imports
# these two names from whichever it finds first.
from torch.utils.data import Dataset, IterableDataset

__all__ = ["Dataset", "IterableDataset"]
