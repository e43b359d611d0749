"""``dml probe``: numbers of the probes, and a permutation test of the training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from dml.cli.output import Json, bar, note, show

if TYPE_CHECKING:
    import pandas as pd

    from dml.config.params import Params
    from dml.core.types import Cohort
    from dml.data.cohort_store import CohortStore
    from dml.probes.label_study import LabelStudy
    from dml.probes.paired_scorer import PairedScorer

Study = TypeVar("Study", bound="LabelStudy")

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


@app.command()
def degradation(
    task: Task,
    models: Annotated[
        str, typer.Option(help="Trained models beside teacher and student, separated by commas, or none.")
    ] = "",
    levels: Annotated[
        str, typer.Option(help="Levels of damage, increasing from 0 and below 1.")
    ] = "0,0.25,0.5,0.75,0.9",
    as_json: Json = False,
) -> None:
    """Spoil the inputs of the test patients step by step; writes reports/<cohort>/<task>/degradation.json.

    By default with every deep baseline of params.yaml that is trained. The report shows it after
    `dvc repro -f --single-item evaluate@<task>`.
    """
    from functools import partial

    from dml.core.files import write_json
    from dml.core.tasks import make_task
    from dml.probes.degradation import add_models, probe_degradation
    from dml.probes.degradation_rows import area_rows
    from dml.probes.fold_models import collect_outcomes, read_fold_models
    from dml.probes.paired_scorer import PairedScorer
    from dml.training.model_store import ModelStore

    grid = _numbers("--levels", levels, "0,0.5,0.9")
    params, _, cohort, splits = _open_cohort()
    trained = ModelStore.of(params.cohort, task)
    names = [name for name in params.baselines.deep if trained.model_folder(name).exists()]
    if models:
        names = [] if models == "none" else [name.strip() for name in models.split(",")]
    target = make_task(task, cohort.classes)
    folds = add_models(read_fold_models(trained.folder, cohort, splits, target), trained.folder, names)
    scorer = PairedScorer.of(target, collect_outcomes(folds, target), params.evaluation, params.seed)
    progress = partial(bar, label="spoiling inputs")
    result = probe_degradation(folds, scorer, grid, params.probes.repeats, params.seed, progress)
    out = Path("reports") / params.cohort / task / "degradation.json"
    write_json(out, result)
    show(area_rows(result), as_json, f"{result['metric']}: mean over levels of damage up to {grid[-1]:g}")
    note(f"written: {out}; on the page after dvc repro -f --single-item evaluate@{task}")


@app.command("label-fraction")
def label_fraction(
    task: Task,
    fractions: Annotated[str, typer.Option(help="Increasing, above 0 and at most 1.")] = "0.1,0.25,0.5,1",
    models: Annotated[str, typer.Option(help="Deep baselines beside teacher and students, separated by commas.")] = "",
    as_json: Json = False,
) -> None:
    """Train with the outcomes of a part of the learning patients; the others keep slides and RNA. It resumes.

    Writes reports/<cohort>/<task>/label_fraction.json.
    """
    from functools import partial

    from dml.core.files import write_json
    from dml.probes.label_fraction import LabelFractions, score_fractions

    grid = _numbers("--fractions", fractions, "0.1,0.5,1")
    study, scorer = _label_study(LabelFractions, task, models)
    progress = partial(bar, label="training with a part of the outcomes")
    result = score_fractions(study, scorer, grid, progress)
    out = Path("reports") / study.params.cohort / task / "label_fraction.json"
    write_json(out, result)
    columns = ("fraction", "value", "ci_low", "ci_high")
    rows = [{"arm": arm, **{c: p.get(c) for c in columns}} for arm, curve in result["arms"].items() for p in curve]
    show(rows, as_json, f"{result['metric']} by the share of learning patients with an outcome")
    note(f"written: {out}")


@app.command("label-noise")
def label_noise(
    task: Task,
    shares: Annotated[
        str, typer.Option(help="Mean shares of flipped labels at noisy sites, increasing.")
    ] = "0,0.2,0.4",
    sites: Annotated[int, typer.Option(min=0, help="Sites whose labels are noisy; 0: half of them.")] = 0,
    models: Annotated[str, typer.Option(help="Deep baselines beside teacher and student, separated by commas.")] = "",
    as_json: Json = False,
) -> None:
    """Train with classes that some sites record wrongly, with and without correction. It resumes.

    Writes reports/<cohort>/<task>/label_noise.json and .parquet. Labels of test patients stay as they are.
    """
    from dataclasses import replace
    from functools import partial

    import pandas as pd
    import pyarrow as pa

    from dml.core.files import write_json, write_parquet
    from dml.probes.label_noise import LabelNoise, flat_rows, score_noise

    grid = _numbers("--shares", shares, "0,0.2,0.4")
    study, scorer = _label_study(LabelNoise, task, models)
    study = replace(study, n_sites=sites or None)
    result = score_noise(study, scorer, grid, partial(bar, label="training with noisy labels"))
    out = Path("reports") / study.params.cohort / task / "label_noise.json"
    write_json(out, result)
    flat = flat_rows(result)
    write_parquet(out.with_suffix(".parquet"), pa.Table.from_pandas(pd.DataFrame(flat), preserve_index=False))
    columns = ("share", "arm", "model", "value", "ci_low", "ci_high", "flipped", "changed", "precision", "recall")
    show([{c: row[c] for c in columns} for row in flat], as_json, f"{result['metric']} by the share of flipped labels")
    for arm, reason in result["skipped"].items():
        note(f"no arm {arm}: {reason}")
    note(f"written: {out} and {out.with_suffix('.parquet').name}")


@app.command()
def completion(task: Task, as_json: Json = False) -> None:
    """Score gene embeddings sampled from the slide against those of measured genes.

    For a trained student of architecture completed_genes; writes reports/<cohort>/<task>/completion.json.
    """
    from dml.core.files import write_json
    from dml.core.tasks import make_task
    from dml.probes.completion import score_completion
    from dml.probes.fold_models import read_fold_models
    from dml.training.model_store import ModelStore

    params, _, cohort, splits = _open_cohort()
    folder = ModelStore.of(params.cohort, task).folder
    folds = read_fold_models(folder, cohort, splits, make_task(task, cohort.classes))
    result = score_completion(folds, params.evaluation, params.seed)
    out = Path("reports") / params.cohort / task / "completion.json"
    write_json(out, result)
    less = {name: (gain or {}).get("difference") for name, gain in result["difference"].items()}
    scores = result["energy_score"].items()
    rows = [{"completion": name, **(score or {}), "samples_less": less.get(name)} for name, score in scores]
    show(rows, as_json, f"energy score of gene embeddings, {result['patients']} test patients; lower is better")
    note(f"written: {out}")


@app.command("permutation-test")
def permutation_test(
    task: Task,
    repeats: Annotated[int, typer.Option(min=1, help="Trainings per fold, each on a new permutation.")] = 2,
    as_json: Json = False,
) -> None:
    """Train teachers on permuted outcomes on the real folds; exit code 3 unless chance is inside the interval."""
    from functools import partial

    from dml.core.errors import CheckFailed
    from dml.core.files import write_json
    from dml.probes.permutation_test import run_permutation_test

    params, _, cohort, splits = _open_cohort()
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


def _numbers(option: str, text: str, example: str) -> list[float]:
    from dml.core.errors import ConfigError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"{option} {text!r}: numbers separated by commas, e.g. {example}") from None


def _open_cohort() -> "tuple[Params, CohortStore, Cohort, pd.DataFrame]":
    """Read params.yaml, and the patients and folds of its cohort."""
    from dml.config import params as config
    from dml.data.cohort_store import CohortStore

    params = config.load()
    store = CohortStore.of(params.cohort)
    return params, store, store.cohort(params.embed.encoder, params.tiles.mpps), store.splits()


def _label_study(kind: "type[Study]", task: str, models: str) -> "tuple[Study, PairedScorer]":
    """Read what a study of the current cohort's outcomes needs."""
    from hashlib import blake2b

    from dml.core.files import digest
    from dml.models import registry
    from dml.probes.label_study import collect_tested
    from dml.probes.paired_scorer import PairedScorer

    names = [registry.entry(name.strip()).name for name in models.split(",") if name.strip()]
    params, store, cohort, splits = _open_cohort()
    files = (store.patients_path, store.expression_path, store.splits_path, store.manifest_path)
    stores = digest(*(blake2b(path.read_bytes()).hexdigest() for path in files))
    study = kind.of(params, task, cohort, splits, stores, names)
    outcomes = collect_tested(cohort, splits, study.task)
    return study, PairedScorer.of(study.task, outcomes, params.evaluation, params.seed)
