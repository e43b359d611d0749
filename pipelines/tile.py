"""Stage tile: find the tissue of every slide and cut it into nested grids of tiles."""

import logging
import sys
from pathlib import Path

from dml.cohorts.store_files import read_slides
from dml.config import params as config
from dml.core.files import only_writer
from dml.features.executors import open_executor
from dml.features.tile_cohort import tile_cohort
from pipelines.stage import stage


@stage
def main() -> None:
    """Write data/<cohort>/tiles."""
    params = config.load()
    folder = Path("data") / params.cohort
    slides = read_slides(folder / "slides.parquet")
    if params.embed.source == "import":
        logging.info("features are imported (embed.source): no slide is tiled")
        slides = slides.iloc[:0]
    with only_writer("tile"), open_executor(params.scale, params.tiles.workers) as executor:
        table = tile_cohort(slides, folder / "tiles", params.tiles, executor=executor)
    good = table["status"] == "ok"
    logging.info("%d slides tiled, %d failed, %d tiles", good.sum(), (~good).sum(), table.loc[good, "tiles"].sum())


if __name__ == "__main__":
    sys.exit(main())
