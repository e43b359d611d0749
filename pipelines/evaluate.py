"""Stage evaluate: all models of one task on their test patients, to reports/<cohort>/<task>/."""

import argparse
import logging
from pathlib import Path

from dml import config
from dml.evaluation.flow import cohort_flow
from dml.evaluation.report import evaluate
from dml.files import only_writer, read_parquet


def main() -> None:
    """Read predictions and patients, write metrics, comparisons, tables, figures and the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", required=True)
    task = parser.parse_args().task
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    params = config.load()
    with only_writer(f"evaluate-{task}"):
        run(params, task)


def run(params: config.Params, task: str) -> None:
    """Evaluate one task of the current cohort."""
    cohort = Path("data") / params.cohort
    patients = read_parquet(cohort / "patients.parquet")[0].to_pandas()
    models, out = (Path(kind) / params.cohort / task for kind in ("models", "reports"))
    flow = cohort_flow(cohort, task)
    evaluate(models, patients, params.evaluation, params.seed, out, cohort=params.cohort, flow=flow)


if __name__ == "__main__":
    main()
