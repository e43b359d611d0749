"""``dml ablate``: what each contribution is worth, over folds and seeds."""

from pathlib import Path
from typing import Annotated

import typer

from dml.cli.output import Json, bar, note, show


def ablate(
    task: Annotated[str, typer.Option(help="One of the tasks of params.yaml.")],
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas; by default the one of params.yaml.")] = "",
    variant: Annotated[
        list[str] | None, typer.Option(help="Only these rows besides the full models; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train teacher and student with one thing switched off at a time; the same command resumes.

    Writes reports/<cohort>/<task>/ablation.md and .json: outer test folds, paired differences to the full models.
    """
    from dml.config import params as config
    from dml.core.errors import ConfigError
    from dml.experiments.ablation import Ablation, cells, chosen, table, write_table

    params = config.load()
    if not all(part.strip().lstrip("-").isdigit() for part in seeds.split(",") if seeds):
        raise ConfigError(f"--seeds {seeds!r}: whole numbers separated by commas, e.g. 1,2,3")
    wanted = [int(part) for part in seeds.split(",")] if seeds else [params.seed]
    ablation, variants = Ablation.read(params, task), chosen(params, variant or ())
    for cell in bar(list(cells(variants, wanted, params.folds)), f"ablation of {task}"):
        ablation.predictions(cell)
    lines = table(ablation, variants, wanted)
    folder = Path("reports") / params.cohort / task
    write_table(lines, wanted, params.optimisation.ensemble_size, folder)
    columns = ("variant", "subgroup", "metric", "value", "ci_low", "ci_high", "difference", "p_holm")
    show([{name: line.get(name) for name in columns} for line in lines], as_json, f"ablation of {task}")
    note(f"written: {folder}/ablation.md; on the page after dvc repro -f --single-item evaluate@{task}")
