"""``dml teachability``: whether distillation can pay, and what the slide predicts of the genes."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from dml.cli.output import Json, show

if TYPE_CHECKING:
    from dml.config.params import Params


def teachability(
    cohort: Annotated[str, typer.Option(help="A cohort with stores and folds; by default that of params.yaml.")] = "",
    task: Annotated[str, typer.Option(help="survival, or a label of the cohort.")] = "survival",
    as_json: Json = False,
) -> None:
    """Measure what a slide can be taught before any training: one sentence, then tables; under a minute."""
    import json
    import time

    from dml.data.cohort_store import CohortStore
    from dml.report.teachability_tables import association_rows, association_table, gap_table, sentences
    from dml.teachability.analysis import analyse
    from dml.teachability.gene_targets import read_hallmark_sets
    from dml.teachability.teacher_risk import associate_teacher

    start, params = time.perf_counter(), params_for(cohort)
    store = CohortStore.of(params.cohort)
    patients = store.cohort(params.embed.encoder, params.tiles.mpps)
    hallmark = read_hallmark_sets(store.raw_folder)
    result = analyse(patients, store.splits(), store.patients(), params, task, hallmark)
    teacher = associate_teacher(Path("models") / params.cohort / task / "teacher", patients, params, task)
    if as_json:
        typer.echo(json.dumps({**result.summary, "teacher": teacher}, indent=2))
        return
    for line in sentences(result.summary):
        typer.echo(line)
    typer.echo("")
    for title, table in (("the gap", gap_table), ("predicted from the slide", partial(association_table, most=5))):
        content = table(result.summary)
        rows = [dict(zip(content.columns, row, strict=True)) for row in content.rows]
        show(rows, False, f"{params.cohort}, {task}: {title}")
    if teacher:
        show(association_rows(teacher), False, f"{params.cohort}, {task}: the trained teacher, from the slide")
    typer.echo(f"{time.perf_counter() - start:.0f} s; docs/teachability.md defines every row")


def params_for(cohort: str) -> "Params":
    """Return params.yaml as `dml cohort use` would make it for a cohort, without changing the file."""
    from dml.cohorts.import_raw import use_cohort
    from dml.config import params as config

    params = config.load()
    if cohort in ("", params.cohort):
        return params
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "params.yaml"
        copy.write_bytes(Path("params.yaml").read_bytes())
        use_cohort(cohort, copy)
        return config.load(copy)
