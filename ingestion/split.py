"""Row rules: which delivered rows may go on, and for the others which rule refused them.

Everything here sees raw identifiers, so it runs in an in-memory DuckDB that may not spill, and what leaves is either
tokenised (accepted rows) or masked (previews).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from catalog import policy
from catalog import rules as rule_compiler
from catalog.contracts import Contract, ObjectSpec, PropertySpec
from catalog.policy import Decision
from catalog.schemas import ods_schema
from ingestion import batch_rules, conversion, corrections, derive, leaks, renames
from ingestion.conversion import PARENT_DATE
from ingestion.decoders.base import ITEM_NO
from ingestion.decoders.numbers import as_text
from ingestion.leaks import Leak
from ingestion.typed import Memo, Typed, plain_numbers, typed_columns
from lake import clock, query
from lake.arrow import plain
from lake.errors import EXIT_UNAVAILABLE, TiyuError
from lake.sql import quote_literal, quote_name, quote_whole
from protection import freetext, masking, tokens

_REASON_DATE = "没有有效的业务日期，无法归入分区"
_REASON_ITEM = "同一记录的列表中有主键相同的项"
_RULE_ID, _REASON = "_rule_id", "_reason"  # a contract may have a column of the plain name
_ONE_ZONE = datetime(1992, 1, 1, tzinfo=UTC)


@dataclass
class Split:
    """What became of the root rows of one decoded chunk.

    rows: the accepted ones, ODS columns plus ``_record_no`` and ``_source_object``, identifiers already tokens; a text column
    may be a dictionary.
    refused: ``_source_object, _record_no, rule_id, reason, preview`` (preview masked).
    examined: rule id → rows examined (a rule that looked at nothing shows 0). warned: rule id → rows warned about.
    corrected: which record was mended by which declared correction (`ingestion.corrections`). facts: what batch rules
    need to know of the chunk (`ingestion.batch_rules`).
    """

    rows: pa.Table
    refused: pl.DataFrame
    examined: dict[str, int]
    warned: dict[str, int]
    leaks: list[Leak]
    corrected: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=corrections.SCHEMA))
    facts: pl.DataFrame = field(default_factory=batch_rules.empty)

    @property
    def accepted(self) -> pl.DataFrame:
        """The accepted rows with plain texts."""
        return pl.DataFrame(plain(self.rows))


def connect_for(contract: Contract) -> duckdb.DuckDBPyConnection:
    """A private connection that never spills, with the tables that reference rules look into registered.

    Reference tables are read at their checked version (only checked data is seen); raises TIYU-ING-0005 when one has
    none yet.
    """
    con = query.connect(spill=False, threads=1, delta=False)  # the next chunk is being decoded beside it
    wanted: dict[str, set[str]] = {}
    for rule in (rule for obj in (contract.root, *contract.lists) for rule in obj.rules):
        if rule.kind == "reference":
            wanted.setdefault(rule.params["table"], set()).add(rule.params.get("target_column") or rule.columns[0])
    if wanted:
        query.add_delta(con)
    for table, columns in wanted.items():
        if query.register(con, table, "checked") is None:
            raise TiyuError(
                "TIYU-ING-0005",
                "规则引用的参照表还没有通过质量闸门的数据",
                "先汇聚并检查参照资源，再汇聚本资源",
                EXIT_UNAVAILABLE,
                resource=contract.id,
                reference=table,
            )
        # materialised once, all its columns that rules look into: a rule then probes memory, not the lake, for every chunk
        targets = ", ".join(quote_name(column) for column in sorted(columns))
        con.execute(f"create or replace temp table _reference as select distinct {targets} from {quote_name(table)}")
        con.execute(f"drop view {quote_name(table)}")
        con.execute(f"alter table _reference rename to {quote_name(table)}")
    return con


def split_text(
    con: duckdb.DuckDBPyConnection,
    contract: Contract,
    delivered: pa.Table,
    as_of: datetime | None = None,
    memo: Memo | None = None,
    later: Refusals | None = None,
) -> Split:
    """Split a chunk of text rows (row formats): type it, derive, judge as of an instant (default now), protect.

    ``memo`` carries what is known of single values from one chunk of a batch to the next. ``later`` takes the refused rows,
    where that is possible: then they are not in the result.
    """
    obj = contract.root
    if _by_columns(obj):
        memo = memo or Memo()
        try:
            typed = typed_columns(con, obj, delivered, memo)
        except duckdb.BinderException:  # an expression over several delivered columns: rows are put together, then
            typed = None
        if typed is not None and not leaks.name_columns(obj, set(typed.columns)):
            return _split_columns(con, contract, delivered, typed, as_of, memo, later)
    type_rows(con, obj, renames.resolved(delivered, obj))
    type_rules = [
        (obj.type_rule_id(prop.name), conversion.type_predicate(prop), conversion.type_reason(prop))
        for prop in _type_ruled(obj)
    ]
    return _split(con, obj, type_rules, as_of, memo=memo)


def _by_columns(obj: ObjectSpec) -> bool:
    """Whether rows can be judged without being put together: nothing is derived, mended or renamed, and no rule is about
    the delivery as a whole."""
    derived = any(prop.derive is not None for prop in obj.properties)
    return not (derived or obj.corrections or obj.renames or obj.batch_rules)


def numbers_of(contract: Contract) -> dict[str, str]:
    """Source fields that a decoder may give as numbers instead of text: those of rows that are judged by columns."""
    obj = contract.root
    named = leaks.name_columns(obj, {prop.raw_name for prop in obj.properties})
    return plain_numbers(obj) if _by_columns(obj) and not named and not contract.lists else {}


def _type_ruled(obj: ObjectSpec) -> list[PropertySpec]:
    """Properties whose delivered text may be of a wrong type."""
    return [p for p in obj.properties if p.source_name and not p.derive and not p.protection and p.type != "VARCHAR"]


def type_rows(con: duckdb.DuckDBPyConnection, obj: ObjectSpec, delivered: pa.Table) -> None:
    """Put delivered text rows, with their typed columns beside the texts, into the temporary table `batch`."""
    renamed = _prefixed(delivered)
    con.register("_delivered", renamed)
    missing = [s for s in obj.source_columns if conversion.SOURCE + s not in renamed.column_names]
    extra = "".join(f", null::varchar as {conversion.source_column(name)}" for name in missing)
    relation = f"(select *{extra} from _delivered)"
    con.execute(f"create or replace temp table batch as {conversion.typed_select(obj, relation)}")
    con.unregister("_delivered")


def read_keys(con: duckdb.DuckDBPyConnection, contract: Contract, delivered: pa.Table) -> pl.DataFrame:
    """The typed columns of delivered rows, identifiers protected, with ``_source_object`` and ``_record_no``; null where a
    value is no such thing. No rule is asked: these are keys of records that were judged when they came in."""
    type_rows(con, contract.root, delivered)
    rows = con.execute("select * from batch order by _source_object, _record_no").pl()
    con.execute("drop table batch")
    columns = [
        _protected(rows[prop.raw_name], prop) if prop.protection else rows[prop.name]
        for prop in contract.root.properties
    ]
    return pl.DataFrame(columns).with_columns(rows["_record_no"], rows["_source_object"])


def _prefixed(delivered: pa.Table) -> pa.Table:
    own = ("_record_no", "_source_object", ITEM_NO)
    names = [name if name in own else conversion.SOURCE + name for name in delivered.column_names]
    return as_text(delivered, own).rename_columns(names)


def _split_columns(
    con: duckdb.DuckDBPyConnection,
    contract: Contract,
    delivered: pa.Table,
    typed: Typed,
    as_of: datetime | None,
    memo: Memo,
    later: Refusals | None,
) -> Split:
    """The same as `_split` for rows without derived columns and names, column by column: only refused rows are ever put
    together, and a rule over one column of few values sees each of them once."""
    obj = contract.root
    origin = {name: delivered[name] for name in ("_source_object", "_record_no")}
    rows = pa.table({**typed.columns, **origin})
    dates = _part_dates(con, obj, rows, typed.folded, memo)
    compiled = [rule_compiler.compile(rule, as_of=as_of or clock.as_of()) for rule in obj.rules]
    compiled = [rule for rule in compiled if set(rule.columns) <= set(typed.columns)]
    quarantining = [rule for rule in compiled if rule.severity == "quarantine"]
    soft = [rule for rule in compiled if rule.severity == "warn"]
    key_names = [name for name in leaks.key_columns(obj) if name in typed.columns]
    key_rules = leaks.key_rules(obj, set(typed.columns))

    hard: list[tuple[str, str, str]] = []
    failed: list[npt.NDArray[np.int64]] = []
    for prop in _type_ruled(obj):
        hard.append((obj.type_rule_id(prop.name), "", conversion.type_reason(prop)))
        where = typed.type_errors.get(prop.name)
        failed.append(np.zeros(0, np.int64) if where is None else np.flatnonzero(where.to_numpy(zero_copy_only=False)))
    tests = [_Test(rule.predicate, rule.columns, rule.interval) for rule in quarantining]
    late = []
    if obj.late and obj.late.refuse_after_days is not None:
        late = [(obj.late_rule_id, *_late(obj, obj.late.refuse_after_days, as_of or clock.as_of()))]
    tests += [_Test(predicate, [str(obj.part_date)]) for _, predicate, _ in late]
    tests += [_Test(predicate, [name]) for (_, predicate, _), name in zip(key_rules, key_names, strict=True)]
    tests += [_Test(rule.predicate, rule.columns, rule.interval) for rule in soft]
    found = _failing(con, rows, tests, typed.folded, memo)
    hard += [(rule.rule_id, rule.predicate, rule.message_zh) for rule in quarantining]
    failed += found[: len(quarantining)]
    hard.append((f"{obj.rule_prefix}.part_date.missing", "", _REASON_DATE))
    failed.append(np.flatnonzero(pc.is_null(dates).to_numpy(zero_copy_only=False)))
    hard += [*late, *key_rules]
    before_soft = len(quarantining) + len(late) + len(key_rules)
    failed += found[len(quarantining) : before_soft]

    verdict = np.full(rows.num_rows, len(hard), dtype=np.int32)
    for number in reversed(range(len(hard))):
        verdict[failed[number]] = number
    passes = verdict == len(hard)
    examined = dict.fromkeys([rule_id for rule_id, _, _ in hard] + [rule.rule_id for rule in soft], rows.num_rows)
    warned = {}
    for rule, positions in zip(soft, found[before_soft:], strict=True):
        if count := int(passes[positions].sum()):
            warned[rule.rule_id] = count

    all_pass = bool(passes.all())
    passed = rows.append_column("part_date", dates)
    passed = passed if all_pass else passed.filter(pa.array(passes))
    looked = leaks.look_at(con, passed, obj, as_of, memo)
    passed, hidden = leaks.hide_in(passed, obj)
    for item in (looked, hidden):
        examined |= item.examined
        warned |= item.warned
    accepted = _protect_columns(passed, obj, memo)
    wanted = later or Refusals(con, obj)
    if not all_pass:
        wanted.add(_refused_rows(obj, delivered, rows, dates, ~passes, verdict, hard))
    return Split(accepted, _no_refused() if later else wanted.shown(), examined, warned, looked.leaks)


class Refusals:
    """Refused rows of several chunks, raw and in memory, until they are shown (masked) together: what it takes to prepare that
    is more than a chunk's few rows take."""

    _MOST_ROWS = 20_000

    def __init__(self, con: duckdb.DuckDBPyConnection, obj: ObjectSpec):
        self._con, self._obj = con, obj
        self._rows: list[pa.Table] = []
        self._shown: list[pl.DataFrame] = []

    def add(self, rows: pa.Table) -> None:
        """Take rows as `_refused` shows them."""
        self._rows.append(rows)
        if sum(part.num_rows for part in self._rows) > self._MOST_ROWS:
            self._show()

    def shown(self) -> pl.DataFrame:
        """All rows taken since the last call, as in `Split.refused`."""
        self._show()
        shown, self._shown = self._shown, []
        return pl.concat([_no_refused(), *shown], how="vertical_relaxed")

    def _show(self) -> None:
        if not self._rows:
            return
        self._con.register("_judged", pa.concat_tables(self._rows, promote_options="permissive"))
        self._rows = []
        try:
            self._shown.append(_refused(self._con, self._obj, "_judged"))
        finally:
            self._con.unregister("_judged")


