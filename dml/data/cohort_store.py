"""The files of one cohort, ``data/<cohort>``: every path, and a reader for each."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from dml.cohorts.store_files import (
    DeclaredGroups,
    ExpressionMatrix,
    read_expression,
    read_gene_groups,
    read_patients,
    read_slides,
    read_splits,
)
from dml.core.files import read_parquet
from dml.core.types import CLINICAL, Case, Cohort, GeneGroups, Mpp, MultiScaleBags, Survival
from dml.data import feature_store
from dml.data.token_memory import load_or_memmap

DATA = Path("data")
"""Where cohorts are stored, each in a folder of its name."""


class CohortStore:
    """Paths and readers of one cohort.

    Parameters
    ----------
    folder : Path
        ``data/<cohort>``.

    Examples
    --------
    >>> store = CohortStore.of("demo")
    >>> store.splits_path.as_posix()
    'data/demo/splits.parquet'
    >>> store.bag_path("uni", 0.5, "slide-1").as_posix()
    'data/demo/features/uni/0.5/slide-1.parquet'
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.patients_path = folder / "patients.parquet"
        self.slides_path = folder / "slides.parquet"
        self.expression_path = folder / "expression.parquet"
        self.gene_groups_path = folder / "gene_groups.json"
        self.splits_path = folder / "splits.parquet"
        self.features_folder = folder / "features"
        self.manifest_path = self.features_folder / "manifest.parquet"

    @classmethod
    def of(cls, cohort: str, root: Path = DATA) -> "CohortStore":
        """Return the store of a cohort by name."""
        return cls(root / cohort)

    @property
    def raw_folder(self) -> Path:
        """Raw files that the cohort was imported from."""
        return self.folder.parent / "raw" / self.folder.name

    def bag_path(self, encoder: str, mpp: float, slide_id: str) -> Path:
        """Return the file with the features of one slide at one resolution."""
        return feature_store.bag_path(self.features_folder, encoder, mpp, slide_id)

    def pretraining_folder(self, fold: int) -> Path:
        """Return the folder of the weights that networks of a fold start from (`dml.pretraining`)."""
        return self.folder / "pretraining" / f"fold-{fold}"

    def patients(self) -> pd.DataFrame:
        """Read the table of patients; ``attrs`` has the classes of each label and the cohort's name."""
        return read_patients(self.patients_path)

    def slides(self) -> pd.DataFrame:
        """Read the table of slides."""
        return read_slides(self.slides_path)

    def expression(self) -> ExpressionMatrix:
        """Read the transcriptomes."""
        return read_expression(self.expression_path)

    def gene_groups(self) -> DeclaredGroups:
        """Read the genes of the tumor and of its microenvironment, and what was declared of them."""
        return read_gene_groups(self.gene_groups_path)

    def splits(self) -> pd.DataFrame:
        """Read the folds: patient_id, fold, role, inner_fold, stratum."""
        return read_splits(self.splits_path)

    def manifest(self) -> pd.DataFrame:
        """Read the status of every slide and resolution of the feature store."""
        manifest: pd.DataFrame = read_parquet(self.manifest_path)[0].to_pandas()
        return manifest

    def bags(self, encoder: str, mpps: Sequence[float]) -> dict[str, MultiScaleBags]:
        """Read the features of every patient with a slide, in memory or (if they exceed it) memory-mapped."""
        manifest = self.manifest()
        complete = manifest[(manifest["status"] == "ok") & manifest["patient_id"].notna()]
        slides = {str(patient): sorted(set(rows["slide_id"])) for patient, rows in complete.groupby("patient_id")}
        resolutions = [Mpp(mpp) for mpp in mpps]
        tokens = int(complete.loc[complete["mpp"].isin(resolutions), "tiles"].sum())
        folder = self.features_folder / encoder
        bags = ((patient, feature_store.read_bags(folder, ids, resolutions)) for patient, ids in slides.items())
        return load_or_memmap(bags, tokens)

    def cohort(self, encoder: str, mpps: Sequence[float]) -> Cohort:
        """Read all patients with the features of one encoder.

        Parameters
        ----------
        encoder : str
            Name of the tile encoder.
        mpps : sequence of float
            Resolutions in microns per pixel.

        Raises
        ------
        InputError
            If a file is missing or damaged.
        """
        clinical, expression = self.clinical_cohort(), self.expression()
        bags, profiles = self.bags(encoder, mpps), dict(zip(expression.patient_ids, expression.values, strict=True))
        cases = tuple(
            replace(case, bags=bags.get(case.patient_id, {}), expression=profiles.get(case.patient_id))
            for case in clinical.cases
        )
        return Cohort(
            clinical.name, cases, expression.genes, expression.unit, self.gene_groups().groups, clinical.classes
        )

    def clinical_cohort(self) -> Cohort:
        """Read outcomes, labels and covariates of all patients, without features and transcriptomes."""
        patients = self.patients()
        classes = {label: tuple(values) for label, values in patients.attrs["classes"].items()}
        cases = tuple(_make_case(row, classes) for row in patients.to_dict("records"))
        name = patients.attrs.get("cohort", self.folder.name)
        return Cohort(name, cases, (), "absent", GeneGroups((), ()), classes)


def _make_case(row: Mapping[Hashable, Any], classes: Mapping[str, Sequence[str]]) -> Case:
    has_survival = pd.notna(row["survival_days"]) and pd.notna(row["event"])
    return Case(
        patient_id=row["patient_id"],
        site=row["site"],
        bags={},
        survival=Survival(float(row["survival_days"]), bool(row["event"])) if has_survival else None,
        labels={label: row[label] for label, names in classes.items() if names and pd.notna(row[label])},
        covariates={name: float(row[name]) for name in CLINICAL if pd.notna(row.get(name))},
        values={label: float(row[label]) for label, names in classes.items() if not names and pd.notna(row[label])},
    )
