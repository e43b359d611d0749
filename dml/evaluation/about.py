"""What a report page says besides the numbers: the cohort, its patients, its checks, and the probes of the models."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dml.evaluation.flow import Flow, cohort_flow
from dml.files import read_json


@dataclass(frozen=True, slots=True)
class About:
    """The surroundings of an evaluation; what is not known is left out of the page.

    `checks` maps a stage (cohort, features) to the content of its JSON report, `probes` is that of probes.json;
    `external` says that the models were trained on another cohort, `coverage` how well this one fits them.
    """

    cohort: str
    description: str = ""
    licence: str = ""
    flow: Flow | None = None
    checks: Mapping[str, Any] = field(default_factory=dict)
    probes: Mapping[str, Any] | None = None
    coverage: Mapping[str, Any] | None = None
    external: bool = False


def about_cohort(cohort: str, task: str, root: Path = Path()) -> About:
    """Read what the stages before the evaluation left for a cohort and task under the root of the repository.

    Raises
    ------
    InputError
        If a store that the flow counts is missing, or a report is not JSON.
    """
    reports, described = root / "reports" / cohort, root / "cohorts" / f"{cohort}.yaml"
    content = (yaml.safe_load(described.read_text()) or {}) if described.exists() else {}
    checks = {stage: reports / "checks" / f"{stage}.json" for stage in ("cohort", "features")}
    probes = reports / task / "probes.json"
    return About(
        cohort=cohort,
        description=str(content.get("description", "")).strip(),
        licence=str(content.get("licence", "")).strip(),
        flow=cohort_flow(root / "data" / cohort, task),
        checks={stage: read_json(path) for stage, path in checks.items() if path.exists()},
        probes=read_json(probes) if probes.exists() else None,
    )
