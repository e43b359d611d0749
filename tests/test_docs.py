"""The documentation agrees with the code: commands, options, parameters, paths, quotations, tests and links exist."""

import ast
import importlib
import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
import yaml
from pydantic import BaseModel

from dml.cli.app import app
from dml.config.params import Params
from dml.config.renamed_keys import RENAMED, RENAMED_VALUES

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))
}
HISTORY = ("CHANGELOG.md",)  # names old commands on purpose
PRESENT = [name for name in PAGES if name not in HISTORY]
BAD_INPUT = PAGES["docs/bad-input.md"]
NAMED_TESTS = sorted({match for page in PAGES.values() for match in re.findall(r"`T/([^`:]+)::([^`]+)`", page)})
ROOTS = ("dml/", "pipelines/", "tests/", "benchmarks/", "docs/", "deploy/", ".ci/")


def code_blocks(page: str) -> list[tuple[str, str]]:
    """Language and content of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


def inline_code(page: str) -> list[str]:
    """Content of each code span outside the fenced blocks, line breaks as blanks."""
    prose = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]


def dml_commands(page: str) -> Iterator[list[str]]:
    """Yield the words of every `dml` command of a page after `dml`."""
    shell = "\n".join(content for language, content in code_blocks(page) if language in ("", "bash", "console"))
    lines = re.sub(r"\\\n\s*", " ", shell).splitlines()
    candidates = [part.strip() for line in lines for part in re.split(r"&&|\|\||;", line.split("  #")[0])]
    for command in (*candidates, *inline_code(page)):
        words = shlex.split(command.removeprefix("$ "), comments=True) if re.match(r"(\$ )?dml( |$)", command) else []
        if words:
            yield words[1:]


def check_command(words: list[str]) -> None:
    """Follow the words through the commands; an option must belong to the command it follows."""
    command: Any = typer.main.get_command(app)
    for word in words:
        if word.startswith("--"):
            options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
            assert word.split("=")[0] in options | {"--help"}, f"dml {' '.join(words)}: no option {word}"
        elif hasattr(command, "commands") and word not in ("...", "<command>"):
            assert word in command.commands, f"dml {' '.join(words)}: no command {word}"
            command = command.commands[word]
            assert not command.hidden, f"dml {' '.join(words)}: {word} is an old name"


@pytest.mark.parametrize("page", PRESENT)
def test_every_command_and_option_exists(page: str) -> None:
    for words in dml_commands(PAGES[page]):
        check_command(words)


def test_commands_are_recognised_in_pages() -> None:
    page = (
        "Run `dml cohort use demo`:\n```\ndml tune teacher --task survival \\\n  --trials 3 && dml ui  # x\nls\n```\n"
    )
    found = list(dml_commands(page))
    assert found == [["tune", "teacher", "--task", "survival", "--trials", "3"], ["ui"], ["cohort", "use", "demo"]]
    with pytest.raises(AssertionError, match="no command forecast"):
        check_command(["forecast"])
    with pytest.raises(AssertionError, match="external is an old name"):
        check_command(["external"])
    with pytest.raises(AssertionError, match="no option --colour"):
        check_command(["cohort", "use", "demo", "--colour"])


@pytest.mark.parametrize("page", PAGES)
def test_every_target_of_make_exists(page: str) -> None:
    targets = re.findall(r"^([\w-]+)(?: [\w-]+)*:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    blocks = [line for _, content in code_blocks(PAGES[page]) for line in content.splitlines()]
    for command in (*blocks, *inline_code(PAGES[page])):
        if match := re.match(r"(?:\$ )?make ([\w-]+)", command):
            assert match[1] in targets, f"{page}: {command}"


@pytest.mark.parametrize("page", PRESENT)
def test_every_path_exists(page: str) -> None:
    for code in inline_code(PAGES[page]):
        if code.startswith(ROOTS) and not re.search(r"[<*{ …]", code):
            assert (ROOT / code.partition("::")[0]).exists(), f"{page}: {code}"


@pytest.mark.parametrize("page", PRESENT)
def test_every_parameter_exists(page: str) -> None:
    for code in inline_code(PAGES[page]):
        name = re.match(r"([a-z_]+)\.([a-z_]+)(?:\.([a-z_]+))?(?::|$)", code)
        if name and name[1] in Params.model_fields and not code.endswith((".py", ".yaml", ".json", ".parquet", ".md")):
            section: object = Params.model_fields[name[1]].annotation
            for key in filter(None, name.groups()[1:]):
                if isinstance(section, type) and issubclass(section, BaseModel):
                    assert key in section.model_fields, f"{page}: {code}"
                    section = section.model_fields[key].annotation


@cache
def quote_source() -> ModuleType:
    """Return the hook with which the site quotes code."""
    specification = importlib.util.spec_from_file_location("quote_source", ROOT / "docs/hooks/quote_source.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES)
def test_every_quotation_of_code_exists(page: str) -> None:
    for match in quote_source().REFERENCE.finditer(PAGES[page]):
        assert quote_source().quote(match["path"], match["name"])


def test_code_is_quoted_with_its_decorators_and_without_what_follows() -> None:
    assert quote_source().quote("dml/core/model_name.py", "ModelName").startswith("@dataclass")
    method = quote_source().quote("dml/core/model_name.py", "ModelName.parse")
    assert method.startswith("@classmethod\ndef parse(cls")
    assert "__str__" not in method
    with pytest.raises(LookupError, match="no_such"):
        quote_source().quote("dml/core/model_name.py", "no_such")
    with pytest.raises(LookupError, match="does not exist"):
        quote_source().quote("dml/no_such.py")


@pytest.mark.parametrize("page", PRESENT)
def test_every_import_in_an_example_exists(page: str) -> None:
    examples = [content for language, content in code_blocks(PAGES[page]) if language == "python"]
    for node in (node for example in examples for node in ast.walk(ast.parse(example))):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("dml"):
            module = importlib.import_module(str(node.module))
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == [], page


def test_the_api_reference_names_what_exists() -> None:
    for name in re.findall(r"^::: (\S+)", PAGES["docs/api/index.md"], re.MULTILINE):
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page: str) -> None:
    for target in re.findall(
        r"\]\(([^)\s#]+)(?:#[^)]*)?\)", re.sub(r"^```.*?^```", "", PAGES[page], flags=re.S | re.M)
    ):
        if not target.startswith(("http:", "https:")):
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES)
def test_lines_fit_a_diff(page: str) -> None:
    long = [line for line in PAGES[page].splitlines() if len(line) > 100 and not line.lstrip().startswith("|")]
    assert long == []


def test_every_page_is_in_the_navigation() -> None:
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2])
    text = str(navigation)
    assert [page for page in PAGES if page.startswith("docs/") and page.removeprefix("docs/") not in text] == []


def test_the_packages_are_listed_in_the_order_of_the_import_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    assert re.findall(r"^\| `dml/(\w+)` \|", PAGES["docs/architecture.md"], re.MULTILINE) == layers


def test_the_pipeline_figure_shows_the_stages() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    labels = set(re.findall(r">([a-z_]+)</text>", (ROOT / "docs/images/pipeline.svg").read_text()))
    assert set(stages) <= labels
    assert all(f"`{stage}`" in PAGES["docs/concepts.md"] for stage in stages)


def test_the_changelog_lists_every_renamed_key() -> None:
    renamed = dict(RENAMED)
    for key, values in RENAMED_VALUES.items():
        renamed |= {f"{key}: {old}": f"{key}: {new}" for old, new in values.items()}
    assert [old for old, new in renamed.items() if f"| `{old}` | `{new}` |" not in PAGES["CHANGELOG.md"]] == []


@cache
def sources_of_tests(path: str) -> dict[str, str]:
    """Name of each test function of a file -> its module's source (for the names of parametrised cases)."""
    source = (ROOT / "tests" / path).read_text()
    return {node.name: source for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("path", "test"), NAMED_TESTS, ids=lambda each: each.rpartition("/")[2])
def test_every_test_that_a_page_names_exists(path: str, test: str) -> None:
    name, _, case = test.partition("[")
    assert name in sources_of_tests(path)
    assert f'"{case.rstrip("]")}": (' in sources_of_tests(path)[name] or not case


def test_every_row_of_the_bad_input_page_has_a_test() -> None:
    rows = [line for line in BAD_INPUT.splitlines() if line.startswith("| ") and not line.startswith("| input")]
    assert len(rows) > 30
    assert [row for row in rows if "::test_" not in row] == []
