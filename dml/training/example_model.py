"""A small trained model for examples: the grade of the example cohort from the mean token of a slide."""

from dml.config import params as config
from dml.data.example_cohort import example_cohort, example_splits
from dml.training.checkpoint import FoldModel
from dml.training.folds import make_fold
from dml.training.train import train_baseline


def example_model(patients: int = 20) -> FoldModel:
    """Train a model for an epoch on `example_cohort` and return it.

    Examples
    --------
    >>> example_model().spec.preprocessor.task.classes
    ('low', 'high')
    """
    cohort = example_cohort(patients)
    optimisation = config.Optimisation(epochs=1, device="cpu")
    params = config.Params(cohort="example", tasks=("grade",), folds=(0, 1), optimisation=optimisation)
    result = train_baseline(make_fold(cohort, example_splits(cohort), 0), params, "grade", "mean_pool")
    assert result is not None, "mean_pool has been trained without a single patient"
    return result.model
