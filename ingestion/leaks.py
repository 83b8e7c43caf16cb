"""Personal items where the contract says there are none: an identity number in a free column stops the batch.

The check runs on every arriving row before anything is stored. Only an identity number with a valid check character and
date stops (`catalog.detectors.content.STOPPING`); the other kinds are counted on a sample and shown as warnings, from
which a grade is suggested. Nothing here keeps or shows a value.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import duckdb

from catalog.contracts import ObjectSpec
from catalog.detectors import content, names
from lake.errors import TiyuError
from lake.query import quote_name

SAMPLE_ROWS = 2_000
"""Rows of a chunk in which the kinds that only warn are looked for."""


@dataclass(frozen=True)
class Leak:
    """Records of one object in which a column holds items it is declared free of; `first` is a record number."""

    column: str
    title_zh: str
    kind: str
    object_sha256: str
    records: int
    first: int


@dataclass
class Found:
    """examined and warned go by rule id `{resource}.{column}.detected.{kind}`, as those of the row rules do."""

    leaks: list[Leak] = field(default_factory=list)
    examined: dict[str, int] = field(default_factory=dict)
    warned: dict[str, int] = field(default_factory=dict)


class BatchStopped(TiyuError):
    """TIYU-ING-0020: objects of a batch hold what their contract says they do not. `objects`: sha256 → its error."""

    def __init__(self, code: str, message_zh: str, hint_zh: str, objects: dict[str, TiyuError], **context: Any):
        super().__init__(code, message_zh, hint_zh, **context)
        self.objects = objects


def free_columns(obj: ObjectSpec) -> list[str]:
    """Text columns that are declared free of identifiers: no identifier kind, no code list, not computed here."""
    return [
        prop.name
        for prop in obj.properties
        if prop.type == "VARCHAR" and not prop.identifier_kind and not prop.code_list and prop.source_name
    ]


def look(con: duckdb.DuckDBPyConnection, relation: str, obj: ObjectSpec, as_of: datetime | None) -> Found:
    """Look through the free text columns of judged rows (with `_source_object` and `_record_no`)."""
    found = Found()
    present = set(content.text_columns(con, relation))
    columns = [name for name in free_columns(obj) if name in present]
    for name in columns:
        counted = con.execute(f"select count({quote_name(name)}) from {relation} as t").fetchone()
        for kind in content.STOPPING:
            found.examined[_rule(obj, name, kind)] = int(counted[0]) if counted else 0
    for finding in content.scan(con, relation, columns, only=content.STOPPING, as_of=as_of):
        where = content.objects_with(con, relation, finding.column, finding.kind, as_of=as_of)
        title = obj.by_name[finding.column].title_zh
        found.leaks += [Leak(finding.column, title, finding.kind, sha, n, first) for sha, (n, first) in where.items()]
    warning = [kind for kind in content.kinds() if kind not in content.STOPPING and kind != "uscc"]
    sample = f"(select * from {relation} as t limit {SAMPLE_ROWS})"
    for finding in content.scan(con, sample, columns, only=warning, as_of=as_of):
        if _expected(obj, finding):
            continue
        rule = _rule(obj, finding.column, finding.kind)
        found.examined[rule], found.warned[rule] = finding.examined, finding.hits
    return found


def _expected(obj: ObjectSpec, finding: content.Finding) -> bool:
    """Whether the column's own name says that it holds such items, so that its grade already reckons with them."""
    prop = obj.by_name[finding.column]
    named = {hit.kind for hit in names.detect(prop.name, prop.source_name, prop.title_zh)}
    return finding.kind in named or (finding.kind == "home_address" and "address" in named)


def _rule(obj: ObjectSpec, column: str, kind: str) -> str:
    return f"{obj.rule_prefix}.{column}.detected.{kind}"


def stop(resource: str, batch_id: str, found: list[Leak], object_names: dict[str, str]) -> BatchStopped:
    """The error that stops a batch, naming object, column, how many records and the first of them; never a value."""
    objects: dict[str, TiyuError] = {}
    for leak in found:
        objects.setdefault(
            leak.object_sha256,
            TiyuError(
                "TIYU-ING-0021",
                "对象含有契约声明不含的身份证号，已整体拒收",
                "请来源方改正后重新报送；若该列本应含证件号，先在契约中声明 identifierKind 与级别，再用 tiyu quarantine replay 重放",
                object=object_names.get(leak.object_sha256),
                column=f"{leak.column}（{leak.title_zh}）",
                rule=f"detected.{leak.kind}",
                records=leak.records,
                first_record=leak.first,
            ),
        )
    worst = found[0]
    return BatchStopped(
        "TIYU-ING-0020",
        "批次已停止：声明不含证件号的列中出现身份证号，没有任何一行入库",
        "核对下列对象与列；重跑 tiyu ingest 会把这些对象整体拒收并放行其余对象",
        objects,
        resource=resource,
        batch=batch_id,
        object=object_names.get(worst.object_sha256),
        column=f"{worst.column}（{worst.title_zh}）",
        records=sum(leak.records for leak in found),
        object_count=len(objects),
    )
