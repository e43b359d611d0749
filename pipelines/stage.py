"""How every stage starts and ends: a user error is a message and an exit status, never a traceback."""

import argparse
import logging
from collections.abc import Callable
from functools import wraps

from dml.core.errors import DmlError


def stage(work: Callable[[], None]) -> Callable[[], int]:
    """Turn the work of a stage into its main function, which returns the exit status for DVC."""

    @wraps(work)
    def main() -> int:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        try:
            work()
        except DmlError as error:
            logging.error("%s", error)
            return error.exit_code
        return 0

    return main


def task_argument() -> str:
    """Read ``--task``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", required=True)
    return str(parser.parse_args().task)