@dataclass(frozen=True)
class _Test:
    """A predicate and the columns it names; ``interval``: between these bounds every number of its one column passes."""

    predicate: str
    columns: list[str]
    interval: tuple[float, float] | None = None


def _failing(
    con: duckdb.DuckDBPyConnection,
    rows: pa.Table,
    tests: list[_Test],
    folded: dict[str, pa.DictionaryArray],
    memo: Memo,
) -> list[npt.NDArray[np.int64]]:
    """For each test the positions of the rows that it does not hold for.

    ``folded`` are columns of few distinct values: a test of one of them is asked for each of the values once."""
    found: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64) for _ in tests]
    together: list[int] = []
    of_value: dict[str, list[int]] = {}  # column → tests of its values alone
    for number, test in enumerate(tests):
        name = test.columns[0]
        if len(test.columns) == 1 and name in folded:
            of_value.setdefault(name, []).append(number)
        elif test.interval is None:
            together.append(number)
        elif not _lie_within(rows[name], test.interval):
            outside = _outside(rows[name], test.interval)
            try:
                (holds,) = _holding(con, name, [test.predicate], rows[name].take(pa.array(outside)))
            except duckdb.BinderException:  # it looks at other columns, too
                together.append(number)
                continue
            found[number] = outside[~holds.to_numpy(zero_copy_only=False)]
    for name, numbers in of_value.items():
        column = folded[name]
        predicates = [tests[number].predicate for number in numbers]
        try:
            each = memo.look_up(
                f"rules of {name}: {predicates}",
                pa.concat_arrays([column.dictionary, pa.nulls(1, column.dictionary.type)]),
                partial(_holding, con, name, predicates),
            )
        except duckdb.BinderException:  # one of them looks at other columns, too
            together += numbers
            continue
        for number, holds in zip(numbers, each, strict=True):
            if not pc.all(holds).as_py():
                of_row = holds.take(pc.fill_null(column.indices, len(holds) - 1))
                found[number] = np.flatnonzero(~of_row.to_numpy(zero_copy_only=False))
    if together:
        try:
            named = rows.select(list(dict.fromkeys(name for number in together for name in tests[number].columns)))
            bad = _bad_rows(con, named, [tests[number].predicate for number in together])
        except duckdb.BinderException:
            bad = _bad_rows(con, rows, [tests[number].predicate for number in together])
        position = bad["_n"].to_numpy()
        for place, number in enumerate(together):
            found[number] = position[~bad[f"h{place}"].to_numpy().astype(bool)]
    return found


