"""Stage clinical: put age and sex beside every trained model of one task, fold by fold, fitted on its validation rows.

Writes models/<cohort>/<task>/<model>-clinical/fold-<k>; a model that was left out, or a cohort without the covariates,
leaves only the reason in model.json.
"""

import sys
from pathlib import Path

from dml.baselines.linear.fit import Reference, learner_of
from dml.baselines.linear.late_fusion_clinical import SUFFIX, with_clinical
from dml.baselines.linear.tasks import Learner
from dml.config import params as config
from dml.core.files import only_writer, write_json
from dml.core.predictions import horizons_of, read_predictions, write_predictions
from dml.core.types import Cohort
from dml.models import registry
from dml.training.folds import fold_of
from dml.training.threads import on_one_blas_thread
from pipelines.inputs import Job, read_stores
from pipelines.stage import stage, task_argument


@stage
def main() -> None:
    """Layer every model of every fold: seconds of work, so the folds share one start and one reading of the stores."""
    params, task = config.load(), task_argument()
    with only_writer(f"clinical-{task}"):
        cohort, splits = read_stores(params)
        horizons = horizons_of(params.evaluation.years)
        for fold in params.folds:
            job = Job(params, task, fold)
            learner = learner_of(task, fold_of(cohort, splits, fold).learning, horizons)
            for name in (*registry.our_names(), *registry.deep_names()):
                write(job, name, layered(job, cohort, name, learner))


@on_one_blas_thread()
def layered(job: Job, cohort: Cohort, name: str, learner: Learner) -> Reference | str:
    """Return the layered model, or why there is none."""
    predictions = job.folder(name) / "predictions.parquet"
    if not predictions.exists():
        return f"{name} was left out of this run"
    return with_clinical(name, read_predictions(predictions)[0], cohort, learner)


def write(job: Job, name: str, found: Reference | str) -> None:
    """Write model.json and predictions.parquet, or only why not."""
    folder: Path = job.folder(name + SUFFIX)
    if isinstance(found, str):
        write_json(folder / "model.json", {"baseline": name + SUFFIX, "left_out": found})
        return
    write_json(folder / "model.json", {"task": job.task, "fold": job.fold, **found.description})
    write_predictions(folder / "predictions.parquet", found.rows.assign(fold=job.fold), found.metadata)


if __name__ == "__main__":
    sys.exit(main())
