"""The exchange interface specification as a page, rendered from the Markdown that is kept in docs/."""

from __future__ import annotations

from pathlib import Path

import markupsafe
from markdown_it import MarkdownIt

from lake.settings import settings
from sharing import files
from sharing.sites import theme


def source_folder() -> Path:
    """Where the specification and its JSON Schemas are kept."""
    return settings().repo_root / "docs" / "interface_spec"


def build_spec_page(banner: str) -> Path:
    """Write ``exchange/index.html`` and copy the schema files beside it, under the site root."""
    target = settings().site_root / "exchange"
    text = (source_folder() / "README.md").read_text(encoding="utf-8")
    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    html = html.replace(
        "<table>", '<div class="scroll" tabindex="0" role="region" aria-label="表格，可左右滚动"><table>'
    )
    html = html.replace("</table>", "</table></div>").replace("<pre>", '<pre tabindex="0">')
    page = theme.render(
        "spec.html", depth=1, here="exchange", banner=banner, title="数据交换接口规范", body=markupsafe.Markup(html)
    )
    files.write_if_changed(target / "index.html", page)
    for path in sorted(source_folder().glob("*.json")):
        files.write_if_changed(target / path.name, path.read_bytes())
    return target / "index.html"
