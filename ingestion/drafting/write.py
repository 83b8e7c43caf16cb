"""A draft written down: an Open Data Contract Standard file that loads as it stands, with what a person must settle marked ``待确认``."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import polars as pl

from catalog import contracts, units
from catalog.contracts import UNSETTLED, pointer
from ingestion.drafting.most import is_most
from ingestion.drafting.profile import Column, is_code
from ingestion.drafting.recognise import Recognised, RecognisedList
from lake.errors import EXIT_USAGE, TiyuError

_YAML_WORDS = ("true", "false", "yes", "no", "null", "y", "n", "on", "off")
"""Words that are no text in YAML unless they are quoted."""
DELIVERED = "delivered_on"
_LOGICAL = {
    "VARCHAR": "string",
    "BIGINT": "integer",
    "DOUBLE": "number",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "TIMESTAMPTZ": "timestamp",
}
_WORDS = (
    ("场馆", "venue"), ("设备", "device"), ("设施", "facility"), ("街道", "street"), ("区", "district"), ("项目", "sport"), ("单位", "unit"),
    ("名称", "name"), ("类型", "type"), ("类别", "category"), ("编号", "no"), ("编码", "code"), ("代码", "code"), ("日期", "date"), ("时间", "time"),
    ("数量", "count"), ("人数", "person_count"), ("人次", "visit_count"), ("面积", "area"), ("金额", "amount"), ("价格", "price"), ("备注", "remark"),
    ("状态", "status"), ("地址", "address"), ("电话", "phone"), ("姓名", "name"), ("性别", "gender"), ("年龄", "age"), ("更新", "updated"),
    ("单号", "no"), ("报修人", "reporter"), ("联系人", "contact"), ("修复", "repaired"), ("来电", "call"), ("分钟", "minutes"), ("次数", "times"),
    ("预约", "booking"), ("社区", "community"), ("场地", "court"), ("开始", "start"), ("结束", "end"), ("时长", "duration"), ("费用", "fee"),
    ("联系", "contact"), ("报修", "repair"), ("维修", "repair"), ("器材", "equipment"), ("处理", "handling"), ("完成", "done"), ("地点", "place"),
    ("活动", "activity"), ("课程", "course"), ("教练", "coach"), ("报名", "entry"), ("成绩", "result"), ("检查", "inspection"), ("结果", "result"),
    ("说明", "note"), ("来源", "source"), ("负责", "responsible"), ("订单", "order"), ("支付", "payment"), ("退款", "refund"), ("开放", "opening"),
    ("安装", "install"), ("投入使用", "opened"), ("额定功率", "rated_power"), ("参与", "participant"), ("室内", "indoor"), ("室外", "outdoor"),
)  # fmt: skip


def contract_text(
    resource: str, found: Recognised, columns: list[Column], listed: Sequence[tuple[RecognisedList, list[Column]]] = ()
) -> tuple[str, list[str]]:
    """The YAML of a drafted contract and what it asks a person to settle; ``listed`` are the lists inside its records, with
    the profiles of their columns. Errors: TIYU-DRF-0003."""
    domain, _, noun = resource.partition(".")
    if domain not in contracts.DOMAINS or not re.fullmatch(r"[a-z][a-z0-9_]*", noun):
        raise TiyuError(
            "TIYU-DRF-0003", "来源名不合规则", f"写成 领域.名词，领域为 {'、'.join(contracts.DOMAINS)} 之一，名词用小写英文", EXIT_USAGE,
            resource=resource,
        )  # fmt: skip
    names = _names(columns)
    key = key_of(columns, found)
    dates = sorted((column for column in columns if column.is_date), key=lambda column: -column.filled)
    date = dates[0] if dates else None
    notes = [
        note for profiles in (columns, *(inner for _, inner in listed)) for column in profiles for note in column.notes
    ]
    if date is None:
        notes.append(f"没有一列能作业务日期，暂用接收日期（{DELIVERED}）；有更合适的日期请改 partDate")
    notes += _key_notes(key, columns, found)
    notes.append("名称、责任单位、共享与开放、法律依据、保存期限、更新周期都待确认；级别是建议，由编目人员定")
    part_date = names[date.source_name] if date else DELIVERED
    dedup = [names[column.source_name] for column in key] + ([] if date else [DELIVERED])
    lines = [
        "apiVersion: v3.2.0",
        "kind: DataContract",
        f"id: {resource}",
        f"name: {UNSETTLED}",
        "version: 0.1.0",
        "status: draft",
        f"domain: {domain}",
        "description:",
        f'  purpose: "{UNSETTLED}"',
        f'  usage: "{UNSETTLED}"',
        f'  limitations: "{UNSETTLED}"',
        "team:",
        f"  name: {UNSETTLED}",
        "customProperties:",
        "  - property: tiyu",
        "    value:",
        "      kind: source",
        f'      share: {{type: denied, basis: "{UNSETTLED}"}}',
        f'      open: {{type: closed, basis: "{UNSETTLED}"}}',
        "      updateCycle: {cycle: daily, graceHours: 6}",
        f'      legalBasis: "{UNSETTLED}"',
        f'      retention: "{UNSETTLED}"',
        "servers:",
        "  - server: drop",
        "    type: custom",
        f'    description: "{UNSETTLED}"',
        "    customProperties:",
        "      - property: tiyu",
        "        value:",
        f'          connector: {{kind: file_drop, connection: CITY_DROP, pattern: "{domain}/{noun}/**/*"}}',
        f"          decoder: {_flow(found.decoder)}",
        *([] if listed else _source_values(columns)),
        "schema:",
        f"  - name: {noun}",
        f"    businessName: {UNSETTLED}",
        f'    description: "{UNSETTLED}"',
        f'    dataGranularityDescription: "{UNSETTLED}"',
        "    logicalType: object",
        "    customProperties:",
        "      - property: tiyu",
        "        value:",
        f"          partDate: {part_date}",
        f"          dedup: [{', '.join(dedup)}]",
        "          late: {expectedDays: 2}",
        "          drift: {unknownColumn: stop, missingColumn: stop}",
        "          rules: []",
        "    properties:",
    ]
    required = {column.source_name for column in key if len(key) < len(columns)} | (
        {date.source_name} if date else set()
    )
    shared = {} if listed else _shared(columns)
    for column in columns:
        name = names[column.source_name]
        unit = found.decoder.get("unitRow", {}).get(column.source_name)
        lines += _property(
            column, name, column.source_name in required, shared, found.paths.get(column.source_name), unit
        )
    if date is None:
        lines += _derived(
            DELIVERED, "接收日期", "记录随文件到达的日期（上海时间）", "DATE", "L1", {"piMark": "N"}, DELIVERED
        )
    tables: set[str] = {noun}
    for item, inner in listed:
        lines += _list(noun, item, inner, [(column, names[column.source_name]) for column in key], date is None, tables)
    return "\n".join(lines) + "\n", notes


def _list(
    noun: str,
    item: RecognisedList,
    columns: list[Column],
    key: list[tuple[Column, str]],
    by_delivery: bool,
    tables: set[str],
) -> list[str]:
    """The schema object of a list inside the records: the key of the record, the place in the list, what an element holds."""
    last = pointer.tokens(item.items)[-1]
    table = f"{noun}_{_word(last) or f'list_{len(tables)}'}"
    while table in tables:
        table += "_list"
    tables.add(table)
    parent = [name for _, name in key] + ([DELIVERED] if by_delivery else [])
    number = "item_no"
    names = _names(columns, {*parent, number})
    lines = [
        f"  - name: {table}",
        f"    businessName: {_text(f'{UNSETTLED}（{last}）')}",
        f'    description: "{UNSETTLED}"',
        f'    dataGranularityDescription: "{UNSETTLED}"',
        "    logicalType: object",
        "    customProperties:",
        "      - property: tiyu",
        "        value:",
        f"          parent: {{object: {noun}, key: [{', '.join(parent)}]}}",
        f"          items: {_text(item.items)}",
        f"          dedup: [{', '.join([*parent, number])}]",
        "          rules: []",
        "    properties:",
    ]
    for column, name in key:
        tiyu, level = _protection(column)
        lines += _derived(name, _title(column.source_name), UNSETTLED, column.type, level, tiyu, "from_parent")
    if by_delivery:
        lines += _derived(DELIVERED, "接收日期", UNSETTLED, "DATE", "L1", {"piMark": "N"}, "from_parent")
    lines += _derived(number, "序号", "在列表中的位置，从 1 起", "INTEGER", "L1", {"piMark": "N"}, "item_number")
    for column in columns:
        path = item.paths[column.source_name]
        own = None if path == pointer.to_member(column.source_name) else path
        lines += _property(column, names[column.source_name], False, {}, own)
    return lines


def _derived(
    name: str, title: str, description: str, kind: str, level: str, tiyu: dict[str, Any], function: str
) -> list[str]:
    """A column that is made at ingestion."""
    return [
        f"      - name: {name}",
        f"        businessName: {_text(title)}",
        f"        description: {_text(description)}",
        f"        logicalType: {_LOGICAL.get(kind, 'integer')}",
        f"        physicalType: {kind}",
        f"        classification: {level}",
        f"        customProperties: [{{property: tiyu, value: {_flow({**tiyu, 'derive': {'function': function}})}}}]",
    ]


def _protection(column: Column) -> tuple[dict[str, Any], str]:
    """What is said of a column's persons, and its level."""
    tiyu: dict[str, Any] = {"piMark": column.mark}
    level = column.level
    if column.identifier_kind:
        tiyu["identifierKind"] = column.identifier_kind
        if column.identifier_kind in ("name",):
            tiyu["mask"] = "name"
        if column.identifier_kind != "uscc":
            level = max(level, "L3")
            tiyu["piMark"] = column.mark if column.mark != "N" else "P"
    return tiyu, level


