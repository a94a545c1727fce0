"""Figures: confusion matrices, the comparison of teacher and student, its pictures."""
