"""The probes of a task on the runs of teacher and student, beside the metrics of the evaluation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dml.config.params import Params
from dml.core.files import digest, read_json
from dml.tracking import runs, store


def log_probes(params: Params, task: str, path: Path) -> None:
    """Log the numbers of probes.json as ``probe/<name>`` and the file itself; the same file is not logged twice.

    Raises
    ------
    InputError
        If the file is missing or unreadable.
    TrackingError
        If the store cannot be opened.
    """
    content = read_json(path)
    client = store.connect()
    for model in content["exchanged"]:
        run_id = runs.parent_run(params, task, model)
        stamp = digest(content)
        if client.get_run(run_id).data.tags.get("probes") != stamp:
            runs.log_metrics(client, run_id, numbers(content, model))
            client.log_artifact(run_id, str(path), "report")
            client.set_tag(run_id, "probes", stamp)


def numbers(content: Mapping[str, Any], model: str) -> dict[str, float]:
    """Return the probes of one model that are single numbers."""
    found: dict[str, Any] = {}
    for modality, values in content["exchanged"].get(model, {}).items():
        found[f"other_{modality}"] = (values["other"] or {}).get("value")
    if model == "teacher":
        found |= {f"hidden_{round(100 * p['share'])}": p.get("value") for p in content["missing_modality"]["teacher"]}
    told = content["site"].get("told_from", {}).get(model, {})
    found["site_auc"] = (told.get("auc") or {}).get("value")
    own = content["subspaces"][model]
    found["distance_correlation"] = own["distance_correlation"]["value"]
    for target, sources in own["genes"].items():
        found |= {f"{target}_genes_from_{s}": (sources[s] or {}).get("value") for s in ("tumor", "tme")}
    found["training_sd"] = content["trainings"][model]["sd"]
    null = content["shuffled_labels"]
    found["shuffled_labels"] = null["value"] if null and model == "teacher" else None
    return {f"probe/{name}": float(value) for name, value in found.items() if value is not None}