def _lie_within(column: pa.ChunkedArray, interval: tuple[float, float]) -> bool:
    """Whether all numbers of a column lie between two bounds (missing ones do not count, what is no number does not lie)."""
    bounds = pc.min_max(column)
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    if low is None:
        return True
    if not (interval[0] <= low and high <= interval[1]):
        return False
    return not pa.types.is_floating(column.type) or not pc.any(pc.is_nan(column)).as_py()


def _outside(column: pa.ChunkedArray, interval: tuple[float, float]) -> npt.NDArray[np.int64]:
    """Positions of the values that may not lie between two bounds."""
    kind = column.type
    if not (pa.types.is_floating(kind) or (pa.types.is_integer(kind) and kind.bit_width <= 32)):
        return np.arange(len(column))  # a double does not tell them all apart
    inside = pc.and_(pc.greater_equal(column, interval[0]), pc.less_equal(column, interval[1]))
    return np.flatnonzero(~pc.fill_null(inside, True).to_numpy())


def _bad_rows(con: duckdb.DuckDBPyConnection, rows: pa.Table, predicates: list[str]) -> pa.Table:
    """Position ``_n`` of the rows that fail any of the predicates, with the outcome ``h0``, ``h1`` … of each."""
    con.register("_rows", rows.append_column("_n", pa.array(np.arange(rows.num_rows))))
    try:
        holds = [f"coalesce(({predicate}), false)" for predicate in predicates]
        flags = ", ".join(f"{test} as h{place}" for place, test in enumerate(holds))
        return con.execute(f"select _n, {flags} from _rows where not ({' and '.join(holds)})").to_arrow_table()
    finally:
        con.unregister("_rows")


