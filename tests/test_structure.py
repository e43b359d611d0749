"""The shape of the code: sizes, module names, and words that are no names of this field."""

import ast
import re
from functools import cache
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for folder in ("dml", "pipelines") for path in (ROOT / folder).rglob("*.py"))
MODULES = [path for path in FILES if path.name != "__init__.py"]
PACKAGES = sorted(path.parent for path in (ROOT / "dml").glob("*/__init__.py"))

MAX_PACKAGE_LINES, MAX_MODULE_LINES, MAX_FUNCTION_LINES = 3000, 300, 60
MEDIAN_LINES = (100, 150)
GERUNDS = {"training", "tuning", "tracking", "packaging", "preprocessing"}
QUALIFYING = ("cli", "demo", "encoders", "pipelines")
"""Packages whose name goes before that of their modules: a command, a part of the painter, a stage."""
BANNED = frozenset(
    ["said", "told", "found", "own", "whom", "judged", "looked", "dealt", "sent", "kept", "place", "spread", "together"]
)
"""Words that say nothing of what a thing is."""
BANNED_IN_REPORTS = re.compile(r"\b(said|told|whom|judged|looked|dealt|sent|strangers?|speaks?|asked)\b", re.IGNORECASE)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_is_of_one_subject_and_size(package: Path) -> None:
    assert sum(lines_of(path) for path in FILES if package in path.parents) <= MAX_PACKAGE_LINES


def docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's docstring: the function is as long as what it does."""
    first = node.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return (first.end_lineno or 0) - first.lineno + 1 if is_docstring else 0


def test_no_module_and_no_function_is_too_long() -> None:
    modules = {name_of(path): lines_of(path) for path in FILES if lines_of(path) > MAX_MODULE_LINES}
    functions = {
        f"{name_of(path)}:{node.name}": (node.end_lineno or 0) - node.lineno + 1 - docstring_lines(node)
        for path in FILES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert modules == {}
    assert {name: lines for name, lines in functions.items() if lines > MAX_FUNCTION_LINES} == {}


def test_a_typical_module_is_neither_a_crumb_nor_a_chapter() -> None:
    assert MEDIAN_LINES[0] <= median(map(lines_of, MODULES)) <= MEDIAN_LINES[1]


def distinct_name(path: Path) -> str:
    """Name of a module; inside a package of a package (figures, metrics, readers, ...) with that package before it."""
    *packages, name = path.relative_to(ROOT).with_suffix("").parts
    return f"{packages[-1]}/{name}" if len(packages) > 2 or packages[-1] in QUALIFYING else name


def test_two_modules_share_a_name_only_where_their_packages_tell_them_apart() -> None:
    paths: dict[str, list[str]] = {}
    for path in MODULES:
        paths.setdefault(distinct_name(path), []).append(name_of(path))
    assert {name: shared for name, shared in paths.items() if len(shared) > 1} == {}


def test_modules_are_named_by_nouns_not_by_gerunds() -> None:
    gerunds = [name_of(path) for path in MODULES if path.stem.split("_")[-1].endswith("ing")]
    assert [name for name in gerunds if Path(name).stem not in GERUNDS] == []


def identifiers(tree: ast.Module) -> list[tuple[str, int]]:
    """Names that a module defines: functions, classes, arguments, variables, fields, attributes, import aliases."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append((node.name, node.lineno))
        elif isinstance(node, ast.arg):
            names.append((node.arg, node.lineno))
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append((node.id, node.lineno))
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.append((node.attr, node.lineno))
        elif isinstance(node, ast.alias) and node.asname:
            names.append((node.asname, 0))
    return names


@pytest.mark.parametrize("package", [*PACKAGES, ROOT / "pipelines"], ids=lambda path: path.name)
def test_identifiers_say_what_a_thing_is(package: Path) -> None:
    bad = [
        f"{name_of(path)}:{line} {name}"
        for path in FILES
        if package in path.parents
        for name, line in identifiers(tree_of(path))
        if BANNED & set(re.split(r"_|(?<=[a-z])(?=[A-Z])", name.lower() if name.isupper() else name))
    ]
    assert bad == []


def texts(path: Path) -> list[str]:
    """Text of a template, or the strings of a module that are no docstrings."""
    if path.suffix != ".py":
        return [path.read_text()]
    documents = {
        id(node.value)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        node.value
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents
    ]


def test_the_report_is_written_in_the_words_of_the_field() -> None:
    files = [path for path in (ROOT / "dml/report").rglob("*") if path.suffix in (".py", ".html", ".md", ".jinja")]
    bad = {
        name_of(path): match.group()
        for path in files
        for text in texts(path)
        if (match := BANNED_IN_REPORTS.search(text))
    }
    assert bad == {}
