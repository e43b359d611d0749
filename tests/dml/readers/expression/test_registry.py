"""A format of expression is one file in dml/readers/expression: nothing else is touched."""

import subprocess
import sys
from pathlib import Path

from dml.readers.expression.registry import formats

FORMAT = '''
"""Tables of pairs: patient, gene, value."""

from pathlib import Path
from typing import Literal

from dml.readers.expression.expression_format import ExpressionFormat, RawMatrix
from dml.readers.table_files import read_table


class Pairs(ExpressionFormat):
    """One row a patient and gene."""

    format: Literal["pairs"]
    file: str

    def read(self, raw: Path) -> RawMatrix:
        """Read the pairs."""
        frame = read_table(raw / self.file, numeric=True)
        return RawMatrix(frame.pivot(index="patient", columns="gene", values="value"), raw / self.file)
'''
RUN = """
import sys

import dml.readers.expression as package

package.__path__.append(sys.argv[1])
from pathlib import Path

from dml.cohorts.description import CohortDescription
from dml.cohorts.expression import build_expression

matrix = build_expression(CohortDescription.load("c", Path(sys.argv[1])))
print(matrix.patient_ids, matrix.genes, matrix.values.tolist())
"""
DESCRIPTION = """
name: c
raw: {raw}
patients: [{{file: p.csv, id: id}}]
expression: {{format: pairs, file: e.csv, unit: zscore}}
"""


def test_the_plain_matrix_is_the_default() -> None:
    assert next(iter(formats())) == "matrix"
    assert set(formats()) == {"matrix", "cbioportal", "gdc_star_counts", "h5ad", "xena"}


def test_a_new_format_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "pairs.py").write_text(FORMAT)
    (tmp_path / "c.yaml").write_text(DESCRIPTION.format(raw=tmp_path))
    (tmp_path / "e.csv").write_text("patient,gene,value\nP1,B,2\nP0,A,-1\nP1,A,0.5\nP0,B,-3\n")
    done = subprocess.run([sys.executable, "-c", RUN, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stdout == "('P0', 'P1') ('A', 'B') [[-1.0, -3.0], [0.5, 2.0]]\n", done.stderr
