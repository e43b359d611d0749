"""What a report is made of: its surroundings (cohort, checks, probes, ablation), and its numbers and figures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from dml.core.files import read_json
from dml.core.types import Kind
from dml.evaluation.metric_sets import PRIMARY
from dml.evaluation.results import PAIR
from dml.report.patient_flow import PatientFlow, count_flow
from dml.teachability.teachability_files import Teachability, read_teachability


@dataclass(frozen=True, slots=True)
class FinerTiles:
    """Slides whose tiles are finer than the image, so that their pixels are interpolated (`slides.upsample`).

    Attributes
    ----------
    interpolated, slides : int
        How many slides have such tiles, of how many with features.
    factor : float
        Largest number of pixels of a tile along one pixel of its image.
    """

    interpolated: int
    slides: int
    factor: float


@dataclass(frozen=True, slots=True)
class ReportContext:
    """The surroundings of an evaluation; what is unknown is left out of the page.

    Attributes
    ----------
    checks : mapping
        Stage (cohort, features) to the content of its JSON report.
    probes, ablation : mapping, optional
        Content of probes.json and of ablation.json.
    teachability : Teachability, optional
        What a slide can be taught, as the stage of that name measured it.
    coverage : mapping, optional
        How well the cohort fits a model of another cohort: content of coverage.json.
    external : bool
        Whether the models were trained on another cohort.
    finer_tiles : FinerTiles, optional
        Where the cohort allows tiles that are finer than its images.
    unit : str
        Of the task's number, as the cohort's description states it.
    """

    cohort: str
    description: str = ""
    licence: str = ""
    flow: PatientFlow | None = None
    checks: Mapping[str, Any] = field(default_factory=dict)
    probes: Mapping[str, Any] | None = None
    ablation: Mapping[str, Any] | None = None
    degradation: Mapping[str, Any] | None = None
    teachability: Teachability | None = None
    coverage: Mapping[str, Any] | None = None
    external: bool = False
    finer_tiles: FinerTiles | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure: the section of the page that it belongs to, its file, and the model it is of ("" = several)."""

    section: str
    path: Path
    model: str = ""


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything that the page and the cards of one task show.

    Attributes
    ----------
    metrics, compared, details : mapping
        Content of metrics.json, comparisons.json and details.json.
    subgroups : sequence of str
        Names of the subgroups of params.yaml.
    """

    context: ReportContext
    task: str
    kind: Kind
    metrics: Mapping[str, Any]
    compared: Mapping[str, Any]
    details: Mapping[str, Any]
    figures: Sequence[Figure] = ()
    subgroups: Sequence[str] = ()

    @property
    def primary(self) -> str:
        """Name of the metric that leads the report."""
        return PRIMARY[self.kind]

    @property
    def pair(self) -> list[str]:
        """Teacher and student, as far as they were evaluated."""
        return [name for name in PAIR if name in self.metrics]


def read_context(cohort: str, task: str, root: Path = Path()) -> ReportContext:
    """Read what the stages before the evaluation wrote for a cohort and task under the root of the repository.

    Raises
    ------
    InputError
        If a store that the patient flow counts is missing, or a report is not JSON.
    """
    reports, (description, licence) = root / "reports" / cohort, read_cohort_description(cohort, root)
    checks = {stage: _read(reports / "checks" / f"{stage}.json") for stage in ("cohort", "features")}
    probes = _read(reports / task / "probes.json")
    if probes is not None and probes.get("permutation_test") is None:  # of `dml probe permutation-test`
        probes = {**probes, "permutation_test": _read(reports / "nulls" / f"{task}.json")}
    return ReportContext(
        cohort=cohort,
        description=description,
        licence=licence,
        flow=count_flow(root / "data" / cohort, task),
        checks={stage: content for stage, content in checks.items() if content is not None},
        probes=probes,
        ablation=_read(reports / task / "ablation.json"),
        degradation=_read(reports / task / "degradation.json"),
        teachability=read_teachability(reports / task / "teachability"),
        finer_tiles=count_finer_tiles(cohort, root),
        unit=read_unit(cohort, task, root),
    )


def read_cohort_description(cohort: str, root: Path = Path()) -> tuple[str, str]:
    """Return description and licence of ``cohorts/<cohort>.yaml``; empty where there is no such file."""
    content = _description(cohort, root)
    return str(content.get("description", "")).strip(), str(content.get("licence", "")).strip()


def count_finer_tiles(cohort: str, root: Path = Path()) -> FinerTiles | None:
    """Count the slides with tiles finer than the image, as their features say; None unless the cohort allows them."""
    if not (_description(cohort, root).get("slides") or {}).get("upsample"):
        return None
    factors: dict[str, float] = {}
    for path in sorted((root / "data" / cohort / "features").glob("*/*/*.parquet")):
        facts = json.loads((pq.read_schema(path).metadata or {}).get(b"dml", b"{}"))
        if "slide_mpp" in facts:
            factors[path.stem] = max(factors.get(path.stem, 0.0), facts["slide_mpp"] / facts["mpp"])
    return FinerTiles(sum(f > 1 for f in factors.values()), len(factors), max(factors.values(), default=1.0))


def read_unit(cohort: str, task: str, root: Path = Path()) -> str:
    """Return the unit of a number in ``cohorts/<cohort>.yaml``; empty where it states none."""
    label = (_description(cohort, root).get("labels") or {}).get(task) or {}
    return str(label.get("unit", "")).strip()


def _description(cohort: str, root: Path) -> dict[str, Any]:
    path = root / "cohorts" / f"{cohort}.yaml"
    content: dict[str, Any] = (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}
    return content


def _read(path: Path) -> Any:
    return read_json(path) if path.exists() else None