def _property(
    column: Column, name: str, required: bool, shared: dict[str, Any], path: str | None = None, unit: str | None = None
) -> list[str]:
    tiyu, level = _protection(column)
    if unit and units.is_known(unit) and column.type in ("BIGINT", "DOUBLE"):
        tiyu["unit"] = units.code_of(unit)
    if path is not None:
        tiyu["path"] = path
    own = {key: value for key, value in _settings(column).items() if shared.get(key) != value}
    if own:
        tiyu["read"] = own
    lines = [
        f"      - name: {name}",
        f"        physicalName: {_text(column.source_name)}",
        f"        businessName: {_text(_title(column.source_name))}",
        f'        description: "{UNSETTLED}"',
        f"        logicalType: {_LOGICAL[column.type]}",
        f"        physicalType: {column.type}",
    ]
    if required:
        lines.append("        required: true")
    lines.append(f"        classification: {level}" + (f"  # {column.evidence}" if column.evidence else ""))
    lines.append(f"        customProperties: [{{property: tiyu, value: {_flow(tiyu)}}}]")
    return lines


def _settings(column: Column) -> dict[str, Any]:
    """What a column's texts need beyond the usual spellings, as the contract names it."""
    found: dict[str, Any] = {}
    if column.null_tokens:
        found["nullTokens"] = list(column.null_tokens)
    if column.date_formats:
        found["dateFormats"] = list(column.date_formats)
    if column.decimal_mark:
        found["decimalMark"] = column.decimal_mark
    if column.thousands:
        found["thousands"] = column.thousands
    if column.suffix:
        found["suffix"] = column.suffix
    if column.boolean:
        found["trueTokens"], found["falseTokens"] = [column.boolean[0]], [column.boolean[1]]
    return found


