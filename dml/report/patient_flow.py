"""Who was evaluated: from all patients of a cohort to the test patients of each fold."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dml.core.files import read_parquet


@dataclass(frozen=True, slots=True)
class Flow:
    """Counts of patients, from the whole cohort to those tested; `folds` has one mapping of role to count per fold.

    `unpaired_tested` counts those of the tested who have no transcriptome (split.test_population: slide).
    """

    patients: int
    with_slide: int
    with_expression: int
    with_both: int
    with_truth: int
    tested: int
    folds: tuple[Mapping[str, int], ...]
    unpaired_tested: int = 0

    @property
    def tested_in_turn(self) -> bool:
        """Whether the patients are divided into folds, each tested once."""
        return bool(self.folds)

    def steps(self) -> list[tuple[str, int]]:
        """Return the boxes of the flow diagram."""
        return [(step.text, step.count) for step in self.diagram()]

    def diagram(self) -> "list[Step]":
        """Return the boxes with the patients lost before each, and why."""
        boxes = [
            Step("patients in the cohort", self.patients),
            Step("with usable slide", self.with_slide, self.patients - self.with_slide, "without usable slide"),
        ]
        if not self.unpaired_tested:
            lost, reason = self.with_slide - self.with_both, "without transcriptome: learnt from, never tested"
            boxes.append(Step("with slide and transcriptome", self.with_both, lost, reason))
        lost, reason = boxes[-1].count - self.tested, "of unknown outcome for this task"
        return [*boxes, Step("with known outcome: tested once each", self.tested, lost, reason)]


@dataclass(frozen=True, slots=True)
class ExternalFlow(Flow):
    """The same of a cohort that a finished model is applied to: nobody is trained, so there are no folds.

    `with_slide` counts those with features at every resolution of the model, `with_truth` those of them with a known
    outcome, `tested` those of these that the model was not made with.
    """

    def diagram(self) -> "list[Step]":
        """Return the boxes with the patients lost before each, and why."""
        known, left = self.with_truth, self.with_truth - self.tested
        return [
            Step("patients in the cohort", self.patients),
            Step("with usable features", self.with_slide, self.patients - self.with_slide, "without usable features"),
            Step("with known outcome", known, self.with_slide - known, "of unknown outcome for this task"),
            Step("strangers to the model: predicted", self.tested, left, "with whom the model was made"),
        ]


@dataclass(frozen=True, slots=True)
class Step:
    """A box of the flow diagram, and who did not come this far; `lost` None for the first."""

    text: str
    count: int
    lost: int | None = None
    reason: str = ""


def cohort_flow(folder: Path, task: str) -> Flow:
    """Count the patients of ``data/<cohort>`` for a task; roles count only patients whose outcome is known.

    Raises
    ------
    InputError
        If patients, slides, expression or splits are missing.
    """
    patients = read_parquet(folder / "patients.parquet")[0].to_pandas()
    splits = read_parquet(folder / "splits.parquet")[0].to_pandas()
    everyone = set(patients["patient_id"])
    slide = _with_slide(folder) & everyone
    expression = (
        set(read_parquet(folder / "expression.parquet", ["patient_id"])[0]["patient_id"].to_pylist()) & everyone
    )
    column = (
        patients["survival_days"].notna() & patients["event"].notna() if task == "survival" else patients[task].notna()
    )
    truth = set(patients.loc[column, "patient_id"])
    known = splits[splits["patient_id"].isin(truth)]
    counts = known.groupby(["fold", "role"]).size().unstack(fill_value=0)
    folds = tuple(
        {role: int(row.get(role, 0)) for role in ("train", "validation", "test")} for _, row in counts.iterrows()
    )
    return Flow(
        patients=len(everyone),
        with_slide=len(slide),
        with_expression=len(expression),
        with_both=len(slide & expression),
        with_truth=len(truth),
        tested=sum(fold["test"] for fold in folds),
        folds=folds,
        unpaired_tested=known.loc[
            (known["role"] == "test") & ~known["patient_id"].isin(expression), "patient_id"
        ].nunique(),
    )


def _with_slide(folder: Path) -> set[str]:
    manifest = folder / "features" / "manifest.parquet"
    if manifest.exists():
        rows: pd.DataFrame = read_parquet(manifest)[0].to_pandas()
        return set(rows.loc[rows["status"] == "ok", "patient_id"].dropna())
    return set(read_parquet(folder / "slides.parquet")[0]["patient_id"].to_pylist())
