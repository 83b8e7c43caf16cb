"""Personal items where the contract says there are none: an identity number in a free column stops the batch.

The check runs on every arriving row before anything is stored. Only an identity number with a valid check character and
date stops (`catalog.detectors.content.STOPPING`); the other kinds are counted on a sample and shown as warnings to the
source's owner. They do not get in, either: a record whose key names a person is refused, and what can be recognised in
the other free columns is hidden before the row is stored (ADR 0021). Nothing here keeps or shows a value.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from catalog.contracts import ObjectSpec
from catalog.detectors import content, names
from ingestion.typed import Memo
from lake.errors import TiyuError
from lake.sql import quote_whole
from protection import freetext

_REASON_KEY = "编号中出现电话号码或电子邮箱，不能作为主键入库"
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


def key_columns(obj: ObjectSpec) -> list[str]:
    """Free columns that records are told apart by: they keep their values, so a value that names a person refuses the record."""
    return [name for name in free_columns(obj) if name in obj.dedup]


def text_columns(obj: ObjectSpec) -> list[str]:
    """Free columns in which a personal item is hidden before a row is stored."""
    return [name for name in free_columns(obj) if name not in obj.dedup]


def key_rules(obj: ObjectSpec, present: set[str]) -> list[tuple[str, str, str]]:
    """Rule id, predicate and reason of the rule that refuses a record whose key is a telephone number or a mail address."""
    return [
        (f"{obj.rule_prefix}.{name}.detected.contact", freetext.no_contact_sql(quote_whole(name)), _REASON_KEY)
        for name in key_columns(obj)
        if name in present
    ]


def name_columns(obj: ObjectSpec, present: set[str]) -> list[str]:
    """In-memory columns of a judged row that hold a person's name as it was delivered."""
    return [prop.raw_name for prop in obj.properties if prop.identifier_kind == "name" and prop.raw_name in present]


def hide(
    con: duckdb.DuckDBPyConnection, relation: str, obj: ObjectSpec, memo: Memo | None = None
) -> tuple[pl.DataFrame, Found]:
    """Judged rows with the personal items in their free texts hidden; `Found` counts per column the texts that changed.

    Hidden are the numbers, addresses and tokens that `protection.freetext` recognises, the names in the name columns of the
    same row, and the names that the other rows say are names where they are long enough to be sure. With a ``memo``, texts of
    rows without names that are known to hold nothing are not looked at again.
    """
    present = {row[0] for row in con.execute(f"describe select * from {relation} as t").fetchall()}
    texts, names = [name for name in text_columns(obj) if name in present], name_columns(obj, present)
    items = []
    for name in texts:
        column = quote_whole(name)
        items.append(
            f"{freetext.without_name_sql(column, map(quote_whole, names))} as {quote_whole('cleaned::' + name)}"
        )
    rows = con.execute(f"select {', '.join(['*', *items])} from {relation} as t").pl()
    known = pl.concat([pl.Series([], dtype=pl.String), *(rows[name].cast(pl.String) for name in names)])
    found = Found()
    for name in texts:
        delivered, text = rows[name].cast(pl.String), rows[f"cleaned::{name}"].cast(pl.String)
        rule = _rule(obj, name, "hidden")
        found.examined[rule] = text.len() - text.null_count()
        if memo is not None and not names and _nothing_to_hide(text, memo):
            rows = rows.drop(f"cleaned::{name}")
            continue
        text = freetext.hidden(freetext.without_names(text, known)).alias(name)
        if changed := int(text.ne_missing(delivered).sum()):
            found.warned[rule] = changed
        rows = rows.with_columns(text).drop(f"cleaned::{name}")
    return rows, found


def _nothing_to_hide(texts: pl.Series, memo: Memo) -> bool:
    """Whether no text changes when what is recognised in it is hidden."""

    def stays(values: pa.Array) -> list[pa.Array]:
        delivered = pl.Series(values).cast(pl.String)
        return [freetext.hidden(delivered).eq_missing(delivered).to_arrow()]

    (same,) = memo.look_up("hidden", texts.unique().to_arrow().cast(pa.string()), stays)
    return pc.all(same).as_py() in (True, None)


def look_at(
    con: duckdb.DuckDBPyConnection, rows: pa.Table, obj: ObjectSpec, as_of: datetime | None, memo: Memo
) -> Found:
    """`look` over rows in Arrow: a column whose longest text is too short to hold a stopping item is not scanned, and a
    sample of values each of which is known to hold nothing is not scanned again."""
    columns = [name for name in free_columns(obj) if name in rows.column_names]
    counted = {name: rows.num_rows - rows[name].null_count for name in columns}
    shortest = content.shortest(content.STOPPING) if columns else 0
    long = [name for name in columns if _longest(rows[name]) >= shortest]
    sampled = [name for name in columns if not _known_clean(con, rows[name].slice(0, SAMPLE_ROWS), as_of, memo)]
    if not (long or sampled):
        return _looked(con, "", "", obj, long, sampled, counted, as_of)
    relation = rows.select([*columns, "_source_object", "_record_no"])
    con.register("_passed", relation)
    con.register("_first", relation.slice(0, SAMPLE_ROWS))
    found = _looked(con, "_passed", "_first", obj, long, sampled, counted, as_of)
    con.unregister("_passed")
    con.unregister("_first")
    return found


