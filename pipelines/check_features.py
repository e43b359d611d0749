"""Stage check_features: Great Expectations on every feature bag; a broken rule stops the pipeline."""

import logging
import sys
from pathlib import Path

from dml.checks.adapter_check import check_adapter
from dml.checks.run import check_features
from dml.config import params as config
from dml.core.files import only_writer
from pipelines.stage import stage


@stage
def main() -> None:
    """Check data/<cohort>/features, write reports/<cohort>/checks/features*."""
    params = config.load()
    out = Path("reports") / params.cohort / "checks"
    with only_writer("check_features"):
        check_adapter(Path("data") / params.cohort, Path("encoders") / f"{params.embed.encoder}.yaml")
        check_features(Path("data") / params.cohort, params, out)
    logging.info((out / "features" / "summary.txt").read_text())


if __name__ == "__main__":
    sys.exit(main())
