"""``dml probe``: what a task's models rely on, and what training on shuffled outcomes gives."""

from pathlib import Path
from typing import Annotated

import typer

from dml.cli.output import Json, bar, note, show

app = typer.Typer(no_args_is_help=True, help="Probe the models of a task, or train on shuffled outcomes.")
Task = Annotated[str, typer.Option(help="One of the tasks of params.yaml.")]


@app.command("show")
def show_(task: Task, as_json: Json = False) -> None:
    """Show the numbers of reports/<cohort>/<task>/probes.json, as the stage probe wrote them."""
    from dml.config import params as config
    from dml.core.files import read_json
    from dml.tracking.run_reports import probe_metrics

    content = read_json(Path("reports") / config.load().cohort / task / "probes.json")
    columns = {model: probe_metrics(content, model) for model in content["modality_exchange"]}
    names = dict.fromkeys(name for own in columns.values() for name in own)
    rows = [{"probe": n.removeprefix("probe/"), **{m: own.get(n) for m, own in columns.items()}} for n in names]
    show(rows, as_json, f"{content['metric']}, {content['patients']} test patients")


@app.command("shuffle-labels")
def shuffle_labels(
    task: Task,
    repeats: Annotated[int, typer.Option(min=1, help="Trainings per fold, each on outcomes dealt out anew.")] = 2,
    as_json: Json = False,
) -> None:
    """Train teachers on shuffled outcomes on the real folds; exit code 3 unless 0.5 is inside the interval."""
    from functools import partial

    from dml.config import params as config
    from dml.core.errors import CheckFailed
    from dml.core.files import write_json
    from dml.data.cohort_store import CohortStore
    from dml.evaluation.probes.permutation_test import run_permutation_test

    params = config.load()
    store = CohortStore.of(params.cohort)
    cohort, splits = store.cohort(params.embed.encoder, params.tiles.mpps), store.splits()
    found = run_permutation_test(
        cohort, splits, params, task, repeats, partial(bar, label="training on permuted outcomes")
    )
    out = Path("reports") / params.cohort / "nulls" / f"{task}.json"
    write_json(out, found)
    show(found["trainings"], as_json, f"{found['metric']} of teachers trained on shuffled outcomes")
    said = f"mean {found['value']:.3f} ({found['ci_low']:.3f} to {found['ci_high']:.3f}), chance 0.5: {out}"
    if not found["passed"]:
        raise CheckFailed(f"{task}: {said}. Something of the test patients reaches the training")
    note(said)
