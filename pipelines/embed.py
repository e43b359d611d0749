"""Stage embed: tiles become tokens at every resolution, or features made elsewhere are imported."""

import logging
import sys
from pathlib import Path

import pandas as pd

from dml import config
from dml.cohorts.description import CohortDescription
from dml.cohorts.slides import read_slides
from dml.errors import DmlError
from dml.features.extraction import embed_slides, import_features
from dml.files import only_writer, read_parquet


def embed(params: config.Params, folder: Path) -> pd.DataFrame:
    """Write data/<cohort>/features; return its manifest."""
    out = folder / "features"
    if params.embed.source == "import":
        description = CohortDescription.load(params.cohort)
        slides = read_slides(folder / "slides.parquet")
        return import_features(slides, description, out, params.tiles, params.embed)
    slides = read_parquet(folder / "tiles" / "slides.parquet")[0].to_pandas()
    return embed_slides(slides, folder / "tiles", out, params.tiles, params.embed)


def main() -> int:
    """Run the stage; return the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        params = config.load()
        with only_writer("embed"):
            manifest = embed(params, Path("data") / params.cohort)
    except DmlError as error:
        logging.error("%s", error)
        return error.exit_code
    good = manifest[manifest["status"] == "ok"]
    failed = manifest["slide_id"].nunique() - good["slide_id"].nunique()
    logging.info(
        "%d slides with features, %d failed, %d tokens", good["slide_id"].nunique(), failed, good["tiles"].sum()
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
