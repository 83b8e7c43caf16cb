"""Build one delivery as a folder of files. The same plan on the same table versions always gives the same bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import jsonschema

from catalog import policy
from lake import query, tables
from lake.clock import SHANGHAI
from lake.errors import EXIT_INTERNAL, TiyuError
from protection import freetext
from sharing import files, outputs
from sharing.exchange import config, readme
from sharing.exchange.config import DeliverySpec
from sharing.outputs import Column

MANIFEST_VERSION = "1.0"
_TEXTS = ("VARCHAR", "TEXT", "STRING")


@dataclass(frozen=True)
class Plan:
    """What decides the content of a delivery. ``base_*`` describe the state an increment is compared with.

    ``outstanding`` are (version, business date) of the deliveries sent after the base: the receiver may hold any of them,
    so whatever differs from any of them is delivered too (ADR 0010).
    """

    business_date: date
    sequence: int
    source_version: int
    planned_at: datetime
    is_initial: bool
    base_batch_id: str | None = None
    base_version: int | None = None
    base_date: date | None = None
    banner: str = ""
    outstanding: tuple[tuple[int, date], ...] = ()

    @property
    def window_start(self) -> datetime | None:
        """Start of the half-open window of business time; None for a full or first delivery."""
        return None if self.base_date is None else midnight(self.base_date + timedelta(days=1))

    @property
    def window_end(self) -> datetime:
        """End (exclusive) of the window: midnight after the business date, Shanghai."""
        return midnight(self.business_date + timedelta(days=1))


@dataclass(frozen=True)
class Built:
    """A built folder and what its manifest says."""

    folder: Path
    stem: str
    manifest: dict[str, Any]


def midnight(day: date) -> datetime:
    """00:00 of a business date in Shanghai."""
    return datetime(day.year, day.month, day.day, tzinfo=SHANGHAI)


def iso(value: datetime | None) -> str | None:
    """ISO 8601 with +08:00 and seconds."""
    return None if value is None else value.astimezone(SHANGHAI).isoformat(timespec="seconds")


def check_grades(spec: DeliverySpec) -> int:
    """Refuse columns that the policy does not give to the exchange partner as they are; returns the number examined.

    Raises TIYU-EXC-0006. The stricter of what the contract and the lake table say of a column counts.
    """
    refused = outputs.refused(spec.table, spec.columns, "exchange")
    if refused:
        raise TiyuError(
            "TIYU-EXC-0006",
            "展示策略不允许这些字段从本通道交付",
            "从交换契约中移除该字段，或先降级处理并重新定级",
            resource=spec.resource,
            columns=refused,
        )
    if not spec.columns:
        raise TiyuError("TIYU-EXC-0006", "交换契约没有字段，无从检查", "补全契约字段", resource=spec.resource)
    return len(spec.columns)


def _text(column: Column) -> str:
    """SQL that writes a value as the interface specification says."""
    name = query.quote_name(column.name)
    kind = column.type.upper()
    if kind in ("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE"):
        return f"strftime(timezone('Asia/Shanghai', {name}), '%Y-%m-%dT%H:%M:%S.%f') || '+08:00'"
    if kind in _TEXTS:
        return f"regexp_replace({name}, '[\\r\\n]+', ' ', 'g')"
    return f"cast({name} as varchar)"


def _view(
    con: duckdb.DuckDBPyConnection, spec: DeliverySpec, view: str, version: int, upto: date, lenient: bool
) -> None:
    """The contract's columns of one table version, complete days only."""
    scan = query.scan_sql(spec.table, version)
    try:
        present = {row[0] for row in con.execute(f"describe select * from {scan}").fetchall()}
    except duckdb.Error as error:
        raise TiyuError(
            "TIYU-EXC-0011",
            "读不到交付所依据的数据版本",
            "该版本已被清理或湖被重建：用 --full-resync 重新起算增量",
            EXIT_INTERNAL,
            table=spec.table,
            version=version,
        ) from error
    missing = [column.name for column in spec.columns if column.name not in present]
    if missing and not lenient:
        raise TiyuError(
            "TIYU-EXC-0005",
            "数据表缺少契约所列字段，拒绝交付",
            "让 ADS 模型与交换契约一致后重跑",
            table=spec.table,
            columns=missing,
        )
    select = ", ".join(
        query.quote_name(c.name) if c.name in present else f"cast(null as {c.type}) as {query.quote_name(c.name)}"
        for c in spec.columns
    )
    day, where = "cast(null as date)", ""
    if spec.complete_days and spec.complete_days in present:
        day = query.quote_name(spec.complete_days)
        where = f" where {day} <= date '{upto.isoformat()}'"
    # _day never leaves: it only tells late rows apart and keeps the running day out.
    con.execute(f"create or replace view {view} as select {select}, {day} as _day from {scan}{where}")


