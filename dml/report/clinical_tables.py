"""Tables a clinician or a statistician looks for: who was tested, hazard ratios, calibration, subgroups, checks."""

from collections.abc import Mapping, Sequence
from typing import Any

from dml.report.contents import OURS
from dml.report.names import named
from dml.report.patient_flow import Flow
from dml.report.tables import Table, shown, title

STABLE = 10
"""Events per column of a Cox model under which its coefficients are taken to be unstable (Peduzzi et al. 1995)."""


def patients_table(details: Mapping[str, Any]) -> Table:
    """Characteristics of the test patients beside those of all patients."""
    rows = tuple((row["characteristic"], row["tested"], row["all"]) for row in details["patients_tested"])
    return Table(("", "tested", "whole cohort"), rows)


def roles_table(flow: Flow | None) -> Table:
    """Patients with a known outcome by fold and role."""
    rows = () if flow is None else flow.folds
    roles = ("train", "validation", "test")
    return Table(("fold", *roles), tuple((str(k), *(str(row[role]) for role in roles)) for k, row in enumerate(rows)))


def hazard_table(details: Mapping[str, Any]) -> Table:
    """Hazard ratios of the risk groups of teacher and student, alone and beside clinical columns."""
    rows = []
    for model, own in details.get("survival", {}).items():
        if "hazard" not in own or model not in OURS:
            continue
        said = f"{own['hazard']['patients']} patients, {own['hazard']['deaths']} deaths"
        rows.append((model, "alone", *_ratio(own["hazard"]["unadjusted"]), said))
        rows += [(model, "together", *_ratio(row), "") for row in own["hazard"]["adjusted"]]
    return Table(("model", "fit", "column", "hazard ratio (95% interval)", "p", "fitted on"), tuple(rows))


def hazard_notes(details: Mapping[str, Any]) -> list[str]:
    """Say whether the group adds to the clinical columns, and warn where the fit is not to be trusted."""
    fits = {m: own["hazard"] for m, own in details.get("survival", {}).items() if m in OURS and "hazard" in own}
    notes = []
    for model, fit in fits.items():
        adds = "adds to" if fit["p_added"] < 0.05 else "does not add measurably to"
        test = f"likelihood ratio, {p_text(fit['p_added'])}"
        notes.append(f"The {model}'s risk group {adds} the clinical columns ({test}).")
        if fit["p_proportional"] < 0.05:
            notes.append(
                f"The {model}'s hazard ratio changes over time ({p_text(fit['p_proportional'])}): read it as an "
                "average over the follow-up."
            )
    fewest = min((fit["deaths"] / len(fit["adjusted"]) for fit in fits.values()), default=float("inf"))
    if fewest < STABLE:
        notes.append(
            f"With {fewest:.1f} deaths per column (ten is the usual least) the ratios of the joint model are unstable; "
            "read their intervals, not their values."
        )
    return notes


def horizon_table(details: Mapping[str, Any]) -> Table:
    """How many test patients speak at each horizon."""
    rows = details.get("at_horizons", ())
    cells = tuple((f"{r['year']:g}", str(r["died"]), str(r["followed"]), str(r["left"])) for r in rows)
    return Table(("years", "died by then", "followed for longer", "last seen alive before"), cells)


def d_calibration_table(details: Mapping[str, Any]) -> Table:
    """Patients by tenths of the survival predicted for the day of death."""
    found = {
        model: own["d_calibration"] for model, own in details.get("survival", {}).items() if "d_calibration" in own
    }
    rows = tuple((named(m), *(f"{n:.0f}" for n in own["counts"]), _p(own["p"])) for m, own in found.items())
    tenths = tuple(f"to {(k + 1) / 10:.1f}" for k in range(10))
    return Table(("model", *tenths, "p"), rows)


def group_table(details: Mapping[str, Any]) -> Table:
    """Show the leading metric of some models in groups of patients, with the corrected p of inside against outside."""
    groups = details["subgroups"]["groups"]
    models = list(dict.fromkeys(name for group in groups for name in group["models"]))
    events = "deaths" if details["kind"] == "survival" else "outside the commonest class"
    rows = [
        (
            f"{group['column']}: {group['value']}",
            str(group["patients"]),
            str(group["outcomes"]),
            *(cell for name in models for cell in _inside(group["models"].get(name))),
        )
        for group in groups
    ]
    columns = [column for name in models for column in (named(name), "p, others")]
    return Table(("group", "patients", events, *columns), tuple(rows))


def small_groups(details: Mapping[str, Any]) -> str:
    """List the groups that were too small to be judged."""
    found, floors = details["subgroups"]["too_small"], details["subgroups"]["floors"]
    sentences = []
    if found:
        few = f"under {floors['patients']} patients or {floors['outcomes']} events"
        sentences.append(f"Too few to judge ({few}; in brackets both): {_listed(found)}.")
    if undefined := details["subgroups"]["undefined"]:
        sentences.append(f"Large enough, but without a pair to compare in too many resamples: {_listed(undefined)}.")
    return " ".join(sentences)


def _listed(groups: Sequence[Mapping[str, Any]], most: int = 12) -> str:
    names = [f"{g['column']}: {g['value']} ({g['patients']}, {g['outcomes']})" for g in groups]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def coverage_rows(coverage: Mapping[str, Any] | None) -> list[str]:
    """Say of another cohort how much of what the model reads is there, and how far it is from training."""
    if coverage is None:
        return []
    lines = [
        f"{coverage['model']}: {coverage['patients_evaluated']} of {coverage['patients']} patients evaluated, "
        f"{coverage['patients_with_features']} have features at every resolution, "
        f"{coverage['patients_seen_in_training']} left out because the model was made with them",
        *_home(coverage.get("home")),
        f"tokens: {coverage['feature_shift']:.2f} training deviations away on average (0 in training)",
    ]
    if coverage["expression_used"]:
        shift = coverage["gene_shift"]
        away = "no transcriptome" if shift is None else f"{shift:.2f} training deviations away on average"
        lines.append(
            f"genes: {coverage['genes_covered']:.0%} of {coverage['genes']} measured, "
            f"{coverage['patients_with_expression']} patients with transcriptome, {away}"
        )
    return lines


def _home(home: Mapping[str, Any] | None) -> list[str]:
    if home is None:
        return []
    return [
        f"at home ({home['cohort']}, {home['patients']} test patients) its {title(home['metric'])} was {shown(home)}; "
        "compare like with like: the patients above may be others (grades, transcriptome), see the subgroups"
    ]


def check_rows(checks: Mapping[str, Any]) -> list[str]:
    """One line a stage of checks, and one a check that did not hold."""
    lines = []
    for stage, content in checks.items():
        failed = [check for check in content["checks"] if not check["success"]]
        passed = len(content["checks"]) - len(failed)
        lines.append(f"{stage}: {passed} of {len(content['checks'])} checks hold")
        lines += [f"{c['severity']}: {c['check']} does not hold for {c['failing']} ({c['remedy']})" for c in failed]
    return lines


def p_text(value: float) -> str:
    """Print a p-value as a sentence does."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _inside(entry: Mapping[str, Any] | None) -> tuple[str, str]:
    if entry is None:
        return "-", "-"
    return shown(entry), "-" if entry["rest"] is None else f"{entry['rest']['p_holm']:.3f}"


def _ratio(row: Mapping[str, Any]) -> tuple[str, str, str]:
    shown_ratio = f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
    return row["column"].replace("_", " "), shown_ratio, _p(row["p"])


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
