"""Which of two records that contradict each other is stored: the one that was delivered first, also when it was refused at
first and comes back later.

Of records with one key and different content, ingestion stores the first and refuses the others as conflicts. When a
replay lets a record in that had been refused for a rule which is mended now, a later one may stand in its place. Left
there, the lake would remember the order of repairs instead of the order of delivery. So the later one gives way: it goes to
quarantine under the rule of conflicts, and so do the records that had been counted as its duplicates.

1. *Decision*: one ledger transaction moves the counts and names the records;
2. quarantine rows for records that have none;
3. the rows leave the head of every table of the contract, child tables first.

2 and 3 are repeated by :func:`finish` for whatever is decided but not carried out; every replay begins with it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from catalog.contracts import Contract
from ingestion import elements, pipeline
from lake import ledger, query, tables
from lake.query import quote_literal, quote_name
from quality import quarantine

if TYPE_CHECKING:
    from datetime import date

Judge = Callable[[Contract, dict[str, Any], list[dict[str, Any]]], pipeline.Judged]
GAVE_WAY = "tiyu.gave_way"
_AT = ["_batch_id", "_source_object", "_record_no"]
_CHUNK = 500
"""Records named in one delete."""


def applies(contract: Contract) -> bool:
    """Whether records that contradict each other are conflicts. The same activity in several files is none, and where the
    newest replaces, or every version is stored, the contract says which one stands."""
    rule = contract.root.dedup_rule
    return not pipeline.is_activity(contract) and (rule is None or rule.on_changed == "conflict")


def give_way(contract: Contract, batch: dict[str, Any], candidates: pl.DataFrame, replay_id: str, judge: Judge) -> int:
    """Let stored records give way to contradicting ones of `batch` that were delivered before them and may pass now.

    `candidates` are the records of the batch that passed the rules, in ODS columns. Returns how many records of other
    batches, or of this one, were moved to quarantine. The resource's lock is held.
    """
    head = tables.version(contract.root.table)
    if head is None or candidates.is_empty():
        return 0
    places = _places(contract.id)
    con = query.connect()
    try:
        _register(con, contract, head, candidates.with_columns(pl.lit(batch["batch_id"]).alias("_batch_id")), places)
        mine, rivals = _entitled(con), _rivals(con)
        if rivals.is_empty():
            return 0
        duplicates = _duplicates(con, contract, rivals, mine, judge)
        moved = _moved(con, contract, mine, rivals, duplicates, places)
    finally:
        con.close()
    if moved.is_empty():
        return 0
    _decide(contract, moved, replay_id)
    finish(contract)
    return moved.height


def _places(resource: str) -> pl.DataFrame:
    """_batch_id, _source_object, _place: the order in which the objects of a resource were delivered."""
    names = {batch["batch_id"]: number for number, batch in enumerate(ledger.batches(resource))}
    rows = [
        (item["batch_id"], item["sha256"], names[item["batch_id"]] * 1_000_000_000 + item["seq"])
        for item in ledger.objects_of(resource)
        if item["batch_id"] in names
    ]
    return pl.DataFrame(
        rows, schema={"_batch_id": pl.String, "_source_object": pl.String, "_place": pl.Int64}, orient="row"
    )


def _keys(contract: Contract) -> tuple[list[str], str]:
    content = ", ".join(map(quote_name, elements.content_columns(contract)))
    return [quote_name(key) for key in contract.root.dedup], f"hash({content})"


def _register(
    con: duckdb.DuckDBPyConnection, contract: Contract, head: int, mine: pl.DataFrame, places: pl.DataFrame
) -> None:
    """Views ``stored`` and ``mine`` with the place of each record, ``pair``: records of both with one key and other content."""
    keys, _ = _keys(contract)
    first, last = mine["part_date"].min(), mine["part_date"].max()
    elements.register_stored(con, contract, head, "stored", (first, last))  # type: ignore[arg-type]
    con.register("mine", mine.to_arrow())
    con.register("places", places.to_arrow())
    on = " and ".join(f"s.{key} is not distinct from m.{key}" for key in keys)
    con.execute(
        "create or replace temp table pair as select"
        f" {', '.join(f's.{name} as s{name}, m.{name} as m{name}' for name in _AT)},"
        " (p._place, s._record_no) < (q._place, m._record_no) as earlier"
        f" from stored s join mine m on {on}"
        " join places p on p._batch_id = s._batch_id and p._source_object = s._source_object"
        " join places q on q._batch_id = m._batch_id and q._source_object = m._source_object"
        f" where s.part_date between ? and ? and {_of('s', contract)} <> {_of('m', contract)}",
        [first, last],
    )


def _entitled(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """The candidates that no stored record delivered before them contradicts."""
    same = " and ".join(f"p.m{name} = m.{name}" for name in _AT)
    return con.execute(f"select m.* from mine m anti join (from pair where earlier) p on {same}").pl()


def _rivals(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Stored rows with the key of an entitled candidate, delivered after it, with other content than it."""
    same = " and ".join(f"p.s{name} = s.{name}" for name in _AT)
    mine = " and ".join(f"e.m{name} = p.m{name}" for name in _AT)
    return con.execute(
        "select s.* from stored s semi join"
        f" (select * from pair p anti join (from pair where earlier) e on {mine}) p on {same}"
    ).pl()


