"""Published deep models as references: folds, preprocessor, head and loop of teacher and student, task loss only."""
