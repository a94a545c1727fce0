"""The formats of an exported student: each a file here and a line in the table, in the README's order."""

from student.export.formats.base import ExportFormat
from student.export.formats.onnx import Onnx
from student.export.formats.onnx_int8 import OnnxInt8
from student.export.formats.pt2 import Pt2

EXPORT_FORMATS: dict[str, ExportFormat] = {
    "onnx": Onnx(),
    "int8": OnnxInt8(),
    "pt2": Pt2(),
}
