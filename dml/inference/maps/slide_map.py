"""The map of one slide of a cohort, out of fold: a row per tile and branch, by models that never saw the patient."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dml.attribution.attribute import LINEAR, Attribution, attribute
from dml.core.errors import InputError, listed
from dml.core.types import Cohort, Kind
from dml.data.cohort_store import CohortStore
from dml.training.checkpoint import FoldModel
from dml.training.model_store import ModelStore

TOTAL = "total"
"""Branch of the sum over all branches; its attention is their mean, without the linear offset."""


@dataclass(frozen=True, slots=True)
class SlideMap:
    """Contributions of the tiles of one slide to one output.

    Attributes
    ----------
    slide_id, patient_id, model, task : str
        Of what.
    path : Path
        The slide's file.
    stated_mpp : float or None
        Microns per pixel in the slide table, for a file that does not say.
    output : str
        ``risk``, a class, or the name of a number.
    tiles : DataFrame
        branch, mpp, tile_um, x_um, y_um (centre), attention, contribution, deviation (over members): a row per tile,
        branch and resolution. Contributions of one patient's slides, branches, resolutions and genes sum to the
        output less the reference.
    kind : str
        Kind of the task.
    """

    slide_id: str
    patient_id: str
    model: str
    task: str
    path: Path
    stated_mpp: float | None
    output: str
    tiles: pd.DataFrame
    kind: Kind

    @property
    def unit(self) -> str:
        """Unit of the contributions: of a number, its own."""
        return {"survival": "SD of training risk", "classification": "logit", "regression": self.task}[self.kind]

    @property
    def branches(self) -> list[str]:
        """The branches, in order."""
        return list(dict.fromkeys(self.tiles["branch"]))

    def layer(self, branch: str, mpp: float) -> pd.DataFrame:
        """Return the tiles of one branch at one resolution."""
        rows = self.tiles[(self.tiles["branch"] == branch) & np.isclose(self.tiles["mpp"], mpp)]
        return rows.reset_index(drop=True)


def make_slide_map(
    store: CohortStore, models: ModelStore, cohort: Cohort, model: str, slide_id: str, output: str | None = None
) -> SlideMap:
    """Attribute the output of one patient and return the tiles of one of the slides.

    Parameters
    ----------
    models : ModelStore
        Of the task.
    cohort : Cohort
        All patients with tokens (`CohortStore.cohort`).
    model : str
        Key of the model registry: teacher, student or a deep baseline.
    output : str, optional
        A class; by default the risk, the number, or the class of the largest logit.

    Raises
    ------
    InputError
        If there is no such slide or output, it has no features or coordinates, or its patient is tested in no fold.
    """
    slides = store.slides().set_index("slide_id")
    if slide_id not in slides.index:
        raise InputError(store.slides_path, f"no slide {slide_id}", f"There are: {listed(slides.index.tolist(), 5)}")
    row = slides.loc[slide_id]
    patient = str(row["patient_id"])
    folds = out_of_fold_models(store, models, model, patient)
    numbers = slide_numbers(store, patient)
    case = cohort.subset({patient})
    if slide_id not in numbers or not case.cases or not case.cases[0].bags:
        raise InputError(slide_id, "no features of this slide", "Run: dvc repro embed; see the manifest for the reason")
    result = attribute(folds, case)
    chosen = choose_output(result, output)
    tiles = tile_table(result, chosen)
    tiles = tiles[tiles["slide"] == numbers.index(slide_id)].drop(columns="slide").reset_index(drop=True)
    if tiles["x_um"].isna().any():
        raise InputError(slide_id, "features without coordinates", "A map needs them; attention is in dml predict")
    mpp: float | None = None if pd.isna(row["mpp"]) else float(row["mpp"])
    task = folds[0].spec.preprocessor.task
    path, name = Path(row["path"]), result.outputs[chosen]
    return SlideMap(slide_id, patient, model, task.name, path, mpp, name, tiles, task.kind)


def out_of_fold_models(store: CohortStore, models: ModelStore, model: str, patient: str) -> list[FoldModel]:
    """Return the models of the folds in which a patient is tested.

    Raises
    ------
    InputError
        If there is none, or a model is missing.
    """
    splits = store.splits()
    tested = splits[(splits["patient_id"] == patient) & (splits["role"] == "test")]
    if tested.empty:
        raise InputError(store.splits_path, f"patient {patient} is tested in no fold", "Maps are made out of fold")
    return [models.fold_model(model, int(fold)) for fold in tested["fold"]]


def slide_numbers(store: CohortStore, patient: str) -> list[str]:
    """Return the ids of a patient's slides in the order of `Bag.slide`."""
    manifest = store.manifest()
    return sorted(set(manifest.loc[(manifest["status"] == "ok") & (manifest["patient_id"] == patient), "slide_id"]))


def choose_output(result: Attribution, output: str | None) -> int:
    """Return the number of an output; by default the largest.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    if output is None:
        return int(np.argmax(result.output))
    if output not in result.outputs:
        raise InputError("--output", f"no output {output!r}", f"The model has: {', '.join(result.outputs)}")
    return result.outputs.index(output)


def tile_table(result: Attribution, output: int) -> pd.DataFrame:
    """Return a row per tile, branch and resolution, and the sum over branches as branch ``total``."""
    parts = [
        pd.DataFrame(
            {
                "branch": part.branch,
                "mpp": part.mpp,
                "tile_um": part.tile_um,
                "slide": part.slide,
                "x_um": part.coords_um[:, 0],
                "y_um": part.coords_um[:, 1],
                "attention": part.attention,
                "contribution": part.contribution[:, output],
                "deviation": part.deviation[:, output],
            }
        )
        for part in result.tiles
    ]
    return pd.concat([*parts, *(_total(levels) for levels in _by_level(parts))], ignore_index=True)


def _by_level(parts: Sequence[pd.DataFrame]) -> list[list[pd.DataFrame]]:
    levels: dict[float, list[pd.DataFrame]] = {}
    for part in parts:
        levels.setdefault(float(part["mpp"].iloc[0]), []).append(part)
    return list(levels.values())


def _total(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    attended = [part["attention"].to_numpy() for part in parts if part["branch"].iloc[0] != LINEAR]
    contribution = np.sum([part["contribution"] for part in parts], axis=0)
    deviation = np.sqrt(np.sum([part["deviation"].to_numpy() ** 2 for part in parts], axis=0))
    sums = {"attention": np.mean(attended, axis=0), "contribution": contribution, "deviation": deviation}
    return parts[0].assign(branch=TOTAL, **sums)
