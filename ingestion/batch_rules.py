"""Batch rules: is the delivery as a whole what its contract expects? Judged before any row is stored.

What a rule needs to know is collected chunk by chunk as a handful of aggregated rows (`collect`), over every record
that could be read, refused ones included: a row that a rule refused was delivered all the same. `examine` then gives
one finding a rule. Findings hold counts, dates and names of codes, never a value of a record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import polars as pl

from catalog import vocabularies
from catalog.contracts import Contract, ObjectSpec
from catalog.contracts.batch_rules import BatchRuleSpec
from ingestion import archive
from lake import clock, ledger, query, tables
from lake.sql import quote_literal, quote_whole

SCHEMA = {
    "rule_id": pl.String,
    "object": pl.String,  # sha256, for what is declared object by object
    "grp": pl.String,  # the group of a continuity rule, as text
    "low": pl.Int64,  # first and last of an unbroken run (dates as days since 1970), or a moment in microseconds
    "high": pl.Int64,
    "number": pl.Float64,  # a sum, or a declared total
    "declared": pl.Float64,
    "several": pl.Int64,  # how many different totals an object declares
    "text": pl.String,  # a code
}
MANIFEST_BYTES = 1 << 20
_SHOWN = 5


@dataclass(frozen=True)
class Finding:
    """What one batch rule found: `observed` beside what was expected, in the words of `message_zh`."""

    rule_id: str
    severity: str
    ok: bool
    examined: int
    found: int
    message_zh: str

    @property
    def outcome(self) -> str:
        """pass, or the severity of the rule that failed."""
        return "pass" if self.ok else self.severity


@dataclass
class Delivery:
    """A batch as its rules see it: `decoded` and `refused` records by object, the collected `facts`, `control` objects by
    sha256 (their content), names of objects, the instant it came in, and the batch before it (records per object)."""

    contract: Contract
    batch_id: str
    as_of: datetime
    decoded: Mapping[str, int]
    refused: int
    facts: pl.DataFrame
    names: Mapping[str, str]
    first_date: date | None = None
    control: Mapping[str, bytes] = field(default_factory=dict)
    previous: float | None = None


def is_control(obj: ObjectSpec, name: str) -> bool:
    """Whether an object is a manifest, which holds no records."""
    return obj.manifest_pattern is not None and re.search(obj.manifest_pattern, name) is not None


def empty() -> pl.DataFrame:
    """No facts."""
    return pl.DataFrame(schema=SCHEMA)


def collect(con: duckdb.DuckDBPyConnection, obj: ObjectSpec, relation: str) -> pl.DataFrame:
    """The facts of one judged chunk (with `part_date` and `_source_object`) for all batch rules of a table."""
    found = [empty()]
    for rule in obj.batch_rules:
        sql = _facts_sql(obj, rule, relation)
        if sql:
            rows = con.execute(sql).pl()
            found.append(
                rows.select(
                    pl.lit(rule.rule_id).alias("rule_id"),
                    *(
                        pl.col(name).cast(kind) if name in rows.columns else pl.lit(None, kind).alias(name)
                        for name, kind in SCHEMA.items()
                        if name != "rule_id"
                    ),
                )
            )
    return pl.concat(found)


def _whole(obj: ObjectSpec, column: str) -> str:
    """A date or whole number as a whole number."""
    is_date = column == "part_date" or obj.by_name[column].type == "DATE"
    name = quote_whole(column)
    return f"date_diff('day', date '1970-01-01', {name})" if is_date else f"cast({name} as bigint)"


def _facts_sql(obj: ObjectSpec, rule: BatchRuleSpec, relation: str) -> str | None:
    params = rule.params
    if rule.kind == "required_values":
        return f"select distinct cast({quote_whole(params['column'])} as varchar) as text from {relation}"
    if rule.kind == "continuity":
        value, group = _whole(obj, params["column"]), _group(params["by"])
        # runs without a gap: within one, value minus rank stays the same
        return (
            f"select grp, min(v) as low, max(v) as high from (select grp, v, v - row_number() over (partition by grp order by v) as run"
            f" from (select distinct {group} as grp, {value} as v from {relation} where {quote_whole(params['column'])} is not null) as d) as r"
            " group by grp, run"
        )
    if rule.kind == "total":
        of = "count(*)" if params["of"] == "rows" else f"sum({quote_whole(params['of'])})"
        said = quote_whole(params["column"]) if "column" in params else "null::double"
        return (
            f"select _source_object as object, cast({of} as double) as number, cast(max({said}) as double) as declared,"
            f" count(distinct {said}) as several from {relation} group by _source_object"
        )
    if rule.kind == "freshness":
        name = quote_whole(params["column"])
        is_date = params["column"] == "part_date" or obj.by_name[params["column"]].type == "DATE"
        moment = (
            f"timezone('Asia/Shanghai', cast(max({name}) as timestamp) + interval 1 day)" if is_date else f"max({name})"
        )
        return f"select epoch_us({moment}) as low from {relation}"
    return None


def _group(by: Sequence[str]) -> str:
    return f"to_json([{', '.join(f'cast({quote_whole(name)} as varchar)' for name in by)}])" if by else "'[]'"


# ------------------------------------------------------------------------------------------------ judging
def examine(delivery: Delivery) -> list[Finding]:
    """One finding for every batch rule of the contract's root table, in the order declared."""
    kinds = {
        "rows": _rows,
        "refused_share": _refused_share,
        "required_values": _required_values,
        "continuity": _continuity,
        "total": _total,
        "freshness": _freshness,
        "previous": _previous,
    }
    found = []
    for rule in delivery.contract.root.batch_rules:
        examined, bad, detail = kinds[rule.kind](delivery, rule)
        message = f"{rule.message_zh}（{detail}）" if bad and detail else rule.message_zh
        found.append(Finding(rule.rule_id, rule.severity, not bad, examined, bad, message))
    return found


