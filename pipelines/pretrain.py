"""Stage pretrain: initial weights of one fold from pairs of other cohorts; without them a file that says so."""

import sys

from dml.config import params as config
from dml.core.files import only_writer, write_json
from dml.data.cohort_store import CohortStore
from pipelines.stage import parse_arguments, stage


@stage
def main() -> None:
    """Write data/<cohort>/pretraining/fold-<k>."""
    params, index = config.load(), int(parse_arguments("fold")["fold"])
    folder = CohortStore.of(params.cohort).pretraining_folder(index)
    with only_writer(f"pretrain-{index}"):
        if not params.other_cohorts:
            write_json(folder / "pretraining.json", {"pairs": {}})
            return
        from dml.pretraining.pretrain import pretrain_fold  # seconds of imports

        store = CohortStore.of(params.cohort)
        cohort = store.cohort(params.embed.encoder, params.tiles.mpps)
        pretrain_fold(cohort, store.splits(), index, params).save(folder)


if __name__ == "__main__":
    sys.exit(main())
