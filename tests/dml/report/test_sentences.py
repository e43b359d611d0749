"""What page and cards say of probes and of an ablation, from numbers whose meaning is plain."""

from copy import deepcopy

from dml.report.context import ReportContext, ReportData
from dml.report.render import Sentences
from dml.report.tables import exchange_table, site_table, subspace_table

AT = {"value": 0.7, "ci_low": 0.6, "ci_high": 0.8}
LESS = {"difference": -0.2, "ci_low": -0.3, "ci_high": -0.1, "p": 0.001}
SAME = {"difference": -0.01, "ci_low": -0.1, "ci_high": 0.1, "p": 0.8}
OWN = {"tumor": AT, "tme": AT, "difference": SAME}
PROBES = {
    "metric": "c_index",
    "modality_exchange": {
        "teacher": {"genes": {"original": AT, "exchanged": AT, "difference": LESS}},
        "student": {"slides": {"original": AT, "exchanged": AT, "difference": SAME}},
    },
    "missing_modality": {"teacher": [{"share": 0.0, **AT}, {"share": 1.0, **AT}], "student": AT},
    "site": {"chance": {"auc": 0.5, "balanced_accuracy": 0.25}, "sources": {
        "teacher": {"auc": AT, "balanced_accuracy": AT},
        "input": {"auc": AT, "balanced_accuracy": AT},
    }},
    "subspaces": {
        "teacher": {"distance_correlation": {"value": 0.02}, "genes": {"tumor": OWN, "tme": OWN}},
        "student": {"distance_correlation": {"value": 0.9}, "genes": {"tumor": OWN, "tme": OWN},
                    "planted": {"tme": OWN}},
    },
    "single_members": {
        "teacher": {"values": [0.7, 0.8], "mean": 0.75, "sd": 0.07}, "student": {"values": [0.7], "sd": None}
    },
    "permutation_test": None,
}  # fmt: skip


DETAILS = {"subgroups": {"groups": []}}
METRICS = {"teacher": {}, "student": {}}


def row(variant, kind, value, gap=None, subgroup="", p=0.3):
    content = {"variant": variant, "kind": kind, "metric": "c_index", "subgroup": subgroup, "value": value}
    content |= {"ci_low": value - 0.05, "ci_high": value + 0.05}
    if gap is None:
        return content
    content |= {"difference": gap, "difference_low": gap - 0.02, "difference_high": gap + 0.02}
    return content | {"p": p, "p_holm": 1.0}


ABLATION = {
    "seeds": [7],
    "members": 1,
    "rows": [
        row("teacher", "teacher", 0.80),
        row("no linear offset", "teacher", 0.77, -0.03, p=0.01),
        row("no unpaired patients", "teacher", 0.79, -0.01),
        row("student", "student", 0.75),
        row("no distillation", "student", 0.74, -0.01),
        row("teacher", "teacher", 0.70, subgroup="lower_grade"),
        row("no linear offset", "teacher", 0.70, 0.0, subgroup="lower_grade"),
    ],
}


def sentences(model="", probes=None, ablation=None):
    context = ReportContext("x", probes=probes, ablation=ablation)
    return Sentences(ReportData(context, "survival", "survival", METRICS, {}, DETAILS), model)


def test_a_modality_is_used_only_if_the_interval_of_the_exchange_is_below_zero():
    lines = sentences(probes=PROBES).probes
    assert any("teacher uses the genes" in line and "-0.200" in line for line in lines)
    assert any("student is not shown to use the slides" in line for line in lines)


def test_site_subspaces_and_members_are_reported_with_their_numbers():
    text = " ".join(sentences(probes=PROBES).probes)
    assert "embedding of teacher (AUC 0.70)" in text
    assert "teacher's tumor and TME tokens are independent" in text
    assert "student's tumor and TME tokens are not independent" in text
    assert "0.90" in text
    assert "teacher's 2 members" in text
    assert "0.750" in text
    assert "dml probe permutation-test" in text


def test_a_card_has_the_sentences_of_its_model_only():
    text = " ".join(sentences("student", probes=PROBES).probes)
    assert "teacher's tumor" not in text
    assert "student's tumor" in text
    assert "cannot be predicted from the embeddings" in text


def test_a_permutation_test_off_chance_indicates_leakage():
    probes = deepcopy(PROBES)
    probes["permutation_test"] = {"value": 0.6, "ci_low": 0.55, "ci_high": 0.65, "passed": False}
    assert "information leakage" in sentences(probes=probes).probes[-1]
    probes["permutation_test"]["passed"] = True
    assert "contains 0.5" in sentences(probes=probes).probes[-1]
    probes["site"] = {"left_out": "fewer than two sites"}
    assert any("fewer than two sites" in line for line in sentences(probes=probes).probes)
    assert site_table(probes).rows == ()


def test_tables_have_a_row_for_each_probe():
    assert [line[:2] for line in exchange_table(PROBES).rows] == [("teacher", "genes"), ("student", "slides")]
    assert len(subspace_table(PROBES).rows) == 5
    table = site_table(PROBES)
    assert "chance 0.25" in table.columns[2]
    assert [line[0] for line in table.rows] == ["embedding of the teacher", "mean tile features"]


def test_an_ablation_reports_the_differences_whose_interval_leaves_zero():
    how, *differences = sentences(ablation=ABLATION).ablation
    assert "(seed 7, 1 member a fold)" in how
    assert len(differences) == 1
    assert differences[0].startswith("No linear offset: the teacher changes by -0.030 (-0.050 to -0.010), p = 0.010")
    alike = {"seeds": [1, 2], "rows": [r for r in ABLATION["rows"] if r["variant"] != "no linear offset"]}
    how, *differences = sentences(ablation=alike).ablation
    assert "(seeds 1, 2)" in how
    assert len(differences) == 1
    assert "contains zero" in differences[0]


def test_every_sentence_is_one_item():
    details = DETAILS | {"resamples": 10, "classes": ["a", "b"], "sites": {"in_several_folds": 0}, "left_out": []}
    data = ReportData(ReportContext("x"), "grade", "classification", METRICS, {}, details)
    for lines in (Sentences(data).methods, Sentences(data).limitations):
        assert len(lines) > 3
        assert all(line[0].isupper() and line.endswith(".") and ".-" not in line for line in lines)
