"""What changed in a table between two checked versions, as the analyst may see it.

Rows are matched by the declared key (a contract's dedup key, a model's tested grain) within their partition; a table
without a declared key is compared as a bag of rows. Only partitions that a commit in between names are read. Columns
that the analyst may not have are neither shown nor compared, so that a difference in them is not given away; of a
token column only the fact that it changed is told. Who brought a row and when (`_batch_id` …) is no content.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from typing import Any

import duckdb

from catalog import policy as display_policy
from lake import clock, ledger, query, tables
from lake.errors import EXIT_UNAVAILABLE, EXIT_USAGE, TiyuError
from lake.query import quote_name
from protection import freetext
from quality.engine import ranges_of, rows_sql
from sharing.serving import describe, policy, publish
from sharing.serving.policy import Column, Treatment

AUDIENCE = "analyst"
SURFACE = "cli_diff"
HIDDEN = "（标记，不显示）"
_PART = "part_date"


@dataclass
class PartitionChange:
    """Counts of one partition (`part_date` None for a table without partitions)."""

    part_date: date | None
    added: int
    removed: int
    changed: int


@dataclass
class RowChange:
    """One row. `change`: added | removed | changed. `values`: column → value, or for a changed row → [before, after]."""

    part_date: date | None
    change: str
    key: dict[str, Any]
    values: dict[str, Any]


@dataclass
class TableChange:
    """The difference of two versions. `partitions_read` None means that the whole table had to be compared."""

    table: str
    title: str
    from_version: int
    to_version: int
    from_as_of: str
    to_as_of: str
    key: list[str]
    partitions_read: int | None = 0
    added: int = 0
    removed: int = 0
    changed: int = 0
    partitions: list[PartitionChange] = field(default_factory=list)
    changed_columns: dict[str, int] = field(default_factory=dict)
    columns_added: list[str] = field(default_factory=list)
    columns_removed: list[str] = field(default_factory=list)
    rows: list[RowChange] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


def may_show(column: Column, *, person_level: bool) -> bool:
    """Whether the policy lets a difference show a column's values; of a token only the fact that it changed is told."""
    return display_policy.decide_column(AUDIENCE, SURFACE, column, person_level=person_level).treatment in (
        "plain",
        "masked",
    )


@dataclass(frozen=True)
class _Side:
    """One version: what may be seen of it, and the SQL that gives the rows to compare."""

    plan: publish.Plan
    rows: str

    @property
    def seen(self) -> dict[str, tuple[Column, Treatment]]:
        """Served name → column, without the technical ones."""
        person_level = policy.is_person_level([column for column, _ in self.plan.columns])
        return {
            publish.served_name(column, treatment): (column, treatment)
            for column, treatment in self.plan.shown
            if (column.name not in policy.TECHNICAL or column.name == _PART)
            and (treatment == "token" or may_show(column, person_level=person_level))
        }


def changes(table: str, since: str, *, limit: int = 20, day: date | None = None) -> TableChange:
    """Compare the current checked version of a table with an earlier one.

    table: with or without its schema. since: a checked version's number, a date (what readers saw at the end of that
    business day) or ``yesterday``. limit: how many rows are shown; the counts are always complete.
    day: show rows of this partition only; without it first what readers had already seen, the newest past day before
    older ones, then the running day and days to come.
    Raises TIYU-DIF-0001 unknown table or not for the analyst, 0002 no such checked version, 0003 not a version or
    date, 0004 nothing was checked by then, 0005 the files of the old version are gone.
    """
    name = table.rpartition(".")[2].strip()
    who = policy.audience(AUDIENCE)
    history = ledger.checked_history_of(name) if policy.table_allowed(who, name) else []
    if not history:
        raise TiyuError(
            "TIYU-DIF-0001", "没有可以比较的表", "检查表名；只有已通过质量闸门且对分析师开放的表可以比较", EXIT_USAGE, table=name
        )  # fmt: skip
    before = _version_of(name, since, history)
    after = next(row for row in history if row["version"] == ledger.checked_version(name))
    known = describe.tables().get(name)
    result = TableChange(
        name,
        known.title if known else name,
        before["version"],
        after["version"],
        _shanghai(before["as_of_at"]),
        _shanghai(after["as_of_at"]),
        [],
    )
    if before["version"] == after["version"]:
        return result
    con = query.connect()
    try:
        _compare(con, who, result, limit, day)
    except (duckdb.IOException, duckdb.InvalidInputException) as error:
        raise TiyuError(
            "TIYU-DIF-0005", "旧版本的数据文件已经清理，无法比较", "换一个较近的版本或日期", EXIT_UNAVAILABLE,
            table=name, version=before["version"], reason=type(error).__name__,
        ) from None  # fmt: skip
    finally:
        con.close()
    return result


