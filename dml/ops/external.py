"""Apply a registered model to a whole other cohort and judge it on that cohort's patients."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from dml import config
from dml.errors import InputError, listed
from dml.evaluation.report import evaluate
from dml.files import read_parquet, write_json
from dml.ops import registry
from dml.ops.ensemble import Ensemble
from dml.ops.transcripts import MIN_COVERAGE, coverage, in_unit
from dml.predictions import write_predictions
from dml.training.bundle import Spec
from dml.training.reading import read_cohort
from dml.types import Case, Cohort


def external(
    reference: str,
    cohort: str,
    settings: config.Evaluation,
    seed: int = 0,
    data: Path = Path("data"),
    reports: Path = Path("reports"),
) -> Path:
    """Predict and score every patient of a cohort whose stores are in ``data/<cohort>``.

    Parameters
    ----------
    reference : str
        ``<name>@<alias>`` or ``<name>/<version>``.
    settings : config.Evaluation
        Resamples, confidence, horizons, and subgroups (those whose columns the cohort has).

    Returns
    -------
    Path
        ``reports/<cohort>/external/<name>``: metrics.json as for any model, predictions.parquet, coverage.json (which
        patients and genes could be used).

    Raises
    ------
    InputError
        If the cohort's features are of another encoder, width or resolution, its labels or unit are others, too few of
        the model's genes are measured, or nobody has both slide and outcome.
    """
    entry = registry.resolve(reference)
    ensemble = ensemble_of(entry)
    folder = data / cohort
    check_features(folder / "features", ensemble.spec)
    read = read_cohort(folder, ensemble.spec.preparation.encoder, ensemble.spec.preparation.mpps)
    check_cohort(read, folder, ensemble.spec)
    if ensemble.spec.role == "teacher":
        read = _converted(read, folder / "expression.parquet", ensemble.spec)
    usable = read.only(
        {case.patient_id for case in read.cases if _truth(case, ensemble.spec) and _whole(case, ensemble.spec)}
    )
    if not usable.cases:
        raise InputError(folder, "no patient has both features and an outcome", "Check the stores: dml cohort show")
    out = reports / cohort / "external" / entry.name
    rows = _with_truth(ensemble.predict(usable), usable, ensemble.spec).assign(model=entry.tags["model"])
    _score(rows, ensemble.spec, read_parquet(folder / "patients.parquet")[0].to_pandas(), settings, seed, out)
    write_json(out / "coverage.json", _coverage(read, usable, entry, ensemble.spec))
    return out


def ensemble_of(entry: registry.Entry) -> Ensemble:
    """Load the fold models of a registered version."""
    served: Any = registry.load(entry.name, entry.version)
    ensemble: Ensemble = served.unwrap_python_model().answering.ensemble
    return ensemble


def check_features(features: Path, spec: Spec) -> None:
    """Raise InputError unless a cohort has features of the model's encoder and resolutions."""
    encoder, mpps = spec.preparation.encoder, [f"{mpp:g}" for mpp in spec.preparation.mpps]
    encoders = sorted(path.name for path in features.iterdir() if path.is_dir()) if features.exists() else []
    if encoder not in encoders:
        raise InputError(features, f"features of {listed(encoders) or 'no encoder'}", f"The model needs {encoder}")
    found = sorted(path.name for path in (features / encoder).iterdir() if path.is_dir())
    missing = [mpp for mpp in mpps if mpp not in found]
    if missing:
        remedy = f"The model needs {listed(mpps)}: extract them, or train on what there is"
        raise InputError(features / encoder, f"features at {listed(found)} microns per pixel", remedy)


