"""One page on one patient: maps, prediction with its uncertainty, similar patients, and what to doubt."""