def _shanghai(moment: Any) -> str:
    return f"{moment.astimezone(clock.SHANGHAI):%Y-%m-%d %H:%M}"


def _version_of(table: str, since: str, history: list[dict[str, Any]]) -> dict[str, Any]:
    text = since.strip().lower().removeprefix("v")
    if text.isdigit():
        found = [row for row in history if row["version"] == int(text)]
        if not found:
            raise TiyuError(
                "TIYU-DIF-0002", "这不是该表的已检版本", "从列出的已检版本中选一个，或改用日期", EXIT_USAGE,
                table=table, version=int(text), checked="、".join(str(row["version"]) for row in history[-10:]),
            )  # fmt: skip
        return found[0]
    try:
        day = clock.yesterday() if text == "yesterday" else date.fromisoformat(text)
    except ValueError:
        raise TiyuError(
            "TIYU-DIF-0003", "起点不是版本号也不是日期", "写成已检版本号、YYYY-MM-DD 或 yesterday", EXIT_USAGE, since=since
        ) from None  # fmt: skip
    # a day counts whole: the last version that readers saw on it, or the one still standing from before
    seen = [row for row in history if row["as_of_at"].astimezone(clock.SHANGHAI).date() < day + timedelta(days=1)]
    if not seen:
        raise TiyuError(
            "TIYU-DIF-0004", "那时该表还没有已检版本", "第二天的数据到了才有可比的；演示中先运行 make demo-tomorrow", EXIT_USAGE,
            table=table, since=day, first=_shanghai(history[0]["as_of_at"]),
        )  # fmt: skip
    return seen[-1]


def _compare(
    con: duckdb.DuckDBPyConnection, who: policy.Audience, result: TableChange, limit: int, day: date | None
) -> None:
    described = describe.columns().get(result.table, {})
    old, new = (
        publish.plan_of(con, who, result.table, version, described)
        for version in (result.from_version, result.to_version)
    )
    by_part = _PART in old.types and _PART in new.types
    days = tables.touched_dates(result.table, result.from_version, result.to_version) if by_part else None
    if days is not None and not days:
        return
    result.partitions_read = None if days is None else len(days)
    ranges = None if days is None else ranges_of(days)
    left, right = (_Side(plan, rows_sql(result.table, plan.version, ranges)) for plan in (old, new))
    result.columns_added = sorted(set(right.seen) - set(left.seen))
    result.columns_removed = sorted(set(left.seen) - set(right.seen))

    from catalog.columns import table_keys

    declared = table_keys().get(result.table, ())
    key = [name for name in declared if name in old.types and name in new.types]
    result.key = key if len(key) == len(declared) else []
    columns = [name for name in right.seen if name != _PART]
    for name, side in (("old_rows", left), ("new_rows", right)):
        con.execute(f"CREATE TEMP TABLE {name} AS {_rows(side, columns, right, result.key, by_part)}")
        texts = [f"c{n}" for n, column in enumerate(columns) if column in right.plan.texts and column in side.seen]
        freetext.clean_table(con, name, texts, AUDIENCE, SURFACE)
    _match(con, columns, len(result.key))
    _count(con, result, columns)
    _sample(con, result, columns, right, limit, day)


def _rows(side: _Side, columns: list[str], wanted: _Side, key: list[str], by_part: bool) -> str:
    """One version's rows: `part`, raw keys `k0…` (to match, never shown), what is compared `c0…`, a count `n`."""
    items = [f"src.{_PART} AS part" if by_part else "NULL::DATE AS part"]
    items += [f"src.{quote_name(name)} AS k{number}" for number, name in enumerate(key)]
    for number, name in enumerate(columns):
        column, treatment = side.seen.get(name, (None, None))
        if column is None or treatment is None:
            value = "NULL"
        elif treatment == "token":
            value = f"src.{quote_name(column.name)}"
        else:
            value = publish.shown_sql(side.plan, column, treatment)
        if name in side.seen and _type(side, name) != _type(wanted, name):
            value = f"CAST({value} AS VARCHAR)"  # a column that changed its type is compared as text
        items.append(f"{value} AS c{number}")
    select = f"SELECT {', '.join(items)} FROM ({side.rows}) AS src"
    return f"{select}" if key else f"SELECT *, count(*) AS n FROM ({select}) GROUP BY ALL"