def _shared(columns: list[Column]) -> dict[str, Any]:
    """Settings said once for the source: the way numbers are written, where every column that needs one agrees."""
    marks = {(column.decimal_mark, column.thousands) for column in columns if column.decimal_mark or column.thousands}
    if len(marks) != 1:
        return {}
    decimal_mark, thousands = marks.pop()
    numbers = [column for column in columns if column.type in ("DOUBLE", "BIGINT")]
    if len(numbers) < 2 or any(column.type == "DOUBLE" and not column.decimal_mark for column in numbers):
        return {}
    return {key: value for key, value in (("decimalMark", decimal_mark), ("thousands", thousands)) if value}


def _source_values(columns: list[Column]) -> list[str]:
    shared = _shared(columns)
    return [f"          values: {_flow(shared)}"] if shared else []


def key_of(columns: list[Column], found: Recognised) -> list[Column]:
    """The fewest columns that tell records apart: one that is a code by its name first, then any, then pairs. A code that
    does so for all but a few of many records comes before anything else does for all; records sent twice are one.

    What a person is reached or called by is no key: two bookings of one person are two."""
    rows = _once(found.rows.select(column.source_name for column in columns))
    filled = [
        column for column in columns if column.is_filled and column.type != "DOUBLE" and not column.is_of_a_person
    ]
    if not rows.height or not filled:
        return columns
    single = [column for column in filled if _tells_apart(rows, [column])]
    codes = [column for column in filled if is_code(column.source_name)]
    nearly = [column for column in codes if column not in single and _nearly_tells_apart(rows, column)]
    wholly = [column for column in single if column.filled == 1.0]
    for group in (
        [column for column in single if column in codes],
        nearly,
        [column for column in wholly if not column.is_date],
        wholly,
    ):
        if group:
            return group[:1]
    exact = [column for column in filled if column.filled == 1.0]
    for number, first in enumerate(exact):
        for second in exact[number + 1 :]:
            if _tells_apart(rows, [first, second]):
                return [first, second]
    return columns


