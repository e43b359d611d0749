"""Initial weights of teacher and student from slides with expression of other cohorts; no outcome is read."""
