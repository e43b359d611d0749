"""Stage evaluate: all models of one task on their test patients, to reports/<cohort>/<task>/.

Every model that does not read age and sex itself is also evaluated after late fusion with them; the fused predictions
of each fold are in ``clinical/<model>-clinical/fold-<k>``, with the coefficients in model.json.
"""

import sys
from pathlib import Path

from dml.baselines.linear.fit import BaselineResult
from dml.baselines.linear.late_fusion_clinical import fit_late_fusion
from dml.baselines.linear.regression import make_regression
from dml.config import params as config
from dml.core.files import only_writer, read_parquet, write_json
from dml.core.model_name import ModelName
from dml.core.predictions import read_predictions, write_predictions
from dml.data.cohort_store import CohortStore
from dml.models import registry
from dml.report.build import evaluate
from dml.report.context import read_context
from dml.tracking.run_reports import log_report, log_teachability
from dml.training.runtime import one_blas_thread
from pipelines.stage import parse_arguments, stage

PREDICTIONS = "predictions.parquet"


@stage
def main() -> None:
    """Write metrics, comparisons, tables, figures and the page, and put the numbers on the models' runs."""
    params, task = config.load(), parse_arguments("task")["task"]
    with only_writer(f"evaluate-{task}"):
        run(params, task)
    folder = Path("reports") / params.cohort / task
    log_report(params, task, folder)
    if (folder / "teachability" / "summary.json").exists():
        log_teachability(params, task, folder)


def run(params: config.Params, task: str) -> None:
    """Evaluate one task of the current cohort: our models, the linear baselines, and those of baselines.deep."""
    data, models, out = Path("data") / params.cohort, *(Path(k) / params.cohort / task for k in ("models", "reports"))
    trained = [*registry.our_names(), *params.baselines.deep]
    fuse_with_clinical(params, task, trained, models, out / "clinical")
    patients = read_parquet(data / "patients.parquet")[0].to_pandas()
    context, names = read_context(params.cohort, task), [*trained, *registry.linear_names()]
    evaluate([models, out / "clinical"], patients, params.evaluation, params.seed, out, context, names)


@one_blas_thread()
def fuse_with_clinical(params: config.Params, task: str, names: list[str], models: Path, out: Path) -> None:
    """Fuse the predictions of every fold of some models with age and sex; where that is impossible, write why."""
    cohort = CohortStore.of(params.cohort).clinical_cohort()
    regression = make_regression(task, cohort.classes, params.evaluation.years)
    for name in names:
        for fold in params.folds:
            predictions = models / name / f"fold-{fold}" / PREDICTIONS
            if predictions.exists():
                fused = fit_late_fusion(name, read_predictions(predictions)[0], cohort, regression)
                fused_name = str(ModelName(name, clinical=True))
                write(out / fused_name / f"fold-{fold}", fused_name, task, fold, fused)


def write(folder: Path, name: str, task: str, fold: int, fused: BaselineResult | str) -> None:
    """Write model.json and predictions.parquet; of a fusion that could not be fitted, only why."""
    if isinstance(fused, str):
        write_json(folder / "model.json", {"name": name, "left_out": fused})
        return
    write_json(folder / "model.json", {"task": task, "fold": fold, **fused.description})
    write_predictions(folder / PREDICTIONS, fused.rows.assign(fold=fold), fused.metadata)


if __name__ == "__main__":
    sys.exit(main())
