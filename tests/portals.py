"""Small files in the formats of public portals and tools, as those write them: layouts, headers, odd rows and all."""

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch

from dml.genes.gene_symbols import TABLE

STAR = ["unstranded", "stranded_first", "stranded_second", "tpm_unstranded", "fpkm_unstranded", "fpkm_uq_unstranded"]
TOTALS = ["N_unmapped", "N_multimapping", "N_noFeature", "N_ambiguous"]


def known_genes() -> dict[str, tuple[str, str]]:
    """Symbol -> (Ensembl id, Entrez id) of the shipped table, by a second, simpler reading of it."""
    rows = [line.split("\t") for line in gzip.decompress(TABLE.read_bytes()).decode().splitlines()[3:]]
    return {row[0]: (row[1], row[2]) for row in rows if row[1] and row[2]}


def tcga(count: int) -> list[str]:
    """Patient ids with two tissue source sites."""
    return [f"TCGA-{'02' if i % 2 else '14'}-{1000 + i:04d}" for i in range(count)]


def expression_of(patients: Sequence[str], genes: Sequence[str], seed: int = 5) -> pd.DataFrame:
    """TPM-like values, patients by genes."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(rng.gamma(2, 20, (len(patients), len(genes))).round(4), index=list(patients), columns=genes)


def write_gdc(folder: Path, tpm: pd.DataFrame, other: Mapping[str, str] | None = None, new_sheet: bool = False) -> None:
    """Write a GDC download of STAR counts: a folder a file, and the sample sheet beside them.

    `tpm` is patients by symbols; `other` names patients with one more sample, of another type.
    """
    known = known_genes()
    samples = [(p, f"{p}-01A", "Primary Tumor") for p in tpm.index]
    samples += [(p, f"{p}-11A", kind) for p, kind in (other or {}).items()]
    rows = []
    for i, (patient, sample, kind) in enumerate(samples):
        uuid = f"{i:08x}-0000-4000-8000-{i:012x}"
        name = f"{uuid[:8]}.rna_seq.augmented_star_gene_counts.tsv"
        values = tpm.loc[patient] * (1 if kind == "Primary Tumor" else 100)
        table = pd.DataFrame({"gene_id": [f"{known[g][0]}.{i % 7 + 1}" for i, g in enumerate(tpm.columns)]})
        table["gene_name"], table["gene_type"] = list(tpm.columns), "protein_coding"
        for measure in STAR:
            table[measure] = (values.to_numpy() * 10).round().astype(int) if "tpm" not in measure else values.to_numpy()
        extra = pd.DataFrame({"gene_id": ["ENSG00000290825.1"], "gene_name": "DDX11L2", "gene_type": "lncRNA"})
        table = pd.concat([table, extra.assign(**dict.fromkeys(STAR, 7))])
        totals = pd.DataFrame({"gene_id": TOTALS, **dict.fromkeys(STAR[:3], 1234)})
        (folder / "gdc" / uuid).mkdir(parents=True)
        text = pd.concat([totals, table])[["gene_id", "gene_name", "gene_type", *STAR]].to_csv(sep="\t", index=False)
        (folder / "gdc" / uuid / name).write_text(f"# gene-model: GENCODE v36\n{text}")
        tumor, _, normal = kind.partition(" ")
        types = {"Tissue Type": normal, "Tumor Descriptor": tumor} if new_sheet else {"Sample Type": kind}
        data = {"Data Category": "Transcriptome Profiling", "Data Type": "Gene Expression Quantification"}
        who = {"Project ID": "TCGA-GBM", "Case ID": patient, "Sample ID": sample}
        rows.append({"File ID": uuid, "File Name": name, **data, **who, **types})
    (folder / "gdc" / "MANIFEST.txt").write_text("id\tfilename\n")
    pd.DataFrame(rows).to_csv(folder / "gdc_sample_sheet.2026-01-15.tsv", sep="\t", index=False)


def write_gdc_clinical(path: Path, days: pd.Series, dead: pd.Series) -> None:
    """Write clinical.tsv as the portal does: a row a treatment, no values as '--."""
    rows = []
    for patient in days.index:
        for treatment in ("Pharmaceutical Therapy, NOS", "Radiation Therapy, NOS"):
            last = str(int(days[patient]))
            died, followed = (last, "'--") if dead[patient] else ("'--", last)
            status = "Dead" if dead[patient] else "Alive"
            rows.append([patient, "TCGA-GBM", status, died, followed, "-19724", "female", treatment])
    names = ["case_submitter_id", "project_id", "vital_status", "days_to_death", "days_to_last_follow_up"]
    names += ["days_to_birth", "gender", "treatment_type"]
    pd.DataFrame(rows, columns=names).to_csv(path, sep="\t", index=False)