def _protected_texts(prop: PropertySpec, values: pa.Array) -> list[pa.Array]:
    return [_protected(pl.Series(values), prop).to_arrow().cast(pa.string())]


def _holding(
    con: duckdb.DuckDBPyConnection, column: str, predicates: list[str], values: pa.Array | pa.ChunkedArray
) -> list[pa.Array]:
    """For each predicate of one column whether it holds for each of its values."""
    con.register("_values", pa.table({column: values}))
    try:
        holds = ", ".join(f"coalesce(({test}), false) as h{place}" for place, test in enumerate(predicates))
        found = con.execute(f"select {holds} from _values").to_arrow_table()
        return [each.combine_chunks() for each in found.columns]
    finally:
        con.unregister("_values")


def _part_dates(
    con: duckdb.DuckDBPyConnection, obj: ObjectSpec, rows: pa.Table, folded: dict[str, pa.DictionaryArray], memo: Memo
) -> pa.Array:
    """The business date of each row."""
    prop = obj.by_name[str(obj.part_date)]
    if prop.name not in folded:
        return _dates_of(con, obj, rows[prop.name].combine_chunks())
    column = folded[prop.name]
    (dates,) = memo.look_up(f"date {prop.name}", column.dictionary, lambda values: [_dates_of(con, obj, values)])
    return dates.take(column.indices)


