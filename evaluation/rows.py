"""Names of the comparison's rows (its models) and test sets, as in the tables and `comparison.json`."""

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
INVERTED = "_inverted"  # suffix of the few images of a set that were inverted
