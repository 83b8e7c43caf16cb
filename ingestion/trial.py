"""A contract tried on a sample: what would become of it, without archive, ledger or lake.

The sample goes through the very decoder, corrections, rules and deduplication of an ingest, with keys that exist for
the moment only. References are looked up where an installation with checked data is at hand, and said to be open where
not. Nothing of the sample is kept; previews are masked as in the quarantine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from catalog.contracts import Contract, ObjectSpec, PropertySpec
from ingestion import batch_rules, conversion, corrections, decoders, deletes, naming, pipeline, renames, split
from ingestion.dedup import deduplicate
from ingestion.leaks import BatchStopped
from lake import clock, ledger
from lake.errors import EXIT_USAGE, TiyuError
from lake.settings import settings
from lake.sql import quote_literal, quote_whole
from protection import keys

SHOWN = 5
_ENOUGH = 20
"""Rows from which on a sample says something about what a column may hold."""
MAX_BYTES = 256 << 20


_GROUPED = r"[-+]?[0-9]{1,3}(,[0-9]{3})+([.][0-9]+)?"


@dataclass
class ColumnTrial:
    """One column of the contract: rows in which the source filled it, in which the value was understood, and how many
    different values there are; in how many a number was not understood that is one once commas between thousands are left out.
    A column that the sample lacks is filled nowhere."""

    column: str
    source: str
    title_zh: str
    type: str
    rows: int
    filled: int
    parsed: int
    distinct: int
    grouped: int = 0


@dataclass
class RuleTrial:
    """A rule that refuses, holds or warns: how many records, and the first of them as ``object name, record number``."""

    rule_id: str
    effect: str
    reason: str
    records: int
    first: list[tuple[str, int]] = field(default_factory=list)


@dataclass
class Trial:
    """The account of a trial. ``decoded == accepted + quarantined + duplicate``; `ok` when nothing was refused or held and
    no column waits for the catalogue."""

    resource: str
    version: str
    objects: int = 0
    decoded: int = 0
    accepted: int = 0
    quarantined: int = 0
    duplicate: int = 0
    columns: list[ColumnTrial] = field(default_factory=list)
    rules: list[RuleTrial] = field(default_factory=list)
    previews: list[dict[str, Any]] = field(default_factory=list)
    refused_objects: list[dict[str, str]] = field(default_factory=list)
    unknown_columns: list[str] = field(default_factory=list)
    corrected: dict[str, int] = field(default_factory=dict)
    open_references: list[str] = field(default_factory=list)
    suggestions: list[str] = field(default_factory=list)
    ok: bool = False


def samples_of(contract: Contract) -> dict[str, bytes]:
    """The objects of the newest batch of a source, from its archive: name → bytes.

    Raises TIYU-CAT-0020 when there is none.
    """
    from ingestion import archive

    batches = ledger.batches(contract.id) if _has_ledger() else []
    if not batches:
        raise TiyuError(
            "TIYU-CAT-0020",
            "没有可供试跑的样本",
            "用 --sample 给出来源的文件；该来源汇聚过之后，可以不给，用归档中最近一批",
            EXIT_USAGE,
            resource=contract.id,
        )
    objects = ledger.objects(batches[-1]["batch_id"])
    return {item["name"]: archive.read_object(contract.id, item["sha256"]) for item in objects}


def read_samples(paths: Sequence[Path]) -> dict[str, bytes]:
    """Sample files: name → bytes. Raises TIYU-CAT-0020 when a file is not there or too large to be a sample."""
    found = {}
    for path in paths:
        if not path.is_file():
            raise TiyuError("TIYU-CAT-0020", "没有这个样本文件", "核对 --sample 后的路径", EXIT_USAGE, file=path.name)
        if path.stat().st_size > MAX_BYTES:
            raise TiyuError(
                "TIYU-CAT-0020",
                "样本文件太大",
                f"截取一段再试，至多 {MAX_BYTES >> 20} MiB",
                EXIT_USAGE,
                file=path.name,
            )
        found[path.name] = path.read_bytes()
    return found


def _has_ledger() -> bool:
    url = settings().ledger_url
    return not url.startswith("sqlite:///") or Path(url.removeprefix("sqlite:///")).is_file()


def run(contract: Contract, samples: dict[str, bytes]) -> Trial:
    """Try a contract on samples (name → bytes)."""
    trial = Trial(contract.id, contract.version, len(samples))
    tried = _without_open_references(contract, trial)
    with keys.passing():
        objects: list[dict[str, Any]] = [
            {"sha256": hashlib.sha256(content).hexdigest(), "name": naming.protect_name(contract, name), "size": len(content), "seq": seq}
            for seq, (name, content) in enumerate(samples.items(), 1)
        ]  # fmt: skip
        contents = dict(zip((item["sha256"] for item in objects), samples.values(), strict=True))
        batch = {"batch_id": "b_trial", "as_of_at": clock.as_of()}
        judged = _judge(tried, batch, objects, contents)
        order = {item["sha256"]: item["seq"] for item in objects}
        kept = deduplicate(
            judged.accepted,
            contract.root,
            "b_trial",
            order,
            same_key_is_duplicate=pipeline.is_activity(contract),
            alone=True,
            contract=contract,
        )
        refusals = judged.refused
        if not kept.conflicts.is_empty():
            refusals = pl.concat([refusals, pipeline.conflicts_as_refusals(contract, kept.conflicts)])
        _count(trial, judged, kept.accepted.height, refusals, kept.duplicates.height + judged.repeated.height)
        _rules(trial, tried, batch, objects, contents, judged, refusals)
        trial.columns = _columns(tried, objects, contents)
    _suggest(trial, contract, kept.conflicts.height)
    stopped = any(rule.effect in ("拒收", "整批扣下") for rule in trial.rules)
    waiting = trial.unknown_columns and contract.root.drift.unknown_column == "add"
    trial.ok = trial.decoded > 0 and not (stopped or trial.refused_objects or waiting)
    return trial


def _without_open_references(contract: Contract, trial: Trial) -> Contract:
    """The contract without rules that look into tables nobody has checked here."""
    has = _has_ledger()
    open_rules = {
        rule.rule_id
        for obj in (contract.root, *contract.lists)
        for rule in obj.rules
        if rule.kind == "reference" and not (has and ledger.checked_version(rule.params["table"]) is not None)
    }
    trial.open_references = sorted(open_rules)
    objects = [
        obj.model_copy(update={"rules": [rule for rule in obj.rules if rule.rule_id not in open_rules]})
        for obj in contract.objects
        if obj is contract.root or not obj.is_root
    ]
    return contract.model_copy(update={"objects": objects})


def _judge(
    contract: Contract, batch: dict[str, Any], objects: list[dict[str, Any]], contents: dict[str, bytes]
) -> pipeline.Judged:
    def judge(poison: dict[str, TiyuError] | None = None) -> pipeline.Judged:
        return pipeline.judge(
            contract, batch, objects, as_of=batch["as_of_at"], poison=poison, read=contents.__getitem__, alone=True
        )

    try:
        return judge()
    except BatchStopped as stopped:  # an ingest would stop once, then go on without these objects
        return judge(stopped.objects)


def _count(trial: Trial, judged: pipeline.Judged, accepted: int, refusals: pl.DataFrame, duplicate: int) -> None:
    trial.decoded = sum(judged.decoded.values())
    trial.accepted, trial.quarantined, trial.duplicate = accepted, refusals.height, duplicate
    trial.corrected = dict(judged.corrected.group_by("correction_id").len().sort("correction_id").iter_rows())
    trial.unknown_columns = sorted(judged.result.unknown_columns)
    trial.refused_objects = [
        {"object": item.object_name, "code": item.code, "reason": item.message} for item in judged.result.refusals
    ]


def _rules(
    trial: Trial,
    contract: Contract,
    batch: dict[str, Any],
    objects: list[dict[str, Any]],
    contents: dict[str, bytes],
    judged: pipeline.Judged,
    refusals: pl.DataFrame,
) -> None:
    obj = contract.root
    names = {item["sha256"]: item["name"] for item in objects}
    whole = {item.sha256 for item in judged.result.refusals}
    rows = refusals.filter(~pl.col("_source_object").is_in(list(whole))).sort("_source_object", "_record_no")
    for (rule_id, reason), group in rows.partition_by(
        "rule_id", "reason", as_dict=True, include_key=False, maintain_order=True
    ).items():
        first = [
            (names[sha], number) for sha, number in group.select("_source_object", "_record_no").head(SHOWN).iter_rows()
        ]
        trial.rules.append(RuleTrial(str(rule_id), "拒收", str(reason), group.height, first))
    trial.rules.sort(key=lambda rule: (-rule.records, rule.rule_id))
    messages = {rule.rule_id: rule.message_zh for item in contract.objects for rule in item.rules}
    for rule_id, count in sorted(judged.result.warned_by_rule.items()):
        trial.rules.append(RuleTrial(rule_id, "提示", messages.get(rule_id, "疑似个人信息，入库前已隐去"), count))
    delivery = batch_rules.Delivery(
        contract,
        batch["batch_id"],
        batch["as_of_at"],
        {sha: count for sha, count in judged.decoded.items() if sha not in whole},
        rows.height,
        judged.facts,
        names,
        control={sha: contents[sha] for sha, name in names.items() if batch_rules.is_control(obj, name)},
    )
    effects = {"stop": "整批扣下", "warn": "提示"}
    for finding in batch_rules.examine(delivery):
        if not finding.ok:
            trial.rules.append(RuleTrial(finding.rule_id, effects[finding.severity], finding.message_zh, finding.found))
    for record in rows.filter(pl.col("preview").is_not_null()).head(SHOWN).iter_rows(named=True):
        trial.previews.append(
            {
                "object": names[record["_source_object"]],
                "record_no": record["_record_no"],
                "rule_id": record["rule_id"],
                "preview": record["preview"],
            }
        )


# ------------------------------------------------------------------------------------------------ columns
def _columns(contract: Contract, objects: list[dict[str, Any]], contents: dict[str, bytes]) -> list[ColumnTrial]:
    """Fill and understanding of every delivered column, after corrections, over all records that could be read. Columns of
    lists inside the records are called ``object.column``."""
    obj = contract.root
    counted: dict[str, ColumnTrial] = {
        name: ColumnTrial(name, prop.source_name or "", prop.title_zh, prop.type, 0, 0, 0, 0)
        for name, (_, prop) in _delivered(contract).items()
    }
    listed = [
        (item["sha256"], item["name"], contents[item["sha256"]])
        for item in objects
        if not (batch_rules.is_control(obj, item["name"]) or deletes.is_tombstone(obj, item["name"]))
    ]
    con = duckdb.connect(":memory:", config={"threads": 2, "temp_directory": ""})
    try:
        for chunk in decoders.decode_many(contract.server, listed, contract):
            for part in (obj, *contract.lists):
                table = chunk.tables.get(part.table)
                if table is None or not table.num_rows:
                    continue
                if pipeline.is_activity(contract):
                    con.register("_typed", table)
                    con.execute("create or replace temp table batch as from _typed")
                    con.unregister("_typed")
                else:
                    split.type_rows(con, part, renames.resolved(table, part))
                    corrections.apply(con, part, None)
                present = {row[0] for row in con.execute("describe batch").fetchall()}
                for name, (owner, prop) in _delivered(contract).items():
                    if owner is part:
                        _add(con, counted[name], prop, present)
    finally:
        con.close()
    return list(counted.values())


def _delivered(contract: Contract) -> dict[str, tuple[ObjectSpec, PropertySpec]]:
    """Columns that come from the source, as a trial names them."""
    return {
        f"{obj.name}.{prop.name}" if obj.items is not None else prop.name: (obj, prop)
        for obj in (contract.root, *contract.lists)
        for prop in obj.properties
        if prop.source_name and not prop.derive
    }


def _add(con: duckdb.DuckDBPyConnection, column: ColumnTrial, prop: PropertySpec, present: set[str]) -> None:
    typed = quote_whole(prop.raw_name) if prop.raw_name in present else "null"
    delivered = conversion.SOURCE + str(prop.source_name)
    text = conversion.text_of(prop) if delivered in present else typed
    grouped = "0"
    if delivered in present:  # a decoder of device files gives no texts
        grouped = f"count(*) filter ({typed} is null and regexp_full_match(trim({text}), {quote_literal(_GROUPED)}))"
    found = con.execute(
        f"select count(*), count({text}), count({typed}), count(distinct {text}), {grouped} from batch"
    ).fetchone()
    assert found is not None
    column.rows += found[0]
    column.filled += found[1]
    column.parsed += found[2]
    column.distinct = max(column.distinct, found[3])
    column.grouped += found[4]


def _suggest(trial: Trial, contract: Contract, conflicts: int) -> None:
    """What a person may want to change, in Chinese; columns are named, values never."""
    obj = contract.root
    said = trial.suggestions
    if trial.decoded == 0:
        said.append("样本中没有一条记录：核对文件、工作表与表头所在行")
    for name in trial.unknown_columns:
        ignored = "契约声明不读" if obj.drift.unknown_column != "add" else "登记并定级；在此之前它只留在归档中"
        said.append(f"来源的列“{name}”契约不认识：{ignored}")
    if conflicts:
        said.append(f"{conflicts} 条记录主键相同而内容不同：核对 dedup 的 key，或声明 onChanged（newest、version）")
    never_empty: list[str] = []
    for column in trial.columns:
        owner, prop = _delivered(contract)[column.column]
        named = f"{column.title_zh}（{column.source}）"
        unread = column.filled - column.parsed
        if column.rows and not column.filled:
            said.append(f"{named}在样本中全空：核对 physicalName 是否与来源一致")
        elif column.grouped:
            said.append(f'{named}有 {column.grouped} 个值带千分位逗号：在该列写 read: {{thousands: ","}}')
        elif unread:
            many = "过半的值" if unread * 2 > column.filled else f"有 {unread} 个值"
            said.append(
                f"{named}{many}读不成 {column.type}：核对类型，以及该列的 read（dateFormats、nullTokens、decimalMark、thousands）"
            )
        elif column.rows >= _ENOUGH and column.filled == column.rows and not prop.required:
            never_empty.append(named)
        if _could_be_codes(column, prop, owner):
            said.append(f"{named}只有 {column.distinct} 种取值：若是代码，可声明 codeList 或 in_list 规则")
    if never_empty:
        said.append(f"样本中从不为空：{'、'.join(never_empty)}；来源保证的可声明 required")
    for rule in trial.open_references:
        said.append(f"规则 {rule} 引用的表在此处没有已检数据，未检查")


def _could_be_codes(column: ColumnTrial, prop: PropertySpec, obj: ObjectSpec) -> bool:
    listed = {name for rule in obj.rules if rule.kind == "in_list" for name in rule.columns}
    free = prop.type == "VARCHAR" and not (prop.code_list or prop.identifier_kind or prop.name in listed)
    return free and column.filled >= 2 * _ENOUGH and 1 < column.distinct <= 10


__all__ = ["ColumnTrial", "RuleTrial", "Trial", "read_samples", "run", "samples_of"]
