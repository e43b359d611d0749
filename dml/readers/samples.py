"""Which of several samples of a patient counts: one rule for every source of expression and of slides.

Normal tissue never counts. Of tumor samples the primary comes first, then recurrences, then metastases, by the
words of the source or by the code of a TCGA barcode (gdc.cancer.gov, Code Tables: Sample Type Codes). Of aliquots of
equal type the first vial counts, of one vial the aliquot with the most reads where they are known, else the first by
name; never the order of files.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

CODES = {
    "01": "primary tumor", "03": "primary blood cancer", "09": "primary bone marrow cancer",
    "05": "additional primary", "02": "recurrent tumor", "04": "recurrent blood cancer", "40": "recurrent blood cancer",
    "06": "metastasis", "07": "additional metastasis",
    "10": "blood normal", "11": "tissue normal", "12": "buccal normal", "13": "EBV-immortalised normal",
    "14": "bone marrow normal", "20": "cell line control",
}  # fmt: skip
"""Sample type codes of TCGA, in the order in which tumor samples count."""
_WORDS = {
    r"(?<!ab)normal|\bnon[\s_-]?(?:tumou?r|neoplastic|malignant|cancer)|\bhealthy|\bpara[\s_-]?tumou?r|\bnat\b"
    r"|\badjacent|\buninvolved": "11",
    "control": "20", "additional metasta": "07", "metasta": "06", "new primary": "05", "additional primary": "05",
    "recurren|relaps|progress": "02", "primary": "01",
}  # fmt: skip
"""Expressions of the words in which portals write sample types; the first that occurs decides."""
_DENIED = re.compile(r"\b(?:non|not|no|without)[\s_-]+(?:a[\s_-]+)?(?:metasta|recurren|relaps|progress)\w*")
_BARCODE = re.compile(
    r"^(?:TCGA[-._]\w\w[-._][A-Z0-9]{4}|TARGET[-._]\d+[-._][A-Z0-9]+)[-._](\d\d)([A-Z]?)", re.IGNORECASE
)
_NAMED_NORMAL = re.compile(r"(?:^|[-._ ])normal(?:$|[-._ ])", re.IGNORECASE)
_NORMAL = frozenset({"10", "11", "12", "13", "14", "20"})
_UNKNOWN = len(CODES)


@dataclass(frozen=True, slots=True)
class Sample:
    """One column or row of a matrix, or one file: `kind` is its type in the source's words, `reads` its depth."""

    patient_id: str
    name: str
    kind: str = ""
    reads: float = 0.0
    file: str = ""
    row: int | None = None

    @property
    def code(self) -> str:
        """The code of its type, '' where neither words nor barcode tell it."""
        return sample_code(self.name, self.kind)


def sample_code(name: str, kind: str = "") -> str:
    """Return the TCGA code of a sample's type by the words of its source, else by its barcode; '' if unknown.

    Examples
    --------
    >>> sample_code("TCGA-02-0001-11A"), sample_code("S1", "Primary Tumor"), sample_code("S1")
    ('11', '01', '')
    """
    words = _DENIED.sub("", kind.casefold())
    if code := next((code for part, code in _WORDS.items() if re.search(part, words)), ""):
        return code
    if match := _BARCODE.match(name):
        return match[1] if match[1] in CODES else ""
    return "11" if not kind and _NAMED_NORMAL.search(name) else ""


def patient_of(name: str) -> str:
    """Return the patient of a TCGA or TARGET barcode, '' of another name."""
    match = _BARCODE.match(name)
    return name[: match.start(1) - 1] if match else ""


def is_normal(name: str, kind: str = "") -> bool:
    """Whether a sample or slide is of normal tissue or a control."""
    return sample_code(name, kind) in _NORMAL


def describe_type(name: str, kind: str = "") -> str:
    """Return the type of a sample for a message: its own words, or the meaning of its barcode's code."""
    return kind or CODES.get(sample_code(name), "") or "of unknown type"


def select_types(samples: Sequence[Sample], kinds: Sequence[str]) -> tuple[list[Sample], list[tuple[Sample, str]]]:
    """Return the samples of the wanted types, and the others with the reason.

    A type matches in any case of its letters; where a source leaves it empty, the code of the barcode decides. Normal
    tissue is left out even where no type is asked for.
    """
    wanted = {kind.casefold() for kind in kinds}
    codes = {sample_code("", kind) for kind in kinds} - {""}
    selected, others = [], []
    for sample in samples:
        by_code = not sample.kind and sample.code in codes
        if kinds and sample.kind.strip().casefold() not in wanted and not by_code:
            others.append((sample, f"{describe_type(sample.name, sample.kind)}: not among expression.sample_types"))
        elif is_normal(sample.name, sample.kind) and sample.kind.strip().casefold() not in wanted:
            others.append((sample, f"{describe_type(sample.name, sample.kind)}: not of the tumor"))
        else:
            selected.append(sample)
    return selected, others


def choose_sample(samples: Sequence[Sample]) -> tuple[Sample, str]:
    """Return the sample of a patient that counts, and the rule by which it does.

    Examples
    --------
    >>> choose_sample([Sample("P", "P-a", "Metastasis"), Sample("P", "P-b", "Primary")])[1]
    'Primary before Metastasis'
    """
    ordered = sorted(samples, key=_rank)
    first = ordered[0]
    if len(ordered) == 1:
        kind = f" ({describe_type(first.name, first.kind)})" if first.code else ""
        return first, f"only sample{kind}"
    names = ("type", "vial", "reads", "name")
    rule = next(name for i, name in enumerate(names) if _rank(first)[i] != _rank(ordered[1])[i] or name == "name")
    other = ordered[1]
    texts = {
        "type": f"{describe_type(first.name, first.kind)} before {describe_type(other.name, other.kind)}",
        "vial": "first vial",
        "reads": f"aliquot with the most reads ({first.reads:.0f} before {other.reads:.0f})",
        "name": f"first of {len(ordered)} equal samples by name",
    }
    return first, texts[rule]


def same_type(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples of the type that counts first."""
    first = min(map(_rank, samples))[0]
    return [sample for sample in samples if _rank(sample)[0] == first]


def _rank(sample: Sample) -> tuple[int, str, float, str, str]:
    codes = list(CODES)
    order = codes.index(sample.code) if sample.code else _UNKNOWN
    match = _BARCODE.match(sample.name)
    return order, match[2] if match else "", -sample.reads, sample.name, sample.file
