"""Where a record that somebody asks for is: by object, by business columns, or by a person's identifier.

Nothing is kept per row, so a record that is not in a table is found by decoding the objects it may be in again. An
identifier becomes a token in memory, is compared as one, and is neither shown nor noted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from catalog import contracts
from catalog.contracts import Contract, ObjectSpec, PropertySpec
from ingestion import archive, conversion, decoders, naming, pipeline
from lake import ledger, query, tables
from lake.errors import EXIT_USAGE, TiyuError
from lake.sql import quote_whole
from protection import tokens
from protection.masking import ID_NO, MOBILE
from quality import row_events

Progress = Callable[[str, int, int], None]
_TOKEN = re.compile(r"^(id_no|phone|name|athlete_no|token)_k\w+?_[a-z2-7]{26}$")
_OBJECT = re.compile(r"^([0-9a-fA-F]{8,64})(?:#(\d+))?$")
_RAW = {"id_no": re.compile(rf"^{ID_NO}$", re.ASCII), "phone": re.compile(rf"^(?:\+?86[ -]?)?{MOBILE}$", re.ASCII)}


@dataclass(frozen=True)
class Place:
    """A record: its object and number; `record_no` None stands for the whole object."""

    resource: str
    sha256: str
    record_no: int | None


@dataclass
class Search:
    """What was asked, in words without values, the records found, and what was looked through."""

    asked: str
    places: list[Place] = field(default_factory=list)
    resources: int = 0
    batches: int = 0
    objects: int = 0
    table_rows: int = 0
    decoded_objects: int = 0
    decoded_records: int = 0


@dataclass(frozen=True)
class _Wanted:
    """A column and what it must hold: a token for an identifier, else the text to be converted to the column's type."""

    prop: PropertySpec
    value: str
    is_token: bool


def find(words: list[str], progress: Progress | None = None) -> Search:
    """Records by what an operator writes: ``OBJECT``, ``OBJECT#RECORD``, a token, an identity or mobile number, or
    ``RESOURCE COLUMN=VALUE …`` (all must hold).

    Raises TIYU-ROW-0001 (cannot be read), 0002 (no such column), and what reading an archived object raises.
    """
    if len(words) == 1 and "=" not in words[0]:
        word = words[0].strip()
        if _TOKEN.match(word):
            return _by_person([(word.split("_k", 1)[0], word)], progress)
        # before objects: digits alone could begin the name of one
        made = [(kind, tokens.token(kind, word)) for kind, form in _RAW.items() if form.match(word)]
        if made:
            return _by_person([(kind, value) for kind, value in made if value], progress)
        if found := _OBJECT.match(word):
            return _by_object(found[1].lower(), int(found[2]) if found[2] else None)
    known = contracts.load_all("source")
    if len(words) >= 2 and words[0] in known and all("=" in word for word in words[1:]):
        return _by_columns(known[words[0]], words[1:], progress)
    raise TiyuError(
        "TIYU-ROW-0001",
        "看不懂要找的是哪一行",
        "写成：资源 列=值 …；或对象的 sha256（至少 8 位）加 #记录号；或标记、证件号、手机号（写 - 从标准输入读，不留在命令历史里）",
        EXIT_USAGE,
        sources=len(known),
    )


def _by_object(prefix: str, record_no: int | None) -> Search:
    search = Search("按对象" + ("与记录号" if record_no is not None else ""))
    for resource in contracts.load_all("source"):
        objects = ledger.objects_of(resource)
        search.resources += 1
        search.objects += len(objects)
        search.places += [
            Place(resource, item["sha256"], record_no) for item in objects if item["sha256"].startswith(prefix)
        ]
    search.batches = len(ledger.batches())
    return search


def _by_person(made: list[tuple[str, str]], progress: Progress | None) -> Search:
    search = Search("按个人标识（已在内存中换成标记）")
    for contract in contracts.load_all("source").values():
        for kind, token in made:
            named = [
                item for item in ledger.objects_of(contract.id) if naming.token_in_name(kind, item["name"]) == token
            ]
            search.places += [Place(contract.id, item["sha256"], None) for item in named]
            skip = {item["sha256"] for item in named}
            for obj in contract.roots:
                columns = [p for p in obj.properties if p.protection == "token" and p.identifier_kind == kind]
                for prop in columns:
                    _look(contract, obj, [_Wanted(prop, token, True)], search, progress, skip=skip)
        search.resources += 1
        search.objects += len(ledger.objects_of(contract.id))
    search.batches = len(ledger.batches())
    search.places = list(dict.fromkeys(search.places))
    return search


def _by_columns(contract: Contract, conditions: list[str], progress: Progress | None) -> Search:
    wanted = []
    names = [condition.split("=", 1)[0].strip() for condition in conditions]
    # the first of the root tables that has all the columns
    obj = next((o for o in contract.roots if all(any(n in (p.name, p.source_name) for p in o.properties) for n in names)), contract.root)  # fmt: skip
    for condition in conditions:
        name, value = (part.strip() for part in condition.split("=", 1))
        prop = next((p for p in obj.properties if name in (p.name, p.source_name)), None)
        if prop is None or prop.derive is not None or prop.protection == "mask":
            raise TiyuError(
                "TIYU-ROW-0002",
                "这个来源没有这一列，或该列不能用来找",
                "可用的列：" + "、".join(p.name for p in obj.properties if not p.derive and p.protection != "mask"),
                EXIT_USAGE,
                resource=contract.id,
                column=name,
            )
        if prop.protection == "token" and not _TOKEN.match(value):
            wanted.append(_Wanted(prop, tokens.token(str(prop.identifier_kind), value) or "", True))
        else:
            wanted.append(_Wanted(prop, value, prop.protection == "token"))
    search = Search("按列：" + "、".join(item.prop.name for item in wanted), resources=1)
    _look(contract, obj, wanted, search, progress)
    search.batches = len(ledger.batches(contract.id))
    search.objects = len(ledger.objects_of(contract.id))
    search.places = list(dict.fromkeys(search.places))
    return search


