"""Teacher, student and reference models on the same test sets: metrics, tables, the report."""
