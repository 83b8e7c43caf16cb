"""Publishing the serving files: what is checked, cut to an audience, swapped in by one rename.

A file is built aside from the previous one: only tables whose checked version moved are touched, and of those only
the partitions their commits name. When nothing moved the file stays as it is, byte for byte. Every table and column
carries a Chinese COMMENT, and the tables `catalog_tables`, `catalog_columns`, `catalog_freshness`, `kpi_definitions`,
`catalog_versions`, `catalog_notice` and `catalog_scope` (schema `main`) say what there is, how fresh it is, which versions
were read and whose rows these are. Files of an audience with scopes are cut by `sharing.serving.scoped`; values that the lake
keeps masked and the policy shows such an audience plain are asked for by `sharing.serving.originals`.
All `_at` columns are Shanghai local time (TIMESTAMP without zone).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from lake import clock, ledger, properties, query, steps, storage, tables
from lake.query import quote_literal, quote_name, scan_sql
from lake.settings import settings
from protection import freetext, masking
from quality.engine import ranges_of, rows_sql
from sharing.files import exclusive
from sharing.serving import FINGERPRINT, describe, originals, policy
from sharing.serving.policy import TREATMENT_ZH, Audience, Column, Treatment

#: Raised whenever the way a file is written changes, so that old files are rebuilt instead of patched.
LAYOUT = 7
SURFACE = "serving_file"
FRESHNESS = "ops_ingest__freshness"
KPI = "ods_reference__kpi"
CITY = ("310000", "上海市")
#: Small checked tables copied into every file: name there, table in the lake, comments.
COPIES = (
    ("catalog_freshness", FRESHNESS, describe.CATALOG_FRESHNESS),
    ("kpi_definitions", KPI, describe.KPI_DEFINITIONS),
)
_SHANGHAI = "AT TIME ZONE 'Asia/Shanghai'"


@dataclass
class FileReport:
    """One serving file. `changed` False means not a byte was written."""

    audience: str
    path: str
    changed: bool
    rebuilt: bool = False
    tables: int = 0
    rows: int = 0
    replaced: dict[str, int] = field(default_factory=dict)  # table → partitions replaced, 0 = the whole table
    undescribed: list[str] = field(default_factory=list)  # columns left out because nobody described or graded them
    redacted: int = 0  # different texts that held an identifier and are shown without it
    bytes: int = 0
    scope: str | None = None
    unscoped: dict[str, int] = field(default_factory=dict)  # table → rows of no declared scope, in nobody's file
    recalled: int = 0  # masked values that were read again from the archive, for all scopes of the audience
    unrecalled: int = 0  # masked values for which that was not possible: shown as they are


@dataclass
class ServingReport:
    """All serving files of one run; `changed` when any was written."""

    changed: bool
    files: list[FileReport]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


#: Columns whose values are codes and keys: what is in them was judged at the door, and nobody writes a sentence there.
_KEYS = ("_id", "_code")


@dataclass(frozen=True)
class Plan:
    """How one lake table appears in a file."""

    table: str
    version: int
    columns: tuple[tuple[Column, Treatment], ...]  # in stored order, absent ones included
    types: dict[str, str]

    @property
    def schema(self) -> str:
        return tables.layer_of(self.table)

    @property
    def target(self) -> str:
        return f"{self.schema}.{quote_name(self.table)}"

    @property
    def shown(self) -> list[tuple[Column, Treatment]]:
        return [(column, treatment) for column, treatment in self.columns if treatment != "absent"]

    @property
    def texts(self) -> list[str]:
        """Columns shown as they are that are no identifiers, but whose values somebody may have written one into."""
        return [
            column.name
            for column, treatment in self.shown
            if treatment == "plain"
            and self.types[column.name] == "VARCHAR"
            and column.name not in policy.TECHNICAL
            and not policy.is_identifier(column)
            and not column.name.endswith(_KEYS)
        ]

    @property
    def shape(self) -> str:
        """Fingerprint of the columns shown: when it changes the table is written anew."""
        text = json.dumps(
            [[c.name, self.types[c.name], t, comment_of(c, t)] for c, t in self.shown], ensure_ascii=False
        )
        return hashlib.sha256(text.encode()).hexdigest()


def served_name(column: Column, treatment: Treatment) -> str:
    """The column's name in the file (a birth year becomes `age_band`)."""
    return "age_band" if treatment == "age_band" else column.name


