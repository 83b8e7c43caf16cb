"""Meaning, grade and mark of columns, mirrored into the schemas of the Delta tables.

A table gets its words when it is created or replaced (`lake.words`), without a commit of their own. What changed since,
`refresh` writes: one commit a changed column, which touches no date and moves the checked version along, because the
rows are the same.
"""

from __future__ import annotations

from catalog import columns
from lake import ledger, tables

COMMENT, GRADE, MARK, UNIT = "comment", "tiyu.grade", "tiyu.pi_mark", "tiyu.unit"


def words(table: str) -> dict[str, dict[str, str]]:
    """Column → metadata: `comment` (the key Spark and others show), `tiyu.grade`, `tiyu.pi_mark`, `tiyu.unit`."""
    return {row["column"]: _metadata(row) for row in columns.describe(table)}


def all_words() -> dict[str, dict[str, dict[str, str]]]:
    """Table → column → metadata, of everything that is described."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for row in columns.describe_all():
        found.setdefault(row["table"], {})[row["column"]] = _metadata(row)
    return found


def _metadata(row: columns.ColumnRow) -> dict[str, str]:
    title, text = row["title_zh"] or "", row["description"] or ""
    comment = text if text.startswith(title) else f"{title}：{text}" if text else title
    entry = {COMMENT: comment, GRADE: row["grade"] or "", MARK: row["pi_mark"] or "", UNIT: row["unit"] or ""}
    return {key: value for key, value in entry.items() if value}


def stale(table: str, wanted: dict[str, dict[str, str]]) -> list[str]:
    """Columns whose stored words differ from the catalogue's."""
    stored = {field.name: dict(field.metadata) for field in tables.open_table(table).schema().fields}
    return [
        name
        for name, metadata in wanted.items()
        if name in stored and any(stored[name].get(key) != value for key, value in metadata.items())
    ]


def refresh() -> dict[str, int]:
    """Bring every table of the lake up to date; returns table → columns rewritten (only those that had any)."""
    known, done = all_words(), {}
    for table in tables.all_tables():
        wanted = known.get(table, {})
        changed = stale(table, wanted)
        if not changed:
            continue
        before = tables.version(table)
        visible = ledger.checked_version(table) == before
        tables.set_column_metadata(table, {name: wanted[name] for name in changed})
        after = tables.version(table)
        if visible and after is not None:
            ledger.set_checked_version(table, after, f"words-{after}")
        done[table] = len(changed)
    return done