def _check_key(con: duckdb.DuckDBPyConnection, spec: DeliverySpec) -> int:
    key = ", ".join(query.quote_name(name) for name in spec.key)
    nulls = " or ".join(f"{query.quote_name(name)} is null" for name in spec.key)
    total, distinct, empty = con.execute(
        f"select count(*), count(distinct row({key})), count(*) filter (where {nulls}) from cur"
    ).fetchone() or (0, 0, 0)
    if empty or distinct != total:
        raise TiyuError(
            "TIYU-EXC-0007",
            "主键为空或重复，拒绝交付",
            "修正 ADS 模型的粒度后重跑",
            table=spec.table,
            key=list(spec.key),
            rows=total,
            duplicates=total - distinct,
            nulls=empty,
        )
    return int(total)


def _fill(con: duckdb.DuckDBPyConnection, spec: DeliverySpec, plan: Plan) -> None:
    """Create temp table ``delivery``: system columns, then the contract's columns, all as text, ordered by key."""
    _view(con, spec, "cur", plan.source_version, plan.business_date, lenient=False)
    _check_key(con, spec)
    key = [query.quote_name(name) for name in spec.key]
    compared = [query.quote_name(c.name) for c in spec.columns if c.name != spec.update_time and c.name not in spec.key]
    columns = ", ".join(query.quote_name(c.name) for c in spec.columns)
    if spec.mode == "I" and plan.base_version is not None and plan.base_date is not None:
        _view(con, spec, "prev", plan.base_version, plan.base_date, lenient=True)
        using = ", ".join(key)
        # A row is changed when a delivered column other than key and update time differs: rebuilding a table stamps
        # new update times on rows that say the same, and those must not be sent again.
        differs = (
            f"row({', '.join('c.' + c for c in compared)}) is distinct from row({', '.join('p.' + c for c in compared)})"
            if compared
            else "false"
        )
        _touched(con, spec, plan, key, differs)
        con.execute(
            f"""create or replace temp view changes as
            select case when p.{key[0]} is null then 'I' else 'U' end as _op, c._day, {", ".join(f"c.{query.quote_name(c.name)}" for c in spec.columns)}
            from cur c left join prev p using ({using})
            left join (select distinct {using}, true as _again from touched) t using ({using})
            where p.{key[0]} is null or {differs} or t._again
            union all by name
            select 'D' as _op, {using} from (select {using} from prev union select {using} from touched)
            anti join cur using ({using})"""
        )
    else:
        con.execute(f"create or replace temp view changes as select 'I' as _op, _day, {columns} from cur")
    update_time = next((c for c in spec.columns if c.name == spec.update_time), None)
    stamp = query.quote_literal(plan.planned_at.astimezone(SHANGHAI).strftime("%Y-%m-%dT%H:%M:%S.%f") + "+08:00")
    updated = (
        f"case when _op = 'D' then {stamp} else coalesce({_text(update_time)}, {stamp}) end" if update_time else stamp
    )
    con.execute(
        f"""create or replace temp table delivery as
        select _op, concat_ws('|', {", ".join(f"cast({k} as varchar)" for k in key)}) as _src_pk,
               {updated} as _src_update_time,
               {query.quote_literal(spec.batch_id(plan.business_date, plan.sequence))} as _batch_id,
               {", ".join(f"{_text(c)} as {query.quote_name(c.name)}" for c in spec.columns)}
        from changes order by _src_pk, _op"""
    )


