"""The probes of a task as tables and sentences for the report page."""

from collections.abc import Mapping
from typing import Any

from dml.report.tables import Table, shown, signed, title

INDEPENDENT = 0.1
"""Squared distance correlation under which the subspaces are called apart; 0.1 is a correlation of about 0.3."""


def exchange_table(probes: Mapping[str, Any]) -> Table:
    """Show the leading metric with a patient's own modality and with that of another patient."""
    rows = [
        (model, modality, shown(found["original"]), shown(found["exchanged"]), signed(found["difference"]))
        for model, modalities in probes["modality_exchange"].items()
        for modality, found in modalities.items()
    ]
    metric = title(probes["metric"])
    return Table(("model", "exchanged", f"{metric}, own", "of another patient", "difference"), tuple(rows))


def site_table(probes: Mapping[str, Any]) -> Table:
    """How well the site is told, and from what."""
    sources = {"input": "mean tile features", "outcome": "outcome alone"}
    told = probes["site"].get("sources", {})
    rows = tuple(
        (sources.get(name, f"representation of the {name}"), shown(own["auc"]), shown(own["balanced_accuracy"]))
        for name, own in told.items()
    )
    chance = probes["site"].get("chance", {}).get("balanced_accuracy")
    accuracy = "balanced accuracy" if chance is None else f"balanced accuracy, chance {chance:.2f}"
    return Table(("site told from", "AUC (site against the others), chance 0.5", accuracy), rows)


def subspace_table(probes: Mapping[str, Any]) -> Table:
    """Share of variance of each gene group (and planted factor) that each subspace explains."""
    kinds = {"genes": "{} genes, leading components", "planted": "planted {} factor"}
    rows = [
        (
            model,
            kinds[kind].format({"tme": "TME"}.get(target, target)),
            *(shown(found[s], 2) for s in ("tumor", "tme")),
            signed(found["difference"]),
        )
        for model, own in probes["subspaces"].items()
        for kind in kinds
        for target, found in own.get(kind, {}).items()
    ]
    return Table(
        ("model", "variance explained of", "from tumor token", "from TME token", "own minus other"), tuple(rows)
    )


def probe_sentences(probes: Mapping[str, Any]) -> list[str]:
    """Say what the probes come to, good or bad."""
    found = [*_of_exchange(probes), *_of_hiding(probes), *_of_site(probes), *_of_subspaces(probes)]
    return [*found, *_of_trainings(probes), *_of_null(probes)]


def _of_exchange(probes: Mapping[str, Any]) -> list[str]:
    found = []
    for model, modalities in probes["modality_exchange"].items():
        for modality, values in modalities.items():
            lost = values["difference"]
            if lost is not None:
                uses = "uses" if lost["ci_high"] < 0 else "is not shown to use"
                found.append(
                    f"The {model} {uses} the {modality}: with those of another patient the {title(probes['metric'])} "
                    f"changes by {signed(lost)}."
                )
    return found


def _of_hiding(probes: Mapping[str, Any]) -> list[str]:
    curve, student = probes["missing_modality"]["teacher"], probes["missing_modality"]["student"]
    last = curve[-1]
    if last["share"] < 1 or last.get("value") is None or student is None:
        return []
    return [
        f"Without any transcriptome the teacher has {shown(last)}, the student, made for that, {shown(student)}.",
    ]


def _of_site(probes: Mapping[str, Any]) -> list[str]:
    told = probes["site"].get("sources")
    if told is None:
        return [f"The site was not probed: {probes['site']['left_out']}."]
    known = {name: own["auc"] for name, own in told.items() if name in ("teacher", "student") and own["auc"]}
    above = [f"{name} (AUC {entry['value']:.2f})" for name, entry in known.items() if entry["ci_low"] > 0.5]
    if not above:
        return ["The hospital cannot be told from the representations better than by chance."]
    return [
        f"The hospital can be told from the representation of {' and '.join(above)}: numbers on patients of other "
        "hospitals may be lower."
    ]


def _of_subspaces(probes: Mapping[str, Any]) -> list[str]:
    found = []
    for model, own in probes["subspaces"].items():
        value = own["distance_correlation"]["value"]
        if value is not None:
            word = "are apart" if value < INDEPENDENT else "are not apart"
            found.append(f"The {model}'s tumor and TME tokens {word}: squared distance correlation {value:.2f}.")
    return found


def _of_trainings(probes: Mapping[str, Any]) -> list[str]:
    several = {model: own for model, own in probes["single_members"].items() if own["sd"] is not None}
    return [
        f"The {model}'s {len(own['values'])} members, trained with different seeds, alone have {own['mean']:.3f} on "
        f"average, standard deviation {own['sd']:.3f}."
        for model, own in several.items()
    ]


def _of_null(probes: Mapping[str, Any]) -> list[str]:
    null = probes.get("permutation_test")
    if null is None:
        return ["Training on shuffled outcomes was not part of this run: dml probe shuffle-labels."]
    word = "as it must" if null["passed"] else "which it must not: something of the test patients reaches the training"
    inside = "contains" if null["passed"] else "does not contain"
    return [f"Trained on shuffled outcomes the teacher has {shown(null)}; the interval {inside} 0.5, {word}."]
