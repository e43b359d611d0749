"""``dml ablate``, ``dml reproduce`` and ``dml validate-external``: commands that take minutes to hours."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from dml.cli.output import Json, bar, note, show
from dml.cli.predict import Model


def ablate(
    task: Annotated[str, typer.Option(help="One of the tasks of params.yaml.")],
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas; by default the one of params.yaml.")] = "",
    variant: Annotated[
        list[str] | None, typer.Option(help="Only these rows besides the full models; may be repeated.")
    ] = None,
    validation: Annotated[
        bool,
        typer.Option("--validation", help="Score out-of-fold predictions of training patients: what a choice may see."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Train teacher and student with one thing switched off at a time; the same command resumes.

    Writes reports/<cohort>/<task>/ablation.md and .json: outer test folds, paired differences to the full models.
    With --validation no test patient is scored, and the files are ablation-validation.md and .json.
    """
    from dml.config import params as config
    from dml.core.errors import ConfigError
    from dml.experiments.ablation import (
        PATIENTS,
        Ablation,
        Role,
        iterate_cells,
        score_variants,
        select_variants,
        write_table,
    )

    params = config.load()
    if not all(part.strip().lstrip("-").isdigit() for part in seeds.split(",") if seeds):
        raise ConfigError(f"--seeds {seeds!r}: whole numbers separated by commas, e.g. 1,2,3")
    numbers = [int(part) for part in seeds.split(",")] if seeds else [params.seed]
    ablation, variants = Ablation.read(params, task), select_variants(params, variant or ())
    for cell in bar(list(iterate_cells(variants, numbers, params.folds)), f"ablation of {task}"):
        ablation.predictions(cell)
    role: Role = "validation" if validation else "test"
    lines = score_variants(ablation, variants, numbers, role)
    folder = Path("reports") / params.cohort / task
    write_table(lines, numbers, params.optimisation.ensemble_size, folder, role)
    columns = ("variant", "subgroup", "metric", "value", "ci_low", "ci_high", "difference", "p_holm")
    show(
        [{name: line.get(name) for name in columns} for line in lines],
        as_json,
        f"ablation of {task}: {PATIENTS[role].lower()}",
    )
    if validation:
        note(f"written: {folder}/ablation-validation.md")
    else:
        note(f"written: {folder}/ablation.md; on the page after dvc repro -f --single-item evaluate@{task}")


def reproduce(
    run_id: Annotated[str, typer.Argument(help="Id of a model's run or of one of its folds, as MLflow shows it.")],
    fold: Annotated[int | None, typer.Option(min=0, help="Only this fold.")] = None,
    as_json: Json = False,
) -> None:
    """Train a tracked run again from its commit, parameters and data hashes; exit code 3 if a number differs."""
    from dml.core.errors import CheckFailed
    from dml.experiments import reproduce as reproduction
    from dml.experiments.recorded_fold import recorded_folds
    from dml.tracking import store

    folds = recorded_folds(store.connect(must_exist=True), run_id)
    if any(recorded.dirty for recorded in folds):
        note("the run was made with uncommitted changes: its commit is not all of its code")
    compared = reproduction.reproduce(run_id, fold, partial(bar, label="training again"))
    show([result.row() for result in compared], as_json, f"{folds[0].model} at commit {folds[0].commit[:10]}")
    different = [result.fold for result in compared if not result.identical]
    if different:
        raise CheckFailed(f"run {run_id}: metrics of folds {different} are not those recorded")
    largest = max(result.largest for result in compared)
    close = "to the bit" if largest == 0 else f"up to rounding (largest difference {largest:.1e})"
    count = f"{len(compared)} fold{'s' if len(compared) > 1 else ''}"
    note(f"run {run_id}: metrics of {count} are identical, every predicted number {close}")


def validate_external(
    model: Model,
    cohort: Annotated[str, typer.Option(help="A cohort whose stores are in data/<cohort>.")],
    as_json: Json = False,
) -> None:
    """Predict the patients of another cohort with a registered model and score it there, with intervals."""
    from dml.cli.result_rows import metric_rows, numbers
    from dml.config import params as config
    from dml.core.files import read_json
    from dml.experiments import external_validation

    params = config.load()
    out = external_validation.validate_external(model, cohort, params.evaluation, params.seed)
    scored = read_json(out / "metrics.json")
    show(numbers(scored) if as_json else metric_rows(scored), as_json, f"{model} on {cohort}")
    note(f"{out}: metrics.json, predictions.parquet, coverage.json")