def _known_clean(con: duckdb.DuckDBPyConnection, sample: pa.ChunkedArray, as_of: datetime | None, memo: Memo) -> bool:
    """Whether none of the values of a sample holds an item of a kind that only warns."""
    values = pc.unique(sample)
    values = values.dictionary.take(pc.unique(values.indices)) if pa.types.is_dictionary(values.type) else values
    if len(values) > SAMPLE_ROWS // 2:
        return False

    def clean(texts: pa.Array) -> list[pa.Array]:
        con.register("_clean", pa.table({"text": texts}))
        held = content.holding(con, "_clean", "text", only=_warning(), as_of=as_of)
        con.unregister("_clean")
        return [pa.array(~held)]

    (found,) = memo.look_up("clean", values, clean)
    return pc.all(found).as_py() in (True, None)


def _warning() -> list[str]:
    """Kinds that are shown to the source's owner as a warning."""
    return [kind for kind in content.kinds() if kind not in content.STOPPING and kind != "uscc"]


def _longest(column: pa.ChunkedArray) -> int:
    """Bytes of the longest text, which are at least its characters."""
    array = column.combine_chunks()
    texts = array.dictionary if pa.types.is_dictionary(array.type) else array
    return pc.max(pc.binary_length(texts)).as_py() or 0


def hide_in(rows: pa.Table, obj: ObjectSpec) -> tuple[pa.Table, Found]:
    """`hide` for rows in Arrow that hold no names of persons: each distinct text is looked at once."""
    found = Found()
    for name in text_columns(obj):
        if name not in rows.column_names:
            continue
        column = rows[name].combine_chunks()
        folded = pa.types.is_dictionary(column.type)
        delivered = pl.Series(column.dictionary if folded else column).cast(pl.String)
        text = freetext.hidden(delivered)
        rule = _rule(obj, name, "hidden")
        found.examined[rule] = len(column) - column.null_count
        changed = text.ne_missing(delivered)
        if not changed.any():
            continue
        made = text.to_arrow().cast(pa.string())
        if folded:
            of_row = pc.fill_null(changed.to_arrow().take(column.indices), False)
            found.warned[rule] = pc.sum(of_row).as_py()
            made = pa.DictionaryArray.from_arrays(column.indices, made)
        else:
            found.warned[rule] = int(changed.sum())
        rows = rows.set_column(rows.schema.get_field_index(name), name, made)
    if any(not count for count in found.warned.values()):  # a value that no row of these holds
        found.warned = {rule: count for rule, count in found.warned.items() if count}
    return rows, found


def look(
    con: duckdb.DuckDBPyConnection, relation: str, obj: ObjectSpec, as_of: datetime | None, memo: Memo | None = None
) -> Found:
    """Look through the free text columns of judged rows (with `_source_object` and `_record_no`). With a ``memo``, a sample
    of values each of which is known to hold nothing is not scanned again."""
    present = set(content.text_columns(con, relation))
    columns = [name for name in free_columns(obj) if name in present]
    if not columns:
        return Found()
    asked = ", ".join(f"count({name}), coalesce(max(length({name})), 0)" for name in map(quote_whole, columns))
    row = con.execute(f"select {asked} from {relation} as t").fetchone() or ()
    counted = dict(zip(columns, map(int, row[::2]), strict=True))
    shortest = content.shortest(content.STOPPING)
    scanned = [name for name, longest in zip(columns, row[1::2], strict=True) if longest >= shortest]
    sample = f"(select * from {relation} as t limit {SAMPLE_ROWS})"
    sampled = columns
    if memo is not None:
        rows = con.execute(f"select {', '.join(map(quote_whole, columns))} from {sample} as s").to_arrow_table()
        sampled = [name for name in columns if not _known_clean(con, rows[name], as_of, memo)]
    return _looked(con, relation, sample, obj, scanned, sampled, counted, as_of)


def _looked(
    con: duckdb.DuckDBPyConnection,
    relation: str,
    sample: str,
    obj: ObjectSpec,
    scanned: list[str],
    sampled: list[str],
    counted: dict[str, int],
    as_of: datetime | None,
) -> Found:
    found = Found()
    for name in counted:
        for kind in content.STOPPING:
            found.examined[_rule(obj, name, kind)] = counted[name]
    for finding in content.scan(con, relation, scanned, only=content.STOPPING, as_of=as_of):
        where = content.objects_with(con, relation, finding.column, finding.kind, as_of=as_of)
        title = obj.by_name[finding.column].title_zh
        found.leaks += [Leak(finding.column, title, finding.kind, sha, n, first) for sha, (n, first) in where.items()]
    for finding in content.scan(con, sample, sampled, only=_warning(), as_of=as_of):
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