def _type(side: _Side, name: str) -> str:
    return side.plan.types[side.seen[name][0].name]


def _match(con: duckdb.DuckDBPyConnection, columns: list[str], key_count: int) -> None:
    """Temporary table `delta`: part, change, n, keys, and both versions of every compared column."""
    names = [f"c{number}" for number in range(len(columns))]
    on = ["o.part IS NOT DISTINCT FROM n.part"]
    on += [f"o.{name} IS NOT DISTINCT FROM n.{name}" for name in (_keys(key_count) if key_count else names)]
    here = "1" if key_count else "n"
    o, n = (f"(SELECT *, {here} AS here FROM {side})" for side in ("old_rows", "new_rows"))
    pairs = "".join(f", o.{name} AS o{name}, n.{name} AS n{name}" for name in names)
    differs = " OR ".join(f"o.{name} IS DISTINCT FROM n.{name}" for name in names) or "false"
    if not key_count:
        differs = "o.here <> n.here"
    change = (
        "CASE WHEN o.here IS NULL THEN 'added' WHEN n.here IS NULL THEN 'removed' ELSE 'changed' END"
        if key_count
        else "CASE WHEN coalesce(n.here, 0) > coalesce(o.here, 0) THEN 'added' ELSE 'removed' END"
    )
    con.execute(
        f"CREATE TEMP TABLE delta AS SELECT coalesce(o.part, n.part) AS part, {change} AS change,"
        f" greatest(abs(coalesce(n.here, 0) - coalesce(o.here, 0)), 1) AS n{pairs}"
        f"{''.join(f', coalesce(o.{k}, n.{k}) AS {k}' for k in _keys(key_count))}"
        f" FROM {o} AS o FULL JOIN {n} AS n ON {' AND '.join(on)}"
        f" WHERE o.here IS NULL OR n.here IS NULL OR {differs}"
    )


def _keys(count: int) -> list[str]:
    return [f"k{number}" for number in range(count)]


def _count(con: duckdb.DuckDBPyConnection, result: TableChange, columns: list[str]) -> None:
    kinds = ("added", "removed", "changed")
    sums = ", ".join(f"coalesce(sum(n) FILTER (change = '{kind}'), 0)::BIGINT" for kind in kinds)
    for part, *counts in con.execute(f"SELECT part, {sums} FROM delta GROUP BY part ORDER BY part").fetchall():
        result.partitions.append(PartitionChange(part, *counts))
    for kind in kinds:
        setattr(result, kind, sum(getattr(partition, kind) for partition in result.partitions))
    if not columns:
        return
    per_column = con.execute(
        "SELECT "
        + ", ".join(f"count(*) FILTER (oc{n} IS DISTINCT FROM nc{n})" for n in range(len(columns)))
        + " FROM delta WHERE change = 'changed'"
    ).fetchall()[0]
    result.changed_columns = {name: n for name, n in zip(columns, per_column, strict=True) if n}


def _sample(
    con: duckdb.DuckDBPyConnection,
    result: TableChange,
    columns: list[str],
    side: _Side,
    limit: int,
    day: date | None,
) -> None:
    """The first rows in a stable order: past days before the running one and those to come, the newest first, then by key."""
    order = ", ".join([*_keys(len(result.key)), *(f"coalesce(nc{n}, oc{n})" for n in range(min(3, len(columns))))])
    found = con.execute(
        "SELECT * FROM delta WHERE $day IS NULL OR part = $day"
        f" ORDER BY coalesce(part >= $today, false), part DESC NULLS LAST, change, {order or '1'} LIMIT {int(limit)}",
        {"day": day, "today": clock.today()},
    )
    names = [item[0] for item in found.description or ()]
    hidden = {name for name in columns if side.seen[name][1] == "token"}
    for values in found.fetchall():
        row = dict(zip(names, values, strict=True))
        pairs = {name: (row[f"oc{n}"], row[f"nc{n}"]) for n, name in enumerate(columns)}
        at = 1 if row["change"] == "added" else 0
        key = {name: pairs[name][at] for name in result.key if name in pairs and name not in hidden}
        if row["change"] == "changed":
            shown: dict[str, Any] = {
                name: HIDDEN if name in hidden else list(pair) for name, pair in pairs.items() if pair[0] != pair[1]
            }
        else:
            shown = {name: pair[at] for name, pair in pairs.items() if name not in hidden and name not in key}
        result.rows.append(RowChange(row["part"], row["change"], key, shown))


__all__ = ["HIDDEN", "PartitionChange", "RowChange", "TableChange", "changes"]
