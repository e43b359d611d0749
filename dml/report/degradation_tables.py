"""Table of the degradation probe (`dml probe degradation`)."""

from collections.abc import Mapping
from typing import Any

from dml.models.registry import label as model_label
from dml.report.number_format import format_difference, format_estimate, format_p
from dml.report.tables import Table

COLUMNS = ("damage", "model", "mean over the levels", "less its value without damage", "teacher's mean less this", "p")


def degradation_table(content: Mapping[str, Any]) -> Table:
    """Area under each curve, what the damage costs, and the teacher's lead (p: Holm's correction within a damage)."""
    rows = []
    for kind, models in content["kinds"].items():
        for model, entry in models.items():
            lead = content["compared"].get(kind, {}).get(model)
            numbers = (format_estimate(entry["area"]), format_difference(entry["loss"]), format_difference(lead))
            p = format_p(lead["p_holm"]) if lead else ""
            rows.append((content["labels"][kind], model_label(model), *numbers, p))
    return Table(COLUMNS, tuple(rows))
