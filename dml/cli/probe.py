"""``dml probe``: numbers of the probes, and a permutation test of the training."""

from pathlib import Path
from typing import Annotated

import typer

from dml.cli.output import Json, bar, note, show

app = typer.Typer(no_args_is_help=True, help="Show the probes of a task, or train on permuted outcomes.")
Task = Annotated[str, typer.Option(help="One of the tasks of params.yaml.")]


@app.command("show")
def show_(task: Task, as_json: Json = False) -> None:
    """Show the numbers of reports/<cohort>/<task>/probes.json, as the stage probe wrote them."""
    from dml.config import params as config
    from dml.core.files import read_json
    from dml.tracking.run_reports import probe_metrics

    content = read_json(Path("reports") / config.load().cohort / task / "probes.json")
    columns = {model: probe_metrics(content, model) for model in content["modality_exchange"]}
    names = dict.fromkeys(name for values in columns.values() for name in values)
    rows = [{"probe": n.removeprefix("probe/"), **{m: values.get(n) for m, values in columns.items()}} for n in names]
    show(rows, as_json, f"{content['metric']}, {content['patients']} test patients")


@app.command("permutation-test")
def permutation_test(
    task: Task,
    repeats: Annotated[int, typer.Option(min=1, help="Trainings per fold, each on a new permutation.")] = 2,
    as_json: Json = False,
) -> None:
    """Train teachers on permuted outcomes on the real folds; exit code 3 unless chance is inside the interval."""
    from functools import partial

    from dml.config import params as config
    from dml.core.errors import CheckFailed
    from dml.core.files import write_json
    from dml.data.cohort_store import CohortStore
    from dml.probes.permutation_test import run_permutation_test

    params = config.load()
    store = CohortStore.of(params.cohort)
    cohort, splits = store.cohort(params.embed.encoder, params.tiles.mpps), store.splits()
    progress = partial(bar, label="training on permuted outcomes")
    result = run_permutation_test(cohort, splits, params, task, repeats, progress)
    out = Path("reports") / params.cohort / "nulls" / f"{task}.json"
    write_json(out, result)
    show(result["trainings"], as_json, f"{result['metric']} of teachers trained on permuted outcomes")
    interval = f"{result['value']:.3f} ({result['ci_low']:.3f} to {result['ci_high']:.3f})"
    message = f"mean {interval}, chance {result['chance']:g}: {out}"
    if not result["passed"]:
        raise CheckFailed(f"{task}: {message}. Information on test patients reaches the training")
    note(message)