def _of(alias: str, contract: Contract) -> str:
    return f"hash({', '.join(f'{alias}.{quote_name(name)}' for name in elements.content_columns(contract))})"


def _duplicates(
    con: duckdb.DuckDBPyConnection, contract: Contract, rivals: pl.DataFrame, mine: pl.DataFrame, judge: Judge
) -> pl.DataFrame:
    """Records that were counted as duplicates of the rivals: read again, since a duplicate leaves no row anywhere."""
    keys = contract.root.dedup
    columns = [*_AT, "part_date", *elements.content_columns(contract)]
    found = [rivals.select(columns).clear()]
    wanted = rivals.select(keys).unique()
    for batch in ledger.batches(contract.id):
        objects = [item for item in ledger.objects(batch["batch_id"]) if item["duplicate_count"]]
        if not objects or batch["status"] == "archived":
            continue
        rows = judge(contract, batch, objects).accepted.join(wanted, on=keys, how="semi", nulls_equal=True)
        found.append(rows.with_columns(pl.lit(batch["batch_id"]).alias("_batch_id")).select(columns))
    every = pl.concat(found, how="vertical_relaxed")
    quarantine.register_open(con)
    elsewhere = con.execute(
        "select batch_id as _batch_id, source_object as _source_object, record_no as _record_no from judged_quarantine"
        " where outcome is null or outcome in ('rejudged', 'discarded')"
    ).pl()
    con.register("repeated", every.select(_AT).to_arrow())
    stored = con.execute(
        "select distinct _batch_id, _source_object, _record_no from stored semi join repeated using (_batch_id, _source_object, _record_no)"
    ).pl()
    for others in (elsewhere, stored, mine):
        every = every.join(others.select(_AT), on=_AT, how="anti")
    return every


def _moved(
    con: duckdb.DuckDBPyConnection,
    contract: Contract,
    mine: pl.DataFrame,
    rivals: pl.DataFrame,
    duplicates: pl.DataFrame,
    places: pl.DataFrame,
) -> pl.DataFrame:
    """What has to go, of every key whose first record says something else than the stored one: ``_batch_id,
    _source_object, _record_no, part_date, was`` (accepted or duplicate)."""
    keys, content = _keys(contract)
    columns = [*_AT, "part_date", *elements.content_columns(contract)]
    group = pl.concat(
        [
            rivals.select(columns).with_columns(was=pl.lit("accepted")),
            duplicates.select(columns).with_columns(was=pl.lit("duplicate")),
            mine.select(columns).with_columns(was=pl.lit("candidate")),
        ],
        how="vertical_relaxed",
    )
    con.register("members", group.to_arrow())
    return con.execute(
        f"with numbered as (select m.*, {content} as _content, first_value({content}) over w as _first,"
        f" bool_or(was = 'accepted') over (partition by {', '.join(keys)}) as _contested"
        " from members m join places p using (_batch_id, _source_object)"
        f" window w as (partition by {', '.join(keys)} order by p._place, _record_no"
        " rows between unbounded preceding and unbounded following))"
        " select _batch_id, _source_object, _record_no, part_date, was from numbered"
        " where _contested and was <> 'candidate' and _content <> _first order by all"
    ).pl()


def _decide(contract: Contract, moved: pl.DataFrame, replay_id: str) -> None:
    """The ledger's part: counts and decisions of all batches concerned, at once."""
    rule_id, reason = conflict_rule(contract)
    at = ledger.next_decision_at()
    decisions = runs(moved.rename({"_batch_id": "batch_id"}), replay_id, "rejudged", at, rule_id=rule_id, reason=reason)
    counts = moved.group_by("_batch_id", "_source_object", "was").len().rows()
    ledger.move_to_quarantine(counts, decisions)


def conflict_rule(contract: Contract) -> tuple[str, str]:
    """Rule id and reason under which a record is refused that contradicts a stored one."""
    row = pipeline.conflicts_as_refusals(
        contract, pl.DataFrame({"_source_object": [""], "_record_no": pl.Series([0], dtype=pl.Int64)})
    )
    return str(row["rule_id"][0]), str(row["reason"][0])


