"""What a report page says besides the numbers: the cohort, its patients, its checks, and the probes of the models."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dml.core.files import read_json
from dml.report.patient_flow import Flow, cohort_flow


@dataclass(frozen=True, slots=True)
class About:
    """The surroundings of an evaluation; what is not known is left out of the page.

    `checks` maps a stage (cohort, features) to the content of its JSON report, `probes` is that of probes.json;
    `ablation` that of ablation.json;
    `external` says that the models were trained on another cohort, `coverage` how well this one fits them.
    """

    cohort: str
    description: str = ""
    licence: str = ""
    flow: Flow | None = None
    checks: Mapping[str, Any] = field(default_factory=dict)
    probes: Mapping[str, Any] | None = None
    ablation: Mapping[str, Any] | None = None
    coverage: Mapping[str, Any] | None = None
    external: bool = False


def about_cohort(cohort: str, task: str, root: Path = Path()) -> About:
    """Read what the stages before the evaluation left for a cohort and task under the root of the repository.

    Raises
    ------
    InputError
        If a store that the flow counts is missing, or a report is not JSON.
    """
    reports, (description, licence) = root / "reports" / cohort, said_of(cohort, root)
    checks = {stage: reports / "checks" / f"{stage}.json" for stage in ("cohort", "features")}
    ablation = reports / task / "ablation.json"
    return About(
        cohort=cohort,
        description=description,
        licence=licence,
        flow=cohort_flow(root / "data" / cohort, task),
        checks={stage: read_json(path) for stage, path in checks.items() if path.exists()},
        probes=_probes(reports, task),
        ablation=read_json(ablation) if ablation.exists() else None,
    )


def said_of(cohort: str, root: Path = Path()) -> tuple[str, str]:
    """Return description and licence of ``cohorts/<cohort>.yaml``; empty where there is no such file."""
    described = root / "cohorts" / f"{cohort}.yaml"
    content = (yaml.safe_load(described.read_text()) or {}) if described.exists() else {}
    return str(content.get("description", "")).strip(), str(content.get("licence", "")).strip()


def _probes(reports: Path, task: str) -> dict[str, Any] | None:
    """Read the probes of a task; the null comes from `dml probe shuffle-labels` where the stage did not train one."""
    probes, null = reports / task / "probes.json", reports / "nulls" / f"{task}.json"
    if not probes.exists():
        return None
    found: dict[str, Any] = read_json(probes)
    if found.get("permutation_test") is None and null.exists():
        found["permutation_test"] = read_json(null)
    return found
