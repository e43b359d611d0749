"""What the page says of probes, from numbers whose meaning is plain."""

from copy import deepcopy

from dml.report.probe_tables import exchange_table, probe_sentences, site_table, subspace_table

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


def test_good_and_bad_news_are_both_said():
    text = " ".join(probe_sentences(PROBES))
    assert "The teacher uses the genes: with those of another patient the Harrell C changes by -0.200" in text
    assert "The student is not shown to use the slides" in text
    assert "The hospital can be told from the representation of teacher (AUC 0.70)" in text
    assert "The student's tumor and TME tokens are not apart" in text
    assert "The teacher's tumor and TME tokens are apart" in text
    assert "The teacher's 2 members, trained with different seeds, alone have 0.750" in text
    assert "dml probe shuffle-labels" in text


def test_a_null_that_knows_something_is_an_alarm():
    probes = deepcopy(PROBES)
    probes["permutation_test"] = {"value": 0.6, "ci_low": 0.55, "ci_high": 0.65, "passed": False}
    assert "does not contain 0.5, which it must not" in probe_sentences(probes)[-1]
    probes["site"] = {"left_out": "fewer than two sites"}
    assert "The site was not probed: fewer than two sites." in probe_sentences(probes)
    assert site_table(probes).rows == ()


def test_tables_have_a_row_for_each_thing_probed():
    assert [row[:2] for row in exchange_table(PROBES).rows] == [("teacher", "genes"), ("student", "slides")]
    assert len(subspace_table(PROBES).rows) == 5
    table = site_table(PROBES)
    assert "chance 0.25" in table.columns[2]
    assert [row[0] for row in table.rows] == ["representation of the teacher", "mean tile features"]