def runs(
    records: pl.DataFrame,
    replay_id: str,
    outcome: str,
    at: Any,
    *,
    rule_id: str | None = None,
    reason: str | None = None,
) -> list[dict[str, Any]]:
    """Decisions about records (``batch_id, _source_object, _record_no``) as runs of consecutive numbers per object, so that a
    whole batch is a handful of ledger rows."""
    where = ["batch_id", "_source_object"]
    numbered = records.select(*where, "_record_no").unique().sort(*where, "_record_no")
    grouped = (
        numbered.with_columns(run=pl.col("_record_no") - pl.int_range(pl.len(), dtype=pl.Int64).over(where))
        .group_by(*where, "run")
        .agg(pl.col("_record_no").min().alias("first"), pl.col("_record_no").max().alias("last"))
        .sort(*where, "first")
    )
    return [
        {
            "replay_id": replay_id,
            "batch_id": row["batch_id"],
            "source_object": row["_source_object"],
            "record_from": row["first"],
            "record_to": row["last"],
            "outcome": outcome,
            "rule_id": rule_id,
            "reason": reason,
            "replayed_at": at,
        }
        for row in grouped.iter_rows(named=True)
    ]


def finish(contract: Contract) -> int:
    """Carry out what is decided: quarantine rows and deletes of records that gave way. Returns how many rows were deleted."""
    rule_id, _ = conflict_rule(contract)
    con = query.connect()
    try:
        decided = _gave_way(con, contract, rule_id)
        if decided.is_empty():
            return 0
        quarantine.register_open(con)
        con.register("gave_way", decided.to_arrow())
        bare = con.execute(
            "select g._batch_id, g._source_object, g._record_no from gave_way g anti join all_quarantine q on"
            " q.batch_id = g._batch_id and q.source_object = g._source_object and q.record_no = g._record_no"
        ).pl()
    finally:
        con.close()
    batches = {batch["batch_id"]: batch for batch in ledger.batches(contract.id)}
    for (batch_id,), rows in bare.partition_by("_batch_id", as_dict=True, include_key=False).items():
        refusals = pipeline.conflicts_as_refusals(contract, rows)
        key = f"{batch_id}:gave_way:{uuid.uuid4().hex[:16]}"
        pipeline.write_quarantine(contract, batches[str(batch_id)], refusals, ledger.objects(str(batch_id)), key)
    return sum(_erase(contract, obj.table, decided) for obj in sorted(contract.objects, key=lambda item: item.is_root))


def _gave_way(con: duckdb.DuckDBPyConnection, contract: Contract, rule_id: str) -> pl.DataFrame:
    """Records whose last decision says that they conflict with one delivered before them."""
    mine = [batch["batch_id"] for batch in ledger.batches(contract.id)]
    every = ledger.replays(mine)
    if not any(row["outcome"] == "rejudged" and row["rule_id"] == rule_id for row in every):
        return pl.DataFrame(schema={"_batch_id": pl.String, "_source_object": pl.String, "_record_no": pl.Int64})
    con.register("decided", quarantine.decisions(every))
    return con.execute(
        "with r as (select d.*, unnest(generate_series(record_from, record_to)) as n from decided d"
        "  where outcome = 'rejudged' and rule_id = ?)"
        " select distinct batch_id as _batch_id, source_object as _source_object, n as _record_no from r"
        " where not exists (select 1 from decided l where l.batch_id = r.batch_id and l.source_object = r.source_object"
        "  and r.n between l.record_from and l.record_to and l.replayed_at > r.replayed_at)",
        [rule_id],
    ).pl()


def _erase(contract: Contract, table: str, records: pl.DataFrame) -> int:
    """Delete records from the head of a table; returns how many rows."""
    head = tables.version(table)
    if head is None:
        return 0
    con = query.connect()
    try:
        query.register(con, table, head, view="stored")
        con.register("gone", records.to_arrow())
        found = con.execute(
            "select s._batch_id, s._source_object, s._record_no, s.part_date, count(*) as n from stored s semi join gone g"
            " using (_batch_id, _source_object, _record_no) group by all order by all"
        ).pl()
    finally:
        con.close()
    for part in found.iter_slices(_CHUNK):
        days: list[date] = part["part_date"].unique().sort().to_list()
        tables.delete(
            table,
            f"part_date >= '{days[0]}' AND part_date <= '{days[-1]}' AND ({' OR '.join(_named(part))})",
            part_dates=days,
            metadata={GAVE_WAY: str(part["n"].sum())},
        )
    return int(found["n"].sum())


def _named(records: pl.DataFrame) -> Iterable[str]:
    for (batch_id, sha256), rows in records.partition_by(
        "_batch_id", "_source_object", as_dict=True, include_key=False
    ).items():
        numbers = ", ".join(str(number) for number in rows["_record_no"].unique().sort())
        yield (
            f"(_batch_id = {quote_literal(str(batch_id))} AND _source_object = {quote_literal(str(sha256))}"
            f" AND _record_no IN ({numbers}))"
        )


__all__ = ["applies", "conflict_rule", "finish", "give_way", "runs"]