def _dates_of(con: duckdb.DuckDBPyConnection, obj: ObjectSpec, values: pa.Array) -> pa.Array:
    """The business date of each value; from 1992 on Shanghai has been eight hours ahead all year."""
    prop = obj.by_name[str(obj.part_date)]
    if prop.type == "TIMESTAMPTZ" and conversion.is_shanghai_date(obj):
        bounds = pc.min_max(values)
        if not bounds["min"].is_valid or bounds["min"].as_py() >= _ONE_ZONE:
            shifted = pl.Series(values).dt.replace_time_zone(None) + timedelta(hours=8)
            return shifted.dt.date().to_arrow()
    con.register("_dated", pa.table({prop.name: values}))
    dates = con.execute(f"select {conversion.part_date_expression(obj)} as d from _dated").to_arrow_table()["d"]
    con.unregister("_dated")
    return dates.combine_chunks().cast(pa.date32())


def _refused_rows(
    obj: ObjectSpec,
    delivered: pa.Table,
    rows: pa.Table,
    dates: pa.Array,
    refused: npt.NDArray[np.bool_],
    verdict: npt.NDArray[np.int32],
    hard: list[tuple[str, str, str]],
) -> pa.Table:
    """The refused rows as `_split` would have them in its table ``judged``, with the rule that refuses them."""
    mask = pa.array(refused)  # not by position: that would put the chunks of every column together first
    texts = _prefixed(delivered.filter(mask))
    columns = dict(zip(texts.column_names, texts.columns, strict=True))
    for name in obj.source_columns:
        columns.setdefault(conversion.SOURCE + name, pa.nulls(texts.num_rows, pa.string()))
    typed = plain(rows.filter(mask))
    columns |= {name: typed[name] for name in typed.column_names}
    columns["part_date"] = dates.filter(mask)
    rule = pa.array(verdict[refused])
    columns[_RULE_ID] = pa.array([rule_id for rule_id, _, _ in hard], pa.string()).take(rule)
    columns[_REASON] = pa.array([reason for _, _, reason in hard], pa.string()).take(rule)
    return pa.table(columns)


