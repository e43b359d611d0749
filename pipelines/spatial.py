"""Stage spatial: maps of teacher and student against the spots of a section, to reports/<cohort>/<task>/spatial.

Each section is explained by the folds that were trained on none of its units. A cohort without spots gets a page that
says so.
"""

import sys
from pathlib import Path

from dml.cohorts.spot_store import read_spots
from dml.config import params as config
from dml.core.files import only_writer
from dml.data.cohort_store import CohortStore
from dml.evaluation.results import PAIR
from dml.spatial.cohort_validation import settings_of, validate_and_report
from dml.spatial.spatial_page import write_not_spatial
from dml.training.model_store import ModelStore
from pipelines.stage import parse_arguments, stage


@stage
def main() -> None:
    """Write the spatial validation of a task."""
    params, task = config.load(), parse_arguments("task")["task"]
    with only_writer(f"spatial-{task}"):
        run(params, task)


def run(params: config.Params, task: str) -> None:
    """Validate teacher and student of one task of the current cohort."""
    store, models = CohortStore.of(params.cohort), ModelStore.of(params.cohort, task)
    spots, out = read_spots(store.folder), Path("reports") / params.cohort / task / "spatial"
    if not len(spots.spots):
        write_not_spatial(params.cohort, task, out)
        return
    folds = {name: [models.fold_model(name, fold) for fold in params.folds] for name in PAIR}
    units = store.cohort(params.embed.encoder, params.tiles.mpps)
    settings = settings_of(params, spots.spacing_um)
    source = f"the {len(params.folds)} folds of {' and '.join(folds)} in {models.folder}"
    validate_and_report(folds, store, spots, units, settings, out, source)


if __name__ == "__main__":
    sys.exit(main())