def _once(rows: pl.DataFrame) -> pl.DataFrame:
    """The records, those that a few times were sent twice once."""
    distinct = rows.unique(maintain_order=True)
    return distinct if rows.height and is_most(distinct.height / rows.height, rows.height) else rows


def _tells_apart(rows: pl.DataFrame, key: list[Column]) -> bool:
    there = rows.select(column.source_name for column in key).drop_nulls()
    return bool(there.n_unique() == there.height)


def _nearly_tells_apart(rows: pl.DataFrame, column: Column) -> bool:
    there = rows[column.source_name].drop_nulls()
    return is_most(there.n_unique() / rows.height, rows.height)


def _key_notes(key: list[Column], columns: list[Column], found: Recognised) -> list[str]:
    """What a person must know of the key."""
    if len(key) == len(columns):
        return ["没有找到能区分记录的列，暂以全部列为主键；请改 dedup"]
    notes = []
    for column in key if len(key) == 1 else []:
        texts = _once(found.rows)[column.source_name].cast(pl.String).str.strip_chars().replace("", None)
        missing, again = texts.null_count(), len(texts.drop_nulls()) - texts.drop_nulls().n_unique()
        said = [f"{missing} 条没有值" if missing else "", f"{again} 条与别的记录编号相同而内容不同" if again else ""]
        if any(said):
            notes.append(
                f"以“{column.source_name}”为主键：{'，'.join(filter(None, said))}，会进隔离区；请与数据源单位核对"
            )
    return notes


# ------------------------------------------------------------------ names and YAML
@cache
def _known_titles() -> dict[str, str]:
    """Chinese titles of the catalogue's own source columns → their names."""
    found: dict[str, str] = {}
    for contract in contracts.load_all("source").values():
        for item in contract.objects:
            for prop in item.properties:
                for title in (prop.title_zh, prop.source_name):
                    if title and not title.isascii():  # `name` is a venue's there and a part's here
                        found.setdefault(title, prop.name)
    return found


def _names(columns: list[Column], others: Iterable[str] = ()) -> dict[str, str]:
    """Stored names: the catalogue's own for a title it knows, else English words, else the column's number."""
    taken: set[str] = {DELIVERED, *others}
    names = {}
    for number, column in enumerate(columns, 1):
        name = _name(column, number)
        while name in taken or name in contracts.TECHNICAL_COLUMNS:
            name = f"{name}_{number}"
        taken.add(name)
        names[column.source_name] = name
    return names


def _name(column: Column, number: int) -> str:
    title = unicodedata.normalize("NFKC", column.source_name)
    known = _known_titles().get(title)
    name = known or _word(title) or f"column_{number:02d}"
    if name in _YAML_WORDS:
        name += "_value"
    for ending in ("_token",):
        name = name.removesuffix(ending)
    if column.identifier_kind in ("phone", "id_no", "athlete_no"):
        name += "_token"
    return name[:60]


def _word(title: str) -> str:
    """A title as a stored name; empty where it has none."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", _translated(title)).lower()
    name = re.sub(r"[^a-z0-9]+", "_", parted).strip("_")
    return name if name and name[0].isalpha() else ""


def _translated(title: str) -> str:
    """A Chinese title in the field's words, empty where a part of it is unknown."""
    if title.isascii():
        return title
    rest, words = title, []
    while rest:
        if rest[0].isascii():
            words.append(rest[0] if rest[0].isalnum() else "_")
            rest = rest[1:]
            continue
        for chinese, english in sorted(_WORDS, key=lambda pair: -len(pair[0])):
            if rest.startswith(chinese):
                words.append(f"_{english}_")
                rest = rest[len(chinese) :]
                break
        else:
            return ""
    return "".join(words)


def _title(source_name: str) -> str:
    return source_name if not source_name.isascii() else f"{UNSETTLED}（{source_name}）"


def _text(value: str) -> str:
    """A YAML scalar for any text."""
    return json.dumps(value, ensure_ascii=False)


def _flow(value: Any) -> str:
    """A YAML flow value; JSON is YAML, plain words stay unquoted for readers."""
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(
                f"{key if re.fullmatch('[A-Za-z]+', key) else _text(key)}: {_flow(item)}" for key, item in value.items()
            )
            + "}"
        )
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", value) and value.lower() not in _YAML_WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)
