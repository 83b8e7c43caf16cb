"""The catalogue site 数据目录: a searchable index and one page per entry, with the newest facts of the lake.

It answers, without a colleague: which table, what its columns mean and how sensitive they are, how fresh it is, where it
comes from and where it goes, who may see it, and how to ask. Values are shown only as `sharing.samples` masks them.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict
from typing import Any

import duckdb

from catalog import entries as catalogue
from catalog import vocabularies
from catalog.entries import LAYER_ZH, Entry, access, facts, sheet
from catalog.entries.facts import Facts
from catalog.policy import decide_file, is_person_level, load, table_allowed
from catalog.policy.declaration import Policy
from lake import clock, properties, query
from lake.settings import settings
from sharing import files, samples
from sharing.serving import describe, saved
from sharing.serving.policy import Column
from sharing.sites import lineage_picture, live, theme
from sharing.sites.column_lineage import ColumnLineage

FOLDER = "catalogue"
_KIND_ORDER = ("source", "table", "exchange", "open", "dashboard", "reference", "platform")
_LAYER_ORDER = ("ads", "dws", "dwd", "dim", "ods", "ops", "out")
_SAMPLE = 24
"""Characters of one sample value that are shown."""
_TREATMENT_ZH = {"plain": "原样", "masked": "遮蔽", "token": "换标记", "absent": "不提供"}


def build() -> dict[str, int]:
    """Write the whole site below the site root's ``catalogue/``; returns entries, pages changed, columns and bound tables.

    A page whose content did not change keeps its bytes; the page of an entry that is gone goes, too.
    """
    found = catalogue.load_all()
    now = facts.load(found)
    root = settings().site_root / FOLDER
    banner = properties.demo_banner()
    changed = theme.write_static(root)
    policy = load()
    described = describe.columns()
    by_column = ColumnLineage(found)
    con = query.connect()
    for entry in found.values():
        page = theme.render(
            "catalogue_entry.html",
            depth=1,
            home_depth=2,
            here="catalogue",
            banner=banner,
            title=entry.title_zh,
            description=entry.summary,
            **_page(entry, found, now[entry.id], policy, described, by_column, con),
        )
        changed += files.write_if_changed(root / entry.id / "index.html", page)
    con.close()
    index = theme.render(
        "catalogue_index.html",
        depth=0,
        home_depth=1,
        here="catalogue",
        banner=banner,
        title="数据目录",
        description="上海体育数据湖仓的数据目录：按问题查表，看懂每一列",
        **_index(found, now),
    )
    changed += files.write_if_changed(root / "index.html", index)
    for old in root.iterdir():
        if old.is_dir() and old.name not in found and old.name != "static":
            shutil.rmtree(old)
            changed += 1
    columns = sum(len(entry.columns) for entry in found.values())
    bound = sum(1 for fact in now.values() for table in fact.tables if table.version is not None)
    return {"entries": len(found), "changed": changed, "columns": columns, "tables_visible": bound}


# --- the index -------------------------------------------------------------------------------------------------------


def _index(found: dict[str, Entry], now: dict[str, Facts]) -> dict[str, Any]:
    order = sorted(
        found.values(),
        key=lambda e: (_LAYER_ORDER.index(e.layer) if e.layer in _LAYER_ORDER else 9, _KIND_ORDER.index(e.kind), e.id),
    )
    domains = {entry.domain: vocabularies.name_of("domain", entry.domain) for entry in order}
    return {
        "listed": [_listed(entry, now[entry.id]) for entry in order],
        "domains": domains,
        "layers": {e.layer: LAYER_ZH.get(e.layer, e.layer) for e in order},
        "grades": {code: vocabularies.name_of("grade", code) for code in vocabularies.codes("grade")},
        "column_count": sum(len(entry.columns) for entry in order),
        "questions": [{"title": q.title, "question": q.question, "name": q.name} for q in saved.load_all()],
        "as_of": clock.as_of(),
    }


def _listed(entry: Entry, fact: Facts) -> dict[str, Any]:
    return {
        "entry": entry,
        "layer_zh": LAYER_ZH.get(entry.layer, entry.layer),
        "domain_zh": vocabularies.name_of("domain", entry.domain),
        "state": _state(fact),
        "latest": fact.latest_part_date,
        "rows": sum(table.row_count or 0 for table in fact.tables) if fact.tables else None,
        # what is searched: the strong words first, the columns, then everything else
        "strong": " ".join([entry.title_zh, entry.id, *entry.keywords]).lower(),
        "columns": [f"{c.name} {c.title_zh}" for c in entry.columns if not _is_ours(c.name)],
        "weak": " ".join([entry.summary, entry.owner_name, *(_words(entry)), *(t.grain for t in entry.tables)]).lower(),
    }


def _words(entry: Entry) -> list[str]:
    """Names of the codes its columns may hold, so that 徐汇 or 游泳 finds a table of districts or sports."""
    lists = set()
    for column in entry.columns:
        stem = column.name.removesuffix("_code").removesuffix("_name")
        for name in (column.code_list, stem):
            if name and vocabularies.exists(name):
                lists.add(name)
    return [str(row["name"]) for name in sorted(lists) for row in vocabularies.load(name)]


def _state(fact: Facts) -> dict[str, str]:
    if fact.state == "unknown":
        return {"zh": "不适用", "tone": "off"}
    return {"zh": vocabularies.name_of("freshness_state", fact.state), "tone": live.STATE_TONES.get(fact.state, "off")}


# --- the page of an entry --------------------------------------------------------------------------------------------


def _page(
    entry: Entry,
    found: dict[str, Entry],
    fact: Facts,
    policy: Policy,
    described: dict[str, dict[str, Column]],
    by_column: ColumnLineage,
    con: duckdb.DuckDBPyConnection,
) -> dict[str, Any]:
    visible = {table.table: table for table in fact.tables}
    return {
        "entry": entry,
        "layer_zh": LAYER_ZH.get(entry.layer, entry.layer),
        "domain_zh": vocabularies.name_of("domain", entry.domain),
        "grade_zh": vocabularies.name_of("grade", entry.grade) if entry.grade else "未定级",
        "mark_zh": vocabularies.name_of("pi_mark", entry.pi_mark) if entry.pi_mark else "未标识",
        "cycle_zh": vocabularies.name_of("update_cycle", entry.update_cycle),
        "state": _state(fact),
        "latest": fact.latest_part_date,
        "tables": [
            _table(entry, table, visible.get(table.name), policy, described, by_column, con) for table in entry.tables
        ],
        "by_column": by_column.graph is not None and bool(entry.tables),
        "fresh": [_source(row, found) for row in fact.freshness],
        "quality": [_run(run) for run in fact.quality[:10]],
        "picture": lineage_picture.draw(entry, found),
        "upstream": [found[name] for step in lineage_picture.levels(entry, found, "upstream") for name in step],
        "downstream": [found[name] for step in lineage_picture.levels(entry, found, "downstream") for name in step],
        "ways": access.ways(entry),
        "lines": sheet.lines(entry),
        "queries": [asdict(q) for q in saved.load_all() if any(table.name in q.sql for table in entry.tables)],
        "first_query": _first_query(entry, visible),
    }


def _table(
    entry: Entry,
    table: Any,
    visible: Any,
    policy: Policy,
    described: dict[str, dict[str, Column]],
    by_column: ColumnLineage,
    con: duckdb.DuckDBPyConnection,
) -> dict[str, Any]:
    known = [described[table.name][c.name] for c in table.columns if c.name in described.get(table.name, {})]
    person_level = is_person_level(known)
    shown = (
        samples.masked_samples(table.name, 3, con=con)
        if visible and visible.version is not None and entry.layer != "out"
        else {}
    )
    return {
        "table": table,
        "version": visible.version if visible else None,
        "row_count": visible.row_count if visible else None,
        "latest": visible.latest_part_date if visible else None,
        "columns": [
            _column(c, shown.get(c.name), by_column.of(table.name, c.name))
            for c in table.columns
            if not _is_ours(c.name)
        ],
        "technical": [c.name for c in table.columns if _is_ours(c.name)],
        "who": _who(entry, table.name, known, person_level, policy),
    }


def _is_ours(name: str) -> bool:
    """Columns by which the platform traces a row; they say nothing about the world."""
    return name.startswith("_")


def _column(column: Any, sample: list[str] | None, lineage: dict[str, Any] | None) -> dict[str, Any]:
    codes = vocabularies.load(column.code_list) if column.code_list and vocabularies.exists(column.code_list) else []
    return {
        "column": column,
        "unit_zh": vocabularies.name_of("unit", column.unit) if column.unit else "",
        "mark_zh": vocabularies.name_of("pi_mark", column.pi_mark) if column.pi_mark else "未标识",
        "codes": [(row["code"], row["name"]) for row in codes],
        "lineage": lineage,
        "sample": "；".join(value[:_SAMPLE] for value in sample) if sample else None,
        "about": "" if (column.description or "").rstrip("。") == column.title_zh else column.description or "",
    }


def _who(entry: Entry, table: str, known: list[Column], person_level: bool, policy: Policy) -> list[dict[str, Any]]:
    """Per audience with a serving file: how many columns it sees plain, masked, as tokens, or not at all."""
    rows = []
    for name, who in policy.audiences.items():
        if not who.file or entry.layer == "out":
            continue
        scope = policy.row_scopes[who.rows]
        counts = dict.fromkeys(_TREATMENT_ZH, 0)
        if table_allowed(name, table, policy):
            for column in known:
                counts[decide_file(name, column, person_level=person_level, policy=policy).treatment] += 1
        else:
            counts["absent"] = len(known)
        rows.append({"title": who.title, "rows": scope.title, "counts": counts, "any": counts["absent"] < len(known)})
    return rows


def _source(row: dict[str, Any], found: dict[str, Entry]) -> dict[str, Any]:
    return {
        **row,
        "href": row["resource"] if row["resource"] in found else None,
        "state_zh": vocabularies.name_of("freshness_state", row["state"]),
        "tone": live.STATE_TONES.get(row["state"], "off"),
    }


def _run(run: facts.QualityRun) -> dict[str, Any]:
    names = {"pass": ("通过", "good"), "fail": ("不通过", "bad"), "error": ("出错", "bad")}
    zh, tone = names.get(run.outcome, (run.outcome, "off"))
    return {**asdict(run), "zh": zh, "tone": tone}


def _first_query(entry: Entry, visible: dict[str, Any]) -> str | None:
    """A statement that runs as it stands in the analyst's window; None where nothing of the entry can be queried there."""
    if entry.layer not in ("ods", "dim", "dwd", "dws", "ads") or not entry.tables:
        return None
    table = entry.tables[0].name
    latest = visible[table].latest_part_date if table in visible else None
    # the running day is never whole, and bookings lie ahead of it
    where = f"\nwhere part_date = date '{min(latest, clock.yesterday()).isoformat()}'" if latest else ""
    return f"select *\nfrom {entry.layer}.{table}{where}\nlimit 20"
