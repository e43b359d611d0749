"""Stage extract_features: tiles become tokens, or features made elsewhere are imported or taken over."""

import logging
import sys
from pathlib import Path

import pandas as pd

from dml.cohorts.description import CohortDescription
from dml.cohorts.store_files import read_slides
from dml.config import params as config
from dml.core.files import only_writer, read_parquet
from dml.features.encode_cohort import encode_cohort
from dml.features.executors import open_executor
from dml.features.import_features import import_features
from dml.features.merge_features import merge_features
from pipelines.stage import stage


def extract_features(params: config.Params, folder: Path) -> pd.DataFrame:
    """Write data/<cohort>/features; return its manifest."""
    out, description = folder / "features", CohortDescription.load(params.cohort)
    if description.combines:
        return merge_features(description, out, params.tiles, params.embed.encoder)
    if params.embed.source == "import":
        slides = read_slides(folder / "slides.parquet")
        return import_features(slides, description, out, params.tiles, params.embed)
    slides = read_parquet(folder / "tiles" / "slides.parquet")[0].to_pandas()
    with open_executor(params.scale, params.embed.workers) as executor:
        return encode_cohort(slides, folder / "tiles", out, params.tiles, params.embed, executor=executor)


@stage
def main() -> None:
    """Run the stage."""
    params = config.load()
    with only_writer("embed"):
        manifest = extract_features(params, Path("data") / params.cohort)
    good = manifest[manifest["status"] == "ok"]
    failed = manifest["slide_id"].nunique() - good["slide_id"].nunique()
    logging.info(
        "%d slides with features, %d failed, %d tokens", good["slide_id"].nunique(), failed, good["tiles"].sum()
    )


if __name__ == "__main__":
    sys.exit(main())
