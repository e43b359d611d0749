"""Stage case_bank: tokens and outcomes of the learning patients of teacher and student, without their names."""

import logging
import sys
from pathlib import Path

from dml.case_bank.bank import FOLDER, CaseBank
from dml.case_bank.build_bank import build_bank
from dml.case_bank.pictures import make_picture_reader
from dml.config import params as config
from dml.core.files import only_writer
from dml.data.cohort_store import CohortStore
from dml.evaluation.results import PAIR
from dml.training.folds import make_fold
from dml.training.model_store import ModelStore
from pipelines.inputs import read_stores
from pipelines.stage import parse_arguments, stage


@stage
def main() -> None:
    """Write reports/<cohort>/<task>/case_bank/{teacher,student}."""
    params, task = config.load(), parse_arguments("task")["task"]
    with only_writer(f"case_bank-{task}"):
        run(params, task)


def run(params: config.Params, task: str) -> None:
    """Make the case banks of one task of the current cohort."""
    cohort, splits = read_stores(params)
    models, store = ModelStore.of(params.cohort, task), CohortStore.of(params.cohort)
    inner = [make_fold(cohort, splits, fold).inner_fold_of for fold in params.folds]
    picture = make_picture_reader(store) if params.case_bank.thumbnails else None
    for name in PAIR:
        bank: CaseBank = build_bank([models.fold_model(name, f) for f in params.folds], cohort, inner, picture)
        out = Path("reports") / params.cohort / task / FOLDER / name
        bank.save(out, {"cohort": params.cohort, "task": task, "model": name, "folds": len(params.folds)})
        held_out = int(bank.cases["held_out"].sum())
        logging.info("%s: %d patients, %d of them held out by some member", name, len(bank.cases), held_out)


if __name__ == "__main__":
    sys.exit(main())
