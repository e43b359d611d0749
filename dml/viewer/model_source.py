"""Make a viewer of what the command line names: a folder of fold models or a registered version, and slides."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dml.core.errors import ConfigError, InputError
from dml.core.predictions import read_predictions
from dml.data.cohort_store import CohortStore
from dml.inference.ensemble import Ensemble, fold_folders
from dml.registry.model_folder import model_folder
from dml.viewer.app import Viewer
from dml.viewer.slide_collection import CohortSlides, FolderSlides, SlideCollection


def make_viewer(model: str, cohort: str | None = None, slides: Path | None = None, mpp: float | None = None) -> Viewer:
    """Return a viewer of a cohort's slides, or of those of a folder.

    Parameters
    ----------
    model : str
        Folder with ``fold-*``, or ``<name>@<alias>`` of the registry.
    cohort, slides : optional
        One of both.
    mpp : float, optional
        Microns per pixel of files of a folder that do not say it, as plain images.

    Raises
    ------
    ConfigError
        If neither or both are given.
    InputError
        If there is no such model, cohort or folder, or no slide in it.
    """
    if (cohort is None) == (slides is None):
        raise ConfigError("dml view shows a cohort or a folder: give one of --cohort and --slides")
    if slides is None and mpp is not None:
        raise ConfigError("--mpp is of --slides: the resolutions of a cohort are in its table of slides")
    folder = model_folder(model)
    ensemble = Ensemble.load(folder)
    collection: SlideCollection
    if slides is not None:
        from dml.registry.predict import TABLES, request_table

        if slides.suffix in TABLES:
            raise InputError(slides, "a table of slides", "dml view shows a folder, or one slide")
        collection = FolderSlides(slides, request_table(slides, mpp=mpp), ensemble.spec)
        return Viewer(collection, ensemble, model)
    collection = CohortSlides(CohortStore.of(str(cohort)), ensemble.spec)
    return Viewer(collection, ensemble, model, stored_predictions(folder, ensemble))


def stored_predictions(folder: Path, ensemble: Ensemble) -> dict[str, Mapping[str, Any]]:
    """Return the out-of-fold predictions that lie beside the fold models, as `Ensemble.predict` would name them."""
    task = ensemble.spec.preprocessor.task
    stored: dict[str, Mapping[str, Any]] = {}
    for path, fold in zip(fold_folders(folder), ensemble.folds, strict=True):
        file = path / "predictions.parquet"
        if not file.exists():
            continue
        rows = read_predictions(file)[0]
        rows = rows[rows["role"] == "test"]
        if task.kind == "survival":
            risk = (rows["risk"] - fold.spec.train_cutoff) / fold.spec.train_risk_deviation
            rows = rows.assign(risk=risk, risk_group=np.where(risk > 0, "high", "low"))
        elif task.kind == "classification":
            names = task.output_columns()
            best = rows[names].to_numpy(float).argmax(axis=1)
            rows = rows.assign(prediction=np.array(task.classes, dtype=object)[best])
        stored |= {str(row["patient_id"]): {str(k): v for k, v in row.items()} for row in rows.to_dict("records")}
    return stored