def _protect_columns(rows: pa.Table, obj: ObjectSpec, memo: Memo) -> pa.Table:
    """Identifiers become tokens or masked text, each distinct one once; exactly the ODS columns are kept."""
    columns: dict[str, Any] = {}
    for prop in obj.properties:
        column = rows[prop.raw_name].combine_chunks()
        if prop.protection and pa.types.is_dictionary(column.type):
            (made,) = memo.look_up(
                f"protected {prop.name}",
                column.dictionary,
                partial(_protected_texts, prop),
            )
            columns[prop.name] = pa.DictionaryArray.from_arrays(column.indices, made)
        elif prop.protection:
            columns[prop.name] = _protected(pl.Series(column), prop).to_arrow().cast(pa.string())
        else:
            columns[prop.name] = column
    return pa.table(columns | {name: rows[name] for name in ("part_date", "_record_no", "_source_object")})


def split_typed(
    con: duckdb.DuckDBPyConnection,
    obj: ObjectSpec,
    rows: pa.Table,
    as_of: datetime | None = None,
    memo: Memo | None = None,
) -> Split:
    """Split rows of a root table that a decoder typed itself (device files)."""
    con.register("_typed", rows)
    con.execute("create or replace temp table batch as from _typed")
    con.unregister("_typed")
    return _split(con, obj, [], as_of, memo=memo)


def split_items(
    con: duckdb.DuckDBPyConnection,
    obj: ObjectSpec,
    delivered: pa.Table,
    parents: pa.Table,
    as_of: datetime | None = None,
) -> Split:
    """Split delivered elements of lists (text, with ``_item_no``) whose records are among ``parents`` (accepted root rows,
    protected): what is taken over from the record is put beside them, and they bear its date. Refused elements bear
    ``_item_no``."""
    copied = [prop for prop in obj.properties if prop.derive and prop.derive.function == "from_parent"]
    numbered = [prop for prop in obj.properties if prop.derive and prop.derive.function == "item_number"]
    beside = [f"p.{quote_name(prop.name)}" for prop in copied]
    beside += [f"cast(d.{ITEM_NO} as {prop.type}) as {quote_name(prop.name)}" for prop in numbered]
    con.register("_delivered", _prefixed(delivered))
    con.register("_parents", parents)
    relation = (
        f"(select {', '.join(['d.*', *beside])}, p.part_date as {quote_name(PARENT_DATE)} from _delivered as d"
        " join _parents as p using (_source_object, _record_no))"
    )
    con.execute(f"create or replace temp table batch as {conversion.typed_select(obj, relation)}")
    con.unregister("_delivered")
    con.unregister("_parents")
    hard = [
        (obj.type_rule_id(prop.name), conversion.type_predicate(prop), conversion.type_reason(prop))
        for prop in _type_ruled(obj)
    ]
    keys = ", ".join(quote_name(name) for name in obj.dedup)
    alone = f"count(*) over (partition by _source_object, _record_no, {keys}) = 1"
    return _split(con, obj, hard, as_of, [(f"{obj.rule_prefix}.dedup.conflict", alone, _REASON_ITEM)])


