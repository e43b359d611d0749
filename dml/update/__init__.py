"""Update of a champion with the patients of another cohort: a ladder of steps, each taken only if it pays."""
