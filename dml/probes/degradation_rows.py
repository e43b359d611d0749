"""Rows of the degradation probe, for tables: one a kind of damage and model."""

from collections.abc import Mapping
from typing import Any


def area_rows(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return damage, model, value without damage, area, loss with interval, and the teacher's lead with corrected p.

    Parameters
    ----------
    content : mapping
        What `dml.probes.degradation.probe_degradation` returned.

    Examples
    --------
    >>> point, area = {"level": 0.0, "value": 0.8}, {"value": 0.7, "ci_low": 0.6, "ci_high": 0.8}
    >>> loss = {"difference": -0.1, "ci_low": -0.2, "ci_high": 0.0, "p": 0.04}
    >>> models = {"student": {"curve": [point], "area": area, "loss": loss}}
    >>> area_rows({"kinds": {"lost": models}, "labels": {"lost": "tiles lost"}, "compared": {}})[0]["area"]
    0.7
    """
    rows = []
    for kind, models in content["kinds"].items():
        for model, entry in models.items():
            lead = content["compared"].get(kind, {}).get(model) or {}
            loss = entry["loss"] or {}
            rows.append(
                {
                    "damage": content["labels"][kind],
                    "model": model,
                    "undamaged": entry["curve"][0].get("value"),
                    "area": (entry["area"] or {}).get("value"),
                    "loss": loss.get("difference"),
                    "loss_low": loss.get("ci_low"),
                    "loss_high": loss.get("ci_high"),
                    "teacher_leads_by": lead.get("difference"),
                    "p_holm": lead.get("p_holm"),
                }
            )
    return rows
