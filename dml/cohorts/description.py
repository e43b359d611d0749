"""The description of a cohort: cohorts/<name>.yaml as a closed, frozen type. A new cohort is a new YAML, no code.

Smallest useful description::

    name: mine
    patients:
      - {file: patients.csv, id: patient_id, site: site,
         survival: {time: days, unit: days, event: dead, dead: [1], alive: [0]}}
    slides:
      table: {file: slides.csv, id: slide_id, patient: patient_id, path: path}
    expression: {file: expression.csv, orientation: patients_as_rows, id: patient_id, unit: log2_tpm}
    gene_groups: default

Several stored cohorts merged into one::

    name: both
    combines: [mine, theirs]
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from dml.config.params import Section, parse
from dml.core.errors import ConfigError
from dml.core.yaml_files import read_yaml
from dml.readers.columns import Label, PatientTable
from dml.readers.expression.registry import Expression
from dml.readers.raw_files import Features, Groups, Slides, parse_groups
from dml.readers.spatial.registry import Spatial

RESERVED = frozenset(
    {"patient_id", "site", "cohort", "survival", "survival_days", "event", "survival_source", "age", "sex"}
)
LABEL = re.compile(r"^[A-Za-z][A-Za-z0-9_]{0,63}$")
"""Names of labels become folders and keys of runs."""
MERGED_KEYS = frozenset({"name", "description", "licence", "combines", "shared_sites", "params"})
"""Keys of a cohort that combines others; all other keys belong into the descriptions of its parts."""


class Import(Section):
    """A file or folder that `dml cohort import` copies; a plain string keeps its base name."""

    source: str = Field(alias="from", description="relative to --source")
    to: str = Field(default="", description="relative to `raw`; default: the base name of `from`")

    @model_validator(mode="after")
    def _check_inside(self) -> "Import":
        if Path(self.target).is_absolute() or ".." in Path(self.target).parts:
            raise ValueError(f"`to` must stay inside the raw folder, not {self.target}")
        return self

    @property
    def target(self) -> str:
        """Path of the copy, relative to `raw`."""
        return self.to or Path(self.source).name


def _parse_imports(value: Any) -> Any:
    return [{"from": item} if isinstance(item, str) else item for item in value] if isinstance(value, list) else value


class CohortDescription(Section):
    """Raw files of a cohort and the meaning of their columns."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    description: str = ""
    licence: str = Field(default="", description="who may use the data for what")
    generated: bool = Field(
        default=False, description="made by a program, not from patients: its dvc.lock stays out of git"
    )
    raw: Path = Field(default=Path(), description="folder of the raw files; default data/raw/<name>")
    imports: Annotated[tuple[Import, ...], BeforeValidator(_parse_imports)] = Field(default=(), alias="import")
    combines: tuple[str, ...] = Field(default=(), description="stored cohorts that this one merges")
    shared_sites: bool = Field(
        default=True, description="combines: a site of one name is one hospital; false: `<cohort>:<site>`"
    )
    patients: tuple[PatientTable, ...] = ()
    keep: Literal["all", "with_data"] = Field(
        default="all", description="with_data: leave out patients with neither slide nor expression"
    )
    exclude: dict[str, str] = Field(default_factory=dict, description="patient or slide id: why it is left out")
    labels: dict[str, Label] = Field(default_factory=dict)
    slides: Slides | None = None
    features: tuple[Features, ...] = ()
    expression: Expression | None = None
    spatial: Spatial | None = None
    gene_groups: Annotated[Groups, BeforeValidator(parse_groups)] = Field(default_factory=lambda: _default_groups())
    published_splits: str | None = Field(
        default=None, description="folder in `raw` with splits_<fold>.csv as MCAT and PORPOISE publish them"
    )
    params: dict[str, Any] = Field(default_factory=dict, description="what `dml cohort use` writes into params.yaml")

    @model_validator(mode="after")
    def _check_combined(self) -> "CohortDescription":
        if not self.combines:
            return self
        if len(set(self.combines)) < 2 or len(set(self.combines)) != len(self.combines):
            raise ValueError(f"combines: name two or more different cohorts, not {', '.join(self.combines)}")
        if self.name in self.combines:
            raise ValueError(f"combines: {self.name} cannot be a part of itself")
        if extra := sorted(self.model_fields_set - MERGED_KEYS):
            keys = ", ".join(type(self).model_fields[name].alias or name for name in extra)
            raise ValueError(f"{keys}: belongs into the descriptions of the combined cohorts")
        return self

    @model_validator(mode="after")
    def _check_tables(self) -> "CohortDescription":
        if self.combines:
            return self
        tables = [table.key for table in self.patients]
        if not tables and self.spatial is None:
            raise ValueError("patients: the list is empty; describe at least one table of patients")
        if len(set(tables)) != len(tables):
            raise ValueError(f"patients: two tables are called the same ({', '.join(tables)}); give them a `name`")
        for label, spec in self.labels.items():
            for source in spec.sources:
                if source.table not in tables:
                    raise ValueError(f"labels.{label}: no table {source.table!r}; there are {', '.join(tables)}")
        return self

    @model_validator(mode="after")
    def _check_names(self) -> "CohortDescription":
        if odd := [name for name in self.labels if not LABEL.match(name)]:
            raise ValueError(f"labels: {', '.join(map(repr, odd))}: a name is a letter, then letters, digits or _")
        if reserved := sorted(RESERVED & set(self.labels)):
            raise ValueError(f"labels: {', '.join(reserved)} is the name of another column; choose another")
        if self.shared_sites is False and not self.combines:
            raise ValueError("shared_sites: is for a cohort that `combines` others")
        if self.spatial is not None and self.slides is None:
            raise ValueError("spatial: spots lie on slides; describe them under `slides`")
        if self.slides is None and not all(source.patient for source in self.features):
            raise ValueError("features: `patient` (slide id -> patient id) is needed where there are no `slides`")
        return self

    @property
    def raw_folder(self) -> Path:
        """Folder of the raw files, relative to the root of the repository."""
        return self.raw if self.raw != Path() else Path("data/raw") / self.name

    @classmethod
    def load(cls, name: str, folder: Path = Path("cohorts")) -> "CohortDescription":
        """Read ``<folder>/<name>.yaml``.

        Raises
        ------
        ConfigError
            If there is no such file (the message lists those there are), or it has an unknown key or a wrong value.
        """
        path = folder / f"{name}.yaml"
        if not path.exists():
            names = sorted(p.stem for p in folder.glob("*.yaml"))
            raise ConfigError(f"{path}: there is no such cohort; described are: {', '.join(names) or 'none'}")
        description: CohortDescription = parse(cls, read_yaml(path), str(path))
        if description.name != name:
            raise ConfigError(f"{path}: name: is {description.name!r}; it must be {name!r}, like the file")
        return description


def _default_groups() -> Groups:
    return Groups(resource="default")