def check_cohort(cohort: Cohort, folder: Path, spec: Spec) -> None:
    """Raise InputError unless tokens, labels and genes of a cohort are what the model was trained on."""
    prepared = spec.preparation
    width = len(prepared.tokens.mean)
    wrong = {c.patient_id: bag.tokens.shape[1] for c in cohort.cases for bag in c.pyramid.values()}
    wrong = {patient: found for patient, found in wrong.items() if found != width}
    if wrong:
        found = f"features of width {listed(sorted(set(wrong.values())))} ({listed(list(wrong))})"
        raise InputError(folder / "features", found, f"The model needs {width}")
    if prepared.kind == "classification" and not set(cohort.classes.get(prepared.task, ())) <= set(prepared.classes):
        classes = listed(cohort.classes.get(prepared.task, ()), 20)
        raise InputError(folder, f"{prepared.task} has {classes}", f"The model knows {listed(prepared.classes, 20)}")
    if prepared.kind == "classification" and prepared.task not in cohort.classes:
        raise InputError(folder, f"no label {prepared.task}", f"Known: {listed(sorted(cohort.classes), 20)}")
    if spec.role == "student":
        return
    share = coverage(cohort.genes, prepared)
    if share < MIN_COVERAGE:
        found = f"{share:.0%} of the model's genes are measured"
        raise InputError(folder / "expression.parquet", found, f"At least {MIN_COVERAGE:.0%} are needed")


def _converted(cohort: Cohort, path: Path, spec: Spec) -> Cohort:
    """Convert the transcriptomes to the unit of the model."""
    with_values = [case for case in cohort.cases if case.expression is not None]
    if not with_values:
        return cohort
    values = np.array([case.expression for case in with_values], dtype=float)
    wanted = in_unit(values, cohort.unit, spec.preparation.unit, path).astype(np.float32)
    row = {case.patient_id: i for i, case in enumerate(with_values)}
    cases = [replace(c, expression=wanted[row[c.patient_id]]) if c.patient_id in row else c for c in cohort.cases]
    return replace(cohort, cases=tuple(cases), unit=spec.preparation.unit)


def _truth(case: Case, spec: Spec) -> dict[str, Any] | None:
    """Return what was observed of a patient; None if nothing was."""
    if spec.preparation.kind == "survival":
        return None if case.survival is None else {"days": case.survival.days, "event": case.survival.event}
    label = case.labels.get(spec.preparation.task)
    return None if label is None else {"label": label}


def _whole(case: Case, spec: Spec) -> bool:
    """Whether a patient has tokens at every resolution of the model."""
    return {float(mpp) for mpp, bag in case.pyramid.items() if len(bag)} >= {float(m) for m in spec.preparation.mpps}


def _with_truth(rows: pd.DataFrame, cohort: Cohort, spec: Spec) -> pd.DataFrame:
    said = {case.patient_id: {"site": case.site, **(_truth(case, spec) or {})} for case in cohort.cases}
    truth = pd.DataFrame([said[patient] for patient in rows["patient_id"]])
    return pd.concat([rows, truth], axis=1).assign(fold=0, role="test")


def _score(
    rows: pd.DataFrame, spec: Spec, patients: pd.DataFrame, settings: config.Evaluation, seed: int, out: Path
) -> None:
    """Evaluate as any model is, on one fold that is the whole cohort; its own follow-up gives the censoring weights."""
    prepared = spec.preparation
    metadata: dict[str, Any] = {"task": prepared.task, "kind": prepared.kind, "classes": list(prepared.classes)}
    if prepared.kind == "survival":
        metadata |= {"train_cutoff": 0.0, "train_days": rows["days"].tolist(), "train_event": rows["event"].tolist()}
    known = {name: rule for name, rule in settings.subgroups.items() if set(rule) <= set(patients.columns)}
    own = settings.model_copy(update={"subgroups": known, "years": spec.years})
    with TemporaryDirectory() as temporary:
        place = Path(temporary) / str(rows["model"].iloc[0]) / "fold-0" / "predictions.parquet"
        write_predictions(place, rows, metadata)
        evaluate(Path(temporary), patients, own, seed, out, cohort=out.parents[1].name, external=True)


def _coverage(cohort: Cohort, usable: Cohort, entry: registry.Entry, spec: Spec) -> dict[str, Any]:
    prepared = spec.preparation
    missing = sorted({*prepared.tumor_genes, *prepared.tme_genes} - set(cohort.genes))
    return {
        "model": f"{entry.name} version {entry.version}",
        "patients": len(cohort.cases),
        "patients_with_features": sum(_whole(case, spec) for case in cohort.cases),
        "patients_evaluated": len(usable.cases),
        "patients_with_expression": sum(case.expression is not None for case in usable.cases),
        "genes": len(prepared.tumor_genes) + len(prepared.tme_genes),
        "genes_missing": missing if spec.role == "teacher" else [],
        "expression_used": spec.role == "teacher",
    }
