"""Names of the comparison's rows (its models) and test sets, as in the tables and `comparison.json`."""

from collections.abc import Iterable

STUDENT = "student"
EXPORTED = "student_onnx"
TEACHER = "teacher"  # from the features that the generator computes while drawing
TEACHER_BY_INVERSION = "teacher_by_inversion"
TEACHERS = (TEACHER, TEACHER_BY_INVERSION)
REFERENCES = (
    "labels_alone",
    "supervised",
    "perfect_teacher",
)  # each trained by a stage of its name
FROZEN_FEATURES = "frozen_features"
COLOUR_ONLY = "colour_only"
OWN_ROWS = (*TEACHERS, STUDENT, EXPORTED, *REFERENCES, FROZEN_FEATURES, COLOUR_ONLY)

GENERATED = "generated"
HELD_OUT = "held_out"
_ROUND = "_round_"
INVERTED = "_inverted"  # suffix of the few images of a set that were inverted


def of_round(row: str, number: int) -> str:
    """The row of the teacher or student that an earlier round made, and the name of that input."""
    return f"{row}{_ROUND}{number}"


def earlier_rounds(row: str, inputs: Iterable[str]) -> list[str]:
    """Those of the inputs that are the teacher or student of an earlier round, in their order."""
    return [name for name in inputs if name.startswith(row + _ROUND)]
