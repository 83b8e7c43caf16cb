"""The same activity from several files: a watch's FIT, what a phone made of it, an export with another clock.

Two records are one activity when

* their content is the same (`activity_id`), or
* the same athlete began both in the same second, or within `START_TOLERANCE_S` (and half of either) with sports,
  durations and distances that go together (what a damaged file lost is not held against it), or
* their samples look the same (`heart_fingerprint`, or `time_fingerprint` and distance where one has no heart rate) and
  they begin the same moment or a whole number of quarter-hours apart (a clock that was set to another zone), for the
  same athlete or one of them without an athlete.

Of all that are one activity the richest stays (`_RANK`); the others are duplicates, and one stored earlier that is
poorer is *replaced*: its rows leave the tables and its batch counts it as a duplicate. Which one stays does not depend
on the order in which the files came, as long as each copy resembles the one that stays; a copy that resembles only
another copy is known by it in the same batch, and in later ones only while that one is stored.
"""

from __future__ import annotations

from typing import Any

import duckdb
import polars as pl

from catalog.contracts import ObjectSpec
from ingestion.dedup import REPLACED, Deduplicated
from lake import query, tables
from lake.query import quote_literal, quote_name

START_TOLERANCE_S = 30
"""A phone starts its copy, and a satellite fix its track, this much later at most."""
CLOCK_STEP_S = 15 * 60
MAX_SHIFT_S = 14 * 3600
"""Zones lie at quarter-hours and at most 14 hours from UTC."""
_DAYS = 2
"""How many days apart a clock of another zone may put the same activity."""

_FACTS = (
    "_source_object", "_record_no", "part_date", "activity_id", "athlete_token", "file_format", "started_at", "sport_code",
    "elapsed_s", "distance_m", "lap_count", "length_count", "interval_count", "sample_count", "channel_count",
    "is_partial", "time_fingerprint", "heart_fingerprint",
)  # fmt: skip

_RANK = (
    "athlete_token is null, is_partial, channel_count desc, sample_count desc, "
    "lap_count + length_count + interval_count desc, "
    "list_position(['fit', 'tcx', 'gpx', 'apple_health', 'rr'], file_format), activity_id, not is_stored, k.id"
)
"""Richest first: whose it is, whole before damaged, kinds of measure, samples, structure, format; then the content."""

_SAME = f"""
    SELECT a.id AS a, b.id AS b FROM known AS a JOIN known AS b ON a.activity_id = b.activity_id AND a.id < b.id
    WHERE NOT (a.is_stored AND b.is_stored)
  UNION
    SELECT a.id, b.id
    FROM near AS a JOIN known AS b ON a.athlete_token = b.athlete_token AND a.near_slot = b.slot
    WHERE a.id < b.id AND NOT (a.is_stored AND b.is_stored) AND abs(a.start_s - b.start_s) <= {START_TOLERANCE_S}
      AND (abs(a.start_s - b.start_s) < 1
        OR ({{sport}} AND abs(a.start_s - b.start_s) <= 0.5 * least(coalesce(a.elapsed_s, 60), coalesce(b.elapsed_s, 60))
          AND (a.is_partial OR b.is_partial OR (
          coalesce(abs(a.elapsed_s - b.elapsed_s) <= greatest(60, 0.05 * a.elapsed_s), true)
          AND coalesce(abs(a.distance_m - b.distance_m) <= greatest(100, 0.05 * a.distance_m), true)))))
  UNION
    SELECT a.id, b.id FROM known AS a JOIN known AS b ON a.heart_fingerprint = b.heart_fingerprint
    WHERE {{shift}}
  UNION
    SELECT a.id, b.id FROM known AS a JOIN known AS b ON a.time_fingerprint = b.time_fingerprint
    WHERE (a.heart_fingerprint IS NULL OR b.heart_fingerprint IS NULL)
      AND abs(a.distance_m - b.distance_m) <= greatest(20, 0.01 * a.distance_m) AND {{shift}}
""".format(
    sport="(a.sport_code = b.sport_code OR 'other' IN (a.sport_code, b.sport_code))",
    shift=(
        "a.id < b.id AND NOT (a.is_stored AND b.is_stored)"
        " AND (a.athlete_token IS NULL OR b.athlete_token IS NULL OR a.athlete_token = b.athlete_token)"
        " AND (a.sport_code = b.sport_code OR 'other' IN (a.sport_code, b.sport_code))"
        f" AND abs(a.start_s - b.start_s) <= {MAX_SHIFT_S + START_TOLERANCE_S}"
        f" AND abs(a.start_s - b.start_s - {CLOCK_STEP_S} * round((a.start_s - b.start_s) / {CLOCK_STEP_S}))"
        f" <= {START_TOLERANCE_S}"
    ),
)