def shown_as(column: Column, treatment: Treatment) -> Column:
    """The column as described to the audience: a birth year that became an age band is no year any more."""
    if treatment != "age_band":
        return column
    return replace(column, title_zh="年龄段", description=f"由{column.title_zh}推算的十岁一档年龄段", unit=None)


def comment_of(column: Column, treatment: Treatment) -> str:
    """Chinese COMMENT of a column: meaning, unit, grade and mark, and what was done to it."""
    column = shown_as(column, treatment)
    parts = [column.title_zh]
    if column.description and column.description != column.title_zh:
        parts.append(column.description)
    if column.unit:
        parts.append(f"单位：{column.unit}")
    parts.append(f"分级：{column.grade or '未定级'}{f'（{column.pi_mark}）' if column.pi_mark else ''}")
    if treatment != "plain":
        parts.append(TREATMENT_ZH.get(treatment, "已遮蔽"))
    return "；".join(part.rstrip("。；") for part in parts if part)


# --- reading the lake ----------------------------------------------------------------------------------------------


def _plans(con: duckdb.DuckDBPyConnection, who: Audience, report: FileReport) -> list[Plan]:
    """Every checked table the audience may have, with the treatment of each column."""
    described = describe.columns()
    plans = []
    for table, version in sorted(ledger.checked_versions().items()):
        if not policy.table_allowed(who, table):
            continue
        plan = plan_of(con, who, table, version, described.get(table, {}))
        report.undescribed += [
            f"{table}.{column.name}"
            for column, _ in plan.columns
            if column.grade is None and column.name not in policy.TECHNICAL
        ]
        if any(treatment != "absent" and column.name not in policy.TECHNICAL for column, treatment in plan.columns):
            plans.append(plan)
    return plans


def plan_of(con: duckdb.DuckDBPyConnection, who: Audience, table: str, version: int, known: dict[str, Column]) -> Plan:
    """What an audience may see of one version of a table, column by column."""
    stored = con.execute(f"DESCRIBE SELECT * FROM {scan_sql(table, version)}").fetchall()
    columns = [_stored(table, row[0], row[1], known) for row in stored]
    person_level = policy.is_person_level(columns)
    decided = tuple((column, policy.decide(who, column, person_level=person_level)) for column in columns)
    return Plan(table, version, decided, {row[0]: row[1] for row in stored})


def _stored(table: str, name: str, type_: str, known: dict[str, Column]) -> Column:
    if name in known:
        return known[name]
    if name in policy.TECHNICAL:
        return Column(table, name, type_, describe.TECHNICAL_ZH[name], "", None, "L1", "N", None)
    return Column(table, name, type_, name, "", None, None, None, None)


def _select(who: Audience, plan: Plan, rows: str, *more: str, redacted: bool) -> str:
    """SELECT that cuts rows of a lake table to what the audience may see; tokens come from the table `rekeyed`, values that
    the lake keeps masked from `originals`.

    `more` are further expressions over the stored row `src`. `redacted`: there are texts that hold an identifier, and the
    table of that name says what is shown of them.
    """
    items, joins = [*more], []
    for number, (column, treatment) in enumerate(plan.shown):
        if treatment == "token":
            joins.append(f"LEFT JOIN rekeyed AS r{number} ON r{number}.token = src.{quote_name(column.name)}")
            items.append(f"r{number}.rekeyed AS {quote_name(column.name)}")
        elif treatment == "original":
            join, shown = originals.shown(who, column, f"r{number}")
            joins.append(join)
            items.append(shown)
        elif redacted and column.name in plan.texts:
            name = quote_name(column.name)
            joins.append(f"LEFT JOIN redacted AS r{number} ON r{number}.text = src.{name}")
            items.append(f"coalesce(r{number}.shown, src.{name}) AS {name}")
        else:
            items.append(f"{shown_sql(plan, column, treatment)} AS {quote_name(served_name(column, treatment))}")
    return f"SELECT {', '.join(items)} FROM ({rows}) AS src {' '.join(joins)}"


def shown_sql(plan: Plan, column: Column, treatment: Treatment) -> str:
    """What the audience sees of one column that is no token, as an expression over the stored row `src`."""
    name = f"src.{quote_name(column.name)}"
    zoned = plan.types[column.name].upper() == "TIMESTAMP WITH TIME ZONE"
    local = f"({name} {_SHANGHAI})" if zoned else name
    if treatment == "plain":
        return local
    if treatment == "hour":
        return f"date_trunc('hour', {local})"
    return _age_band(plan, name) if treatment == "age_band" else masking.masked_sql(treatment, local)


