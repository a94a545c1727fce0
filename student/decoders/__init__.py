"""The decoders: each a file here and a line in the table."""

from student.base import Student
from student.decoders.narrow_unet import NarrowUNet

DECODERS: dict[str, type[Student]] = {
    "narrow_unet": NarrowUNet,
}