_Verdict = tuple[int, int, str]  # examined, how many are wrong, what was seen


def _facts(delivery: Delivery, rule: BatchRuleSpec) -> pl.DataFrame:
    return delivery.facts.filter(pl.col("rule_id") == rule.rule_id)


def _bounds(params: Mapping[str, Any]) -> str:
    low, high = params.get("min"), params.get("max")
    return f"应不少于 {low:,}" if high is None else f"应不多于 {high:,}" if low is None else f"应为 {low:,}–{high:,}"


def _rows(delivery: Delivery, rule: BatchRuleSpec) -> _Verdict:
    counts = list(delivery.decoded.values()) if rule.params["per"] == "object" else [sum(delivery.decoded.values())]
    low, high = rule.params.get("min", 0), rule.params.get("max")
    wrong = [count for count in counts if count < low or (high is not None and count > high)]
    shown = "、".join(f"{count:,}" for count in wrong[:_SHOWN])
    return len(counts), len(wrong), f"收到 {shown} 条，{_bounds(rule.params)} 条"


def _refused_share(delivery: Delivery, rule: BatchRuleSpec) -> _Verdict:
    total = sum(delivery.decoded.values())
    wrong = total > 0 and delivery.refused > rule.params["max"] * total
    share = delivery.refused / total if total else 0.0
    return (
        total,
        delivery.refused if wrong else 0,
        f"{delivery.refused:,}/{total:,} 条被拒，占 {share:.1%}，上限 {rule.params['max']:.1%}",
    )


def _required_values(delivery: Delivery, rule: BatchRuleSpec) -> _Verdict:
    wanted = rule.params.get("values") or vocabularies.codes(rule.params["code_list"])
    missing = sorted(set(wanted) - set(_facts(delivery, rule)["text"].drop_nulls()))
    shown = "、".join(missing[:_SHOWN]) + ("等" if len(missing) > _SHOWN else "")
    return len(wanted), len(missing), f"缺 {len(missing)} 个：{shown}"


