"""Rows of a request with clinical inputs: as columns for the model, and none that the row has itself."""

import json

import pytest

from dml.core.errors import InputError
from dml.serving.request_body import parse_body


def body(**clinical: object) -> bytes:
    row = {"patient_id": "P1", "path": "a.svs", "clinical": clinical}
    return json.dumps({"dataframe_records": [row, {"patient_id": "P2", "path": "b.svs"}]}).encode()


def test_they_are_columns() -> None:
    table = parse_body(body(grade="G3", purity=0.5, idh=None)).table
    assert list(table) == ["patient_id", "path", "grade", "purity"]
    assert table["grade"].isna().tolist() == [False, True]


@pytest.mark.parametrize(("clinical", "message"), [({"path": "x"}, "path is a field"), ({"grade": ["G3"]}, "clinical")])
def test_others_are_refused(clinical: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_body(body(**clinical))
