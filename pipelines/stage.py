"""How every stage starts and ends: a user error is a message and an exit status, never a traceback."""

import argparse
import logging
from collections.abc import Callable
from functools import wraps

from dml.core.dvc_lock import keep_lock
from dml.core.errors import as_user_error


def stage(work: Callable[[], None]) -> Callable[[], int]:
    """Turn the work of a stage into its main function, which returns the exit status for DVC."""

    @wraps(work)
    def main() -> int:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        try:
            keep_lock()
            work()
        except Exception as error:
            known = as_user_error(error)
            if known is None:
                raise
            logging.error("%s", known)
            return known.exit_code
        return 0

    return main


def parse_arguments(*names: str) -> dict[str, str]:
    """Read the options ``--<name>`` of a stage; all are required."""
    parser = argparse.ArgumentParser()
    for name in names:
        parser.add_argument(f"--{name}", required=True)
    return dict(vars(parser.parse_args()))
