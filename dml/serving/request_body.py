"""What a client may send: the JSON of MLflow's scoring server, every column known, every value of its type."""

from collections.abc import Mapping
from typing import Annotated, Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, StrictBool, ValidationError, model_validator

from dml.core.errors import InputError

Name = Annotated[str, Field(min_length=1, max_length=4_096)]


class Row(BaseModel):
    """A slide of a patient; see `dml.inference.predictor.Predictor`."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    patient_id: Name
    path: Name
    expression: Name | None = None
    age: float | None = None
    sex: float | None = None
    site: str | None = None
    mpp: PositiveFloat | None = None
    upsample: StrictBool | None = None
    clinical: dict[Name, str | float | None] = {}

    @model_validator(mode="after")
    def _other_columns(self) -> "Row":
        if both := sorted(set(self.clinical) & set(type(self).model_fields)):
            raise ValueError(f"clinical: {both[0]} is a field of the row itself")
        return self


class SplitTable(BaseModel):
    """Columns, and rows in their order, as pandas writes with orient="split"."""

    model_config = ConfigDict(extra="forbid")

    columns: list[str]
    data: list[list[Any]]
    index: list[Any] | None = None


class Parameters(BaseModel):
    """Inference parameters."""

    model_config = ConfigDict(extra="forbid")

    attention: StrictBool = False
    similar: Annotated[int, Field(ge=0, le=1_000)] = 0
    same_site: StrictBool = False


class Body(BaseModel):
    """Rows in one of two layouts, and parameters."""

    model_config = ConfigDict(extra="forbid")

    dataframe_records: list[Row] = []
    params: Parameters = Parameters()

    @model_validator(mode="before")
    @classmethod
    def _as_records(cls, content: Any) -> Any:
        if not isinstance(content, Mapping) or "dataframe_split" not in content:
            return content
        table = SplitTable.model_validate(content["dataframe_split"])
        if any(len(row) != len(table.columns) for row in table.data):
            raise ValueError("dataframe_split: a row has more or fewer values than there are columns")
        records = [dict(zip(table.columns, row, strict=True)) for row in table.data]
        return {**{k: v for k, v in content.items() if k != "dataframe_split"}, "dataframe_records": records}

    @property
    def table(self) -> pd.DataFrame:
        """The rows as the model takes them; columns that no row has are left out."""
        rows = [{**row.model_dump(exclude={"clinical"}), **row.clinical} for row in self.dataframe_records]
        return pd.DataFrame(rows).dropna(axis=1, how="all")

    @property
    def asked(self) -> dict[str, Any]:
        """The parameters that differ from their defaults."""
        return self.params.model_dump(exclude_defaults=True)


def parse_body(content: bytes) -> Body:
    """Read the body of a request.

    Raises
    ------
    InputError
        If it is no JSON, has no row, or something in it is unknown or of another type; the first such thing is named.
    """
    remedy = 'Send {"dataframe_records": [{"patient_id": "...", "path": "..."}], "params": {}}'
    try:
        body = Body.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "body"
        raise InputError("request", f"{field}: {first['msg']}", remedy) from None
    if not body.dataframe_records:
        raise InputError("request", "no row in dataframe_records", remedy)
    return body
