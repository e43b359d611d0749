"""Spatial validation of one model on one cohort: maps of every section, tables, and what they do not show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dml.attribution.outputs import output_names
from dml.core.errors import InputError
from dml.evaluation.intervals import rounded
from dml.spatial.comparison import ComparisonResult, Settings, SpotComparer
from dml.spatial.comparison_tables import make_tables
from dml.spatial.measurements import REGION_PREFIX, Terms
from dml.spatial.null import MIN_OVERLAP
from dml.spatial.section_maps import SectionMaps, SpatialCohort, map_section
from dml.spatial.tile_maps import choose_output
from dml.training.checkpoint import FoldModel

NOT_SPATIAL = "the cohort has no spots: nothing to validate"


@dataclass(frozen=True, slots=True)
class SpatialValidation:
    """What a model's maps show on the sections of a cohort.

    Attributes
    ----------
    model, task, output : str
        The model, its task, and the output whose contributions are mapped.
    unit : str
        Unit of the contributions.
    sections : tuple of SectionMaps
        Those that some fold was not trained on; `left_out` are the others.
    tables : mapping
        Name to its rows, see `comparison_tables`.
    draws : int
        Moves of the null.
    reads_genes : bool
        Whether the model read the expression of the units, so that their spots are not independent of its maps.
    """

    model: str
    task: str
    output: str
    unit: str
    mpps: tuple[float, ...]
    sections: tuple[SectionMaps, ...]
    left_out: tuple[str, ...]
    tables: Mapping[str, Sequence[ComparisonResult]]
    draws: int
    reads_genes: bool

    @property
    def claims(self) -> Sequence[ComparisonResult]:
        """The rows that the first paragraph is of."""
        return self.tables.get("claims", [])

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``spatial.json`` for one model."""
        sections = [
            {"section": s.section_id, "spots": len(s.spots), "units": s.units, "folds_not_trained_on_it": s.folds}
            for s in self.sections
        ]
        return {
            **{name: getattr(self, name) for name in ("model", "task", "output", "unit", "draws", "reads_genes")},
            "mpps": list(self.mpps),
            "sections": sections,
            "sections_in_every_training_set": list(self.left_out),
            "not_shown": [row.to_json() for row in self.claims if not row.shown],
            "tables": {name: [row.to_json() for row in rows] for name, rows in self.tables.items()},
            "tokens": token_summary(self.sections),
        }

    def spot_table(self) -> pd.DataFrame:
        """Return all sections with measurements and maps, one row a spot."""
        return pd.concat([pd.concat([s.spots, s.measured, s.maps], axis=1) for s in self.sections], ignore_index=True)


def validate_model(
    name: str, folds: Sequence[FoldModel], data: SpatialCohort, settings: Settings, output: str | None = None
) -> SpatialValidation:
    """Validate a model on every section by the folds that were not trained on it.

    Raises
    ------
    InputError
        If every section is in the training set of every fold, or a section cannot be mapped.
    """
    terms, spec = Terms.read(), folds[0].spec
    outputs = output_names(spec.preprocessor)
    chosen = outputs[choose_output(outputs, output)]
    maps = {section: map_section(section, data, folds, terms, output) for section in data.spots.sections}
    sections = tuple(part for part in maps.values() if part is not None)
    if not sections:
        problem = f"every fold of {name} was trained on each of the {len(maps)} sections"
        raise InputError(data.name, problem, "Give the folder of all folds, or another cohort")
    compared = [section.compared for section in sections]
    comparer = SpotComparer(compared, settings)
    columns = list(dict.fromkeys(str(column) for section in compared for column in section.values))
    tables = {key: comparer.table(rows) for key, rows in make_tables(columns, spec.preprocessor.mpps).items()}
    task = spec.preprocessor.task
    unit = {"survival": "SD of training risk", "classification": "logit"}.get(task.kind, "unit of the target")
    left_out = tuple(section for section, part in maps.items() if part is None)
    reads_genes = "genes" in spec.entry.inputs
    mpps = tuple(map(float, spec.preprocessor.mpps))
    return SpatialValidation(
        name, task.name, chosen, unit, mpps, sections, left_out, tables, comparer.draws, reads_genes
    )


def describe_null(settings: Settings, spacing_um: float) -> dict[str, Any]:
    """Return how the null and the intervals were made, for ``spatial.json``."""
    return {
        "null": "toroidal shifts, mirror images and turns within sections, with an empty margin as large as a section; "
        "all sections of one patient are moved at once",
        "draws": settings.draws,
        "least_overlap": MIN_OVERLAP,
        "p": "(1 + draws at least as large) / (1 + draws), two-sided",
        "p_table": "the same for the maximum over all rows of a table (max-T)",
        "interval": f"{settings.confidence:.0%}, {settings.resamples} resamples of spatial blocks of tissue",
        "block_um": rounded(settings.block * spacing_um),
        "seed": settings.seed,
    }


def token_summary(sections: Sequence[SectionMaps]) -> list[dict[str, Any]]:
    """Return per subspace and magnification how many aggregated tokens and tiles count, and the regions they are from.

    ``enrichment`` is the mean weight of the spots of a region over that of all spots: 1 is an equal share.
    """
    keys = dict.fromkeys((origin.subspace, origin.mpp) for s in sections for origin in s.origins)
    rows = []
    for subspace, mpp in keys:
        each = [o for s in sections for o in s.origins if (o.subspace, o.mpp) == (subspace, mpp)]
        sizes = {name: rounded(float(np.mean([getattr(o, name) for o in each]))) for name in
                 ("tokens", "effective_tokens", "effective_tiles")}  # fmt: skip
        rows.append({"subspace": subspace, "mpp": mpp, **sizes, "enrichment": _enrichment(sections, subspace, mpp)})
    return rows


def _enrichment(sections: Sequence[SectionMaps], subspace: str, mpp: float) -> dict[str, float | None]:
    name = f"{subspace}.tokens.{mpp:g}"
    weights = pd.concat([s.maps[name] / s.maps[name].mean() for s in sections], ignore_index=True)
    measured = pd.concat([s.measured for s in sections], ignore_index=True)
    regions = [str(column) for column in measured if str(column).startswith(REGION_PREFIX)]
    return {r.removeprefix(REGION_PREFIX): rounded(float(weights[measured[r] == 1].mean())) for r in regions}
