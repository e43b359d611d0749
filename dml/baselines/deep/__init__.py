"""Published deep models as references: folds, preparation, head and loop of teacher and student, task loss only."""