def _look(
    contract: Contract,
    obj: ObjectSpec,
    wanted: list[_Wanted],
    search: Search,
    progress: Progress | None,
    skip: set[str] | None = None,
) -> None:
    """Look in the table, then in every object with records that left no row there."""
    _look_in_table(contract, obj, wanted, search)
    replaced = set(row_events.replaced_now(contract.id)["source_object"])
    open_objects = [
        item
        for item in ledger.objects_of(contract.id)
        if item["sha256"] not in (skip or ())
        and (
            item["quarantined_count"]
            or item["duplicate_count"]
            or item["status"] == "archived"
            or item["sha256"] in replaced
        )
    ]
    for number, item in enumerate(open_objects, 1):
        if progress:
            progress(contract.id, number, len(open_objects))
        _look_in_object(contract, obj, wanted, item, search)


def _look_in_table(contract: Contract, obj: ObjectSpec, wanted: list[_Wanted], search: Search) -> None:
    head = tables.version(obj.table)
    if head is None:
        return
    names = set(tables.open_table(obj.table).schema().to_arrow().names)
    if any(item.prop.name not in names for item in wanted):
        return
    where = " and ".join(
        f"{quote_whole(item.prop.name)} = {'?' if item.is_token else f'try_cast(? as {item.prop.type})'}"
        for item in wanted
    )
    con = query.connect()
    try:
        query.register(con, obj.table, head, view="stored")
        search.table_rows += con.execute("select count(*) from stored").fetchone()[0]  # type: ignore[index]
        rows = con.execute(
            f"select _source_object, _record_no from stored where {where} order by all",
            [_typed(item) for item in wanted],
        ).fetchall()
    finally:
        con.close()
    search.places += [Place(contract.id, sha, number) for sha, number in rows]


def _typed(item: _Wanted) -> str:
    """The text to compare with; a time without an offset is Shanghai time."""
    if item.prop.type == "TIMESTAMPTZ" and not re.search(r"(?:Z|[+-]\d\d:?\d\d)$", item.value):
        return f"{item.value}+08:00"
    return item.value


def _look_in_object(
    contract: Contract, obj: ObjectSpec, wanted: list[_Wanted], item: dict[str, Any], search: Search
) -> None:
    """Compare the records of one object as they were delivered; one that cannot be read has no records to compare."""
    search.decoded_objects += 1
    plain = [(item["sha256"], item["name"], archive.read_object(contract.id, item["sha256"]))]
    con = query.connect(spill=False)
    try:
        for chunk in decoders.decode_many(contract.server, plain, contract):
            search.decoded_records += sum(chunk.root_counts.values())
            root = chunk.tables.get(obj.table)
            if root is None or root.num_rows == 0:
                continue
            con.register("delivered", root)
            rows = _matching(con, contract, obj, wanted)
            con.unregister("delivered")
            search.places += [Place(contract.id, item["sha256"], number) for number in rows]
    finally:
        con.close()


def _matching(con: Any, contract: Contract, obj: ObjectSpec, wanted: list[_Wanted]) -> Iterator[int]:
    """Numbers of the delivered records that hold what is wanted."""
    present = {row[0] for row in con.execute("describe delivered").fetchall()}
    if pipeline.is_activity(contract):
        typed, columns = "delivered", {p.name: p.name for p in obj.properties if p.name in present}
    else:
        sources = [s for s in obj.source_columns if s in present]
        renamed = ", ".join(f"{quote_whole(s)} as {conversion.source_column(s)}" for s in sources)
        lacking = "".join(
            f", null::varchar as {conversion.source_column(s)}" for s in obj.source_columns if s not in present
        )
        relation = f"(select _record_no, {renamed}{lacking} from delivered)"
        typed = f"({conversion.typed_select(obj, relation)})"
        columns = {p.name: p.raw_name for p in obj.properties if p.source_name and not p.derive}
    if any(item.prop.name not in columns for item in wanted):
        return iter(())
    plain = [item for item in wanted if not item.is_token]
    hidden = [item for item in wanted if item.is_token]
    where = " and ".join(f"{quote_whole(columns[item.prop.name])} = try_cast(? as {item.prop.type})" for item in plain)
    taken = ", ".join(["_record_no", *(quote_whole(columns[item.prop.name]) for item in hidden)])
    rows: pl.DataFrame = con.execute(
        f"select {taken} from {typed} as t {'where ' + where if where else ''}", [_typed(item) for item in plain]
    ).pl()
    for item in hidden:
        raw = rows[columns[item.prop.name]]
        made = raw if pipeline.is_activity(contract) else tokens.tokenise(str(item.prop.identifier_kind), raw)
        rows = rows.filter(made == item.value)
    return iter(rows["_record_no"].to_list())


__all__ = ["Place", "Search", "find"]