def _continuity(delivery: Delivery, rule: BatchRuleSpec) -> _Verdict:
    """Missing values between the runs of each group; with `after: stored` also between what is stored and the first run."""
    runs = _facts(delivery, rule).select("grp", "low", "high")
    if runs.is_empty():
        return 0, 0, ""
    if rule.params["after"] == "stored":
        runs = pl.concat([runs, _stored_run(delivery, rule, runs)])
    ordered = runs.sort("grp", "low").with_columns(
        reached=pl.col("high").cum_max().shift(1).over("grp"),
    )
    gaps = ordered.filter(pl.col("low") > pl.col("reached") + 1)
    missing = int((gaps["low"] - gaps["reached"] - 1).sum())
    if missing <= rule.params["max_missing"]:
        return runs.height, 0, ""
    first = int((gaps["reached"] + 1).min())  # type: ignore[arg-type]
    column = rule.params["column"]
    obj = delivery.contract.root
    is_date = column == "part_date" or obj.by_name[column].type == "DATE"
    shown = (date(1970, 1, 1) + timedelta(days=first)).isoformat() if is_date else f"{first:,}"
    return runs.height, missing, f"缺 {missing:,} 个，{gaps['grp'].n_unique()} 组有断档，最早缺 {shown}"


def _stored_run(delivery: Delivery, rule: BatchRuleSpec, runs: pl.DataFrame) -> pl.DataFrame:
    """Per group of the batch, the last value stored below its first one, as a run of its own."""
    obj = delivery.contract.root
    head = tables.version(obj.table)
    if head is None or delivery.first_date is None:
        return runs.clear()
    since = delivery.first_date - timedelta(days=rule.params["lookback_days"])
    firsts = runs.group_by("grp").agg(pl.col("low").min().alias("first"))
    value, group = _whole(obj, rule.params["column"]), _group(rule.params["by"])
    con = query.connect()
    try:
        query.register(con, obj.table, head, view="stored")
        con.register("firsts", firsts.to_arrow())
        return (
            con.execute(
                f"select f.grp, max(s.v) as low, max(s.v) as high from (select {group} as grp, {value} as v from stored"
                f" where part_date >= date '{since}' and _batch_id <> {quote_literal(delivery.batch_id)}) as s"
                " join firsts as f on f.grp = s.grp and s.v < f.first group by f.grp"
            )
            .pl()
            .cast({"low": pl.Int64, "high": pl.Int64})
        )
    finally:
        con.close()


def _total(delivery: Delivery, rule: BatchRuleSpec) -> _Verdict:
    facts = {row["object"]: row for row in _merged_totals(_facts(delivery, rule)).iter_rows(named=True)}
    by_rows = rule.params["of"] == "rows"
    counted = {
        sha: float(n) if by_rows else (facts.get(sha, {}).get("number") or 0.0) for sha, n in delivery.decoded.items()
    }
    if rule.params["declared_in"] == "column":
        said = {sha: facts.get(sha, {}).get("declared") for sha in counted}
        unclear = sum(1 for sha in counted if (facts.get(sha, {}).get("several") or 0) > 1)
    else:
        said, unclear = _declared(delivery, rule)
        said = {sha: said.get(sha) for sha in counted}
    tolerance = rule.params["tolerance"]
    wrong = [
        sha
        for sha, value in said.items()
        if value is None or abs(value - counted[sha]) > tolerance + 1e-9 * max(abs(value), 1.0)
    ]
    bad = len(wrong) + unclear
    if not bad:
        return len(counted), 0, ""
    if not wrong:
        return len(counted), bad, f"{unclear} 处的申报总数无法识别或前后不一"
    first = said[wrong[0]]
    seen = f"{counted[wrong[0]]:,.10g}"
    return (
        len(counted),
        bad,
        f"{len(wrong)} 个文件不符，第一个"
        + (f"申报 {first:,.10g}，实收 {seen}" if first is not None else "没有申报总数"),
    )


