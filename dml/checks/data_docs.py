"""Make the pages of Data Docs stand alone: no scripts, nothing from the network, one small style sheet inside.

Their own front page is a table that only scripts from a CDN can fill; ours lists every rule with its verdict.
"""

import re
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from dml.core.files import atomic

STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:0 auto;max-width:1100px;padding:1rem;color:#222}
a{color:#0b5cad} table{border-collapse:collapse;width:100%;margin:.5rem 0}
td,th{border:1px solid #d5d5d5;padding:.3rem .6rem;text-align:left;vertical-align:top}
.nav,ul{list-style:none;padding-left:.5rem} .badge{background:#eee;border-radius:3px;padding:0 .3rem}
.fa-check-circle::before,.fa-check::before{content:"\\2713 ";color:#1a7f37}
.fa-times::before,.fa-times-circle::before{content:"\\2717 ";color:#c62828}
.fa-exclamation-triangle::before{content:"! ";color:#b26a00}
.text-success{color:#1a7f37}.text-danger{color:#c62828}
nav,.btn,button,.modal,.alert-info,footer,#ge-cta-footer{display:none}
@media (prefers-color-scheme:dark){body{background:#161616;color:#ddd}a{color:#7ab8ff}td,th{border-color:#444}}
"""

NO_TIME = datetime(2000, 1, 1, tzinfo=UTC)
"""Stands for the time of a check, so that equal inputs give equal pages."""

_TIME_ROW = re.compile(r"<tr>(?:(?!<tr>|</tr>).)*?(?:Run Time|ge_load_time)(?:(?!</tr>).)*?</tr>", re.DOTALL)
_TIME_CRUMB = re.compile(r" / 2000-01-01T00:00:00Z")
_STAMP = re.compile(r"\b\d{8}T\d{6}\.\d{6}Z\b")
_REMOTE = re.compile(r"<script\b.*?</script>|<link\b[^>]*\bhref=[\"']https?:[^>]*>", re.IGNORECASE | re.DOTALL)
_PICTURE = re.compile(r"<img\b[^>]*\bsrc=[\"']https?:[^>]*>", re.IGNORECASE)
_RANDOM = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")


def make_offline(docs: Path) -> None:
    """Rewrite every page under `docs`: drop what is remote and every time, number random ids, add `STYLE`."""
    for page in sorted(docs.rglob("*.html")):
        text = _TIME_CRUMB.sub("", _TIME_ROW.sub("", _PICTURE.sub("", _REMOTE.sub("", page.read_text()))))
        text = _STAMP.sub(f"{NO_TIME:%Y%m%dT%H%M%S.%fZ}", text)
        ids = {name: f"id{i}" for i, name in enumerate(dict.fromkeys(_RANDOM.findall(text)))}
        for random, fixed in ids.items():
            text = text.replace(random, fixed)
        with atomic(page) as temporary:
            temporary.write_text(text.replace("</head>", f"<style>{STYLE}</style></head>", 1))
    shutil.rmtree(docs / "static", ignore_errors=True)


def write_front_page(docs: Path, title: str, rows: Sequence[tuple[str, bool, str]]) -> None:
    """Write ``index.html``: one row (sheet, success, text) a rule, linked to the sheet's page."""
    pages = {p.parents[2].name: p.relative_to(docs).as_posix() for p in docs.glob("validations/*/*/*/*.html")}
    body = "".join(
        f'<tr><td class="text-{"success" if good else "danger"}">{"&#10003;" if good else "&#10007;"}</td>'
        f'<td><a href="{pages[sheet]}">{escape(sheet)}</a></td><td>{escape(text)}</td></tr>'
        for sheet, good, text in rows
    )
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
    with atomic(docs / "index.html") as temporary:
        temporary.write_text(
            f"{head}<style>{STYLE}</style></head><body><h1>{escape(title)}</h1><table>{body}</table></body></html>\n"
        )
