"""What the documentation points to exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/bad-input.md").read_text()
NAMED = sorted(set(re.findall(r"`T/([^`:]+)::([^`]+)`", PAGE)))


@cache
def functions_of(path: str) -> dict[str, str]:
    """Name of each test function of a file -> its module's source (for the names of parametrised cases)."""
    source = (ROOT / "tests" / path).read_text()
    return {node.name: source for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("path", "test"), NAMED, ids=lambda each: each.rpartition("/")[2])
def test_every_row_of_the_bad_input_page_names_a_test_that_exists(path: str, test: str) -> None:
    name, _, case = test.partition("[")
    assert name in functions_of(path)
    assert f'"{case.rstrip("]")}": (' in functions_of(path)[name] or not case


def test_every_row_of_the_bad_input_page_has_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| input")]
    assert len(rows) > 30
    assert [row for row in rows if "::test_" not in row] == []