def _age_band(plan: Plan, name: str) -> str:
    """Ten-year band of the age reached in the year of the row; without a part_date there is no year to compare with."""
    if "part_date" not in plan.types:
        return "CAST(NULL AS VARCHAR)"
    decade = f"((year(src.part_date) - {name}) // 10 * 10)"
    return (
        f"CASE WHEN {name} IS NULL THEN NULL WHEN {decade} < 0 OR {decade} > 110 THEN '不详' "
        f"WHEN {decade} >= 80 THEN '80岁及以上' ELSE {decade} || '-' || ({decade} + 9) || '岁' END"
    )


def _load_texts(con: duckdb.DuckDBPyConnection, audience_name: str, sources: list[tuple[Plan, str]]) -> int:
    """Make the temporary table `redacted` (text → what the audience sees) for the texts in the rows to be written that
    hold an identifier; returns how many there are. The lake should hold none (`ingestion.leaks`): this is the second line."""
    queries = [f"SELECT {quote_name(name)} FROM ({rows}) AS t" for plan, rows in sources for name in plan.texts]
    texts = " UNION ALL ".join(queries) or "SELECT NULL::VARCHAR LIMIT 0"
    return freetext.gather(con, texts, audience_name, SURFACE, "redacted")


def _load_tokens(con: duckdb.DuckDBPyConnection, audience_name: str, sources: list[tuple[Plan, str]]) -> int:
    """Make the temporary table `rekeyed` (token → audience token) for every distinct token in the rows to be written."""
    from protection import tokens

    distinct = [
        f"SELECT {quote_name(column.name)} AS token FROM ({rows}) AS t"
        for plan, rows in sources
        for column, treatment in plan.shown
        if treatment == "token"
    ]
    con.execute("CREATE OR REPLACE TEMP TABLE rekeyed (token VARCHAR PRIMARY KEY, rekeyed VARCHAR)")
    if not distinct:
        return 0
    frame = con.execute(
        f"SELECT DISTINCT token FROM ({' UNION ALL '.join(distinct)}) WHERE token IS NOT NULL ORDER BY token"
    ).pl()
    mapped = frame.with_columns(tokens.tokenise("token", frame["token"], purpose=audience_name).alias("rekeyed"))
    con.register("mapped", mapped.to_arrow())
    con.execute("INSERT INTO rekeyed SELECT token, rekeyed FROM mapped")
    con.unregister("mapped")
    return mapped.height


# --- writing a file ------------------------------------------------------------------------------------------------


def _previous(path: Path) -> tuple[str, dict[str, tuple[int, str]]]:
    """Fingerprint and per-table (version, shape) recorded in the file that is being served, if any can be read."""
    if not path.is_file():
        return "", {}
    con = duckdb.connect(
        ":memory:"
    )  # attached, because a reader in this process may hold the file with its own settings
    try:
        con.execute(f"ATTACH {quote_literal(str(path))} AS previous (READ_ONLY)")
        rows = con.execute("SELECT table_name, delta_version, shape FROM previous.main.catalog_versions").fetchall()
        stamp = con.execute(f"SELECT text FROM previous.main.catalog_notice WHERE name = '{FINGERPRINT}'").fetchall()
    except duckdb.Error:
        return "", {}  # damaged, or written by another storage version: build a new one
    finally:
        con.close()
    return (stamp[0][0] if stamp else ""), {name: (int(version), shape) for name, version, shape in rows}


def _fingerprint(audience_name: str, who: Audience) -> str:
    """What besides the data decides a file's content: layout, policy, keys, demo flag; then the policy alone (`Audience.digest`),
    behind a point, which Superset compares with the policy in force before it opens the file."""
    from protection import keys

    kid = keys.provider().current(audience_name)[0] if who.has_tokens else ""
    parts = [LAYOUT, audience_name, who.fingerprint(), kid, properties.demo_banner(), duckdb.__version__]
    build = hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
    return f"{build}.{who.digest()}"


