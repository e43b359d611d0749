"""Stage evaluate: all models of one task on their test patients, to reports/<cohort>/<task>/."""

import sys
from pathlib import Path

from dml.config import params as config
from dml.core.files import only_writer, read_parquet
from dml.report.build import evaluate
from dml.report.context import about_cohort
from dml.tracking.fold_run import log_report
from pipelines.stage import stage, task_argument


@stage
def main() -> None:
    """Write metrics, comparisons, tables, figures and the page, and put the numbers on the models' runs."""
    params, task = config.load(), task_argument()
    with only_writer(f"evaluate-{task}"):
        run(params, task)
    log_report(params, task, Path("reports") / params.cohort / task)


def run(params: config.Params, task: str) -> None:
    """Evaluate one task of the current cohort."""
    folder = Path("data") / params.cohort
    patients = read_parquet(folder / "patients.parquet")[0].to_pandas()
    models, out = (Path(kind) / params.cohort / task for kind in ("models", "reports"))
    evaluate(models, patients, params.evaluation, params.seed, out, about_cohort(params.cohort, task))


if __name__ == "__main__":
    sys.exit(main())
