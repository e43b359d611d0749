"""Maps in memory: a patient is attributed once, when one of its slides is first opened; the latest patients remain."""

from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import pandas as pd

from dml.attribution.attribute import Attribution, attribute
from dml.core.errors import InputError
from dml.core.tasks import Task
from dml.core.types import SUBSPACES
from dml.inference.ensemble import Ensemble, select_folds
from dml.inference.maps.slide_map import SlideMap, choose_output, tile_table
from dml.viewer.slide_collection import SlideCollection, SlideEntry

CAPACITY = 16
"""Patients whose maps remain in memory."""
NO_COORDINATES = "features without coordinates: no map can be drawn"


@dataclass(frozen=True, slots=True)
class PatientMaps:
    """What the model made of one patient: contributions, prediction, and the slides by number."""

    attribution: Attribution
    prediction: Mapping[str, Any]
    slides: tuple[str, ...]
    folds: int
    members: int

    def slide_map(self, entry: SlideEntry, model: str, task: Task, output: str | None) -> SlideMap:
        """Return the tiles of one slide for one output; by default the risk, or the class of the largest logit.

        Raises
        ------
        InputError
            If the slide has no features, they have no coordinates, or the output is unknown.
        """
        if entry.slide_id not in self.slides:
            raise InputError(entry.slide_id, "no features of this slide", "Its status in the list says why")
        chosen = choose_output(self.attribution, output)
        tiles = tile_table(self.attribution, chosen)
        tiles = tiles[tiles["slide"] == self.slides.index(entry.slide_id)]
        if tiles["x_um"].isna().any():
            raise InputError(entry.slide_id, NO_COORDINATES, "Import features with coordinates")
        tiles = tiles.drop(columns="slide").reset_index(drop=True)
        name = self.attribution.outputs[chosen]
        path = entry.file or Path(entry.slide_id)
        return SlideMap(
            entry.slide_id, entry.patient_id, model, task.name, path, entry.stated_mpp, name, tiles, task.kind
        )

    def subspace_sums(self, output: str) -> dict[str, float]:
        """Return the sum of contributions of the patient's tiles and genes, per branch; with the reference."""
        number = choose_output(self.attribution, output)
        sums: dict[str, float] = {"reference": float(self.attribution.reference[number])}
        for part in self.attribution.tiles:
            sums[part.branch] = sums.get(part.branch, 0.0) + float(part.contribution[:, number].sum())
        for group, genes in zip(SUBSPACES, self.attribution.genes, strict=False):
            sums[f"{group} genes"] = float(genes.contribution[:, number].sum())
        return sums


class MapCache:
    """Computes maps one after the other in a thread, and never twice for a patient that is still in memory."""

    def __init__(self, ensemble: Ensemble, collection: SlideCollection, capacity: int = CAPACITY) -> None:
        self._ensemble, self._collection, self._capacity = ensemble, collection, capacity
        self._worker, self._lock = ThreadPoolExecutor(1, "maps"), Lock()
        self._patients: OrderedDict[str, Future[PatientMaps]] = OrderedDict()
        self.predictions: dict[str, Mapping[str, Any]] = {}

    def request(self, patient_id: str) -> "Future[PatientMaps]":
        """Return the maps of a patient, now or in future. A failure is remembered as long as a result would be."""
        with self._lock:
            future = self._patients.get(patient_id)
            if future is None:
                future = self._patients[patient_id] = self._worker.submit(self._make, patient_id)
            self._patients.move_to_end(patient_id)
            while len(self._patients) > self._capacity:
                self._patients.popitem(last=False)[1].cancel()
            return future

    def state(self, patient_id: str) -> str:
        """Return ``absent``, ``computing``, ``ready`` or ``failed``."""
        with self._lock:
            future = self._patients.get(patient_id)
        if future is None or future.cancelled():
            return "absent"
        if not future.done():
            return "computing"
        return "failed" if future.exception() else "ready"

    def _make(self, patient_id: str) -> PatientMaps:
        tokens = self._collection.read_patient(patient_id)
        folds = select_folds(self._ensemble, patient_id)
        attribution = attribute(folds, tokens.patient)
        rows: pd.DataFrame = Ensemble(folds).predict(tokens.patient)
        prediction = {str(name): value for name, value in rows.iloc[0].items() if name != "patient_id"}
        self.predictions[patient_id] = prediction
        members = sum(len(fold.members) for fold in folds)
        return PatientMaps(attribution, prediction, tokens.slides, len(folds), members)

    def close(self) -> None:
        """End the thread; what waits is not begun."""
        self._worker.shutdown(wait=False, cancel_futures=True)
