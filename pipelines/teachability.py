"""Stage teachability: what a slide can be taught, to reports/<cohort>/<task>/teachability/, before any training."""

import logging
import sys
from pathlib import Path

from dml.config import params as config
from dml.core.device import torch_threads
from dml.core.files import only_writer
from dml.data.cohort_store import CohortStore
from dml.teachability.analysis import analyse
from dml.teachability.fold_patients import TooFewPatients
from dml.teachability.gene_targets import read_hallmark_sets
from dml.teachability.teachability_files import Teachability, write_left_out, write_teachability
from dml.teachability.verdict import sentence
from pipelines.stage import parse_arguments, stage


@stage
def main() -> None:
    """Write summary, targets and predictions of one task; of a cohort without enough pairs, only why."""
    params, task = config.load(), parse_arguments("task")["task"]
    folder = Path("reports") / params.cohort / task / "teachability"
    with only_writer(f"teachability-{task}"):
        try:
            result = measure(params, task)
        except TooFewPatients as problem:
            logging.warning("teachability left out: %s", problem)
            write_left_out(folder, params.cohort, task, str(problem))
            return
        write_teachability(folder, result)
    for protocol, content in result.summary["protocols"].items():
        if "left_out" not in content:
            logging.info("%s: %s", protocol, sentence(result.summary, protocol))


@torch_threads(1)
def measure(params: config.Params, task: str) -> Teachability:
    """Measure one task of the current cohort."""
    store = CohortStore.of(params.cohort)
    cohort = store.cohort(params.embed.encoder, params.tiles.mpps)
    return analyse(cohort, store.splits(), store.patients(), params, task, read_hallmark_sets(store.raw_folder))


if __name__ == "__main__":
    sys.exit(main())