def _merged_totals(facts: pl.DataFrame) -> pl.DataFrame:
    """One row an object: an object may have been read in several chunks."""
    return facts.group_by("object", maintain_order=True).agg(
        pl.col("number").sum(),
        pl.col("declared").max(),
        pl.max_horizontal(pl.col("several").max(), pl.col("declared").drop_nulls().n_unique()).alias("several"),
    )


def _declared(delivery: Delivery, rule: BatchRuleSpec) -> tuple[dict[str, float | None], int]:
    """sha256 → total that a manifest declares, and how many entries could not be understood."""
    by_name = {name.rsplit("/", 1)[-1]: sha for sha, name in delivery.names.items()}
    said: dict[str, float | None] = {}
    unclear = 0
    for content in delivery.control.values():
        try:
            read = json.loads(content)
            entries = read.get("objects", [read])
            for entry in entries:
                total = entry["rows"] if rule.params["of"] == "rows" else entry["totals"][rule.params["of"]]
                sha = by_name.get(str(entry["name"]).rsplit("/", 1)[-1])
                if sha is None or isinstance(total, bool):
                    unclear += 1  # it tells of an object that did not come with it
                else:
                    said[sha] = float(total)
        except (ValueError, KeyError, TypeError, AttributeError):
            unclear += 1
    return said, unclear


def _freshness(delivery: Delivery, rule: BatchRuleSpec) -> _Verdict:
    newest = _facts(delivery, rule)["low"].max()
    limit = rule.params["max_age_hours"]
    if newest is None:
        return 0, 1, "没有可用的时间"
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(newest))  # type: ignore[arg-type]
    age = (delivery.as_of - moment).total_seconds() / 3600
    shown = moment.astimezone(clock.SHANGHAI)
    return 1, int(age > limit), f"最新到 {shown:%Y-%m-%d %H:%M}，距到达 {age:,.1f} 小时，上限 {limit:g} 小时"


def _previous(delivery: Delivery, rule: BatchRuleSpec) -> _Verdict:
    if delivery.previous is None or not delivery.decoded:
        return 0, 0, ""
    now = sum(delivery.decoded.values()) / len(delivery.decoded)
    change = (now - delivery.previous) / delivery.previous
    wrong = abs(change) > rule.params["share"]
    return (
        1,
        int(wrong),
        f"每个文件 {now:,.4g} 条，上一批 {delivery.previous:,.4g} 条，变化 {change:+.0%}，允许 ±{rule.params['share']:.0%}",
    )


# ------------------------------------------------------------------------------------------------ what a batch brings
def previous_rows(contract: Contract, batch: Mapping[str, Any]) -> float | None:
    """Records per object of the batch before this one that was let in; None for the first."""
    before = [
        item
        for item in ledger.batches(contract.id)
        if item["status"] in ("accepted", "partial")
        and item["decoded_count"]
        and (item["started_at"], item["batch_id"]) < (batch["started_at"], batch["batch_id"])
    ]
    if not before:
        return None
    counts = [item["decoded_count"] for item in ledger.objects(before[-1]["batch_id"]) if item["status"] != "refused"]
    counts = [count for count in counts if count]
    return sum(counts) / len(counts) if counts else None


def control_objects(contract: Contract, objects: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """The manifests of a batch: sha256 → content. One that is too large to be a manifest is given as nothing."""
    return {
        item["sha256"]: archive.read_object(contract.id, item["sha256"]) if item["size"] <= MANIFEST_BYTES else b""
        for item in objects
        if is_control(contract.root, item["name"])
    }


def as_rows(contract: Contract, findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Ledger rows of findings."""
    return [
        {
            "resource": contract.id,
            "table_name": contract.root.table,
            "rule_id": item.rule_id,
            "kind": "batch",
            "outcome": item.outcome,
            "examined_count": item.examined,
            "found_count": item.found,
            "message": item.message_zh,
        }
        for item in findings
    ]


__all__ = ["Delivery", "Finding", "collect", "control_objects", "empty", "examine", "is_control", "previous_rows"]