def deduplicate(rows: pl.DataFrame, obj: ObjectSpec, batch_id: str, *, replayed: bool = False) -> Deduplicated:
    """Keep the richest record of each activity, among these rows and what other batches stored.

    Arguments and result are those of `ingestion.dedup.deduplicate`.
    """
    empty = rows.select("_source_object", "_record_no").clear()
    if rows.is_empty():
        return Deduplicated(rows, empty, empty)
    con = query.connect()
    try:
        _collect(con, rows, obj, batch_id, replayed)
        _rank(con)
        of_mine = "SELECT _source_object, _record_no FROM ranked WHERE NOT is_stored AND "
        keep, again = con.execute(of_mine + "is_best").pl(), con.execute(of_mine + "NOT is_best").pl()
        replaced = con.execute(
            "SELECT r._batch_id AS batch_id, r._source_object AS source_object, r._record_no AS record_no, r.part_date,"
            " b._batch_id AS by_batch_id, b._source_object AS by_source_object, b._record_no AS by_record_no"
            " FROM ranked AS r JOIN ranked AS b ON b.one = r.one AND b.is_best WHERE r.is_stored AND NOT r.is_best"
        ).pl()
    finally:
        con.close()
    return Deduplicated(
        rows.join(keep, on=["_source_object", "_record_no"], how="semi"),
        again,
        empty,
        replaced=replaced.cast(pl.Schema(REPLACED)),
    )


def stored_copy(rows: pl.DataFrame, obj: ObjectSpec, batch_id: str) -> tuple[str, str, int] | None:
    """Batch, object and number of the stored record that is the same activity as the first of `rows`, a record of the batch
    that is not stored itself; None when there is none any more."""
    if rows.is_empty():
        return None
    con = query.connect()
    try:
        _collect(con, rows.head(1), obj, batch_id, replayed=True)
        _rank(con)
        found: tuple[str, str, int] | None = con.execute(
            "SELECT _batch_id, _source_object, _record_no FROM ranked AS k WHERE is_stored"
            f" AND one = (SELECT one FROM ranked WHERE NOT is_stored) ORDER BY {_RANK} LIMIT 1"
        ).fetchone()
        return found
    finally:
        con.close()


def _rank(con: duckdb.DuckDBPyConnection) -> None:
    """Table ``ranked``: ``known`` with the group of each record (`one`) and whether it is the richest of it."""
    con.execute("CREATE TEMP TABLE near AS SELECT *, unnest([slot - 1, slot, slot + 1]) AS near_slot FROM known")
    pairs = con.execute(_SAME).fetchall()
    con.register("groups", _groups(pairs))
    con.execute(
        "CREATE TEMP TABLE ranked AS SELECT k.*, coalesce(g.one, k.id) AS one, row_number() OVER ("
        f"PARTITION BY coalesce(g.one, k.id) ORDER BY {_RANK}) = 1 AS is_best"
        " FROM known AS k LEFT JOIN groups AS g ON g.id = k.id"
    )


def _collect(
    con: duckdb.DuckDBPyConnection, rows: pl.DataFrame, obj: ObjectSpec, batch_id: str, replayed: bool
) -> None:
    """Table ``known``: what tells activities apart, of the rows and of those stored within some days of them."""
    facts = ", ".join(quote_name(name) for name in _FACTS)
    con.register("incoming", rows.select(_FACTS).to_arrow())
    parts = [f"SELECT {facts}, {quote_literal(batch_id)} AS _batch_id, false AS is_stored FROM incoming"]
    if _register_stored(con, obj):
        first, last = str(rows["part_date"].min()), str(rows["part_date"].max())
        own = (
            f"(_batch_id <> {quote_literal(batch_id)} OR (_source_object, _record_no) NOT IN"
            " (SELECT (_source_object, _record_no) FROM incoming))"
            if replayed
            else f"_batch_id <> {quote_literal(batch_id)}"
        )
        parts.append(
            f"SELECT {facts}, _batch_id, true FROM stored WHERE part_date >= date '{first}' - {_DAYS}"
            f" AND part_date <= date '{last}' + {_DAYS} AND {own}"
        )
    con.execute(
        "CREATE TEMP TABLE known AS SELECT *, row_number() OVER () AS id, epoch(started_at) AS start_s,"
        f" CAST(floor(epoch(started_at) / {START_TOLERANCE_S}) AS BIGINT) AS slot FROM ({' UNION ALL '.join(parts)})"
    )


def _register_stored(con: duckdb.DuckDBPyConnection, obj: ObjectSpec) -> bool:
    """Make the head of the table readable as ``stored``; False where there is none."""
    head = tables.version(obj.table)
    if head is not None:
        query.register(con, obj.table, head, view="stored")
    return head is not None


def _groups(pairs: list[tuple[int, int]]) -> Any:
    """Records that are the same, directly or by way of others: number → smallest number of its group."""
    leader: dict[int, int] = {}

    def find(one: int) -> int:
        while leader.setdefault(one, one) != one:
            leader[one] = leader[leader[one]]
            one = leader[one]
        return one

    for a, b in pairs:
        low, high = sorted((find(a), find(b)))
        leader[high] = low
    members = sorted(leader)
    return pl.DataFrame(
        {"id": members, "one": [find(item) for item in members]}, schema={"id": pl.Int64, "one": pl.Int64}
    ).to_arrow()