def _touched(con: duckdb.DuckDBPyConnection, spec: DeliverySpec, plan: Plan, key: list[str], differs: str) -> None:
    """Temp table ``touched``: keys that are not in every outstanding state what they are now."""
    using = ", ".join(key)
    con.execute(f"create or replace temp table touched as select {using} from cur limit 0")
    for version, day in plan.outstanding:
        _view(con, spec, "sent", version, day, lenient=True)
        con.execute(
            f"""insert into touched
            select {", ".join("c." + k for k in key)} from cur c left join sent p using ({using})
            where p.{key[0]} is null or {differs}
            union select {", ".join("p." + k for k in key)} from sent p anti join cur c using ({using})"""
        )


def _statistics(con: duckdb.DuckDBPyConnection, spec: DeliverySpec, plan: Plan) -> dict[str, Any]:
    sums = "".join(
        f", cast(coalesce(sum(cast({query.quote_name(name)} as decimal(28,6))), 0) as varchar) as {query.quote_name('s_' + name)}"
        for name in spec.control_sums
    )
    late = "0"
    if plan.window_start is not None:
        late = (
            f"(select count(*) from changes where _op <> 'D' and _day < date '{plan.window_start.date().isoformat()}')"
        )
    cursor = con.execute(
        f"""select count(*) as row_count, count(*) filter (where _op = 'I') as insert_count,
        count(*) filter (where _op = 'U') as update_count, count(*) filter (where _op = 'D') as delete_count,
        {late} as late_row_count, min(_src_update_time) as min_update_time, max(_src_update_time) as max_update_time{sums}
        from delivery"""
    )
    names = [item[0] for item in cursor.description]
    row = dict(zip(names, cursor.fetchone() or (), strict=True))
    row["control_sums"] = {name: row.pop(f"s_{name}") for name in spec.control_sums}
    return row


def _line_breaks(con: duckdb.DuckDBPyConnection, spec: DeliverySpec) -> int:
    texts = [query.quote_name(c.name) for c in spec.columns if c.type.upper() in _TEXTS]
    if not texts:
        return 0
    found = " + ".join(f"count(*) filter (where regexp_matches({name}, '[\\r\\n]'))" for name in texts)
    return int((con.execute(f"select {found} from changes").fetchone() or (0,))[0])


