"""Fail the build of the site if a page would fetch anything from the network."""

import re
from pathlib import Path

from mkdocs.exceptions import PluginError

FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|<link\b[^>]*\brel=["']?(?:stylesheet|preconnect|icon|preload)[^>]*\bhref=["']?((?:https?:)?//[^"'\s>]+)""",
    re.IGNORECASE,
)
IN_STYLES = re.compile(r"""(?:url\(|@import)\s*["']?((?:https?:)?//[^"')\s]+)""")


def on_post_build(config: object) -> None:
    """Look at every page and style sheet of the finished site (called by MkDocs)."""
    site = Path(str(config["site_dir"]))  # type: ignore[index]
    addresses = [
        f"{path.relative_to(site)}: {next(filter(None, match.groups()))}"
        for pattern, suffix in ((FETCHED, "html"), (IN_STYLES, "css"))
        for path in sorted(site.rglob(f"*.{suffix}"))
        for match in pattern.finditer(path.read_text())
    ]
    if addresses:
        raise PluginError("the site must work offline, but it fetches " + ", ".join(addresses))