@contextmanager
def _writer(path: Path | None, *, to_disk: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that writes one file, or (None) an in-memory one to which files are attached. Without `to_disk` nothing is
    spilled: rows that do not fit into memory are an error."""
    spill = settings().home / "tmp" / f"serving-{os.getpid()}"
    spilling: dict[str, str] = {"temp_directory": str(spill)}
    if not to_disk:
        spilling = {"temp_directory": "", "max_temp_directory_size": "0B"}
    con = duckdb.connect(str(path or ":memory:"), config={"threads": 2, "memory_limit": "2GB", **spilling})
    try:
        query.load_delta(con)
        con.execute("SET TimeZone = 'UTC'")
        con.execute("SET enable_progress_bar = false")
        yield con
        if path is not None:
            con.execute("CHECKPOINT")
    finally:
        con.close()
        shutil.rmtree(spill, ignore_errors=True)


def _changed_rows(plan: Plan, before: tuple[int, str] | None) -> tuple[str, list[str]] | None:
    """(rows to write, deletions to make first), or None when the table is already right. No deletion = write anew."""
    if before == (plan.version, plan.shape):
        return None
    everything = rows_sql(plan.table, plan.version, None)
    if before is None or before[1] != plan.shape or "part_date" not in plan.types or before[0] > plan.version:
        return everything, []
    days = tables.touched_dates(plan.table, before[0], plan.version)
    if days is None:
        return everything, []
    if not days:
        return "", [""]  # newer version, same rows
    ranges = ranges_of(days)
    deletions = [
        f"DELETE FROM {plan.target} WHERE part_date BETWEEN DATE '{start}' AND DATE '{end}'" for start, end in ranges
    ]
    return rows_sql(plan.table, plan.version, ranges), deletions


def _publish_audience(name: str, *, full: bool) -> FileReport:
    who = policy.audience(name)
    final = settings().serving_root / who.file
    report = FileReport(name, str(final), changed=False)
    probe = query.connect()
    try:
        plans = _plans(probe, who, report)
    finally:
        probe.close()
    stamp = _fingerprint(name, who)
    old_stamp, before = _previous(final)
    extra = {table: version for table in (FRESHNESS, KPI) if (version := ledger.checked_version(table)) is not None}
    rebuild = full or old_stamp != stamp or not before
    if rebuild:
        before = {}
    wanted = {plan.table: (plan.version, plan.shape) for plan in plans}
    wanted |= {table: (version, "") for table, version in extra.items() if table not in wanted}
    if not rebuild and wanted == before:
        return report
    aside = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    aside.unlink(missing_ok=True)
    if not rebuild:
        shutil.copyfile(final, aside)
    try:
        with _writer(aside) as con:
            _write(con, name, who, plans, before, extra, stamp, report)
        os.replace(aside, final)
    finally:
        aside.unlink(missing_ok=True)
        aside.with_name(f"{aside.name}.wal").unlink(missing_ok=True)
    report.changed, report.rebuilt, report.bytes = True, rebuild, final.stat().st_size
    return report


def _write(
    con: duckdb.DuckDBPyConnection,
    name: str,
    who: Audience,
    plans: list[Plan],
    before: dict[str, tuple[int, str]],
    extra: dict[str, int],
    stamp: str,
    report: FileReport,
) -> None:
    described = describe.tables()
    con.execute("BEGIN TRANSACTION")  # one commit: hundreds of comments would each wait for the disk
    for schema in sorted({plan.schema for plan in plans}):
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    for gone in sorted(set(before) - {plan.table for plan in plans} - set(extra)):
        con.execute(f"DROP TABLE IF EXISTS {tables.layer_of(gone)}.{quote_name(gone)}")
    work = [(plan, change) for plan in plans if (change := _changed_rows(plan, before.get(plan.table))) is not None]
    _load_tokens(con, name, [(plan, rows) for plan, (rows, _) in work if rows])
    report.redacted = _load_texts(con, name, [(plan, rows) for plan, (rows, _) in work if rows])
    for plan, (rows, deletions) in work:
        if not deletions:
            con.execute(f"DROP TABLE IF EXISTS {plan.target}")
            con.execute(f"CREATE TABLE {plan.target} AS {_select(who, plan, rows, redacted=report.redacted > 0)}")
            _comment(con, plan, described.get(plan.table))
            report.replaced[plan.table] = 0
        elif rows:
            for statement in deletions:
                con.execute(statement)
            con.execute(f"INSERT INTO {plan.target} BY NAME {_select(who, plan, rows, redacted=report.redacted > 0)}")
            report.replaced[plan.table] = len(deletions)
    con.execute("DROP TABLE IF EXISTS rekeyed")
    con.execute("DROP TABLE IF EXISTS redacted")
    counts = _write_catalog(con, who.title, CITY, plans, extra, stamp, described)
    con.execute("COMMIT")
    report.tables, report.rows = len(counts), sum(counts.values())


def _comment(con: duckdb.DuckDBPyConnection, plan: Plan, table: describe.Table | None) -> None:
    grade = max((column.grade or "L4" for column, _ in plan.shown), default="L4")
    text = "；".join(
        part for part in [*(describe.comment_parts(table) if table else [plan.table]), f"分级：{grade}"] if part
    )
    con.execute(f"COMMENT ON TABLE {plan.target} IS {quote_literal(text)}")
    for column, treatment in plan.shown:
        con.execute(
            f"COMMENT ON COLUMN {plan.target}.{quote_name(served_name(column, treatment))}"
            f" IS {quote_literal(comment_of(column, treatment))}"
        )


# --- the catalogue inside the file -----------------------------------------------------------------------------------


def _write_catalog(
    con: duckdb.DuckDBPyConnection,
    title: str,
    scope: tuple[str, str],
    plans: list[Plan],
    extra: dict[str, int],
    stamp: str,
    described: dict[str, describe.Table],
) -> dict[str, int]:
    """Write the catalogue of the file in use; `title` names the audience, `scope` is (code, name) of whose rows it holds."""
    counts: dict[str, int] = {}
    table_rows, column_rows, version_rows = [], [], []
    for plan in plans:
        latest = "max(part_date)" if "part_date" in plan.types else "NULL::DATE"
        count, last = con.execute(f"SELECT count(*), {latest} FROM {plan.target}").fetchall()[0]
        counts[plan.table] = count
        about = described.get(plan.table) or describe.Table(plan.table)
        table_rows.append(
            {
                "table_name": plan.table,
                "schema_name": plan.schema,
                "layer": describe.LAYER_ZH[plan.schema],
                "title": about.title,
                "grain": about.grain,
                "description": about.description,
                "grade": max((column.grade or "L4" for column, _ in plan.shown), default="L4"),
                "column_count": len(plan.shown),
                "row_count": count,
                "latest_part_date": last,
                "resource": about.resource,
                **about.catalogue,
                "delta_version": plan.version,
            }
        )
        column_rows += [
            {
                "table_name": plan.table,
                "column_name": served_name(column, treatment),
                "position": position,
                "data_type": None if treatment == "absent" else _served_type(plan, column, treatment),
                "title": shown_as(column, treatment).title_zh,
                "description": shown_as(column, treatment).description,
                "unit": shown_as(column, treatment).unit,
                "grade": column.grade,
                "pi_mark": column.pi_mark,
                "treatment": TREATMENT_ZH.get(treatment, "已遮蔽"),
                "is_available": treatment != "absent",
            }
            for position, (column, treatment) in enumerate(plan.columns, 1)
        ]
        version_rows.append({"table_name": plan.table, "delta_version": plan.version, "shape": plan.shape})
    version_rows += [
        {"table_name": table, "delta_version": version, "shape": ""}
        for table, version in extra.items()
        if table not in counts
    ]
    _catalog_table(con, "catalog_tables", describe.CATALOG_TABLES, table_rows)
    _catalog_table(con, "catalog_columns", describe.CATALOG_COLUMNS, column_rows)
    _catalog_table(con, "catalog_versions", describe.CATALOG_VERSIONS, version_rows)
    for target, source, comments in COPIES:
        _copy(con, target, source, extra.get(source), comments)
    notices = {
        "数据声明": properties.demo_banner() or "正式数据",
        "受众": title,
        "业务截至": clock.as_of().astimezone(clock.SHANGHAI).strftime("%Y-%m-%d %H:%M 上海时间"),
        "时间口径": "所有 _at 列为上海时间；part_date 与 _date 列为上海日历日",
        FINGERPRINT: stamp,
    }
    rows = [{"position": n, "name": key, "text": text} for n, (key, text) in enumerate(notices.items(), 1)]
    _catalog_table(con, "catalog_notice", describe.CATALOG_NOTICE, rows)
    _catalog_table(con, "catalog_scope", describe.CATALOG_SCOPE, [{"scope_code": scope[0], "scope_name": scope[1]}])
    return counts


def _served_type(plan: Plan, column: Column, treatment: Treatment) -> str:
    if treatment not in ("plain", "hour"):
        return "VARCHAR"
    stored = plan.types[column.name]
    return "TIMESTAMP" if stored.upper() == "TIMESTAMP WITH TIME ZONE" else stored


def _catalog_table(
    con: duckdb.DuckDBPyConnection, name: str, spec: describe.CatalogTable, rows: list[dict[str, Any]]
) -> None:
    frame = pl.DataFrame(rows, schema={column: kind for column, (kind, _) in spec.columns.items()}, orient="row")
    con.register("incoming", frame.to_arrow())
    texts = {column: text for column, (_, text) in spec.columns.items()}
    _refill(con, name, "SELECT * FROM incoming", lambda: texts, spec.comment)
    con.unregister("incoming")


def _refill(
    con: duckdb.DuckDBPyConnection, name: str, rows: str, texts: Callable[[], dict[str, str]], comment: str
) -> None:
    """Give a table of the catalogue new rows; it is made anew, with its comments, only when its columns changed."""
    columns = [row[:2] for row in con.execute(f"DESCRIBE {rows}").fetchall()]
    present = con.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = current_database()"
        " AND schema_name = 'main' AND table_name = ? ORDER BY column_index",
        [name],
    ).fetchall()
    if present == columns:
        con.execute(f"DELETE FROM main.{name}")
        con.execute(f"INSERT INTO main.{name} {rows}")
        return
    con.execute(f"CREATE OR REPLACE TABLE main.{name} AS {rows}")
    con.execute(f"COMMENT ON TABLE main.{name} IS {quote_literal(comment)}")
    described = texts()
    for column, _ in columns:
        text = quote_literal(described.get(column) or column)
        con.execute(f"COMMENT ON COLUMN main.{name}.{quote_name(column)} IS {text}")


def _copy(
    con: duckdb.DuckDBPyConnection, target: str, source: str, version: int | None, comments: describe.CatalogTable
) -> None:
    """Copy a small checked table into the catalogue (empty but typed while the source has nothing checked)."""
    if version is None:
        _catalog_table(con, target, comments, [])
        return

    def texts() -> dict[str, str]:
        found = {name: comment_of(column, "plain") for name, column in describe.columns().get(source, {}).items()}
        return found | {name: text for name, (_, text) in comments.columns.items() if text}

    _refill(con, target, _copied_rows(con, source, version), texts, comments.comment)


def _copied_rows(con: duckdb.DuckDBPyConnection, source: str, version: int) -> str:
    """SELECT of a small table as it is copied into every file: only what the policy lets even the public see, without
    technical columns, times in Shanghai time."""
    stored = con.execute(f"DESCRIBE SELECT * FROM {scan_sql(source, version)}").fetchall()
    described = describe.columns().get(source, {})
    items = [
        f"({quote_name(row[0])} {_SHANGHAI}) AS {quote_name(row[0])}"
        if row[1].upper() == "TIMESTAMP WITH TIME ZONE"
        else quote_name(row[0])
        for row in stored
        if row[0] not in policy.TECHNICAL and policy.public(_stored(source, row[0], row[1], described))
    ]
    return f"SELECT {', '.join(items)} FROM {scan_sql(source, version)}"


def _expire_scratch() -> None:
    """The serve DAG runs daily: what analysts kept longer than allowed goes with it."""
    from sharing.serving import scratch

    if scratch.folder().is_dir():
        scratch.expire()


@storage.coded()
@steps.step("serving")
def publish_serving(
    audiences: list[str] | None = None, *, full: bool = False, recall: originals.Recall | None = None
) -> ServingReport:
    """Publish the serving files of the given audiences (default: all declared), each only if something changed.

    `full` builds the files anew (after an erasure, so that no freed page keeps old bytes). `recall` reads values again that
    the lake keeps masked, for an audience that sees them plain. One writer at a time; readers keep the file they opened.
    Raises TIYU-SRV-0001/0002 for a faulty or unknown policy, TIYU-SRV-0008 when `recall` is needed and not given.
    """
    root = settings().serving_root
    root.mkdir(parents=True, exist_ok=True)
    with exclusive(root / ".publish.lock"):
        for leftover in root.glob(".*.tmp*"):  # a killed run's file: nobody reads it
            leftover.unlink(missing_ok=True)
        _expire_scratch()
        for spill in (settings().home / "tmp").glob("serving-*"):
            shutil.rmtree(spill, ignore_errors=True)
        files = []
        for name in audiences or policy.served():
            if policy.audience(name).scope is None:
                files.append(_publish_audience(name, full=full))
            else:
                from sharing.serving import scoped

                files += scoped.publish_scopes(name, full=full, recall=recall)
    return ServingReport(any(file.changed for file in files), files)
