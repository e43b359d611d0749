"""``dml reproduce``: does a tracked run come out the same again."""

from typing import Annotated

import typer

from dml.cli.output import Json, bar, note, show


def reproduce(
    run_id: Annotated[str, typer.Argument(help="Id of a model's run or of one of its folds, as MLflow shows it.")],
    fold: Annotated[int | None, typer.Option(min=0, help="Only this fold.")] = None,
    as_json: Json = False,
) -> None:
    """Train a tracked run again from its commit, parameters and data hashes; exit code 3 if a number differs."""
    from functools import partial

    from dml.core.errors import CheckFailed
    from dml.experiments import reproduce as reproduction
    from dml.tracking import store

    folds = reproduction.recorded(store.connect(), run_id)
    if any(found.dirty for found in folds):
        note("the run was made with uncommitted changes: its commit is not all of its code")
    compared = reproduction.reproduce(run_id, fold, partial(bar, label="training again"))
    show([found.row() for found in compared], as_json, f"{folds[0].model} at commit {folds[0].commit[:10]}")
    different = [found.fold for found in compared if not found.identical]
    if different:
        raise CheckFailed(f"run {run_id}: metrics of folds {different} are not those recorded")
    largest = max(found.largest for found in compared)
    close = "to the bit" if largest == 0 else f"up to rounding (largest difference {largest:.1e})"
    folds_said = f"{len(compared)} fold{'s' if len(compared) > 1 else ''}"
    note(f"run {run_id}: metrics of {folds_said} are identical, every predicted number {close}")
