"""Quote source code in the documentation, so that what a page shows cannot differ from the code.

A line ``{{ dml/training/trainer.py::Trainer.fit }}`` of a page becomes the source of that function or class,
``{{ dml/core/errors.py }}`` the whole file, ``{{ CONTRIBUTING.md }}`` a page of the repository's root. The build fails
where one does not exist.
"""

import ast
import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = re.compile(r"^\{\{ (?P<path>[\w./-]+?)(?:::(?P<name>[\w.]+))? \}\}$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace the references of a page by the source they name (called by MkDocs)."""
    return REFERENCE.sub(lambda match: _block(match["path"], match["name"]), markdown)


def _block(path: str, name: str | None) -> str:
    source = quote(path, name)
    return source if path.endswith(".md") else f"```python\n{source}\n```"


def quote(path: str, name: str | None = None) -> str:
    """Return the source of a file, or of a function or class in it by its dotted name.

    Raises
    ------
    LookupError
        If there is no such file or name.
    """
    file = ROOT / path
    if not file.is_file():
        raise LookupError(f"the documentation quotes {path}, which does not exist")
    source = file.read_text()
    if file.suffix == ".md":  # links of a page in the root, as links of a page in docs/
        return re.sub(r"\]\((?:docs/)?([^):]+)", lambda link: f"]({_relative(link[1])}", source).rstrip()
    if name is None:
        return source.rstrip()
    node: ast.AST = ast.parse(source)
    for part in name.split("."):
        node = _child(node, part, path)
    first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
    return textwrap.dedent("\n".join(source.splitlines()[first - 1 : node.end_lineno]))


def _relative(target: str) -> str:
    return target.lower() if target.removesuffix(".md").isupper() else target


def _child(node: ast.AST, name: str, path: str) -> ast.stmt:
    for child in getattr(node, "body", []):
        targets = [target.id for target in getattr(child, "targets", []) if isinstance(target, ast.Name)]
        if name in (getattr(child, "name", None), *targets):
            return child
    raise LookupError(f"the documentation quotes {name} of {path}, which is not there")