def write_cbioportal(folder: Path, rsem: pd.DataFrame, months: pd.Series, dead: pd.Series) -> None:
    """Write a study folder: expression by Hugo symbol and Entrez id, clinical files below their four '#' lines."""
    folder.mkdir(parents=True)
    known = known_genes()
    table = rsem.T.set_axis([f"{p}-01" for p in rsem.index], axis=1)
    table.insert(0, "Entrez_Gene_Id", [known[g][1] for g in rsem.columns])
    table.insert(0, "Hugo_Symbol", rsem.columns)
    table.to_csv(folder / "data_mrna_seq_v2_rsem.txt", sep="\t", index=False)
    head = "#Patient Identifier\tOverall Survival\tStatus\tSex\n#Id, of the patient\tmonths\tstatus\tsex\n"
    head += "#STRING\tNUMBER\tSTRING\tSTRING\n#1\t1\t1\t1\n"
    status = ["1:DECEASED" if d else "0:LIVING" for d in dead]
    clinical = pd.DataFrame({"PATIENT_ID": months.index, "OS_MONTHS": months.to_numpy(), "OS_STATUS": status})
    clinical["SEX"] = "Female"
    (folder / "data_clinical_patient.txt").write_text(head + clinical.to_csv(sep="\t", index=False))
    samples = pd.DataFrame({"PATIENT_ID": months.index, "SAMPLE_ID": [f"{p}-01" for p in months.index]})
    samples = samples.assign(
        SAMPLE_TYPE="Primary", ONCOTREE_CODE=["GBM" if i % 3 else "ODG" for i in range(len(months))]
    )
    head = "#Patient\tSample\tType\tCode\n" * 4
    (folder / "data_clinical_sample.txt").write_text(head + samples.to_csv(sep="\t", index=False))
    (folder / "meta_mrna_seq_v2_rsem.txt").write_text("datatype: CONTINUOUS\nstable_id: rna_seq_v2_mrna\n")


def write_xena(folder: Path, tpm: pd.DataFrame, days: pd.Series, dead: pd.Series) -> None:
    """Write a hub's matrix (log2(tpm + 1), Ensembl ids with version, samples of all types) and its survival table."""
    folder.mkdir(parents=True, exist_ok=True)
    known = known_genes()
    table = np.log2(tpm.T + 1).set_axis([f"{p}-01A" for p in tpm.index], axis=1)
    table.insert(1, f"{tpm.index[0]}-11A", 19.0)
    table.insert(0, "Ensembl_ID", [f"{known[g][0]}.{i % 5 + 1}" for i, g in enumerate(tpm.columns)])
    with gzip.open(folder / "TCGA-GBM.star_tpm.tsv.gz", "wt") as file:
        table.to_csv(file, sep="\t", index=False)
    survival = pd.DataFrame({"sample": [f"{p}-01A" for p in days.index], "OS": dead.astype(int).to_numpy()})
    survival["_PATIENT"], survival["OS.time"] = list(days.index), days.to_numpy()
    survival.to_csv(folder / "TCGA-GBM.survival.tsv", sep="\t", index=False)


def write_trident(folder: Path, slides: Sequence[str], width: int = 8, seed: int = 1) -> None:
    """Write one h5 a slide: features, and coordinates whose attributes say magnification and patch size."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for slide in slides:
        tiles = int(rng.integers(4, 9))
        with h5py.File(folder / f"{slide}.h5", "w") as file:
            file.create_dataset("features", data=rng.normal(size=(tiles, width)).astype(np.float32))
            coords = np.stack([np.arange(tiles) * 512, np.zeros(tiles)], axis=1).astype(np.int64)
            stored = file.create_dataset("coords", data=coords)
            stored.attrs.update({"patch_size": 256, "patch_size_level0": 512, "level0_magnification": 40})
            stored.attrs.update({"target_magnification": 20, "overlap": 0, "name": slide})


def write_stamp(folder: Path, slides: Sequence[str], width: int = 8, seed: int = 4) -> None:
    """Write one h5 a slide as STAMP 2 does: feats, coordinates in microns, attributes of the file."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for slide in slides:
        tiles = int(rng.integers(4, 9))
        with h5py.File(folder / f"{slide}.h5", "w") as file:
            file["feats"] = rng.normal(size=(tiles, width)).astype(np.float16)
            file["coords"] = np.stack([np.arange(tiles) * 256.0, np.zeros(tiles)], axis=1)
            file.attrs.update({"extractor": "uni-9f3c2b1a", "unit": "um", "tile_size_um": 256.0, "tile_size_px": 224})


def write_clam(folder: Path, slides: Sequence[str], width: int = 8, seed: int = 2) -> None:
    """Write CLAM's pt_files: a bare tensor a slide."""
    (folder / "pt_files").mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    for i, slide in enumerate(slides):
        torch.save(torch.randn(4 + i % 5, width, generator=generator), folder / "pt_files" / f"{slide}.pt")


def write_mcat(path: Path, patients: Sequence[str], genes: Sequence[str], seed: int = 3) -> None:
    """Write tcga_<study>_all_clean.csv.zip: a row a slide, z-scores of the patient repeated in columns *_rnaseq."""
    rng = np.random.default_rng(seed)
    rows = []
    for i, patient in enumerate(patients):
        z = {f"{g}_rnaseq": value for g, value in zip(genes, rng.normal(size=len(genes)).round(4), strict=True)}
        for slide in range(1 + i % 2):
            about = {"case_id": patient, "slide_id": f"{patient}-01Z-00-DX{slide + 1}.ABC.svs", "age": 50 + i % 30}
            about |= {"site": patient[5:7], "survival_months": 3.5 + i, "censorship": i % 2, "is_female": i % 2}
            rows.append({**about, "oncotree_code": "GBM", "TP53_mut": 1, "EGFR_cnv": -1, **z})
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path)
