"""The catalogue written out for others: the government workbook, DCAT-AP 3, ODCS and Frictionless.

    from catalog import exports

    exports.write(folder)          # catalogue.xlsx, catalogue.jsonld, odcs/, datapackage.json

One entry, one meaning: every format is written from `catalog.entries` and nothing else.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

from catalog import entries
from catalog.entries import declared
from catalog.exports import dcat, frictionless, odcs, workbook

BASE = "https://data.sh.gov.cn/tiyu/catalogue"
"""Address of the catalogue in its identifiers; a name, not a promise that a server answers there (known_gaps.md)."""


def write(folder: Path, *, issued: date, base: str = BASE) -> list[Path]:
    """Write every format below `folder`; returns the files.

    Only entries with a resource code are handed out: without one an entry is not published yet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    published = [entry for entry in entries.load_all().values() if entry.code]
    provider = declared.provider()
    files = [workbook.write(folder / "catalogue.xlsx", published, provider, issued)]
    for name, text in (
        ("catalogue.jsonld", dcat.text(published, provider, base, issued)),
        ("datapackage.json", frictionless.text(published, provider, base, issued)),
    ):
        (folder / name).write_text(text, encoding="utf-8")
        files.append(folder / name)
    (folder / "odcs").mkdir(exist_ok=True)
    for entry in published:
        if entry.is_structured:
            file = folder / "odcs" / f"{entry.id}.odcs.yaml"
            file.write_text(odcs.text(entry), encoding="utf-8")
            files.append(file)
    return files
