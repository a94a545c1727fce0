"""Ground floor: pictures, masks, annotations and artefacts. Knows neither teacher nor student."""

# A second library called `datasets` is common in Python environments, and accelerate imports
# these two names from whichever it finds first.
from torch.utils.data import Dataset, IterableDataset

__all__ = ["Dataset", "IterableDataset"]