def _split(
    con: duckdb.DuckDBPyConnection,
    obj: ObjectSpec,
    type_rules: list[tuple[str, str, str]],
    as_of: datetime | None,
    last_rules: Sequence[tuple[str, str, str]] = (),
    memo: Memo | None = None,
) -> Split:
    corrected = corrections.apply(con, obj, as_of)
    derive.add_derived(con, obj, "batch", as_of)
    compiled = [rule_compiler.compile(rule, as_of=as_of or clock.as_of()) for rule in obj.rules]
    available = {row[0] for row in con.execute("describe batch").fetchall()}
    compiled = [rule for rule in compiled if set(rule.columns) <= available]
    hard = [*type_rules]
    hard += [(rule.rule_id, rule.predicate, rule.message_zh) for rule in compiled if rule.severity == "quarantine"]
    hard.append(
        (f"{obj.rule_prefix}.part_date.missing", f"({conversion.part_date_expression(obj)}) is not null", _REASON_DATE)
    )
    hard += renames.rules(obj, available)
    if obj.late and obj.late.refuse_after_days is not None:
        hard.append((obj.late_rule_id, *_late(obj, obj.late.refuse_after_days, as_of or clock.as_of())))
    hard += [*leaks.key_rules(obj, available), *last_rules]
    soft = [rule for rule in compiled if rule.severity == "warn"]

    total = con.execute("select count(*) from batch").fetchone()[0]  # type: ignore[index]
    cases = " ".join(
        f"when not coalesce(({predicate}), false) then {number}" for number, (_, predicate, _) in enumerate(hard)
    )
    con.execute(
        f"create or replace temp table judged as select *, {conversion.part_date_expression(obj)} as part_date, "
        f"case {cases} end as _rule from batch"
    )
    con.execute("drop table batch")
    examined = dict.fromkeys([rule_id for rule_id, _, _ in hard] + [rule.rule_id for rule in soft], total)
    warned = {}
    for rule in soft:
        count = con.execute(
            f"select count(*) from judged where _rule is null and not coalesce(({rule.predicate}), false)"
        ).fetchone()[0]  # type: ignore[index]
        if count:
            warned[rule.rule_id] = count
    facts = batch_rules.collect(con, obj, "judged")
    found = leaks.look(con, "(select * from judged where _rule is null)", obj, as_of, memo)
    examined |= found.examined
    warned |= found.warned
    passed, hidden = leaks.hide(con, "(select * exclude (_rule) from judged where _rule is null)", obj, memo)
    examined |= hidden.examined
    warned |= hidden.warned
    accepted = _protect(passed, obj).to_arrow()
    labels = ", ".join(
        f"({n}, {quote_literal(rule_id)}, {quote_literal(reason)})" for n, (rule_id, _, reason) in enumerate(hard)
    )
    refused = _refused(
        con,
        obj,
        f"(select j.*, r.{_RULE_ID}, r.{_REASON} from judged as j"
        f" join (values {labels}) as r(n, {_RULE_ID}, {_REASON}) on r.n = j._rule)",
    )
    con.execute("drop table judged")
    for correction_id in (item.id for item in obj.corrections):
        examined[corrections.rule_id(obj, correction_id)] = total
    return Split(accepted, refused, examined, warned, found.leaks, corrected, facts)


def _late(obj: ObjectSpec, days: int, as_of: datetime) -> tuple[str, str]:
    """Predicate and reason of the rule that refuses what comes too late, as of when the batch came in."""
    oldest = as_of.astimezone(clock.SHANGHAI).date() - timedelta(days=days)
    return (
        f"coalesce(({conversion.part_date_expression(obj)}) >= date '{oldest}', true)",
        f"迟到超过 {days} 天，按契约不再接收",
    )


def _protect(rows: pl.DataFrame, obj: ObjectSpec) -> pl.DataFrame:
    """Replace raw identifiers by tokens or masked text and keep exactly the ODS columns."""
    columns: list[pl.Series] = []
    for prop in obj.properties:
        if prop.protection and prop.raw_name in rows.columns:
            columns.append(_protected(rows[prop.raw_name], prop))
        else:
            columns.append(rows[prop.name])
    return pl.DataFrame(columns).with_columns(rows["part_date"], rows["_record_no"], rows["_source_object"])


def _protected(raw: pl.Series, prop: PropertySpec) -> pl.Series:
    if prop.protection == "token":
        return tokens.tokenise(str(prop.identifier_kind), raw).alias(prop.name)
    return raw.to_frame("v").select(masking.masked(prop.mask or "hide", pl.col("v")))["v"].alias(prop.name)