def build(spec: DeliverySpec, plan: Plan, folder: Path) -> Built:
    """Write data parts, manifests, README.txt and, last, the zero-byte .ok files into an empty ``folder``.

    Raises TIYU-EXC-0004…0007, 0011 when the delivery must not leave.
    """
    check_grades(spec)
    stem = spec.stem(plan.business_date, plan.sequence)
    folder.mkdir(parents=True)
    with query.connect() as con:
        _fill(con, spec, plan)
        texts = [c.name for c in spec.columns if c.type.upper() in _TEXTS and c.name not in spec.key]
        freetext.clean_table(con, "delivery", texts, *policy.CHANNELS["exchange"])
        statistics = _statistics(con, spec, plan)
        line_breaks = _line_breaks(con, spec)
        parts = max(1, -(-statistics["row_count"] // spec.rows_per_part))
        data = [_write_part(con, spec, stem, number, parts, folder, plan.banner) for number in range(1, parts + 1)]
    shared = _manifest(spec, plan, statistics, data, line_breaks)
    schema = json.loads(config.manifest_schema_path().read_text(encoding="utf-8"))
    manifests = {}
    for number, entry in enumerate(data, start=1):
        manifest = {**shared, "part_no": number}
        jsonschema.validate(manifest, schema, format_checker=jsonschema.FormatChecker())
        text = json.dumps(manifest, ensure_ascii=False, indent=2) + "\n"
        name = entry["name"].removesuffix(".csv.gz") + ".manifest.json"
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
        manifests[name] = files.sm3_bytes(text.encode())
    (folder / "README.txt").write_text(readme.render(shared, manifests), encoding="utf-8", newline="\n")
    for entry in data:
        (folder / (entry["name"].removesuffix(".csv.gz") + ".ok")).touch()
    return Built(folder, stem, {**shared, "part_no": 1})


def _write_part(
    con: duckdb.DuckDBPyConnection, spec: DeliverySpec, stem: str, number: int, parts: int, folder: Path, banner: str
) -> dict[str, Any]:
    plain = folder / f"{stem}_{number:03d}of{parts}.csv"
    offset = (number - 1) * spec.rows_per_part
    con.execute(
        f"""copy (select * from delivery order by _src_pk, _op limit {spec.rows_per_part} offset {offset})
        to {query.quote_literal(str(plain))} (format csv, header true, delimiter ',', quote '"', escape '"', nullstr '{config.NULL_TOKEN}')"""
    )
    packed = plain.with_name(plain.name + ".gz")
    files.gzip_deterministic(plain, packed, banner)
    rows = int(
        (
            con.execute(
                f"select count(*) from (select 1 from delivery limit {spec.rows_per_part} offset {offset})"
            ).fetchone()
            or (0,)
        )[0]
    )
    entry = {
        "name": packed.name,
        "rows": rows,
        "size": packed.stat().st_size,
        "sm3": files.sm3_file(packed),
        "size_uncompressed": plain.stat().st_size,
        "sm3_uncompressed": files.sm3_file(plain),
    }
    plain.unlink()
    return entry


def _manifest(
    spec: DeliverySpec, plan: Plan, statistics: dict[str, Any], data: list[dict[str, Any]], line_breaks: int
) -> dict[str, Any]:
    return {
        "manifest_version": MANIFEST_VERSION,
        "banner": plan.banner,
        "is_demo": bool(plan.banner),
        "provider_uscc": spec.provider.uscc,
        "provider_name": spec.provider.name,
        "provider_uscc_is_synthetic": spec.provider.is_synthetic,
        "operator": spec.provider.operator,
        "resource": spec.resource,
        "resource_name": spec.title_zh,
        "resource_code": spec.resource_code,
        "catalogue_version": spec.contract_version,
        "schema_version": spec.schema_version,
        "mode": spec.mode,
        "biz_date": plan.business_date.isoformat(),
        "batch": f"{plan.sequence:04d}",
        "batch_id": spec.batch_id(plan.business_date, plan.sequence),
        "part_no": 1,
        "part_count": len(data),
        "is_initial": plan.is_initial,
        "base_batch_id": plan.base_batch_id,
        "window_start": iso(plan.window_start),
        "window_end": iso(plan.window_end),
        "row_count": statistics["row_count"],
        "insert_count": statistics["insert_count"],
        "update_count": statistics["update_count"],
        "delete_count": statistics["delete_count"],
        "late_row_count": statistics["late_row_count"],
        "control_sums": statistics["control_sums"],
        "min_update_time": statistics["min_update_time"],
        "max_update_time": statistics["max_update_time"],
        "files": data,
        "encoding": "UTF-8",
        "delimiter": config.DELIMITER,
        "quote": '"',
        "line_ending": "LF",
        "header": True,
        "null_token": config.NULL_TOKEN,
        "compression": "gzip",
        "line_breaks_replaced": line_breaks,
        "generated_at": iso(plan.planned_at),
        "due_at": iso(spec.due_at(plan.business_date)),
        "grade": spec.grade,
        "sensitivity_tags": sorted({column.pi_mark for column in spec.columns}),
        "key": list(spec.key),
        "columns": [
            {
                "name": c.name,
                "title": c.title_zh,
                "type": c.type,
                "unit": c.unit,
                "code_list": c.code_list,
                "grade": c.grade,
                "pi_mark": c.pi_mark,
                "required": c.required,
            }
            for c in spec.columns
        ],
        "source_table": spec.table,
        "source_version": plan.source_version,
    }


def checked_source(spec: DeliverySpec) -> int:
    """The checked version a delivery reads; raises TIYU-EXC-0004 when nothing has passed its quality gate."""
    version = query.resolve_version(spec.table, "checked")
    if version is None or not tables.exists(spec.table):
        raise TiyuError(
            "TIYU-EXC-0004",
            "没有通过质量闸门的数据版本，不能交付",
            "先运行 ADS 层构建与质量闸门；零行交付也要以已检版本为依据",
            resource=spec.resource,
            table=spec.table,
        )
    return version