@dataclass(frozen=True)
class _Delivered:
    """A delivered column as the policy sees it: the value is still the raw one."""

    table: str
    name: str
    type: str
    grade: str
    pi_mark: str
    identifier_kind: str | None


def preview_treatments(obj: ObjectSpec) -> dict[str, Decision]:
    """What the policy allows of each column in the preview of a refused row (surface `quarantine`)."""
    columns = [_Delivered(obj.table, p.name, p.type, p.grade, p.pi_mark, p.identifier_kind) for p in obj.properties]
    person_level = policy.is_person_level(columns)
    return {
        column.name: policy.decide_column("operations", "quarantine", column, person_level=person_level)
        for column in columns
    }


def _no_refused() -> pl.DataFrame:
    texts = dict.fromkeys(("_source_object", "rule_id", "reason", "preview"), pl.String)
    names = ("_source_object", "_record_no", "rule_id", "reason", "preview")
    return pl.DataFrame(schema={name: texts.get(name, pl.Int64()) for name in names})


def _refused(con: duckdb.DuckDBPyConnection, obj: ObjectSpec, relation: str) -> pl.DataFrame:
    """What is shown of refused rows: ``relation`` has their columns as delivered and typed, and the rule that
    refuses them."""
    stored = {row[0]: row[1] for row in con.execute(f"describe select * from {relation} as j").fetchall()}
    treatments = preview_treatments(obj)
    columns: dict[str, str] = {}  # property → where its value is: as delivered, or as a decoder typed it
    for prop in obj.properties:
        delivered = conversion.SOURCE + str(prop.source_name)
        column = delivered if delivered in stored else prop.name
        if column in stored and not prop.derive and treatments[prop.name].treatment in ("plain", "masked"):
            columns[prop.name] = column
    names = [quote_whole(name) for name in leaks.name_columns(obj, set(stored))]
    plain = sorted({column for name, column in columns.items() if treatments[name].treatment == "plain"})
    texts = ", ".join(
        f"{freetext.without_name_sql(quote_whole(column), names)} as {quote_whole(column)}"
        for column in plain
        if names and stored[column] == "VARCHAR"
    )
    rows = con.execute(
        f"select {f'* replace ({texts})' if texts else '*'} from {relation} as j order by _source_object, _record_no"
    ).pl()
    # a person's number in a field that is shown plain says that the fields are shifted: then none of them is shown
    shifted = pl.any_horizontal(pl.lit(False), *(masking.has_personal_number(pl.col(column)) for column in plain))
    rows = rows.with_columns(shifted.alias("_shifted"))
    rows = rows.with_columns(
        freetext.cleaned(rows[column].cast(pl.String), "operations", "quarantine").alias(column) for column in plain
    )
    previews = [
        pl.col(column).str.slice(0, masking.PREVIEW_CHARS).alias(name)
        if column in plain
        else masking.masked(treatments[name].mask or "hide", pl.col(column)).alias(name)
        for name, column in columns.items()
    ]
    return rows.select(
        pl.col("_source_object"),
        pl.col("_record_no").cast(pl.Int64),
        *([ITEM_NO] if ITEM_NO in rows.columns else []),
        pl.col(_RULE_ID).alias("rule_id"),
        pl.col(_REASON).alias("reason"),
        pl.when(pl.col("_shifted"))
        .then(pl.lit(None, pl.String))
        .otherwise(pl.struct(previews).struct.json_encode() if previews else pl.lit(None, pl.String))
        .alias("preview"),
    )


def empty_accepted(obj: ObjectSpec) -> pl.DataFrame:
    """No accepted rows, with the right columns."""
    schema = ods_schema(obj)
    names = [prop.name for prop in obj.properties] + ["part_date", "_record_no", "_source_object"]
    return pl.from_arrow(schema.empty_table()).select(names)  # type: ignore[union-attr]
