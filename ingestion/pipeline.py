"""One archived batch on its way into the lake: decode, judge, protect, deduplicate, write, account.

Everything is derived from the archive and the ledger, and every Delta commit is keyed by the batch id, so a batch that
was interrupted at any instant is simply processed again and ends in the same tables.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Protocol, TypeVar

import polars as pl
import pyarrow as pa

from catalog.contracts import Contract, ObjectSpec
from catalog.schemas import ods_schema
from ingestion import (
    archive,
    batch_list,
    batch_rules,
    child_rules,
    corrections,
    decoders,
    deletes,
    delivery,
    elements,
    leaks,
    naming,
    same_activity,
    split,
)
from ingestion.decoders.base import Decoded, LostObject, Pieces
from ingestion.dedup import Deduplicated, deduplicate
from ingestion.staging import Settled, Staging
from ingestion.typed import Memo
from lake import ledger, memory, steps, tables
from lake.arrow import plain
from lake.errors import EXIT_INTERNAL, TiyuError
from quality import quarantine, row_events
from quality.withdrawal import REPLACED_BY

Progress = Callable[[str, int, int], None]
PIECE_FROM_BYTES = 48 * 1024 * 1024
"""Objects larger than this are read from the archive in pieces, where their format can be."""


@dataclass
class Refusal:
    """An object refused as a whole: its hash, its (protected) name, the error code and message.

    Two objects of a batch may bear the same name (a file delivered again with other content); the hash tells them apart.
    """

    sha256: str
    object_name: str
    code: str
    message: str


@dataclass
class BatchResult:
    """Outcome of one batch; ``decoded == accepted + quarantined + duplicate`` always holds.

    unknown_columns: columns that the contract does not know → objects that carry them (only where it lets them pass).
    absence: rows that its snapshot no longer lists, or why nothing was concluded (contracts with deletes by absence).
    """

    batch_id: str
    status: str
    objects: int
    decoded: int
    accepted: int
    quarantined: int
    duplicate: int
    refusals: list[Refusal] = field(default_factory=list)
    quarantined_by_rule: dict[str, int] = field(default_factory=dict)
    warned_by_rule: dict[str, int] = field(default_factory=dict)
    rules_examined: dict[str, int] = field(default_factory=dict)
    corrected_by_rule: dict[str, int] = field(default_factory=dict)
    batch_findings: list[batch_rules.Finding] = field(default_factory=list)
    unknown_columns: dict[str, int] = field(default_factory=dict)
    absence: tuple[int, str | None] | None = None
    tables: dict[str, int] = field(default_factory=dict)


@dataclass
class Judged:
    """Objects of a batch, decoded and judged but not yet compared with what is stored.

    accepted: ODS columns of the root rows that pass, identifiers protected; of the contract's further root tables
    (`Contract.roots`) in ``others``. children: child rows by table, one part per decoded chunk, read with :func:`child_rows`. refused: the other records (issues, rule, masked preview). decoded:
    records per object. result: names and counts of rules. corrected: records that a declared correction mended. facts: what
    batch rules need to know. repeated: records known to say nothing new before they are compared (of rows that are gone).
    """

    accepted: pl.DataFrame
    children: dict[str, list[pa.Table]]
    refused: pl.DataFrame
    decoded: dict[str, int]
    result: BatchResult
    corrected: pl.DataFrame
    facts: pl.DataFrame
    repeated: pl.DataFrame
    others: dict[str, pl.DataFrame] = field(default_factory=dict)


def is_activity(contract: Contract) -> bool:
    """Whether the contract's objects are device files (one root record each, which may arrive in several formats)."""
    return contract.server is not None and contract.server.decoder == "activity"


def judge(
    contract: Contract,
    batch: dict[str, Any],
    objects: list[dict[str, Any]],
    progress: Progress | None = None,
    as_of: datetime | None = None,
    poison: dict[str, TiyuError] | None = None,
    read: Callable[[str], bytes] | None = None,
    alone: bool = False,
    sink: Sink | None = None,
) -> Judged:
    """Read objects of a batch from the archive: decode, type, judge, protect. Nothing is written.

    ``as_of`` is the instant the rules compare times with (default: now). ``poison`` (see :func:`find_poison`) names
    objects that are refused as a whole without being read. ``read`` gives the bytes of an object by its hash where they do
    not come from the archive. ``alone``: nothing stored is looked at beside the tables of reference rules. With a ``sink``
    (only for a contract that `may_be_staged`) the accepted rows go there, chunk by chunk, and `Judged.accepted` is empty.
    Raises BatchStopped TIYU-ING-0020 when an object holds what its contract says it does not (`ingestion.leaks`).
    """
    memory.give_back_large_blocks()
    poison = poison or {}
    damaged: dict[str, TiyuError] = {}
    names = {item["sha256"]: item["name"] for item in objects}
    sizes = {item["sha256"]: item["size"] for item in objects}
    kept = {obj.table: _Kept(obj, with_digest=bool(contract.lists)) for obj in contract.roots}
    target: dict[str, Sink] = {contract.root.table: sink} if sink else {**kept}
    children: dict[str, list[pa.Table]] = {obj.table: [] for obj in contract.objects if not obj.is_root}
    refused: list[pl.DataFrame] = [_issue_frame([])]
    decoded_counts: Counter[str] = Counter()
    result = BatchResult(batch["batch_id"], "accepted", len(objects), 0, 0, 0, 0)

    corrected, facts = [pl.DataFrame(schema=corrections.SCHEMA)], [batch_rules.empty()]
    leaked: list[leaks.Leak] = []
    con = split.connect_for(contract)
    memo = Memo()
    later = split.Refusals(con, contract.root)
    readable = [item for item in objects if item["sha256"] not in poison]
    numbers = {} if is_activity(contract) else split.numbers_of(contract)
    chunks = decoders.decode_many(
        contract.server, _plain(contract, readable, progress, damaged, read), contract, numbers=numbers
    )
    # the last one is made when all objects have been opened: those that are damaged, which must not stop the others
    last = (Decoded({}, [], 0, refusals=dict(damaged)) for _ in range(1))
    first = [Decoded({}, [], 0, refusals=dict(poison))] if poison else []
    for chunk in ahead(itertools.chain(first, chunks, last)):
        memory.close_holes()
        decoded_counts.update(chunk.root_counts)
        for column in (name for names_of in chunk.unknown.values() for name in names_of):
            result.unknown_columns[column] = result.unknown_columns.get(column, 0) + 1
        for sha256, error in chunk.refusals.items():
            # the unreadable object is one quarantined record covering all its bytes, whatever was read of it before
            if decoded_counts.pop(sha256, 0):
                refused.append(_issue_frame(later.shown()))
                for taken in target.values():
                    taken.drop_object(sha256)
                refused, corrected = (
                    [frame.filter(pl.col("_source_object") != sha256) for frame in frames]
                    for frames in (refused, corrected)
                )
                leaked = [leak for leak in leaked if leak.object_sha256 != sha256]
            decoded_counts[sha256] = 1
            result.refusals.append(Refusal(sha256, names[sha256], error.code, str(error)))
            refused.append(_refused_object(sha256, error, sizes[sha256]))
        refused.append(_issues(chunk))
        for obj in contract.roots:
            root = chunk.tables.get(obj.table)
            if root is None or root.num_rows == 0:
                continue
            with steps.step("rules"):
                if is_activity(contract):
                    part = split.split_typed(con, obj, _with_athlete(obj, root, names), as_of, memo)
                    child_rules.judge(con, contract, obj, part, chunk.tables, as_of)
                else:
                    part = split.split_text(con, contract, root, as_of, memo, later)
            if contract.lists:
                with steps.step("rules"):
                    for table, rows in elements.judge(con, contract, part, chunk.tables, as_of).items():
                        children[table].append(_folded(rows))
            leaked += part.leaks
            if not leaked:
                with steps.step("rules"):
                    target[obj.table].add(part.rows)
            corrected.append(part.corrected)
            facts.append(part.facts)
            refused.append(_issue_frame(part.refused))
            for rule_id, count in part.examined.items():
                result.rules_examined[rule_id] = result.rules_examined.get(rule_id, 0) + count
            for rule_id, count in part.warned.items():
                result.warned_by_rule[rule_id] = result.warned_by_rule.get(rule_id, 0) + count
        if is_activity(contract):
            for table in children:
                if table in chunk.tables and chunk.tables[table].num_rows:
                    children[table].append(_folded(chunk.tables[table]))
    refused.append(_issue_frame(later.shown()))
    con.close()
    if leaked:
        raise leaks.stop(contract.id, batch["batch_id"], leaked, names)
    passed = {table: parts.frame() for table, parts in kept.items()}
    rows = deletes.marked(passed.pop(contract.root.table), contract.root, batch)
    repeated = rows.select("_source_object", "_record_no").clear()
    lists = [item for item in readable if deletes.is_tombstone(contract.root, item["name"])]
    if lists:
        gone = deletes.read_tombstones(
            contract, batch, _contents(contract, lists, progress, damaged, read), rows, alone=alone
        )
        for chunk in [
            *gone.chunks,
            Decoded({}, [], 0, refusals={k: v for k, v in damaged.items() if k not in decoded_counts}),
        ]:
            refused.append(_issues(chunk))
            for sha256, error in chunk.refusals.items():
                decoded_counts[sha256] = 1
                result.refusals.append(Refusal(sha256, names[sha256], error.code, str(error)))
                refused.append(_refused_object(sha256, error, sizes[sha256]))
        for sha256, count in gone.decoded.items():
            decoded_counts[sha256] = count
        refused.append(_issue_frame(gone.refused))
        rows, repeated = pl.concat([rows, gone.rows]), gone.again
    return Judged(
        rows,
        children,
        pl.concat(refused, how="vertical_relaxed"),
        dict(decoded_counts),
        result,
        pl.concat(corrected),
        pl.concat(facts),
        repeated,
        passed,
    )


class Sink(Protocol):
    """Where accepted rows go: ``add`` takes those of a chunk (`Split.rows`), ``drop_object`` takes all rows of an
    object back."""

    def add(self, rows: pa.Table) -> None: ...

    def drop_object(self, sha256: str) -> None: ...


class _Kept:
    """All rows in memory."""

    def __init__(self, obj: ObjectSpec, *, with_digest: bool) -> None:
        empty = split.empty_accepted(obj)
        self._parts = [empty.with_columns(pl.lit(None, pl.UInt64).alias(elements.DIGEST)) if with_digest else empty]

    def add(self, rows: pa.Table) -> None:
        self._parts.append(child_rows(rows.select(self._parts[0].columns)))

    def drop_object(self, sha256: str) -> None:
        self._parts = [part.filter(pl.col("_source_object") != sha256) for part in self._parts]

    def frame(self) -> pl.DataFrame:
        return pl.concat(self._parts, how="vertical_relaxed")


class Aside:
    """A sink whose rows are taken by another one in a thread, a chunk at a time, while the caller goes on with the next chunk.

    Use as a context; what goes wrong in the thread is raised at the next call, of `settle` at the latest.
    """

    def __init__(self, sink: Sink):
        self._sink = sink
        self._pool = ThreadPoolExecutor(1)
        self._running: Future[None] | None = None

    def __enter__(self) -> Aside:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def add(self, rows: pa.Table) -> None:
        self.settle()
        self._running = self._pool.submit(self._sink.add, rows)

    def drop_object(self, sha256: str) -> None:
        self.settle()
        self._sink.drop_object(sha256)

    def settle(self) -> None:
        """Wait until all rows given are taken."""
        if self._running is not None:
            running, self._running = self._running, None
            running.result()


_Item = TypeVar("_Item")


def ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """The same items, the next one being made in a thread while the caller works with this one."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def _folded(rows: pa.Table) -> pa.Table:
    """The same rows with each distinct text kept once.

    A batch holds millions of samples in memory until its root rows are deduplicated; the hash of their file and the
    identifier of their activity alone would be half of it.
    """
    return rows.cast(
        pa.schema(
            [
                pa.field(f.name, pa.dictionary(pa.int32(), f.type) if pa.types.is_string(f.type) else f.type)
                for f in rows.schema
            ]
        )
    )


def child_rows(part: pa.Table) -> pl.DataFrame:
    """One part of a child table (see `Judged.children`) with plain texts."""
    return pl.DataFrame(plain(part))


def _refused_object(sha256: str, error: TiyuError, size: int) -> pl.DataFrame:
    return _issue_frame(
        [
            {
                "_source_object": sha256,
                "_record_no": 0,
                "rule_id": error.code,
                "reason": error.message_zh,
                "preview": None,
                "byte_from": 0,
                "byte_to": size,
            }
        ]
    )


def conflicts_as_refusals(contract: Contract, conflicts: pl.DataFrame) -> pl.DataFrame:
    """Quarantine rows for records that repeat a key with other content."""
    return _issue_frame(
        conflicts.with_columns(
            rule_id=pl.lit(f"{contract.root.rule_prefix}.dedup.conflict"),
            reason=pl.lit("同一主键的内容不一致，无法判断以哪一条为准"),
            preview=pl.lit(None, pl.String),
        )
    )


def process(
    contract: Contract,
    batch: dict[str, Any],
    progress: Progress | None = None,
    *,
    poison: dict[str, TiyuError] | None = None,
) -> BatchResult:
    """Bring one archived batch into ODS and quarantine, and close it in the ledger.

    ``poison`` (see :func:`find_poison`) names objects that are refused as a whole without being read.
    """
    objects = ledger.objects(batch["batch_id"])
    order = {item["sha256"]: item["seq"] for item in objects}
    if may_be_staged(contract):
        result = _process_staged(contract, batch, objects, order, progress, poison)
        batch_list.mark_done(contract.id, batch["batch_id"])
        return result
    with steps.step("decode"):
        # as of when the batch came in: finished a day later, or read again, it is judged the same
        judged = judge(contract, batch, objects, progress, as_of=batch["as_of_at"], poison=poison)
    with steps.step("rules"):
        kept = distinct(contract, judged.accepted, batch["batch_id"], order)
        others = distinct_others(contract, judged.others, batch["batch_id"], order)
    refusals = judged.refused
    if not kept.conflicts.is_empty():
        refusals = pl.concat([refusals, conflicts_as_refusals(contract, kept.conflicts)])
    result = judged.result
    result.batch_findings = delivery.examine(contract, batch, objects, judged, refusals)
    stops = delivery.holding(batch, result.batch_findings)
    accepted = records_of(kept, others)
    held = bool(stops) and not accepted.is_empty()
    duplicates = pl.concat([kept.duplicates, judged.repeated, *(found.duplicates for found in others.values())])
    with steps.step("ods"):
        delivery.note_corrections(contract, batch, judged, batch["batch_id"])
        if held:
            refusals = pl.concat([refusals, _held_as_refusals(accepted, stops)])
        write_quarantine(contract, batch, refusals, objects, batch["batch_id"])
        if not held:
            more = {table: found.unique for table, found in others.items()}
            result.tables = store(contract, batch, kept, judged.children, batch["batch_id"], more)
            result.absence = conclude_absence(contract, batch, objects, judged, refusals)
    with steps.step("ledger"):
        delivery.note_findings(contract, batch, result, stops)
        accepted = accepted.clear() if held else accepted
        taken = Taken(per_object(accepted), accepted["part_date"].unique().to_list())
        _account(result, batch, objects, judged.decoded, taken, refusals, per_object(duplicates), held=held)
        delivery.tell(contract, batch, result, stops)
    batch_list.mark_done(contract.id, batch["batch_id"])
    return result


def distinct(
    contract: Contract, rows: pl.DataFrame, batch_id: str, order: dict[str, int], *, replayed: bool = False
) -> Deduplicated:
    """Which root rows to store, by the rule for their kind: activities by what they are, others by their key."""
    if is_activity(contract):
        return same_activity.deduplicate(rows, contract.root, batch_id, replayed=replayed)
    return deduplicate(
        rows, contract.root, batch_id, order, same_key_is_duplicate=False, replayed=replayed, contract=contract
    )


def distinct_others(
    contract: Contract,
    rows: dict[str, pl.DataFrame],
    batch_id: str,
    order: dict[str, int],
    *,
    replayed: bool = False,
) -> dict[str, Deduplicated]:
    """The same for the contract's further root tables, whose key is made of the content."""
    return {
        obj.table: deduplicate(rows[obj.table], obj, batch_id, order, same_key_is_duplicate=True, replayed=replayed)
        for obj in contract.roots[1:]
    }


def records_of(kept: Deduplicated, others: dict[str, Deduplicated]) -> pl.DataFrame:
    """Object, record and date of the accepted rows of all root tables."""
    return pl.concat([kept.accepted, *(found.accepted for found in others.values())])


def may_be_staged(contract: Contract) -> bool:
    """Whether a batch's rows may go on before all of them are known: the first of a key is stored whatever follows,
    nothing is replaced or taken away, no rule is about the delivery as a whole, and no child rows wait for their parents.
    """
    obj = contract.root
    rule = obj.dedup_rule
    first_counts = rule is None or (rule.on_same == "duplicate" and rule.on_changed == "conflict")
    alone = len(contract.objects) == 1 and not is_activity(contract)
    return alone and first_counts and obj.deletes.by == "none" and not obj.batch_rules and not obj.corrections


def _process_staged(
    contract: Contract,
    batch: dict[str, Any],
    objects: list[dict[str, Any]],
    order: dict[str, int],
    progress: Progress | None,
    poison: dict[str, TiyuError] | None,
) -> BatchResult:
    """`process` for a contract whose rows need not be held together (`may_be_staged`): in bounded memory, one commit."""
    with Staging(contract.root, contract.id, batch, order) as staging:
        with steps.step("decode"), Aside(staging) as sink:
            judged = judge(contract, batch, objects, progress, as_of=batch["as_of_at"], poison=poison, sink=sink)
            sink.settle()
        with steps.step("rules"):
            kept = staging.settle()
        refusals = judged.refused
        if not kept.conflicts.is_empty():
            refusals = pl.concat([refusals, conflicts_as_refusals(contract, kept.conflicts)])
        result = judged.result
        with steps.step("ods"):
            write_quarantine(contract, batch, refusals, objects, batch["batch_id"])
            if kept.unique is None:
                result.tables = _write_files(contract, batch, kept)
            else:
                result.tables = write_rows(contract, batch, kept.unique, {}, batch["batch_id"])
        with steps.step("ledger"):
            delivery.note_findings(contract, batch, result, [])
            taken = Taken(kept.accepted, kept.part_dates)
            _account(result, batch, objects, judged.decoded, taken, refusals, kept.duplicate)
            delivery.tell(contract, batch, result, [])
    return result


def _write_files(contract: Contract, batch: dict[str, Any], kept: Settled) -> dict[str, int]:
    """`write_rows` for a batch whose rows are files already."""
    metadata = {"tiyu.resource": contract.id, "tiyu.contract_version": contract.version}
    schema = ods_schema(contract.root)
    version = tables.append_files(
        contract.root.table,
        kept.files,
        pa.schema([pa.field(f.name, f.type) for f in schema]),
        part_dates=kept.part_dates,
        batch_id=batch["batch_id"],
        metadata=metadata,
    )
    return {contract.root.table: version}


def _held_as_refusals(rows: pl.DataFrame, held: list[batch_rules.Finding]) -> pl.DataFrame:
    """Quarantine rows for the records of a batch that does not enter."""
    return _issue_frame(
        rows.select("_source_object", "_record_no").with_columns(
            rule_id=pl.lit(held[0].rule_id),
            reason=pl.lit("整批扣下：" + "；".join(item.message_zh for item in held)),
        )
    )


def require_layout(contract: Contract) -> None:
    """Raise TIYU-ING-0013 when the stored tables have other columns or types than the contract declares now.

    Comparing new rows with stored ones would be wrong, and two layouts in one table would mislead every reader.
    """
    for obj in contract.objects:
        if tables.exists(obj.table) and layout_of(obj.table) != layout_declared(obj):
            stored, declared = layout_of(obj.table), layout_declared(obj)
            differs = sorted(name for name in stored.keys() | declared.keys() if stored.get(name) != declared.get(name))
            raise TiyuError(
                "TIYU-ING-0013",
                "契约的列与已入库的表不一致，暂不汇聚",
                f"改对了：提高契约版本号后运行 tiyu reread {contract.id}，从归档按新契约重读历史；误改了：把契约改回去",
                table=obj.table,
                columns="、".join(differs),
            )


def layout_of(table: str) -> dict[str, str]:
    """Column → type of a stored table, as Delta names them."""
    return {entry.name: str(entry.type) for entry in tables.open_table(table).schema().fields}


def layout_declared(obj: ObjectSpec) -> dict[str, str]:
    """Column → type that a contract declares, as Delta would name them."""
    return tables.delta_types(ods_schema(obj))


def empty_tables(contract: Contract) -> None:
    """Before batches are read again under a new contract version: empty tables in its layout, once per version.

    What readers see is the checked version, which stays; the gate waits until the batches are back.
    """
    key = f"{contract.id}:{contract.version}:reread"
    for obj in contract.objects:
        if tables.exists(obj.table):
            tables.replace_table(
                obj.table,
                ods_schema(obj).empty_table(),
                metadata={"tiyu.contract_version": contract.version},
                partition_by=("part_date",),
                batch_id=key,
            )


def count_records(contract: Contract, objects: list[dict[str, Any]]) -> dict[str, int]:
    """Root records per object, decoded but not judged; an object that cannot be read counts as one, as in its batch."""
    counts: Counter[str] = Counter()
    try:
        for chunk in decoders.decode_many(contract.server, _plain(contract, objects, None), contract):
            counts.update(chunk.root_counts)
            for sha in chunk.refusals:
                counts[sha] = 1
        lists = [item for item in objects if deletes.is_tombstone(contract.root, item["name"])]
        for chunk in decoders.decode_many(
            contract.server, _contents(contract, lists, None), deletes.key_contract(contract)
        ):
            counts.update(chunk.root_counts)
            for sha in chunk.refusals:
                counts[sha] = 1
    except TiyuError:
        raise
    except Exception:
        if len(objects) == 1:
            return {objects[0]["sha256"]: 1}
        return {sha: count for item in objects for sha, count in count_records(contract, [item]).items()}
    return dict(counts)


def find_poison(contract: Contract, batch: dict[str, Any]) -> dict[str, TiyuError]:
    """Objects of a batch whose reading fails in a way nobody foresaw, tried one by one: sha256 → TIYU-ING-0008.

    Used only after a batch failed repeatedly, so that one object cannot block its source for ever.
    """
    found: dict[str, TiyuError] = {}
    con = split.connect_for(contract)
    for item in ledger.objects(batch["batch_id"]):
        try:
            for chunk in decoders.decode_many(contract.server, _plain(contract, [item], None), contract):
                for obj in contract.roots:
                    root = chunk.tables.get(obj.table)
                    if root is None or not root.num_rows:
                        continue
                    if is_activity(contract):
                        split.split_typed(con, obj, _with_athlete(obj, root, {item["sha256"]: item["name"]}))
                    else:
                        part = split.split_text(con, contract, root)
                        if contract.lists:
                            elements.judge(con, contract, part, chunk.tables, None)
        except TiyuError:
            raise
        except Exception as error:
            found[item["sha256"]] = TiyuError(
                "TIYU-ING-0008",
                "读取该对象时反复出现未预见的错误，已整体拒收",
                "对象已留存在归档；请将错误代码与类型报告维护者，修复后重放",
                object=item["name"],
                type=type(error).__name__,
            )
            con.close()
            con = split.connect_for(contract)
    con.close()
    return found


def holds_records(contract: Contract, name: str) -> bool:
    """Whether an object holds records of the source, and not totals (a manifest) or keys of what is gone (tombstones)."""
    return not (batch_rules.is_control(contract.root, name) or deletes.is_tombstone(contract.root, name))


def _plain(
    contract: Contract,
    objects: list[dict[str, Any]],
    progress: Progress | None,
    damaged: dict[str, TiyuError] | None = None,
    read: Callable[[str], bytes] | None = None,
) -> Iterator[tuple[str, str, Any]]:
    """sha256, name and plain bytes of objects that hold records; a large one in pieces where its format can be read so.
    One that is damaged or missing is entered into ``damaged`` and left out (in pieces: LostObject); without such a place
    its error is raised."""
    objects = [item for item in objects if holds_records(contract, item["name"])]
    in_pieces = read is None and decoders.reads_pieces(contract.server)
    yield from _contents(contract, objects, progress, damaged, read, in_pieces=in_pieces)


def _contents(
    contract: Contract,
    objects: list[dict[str, Any]],
    progress: Progress | None,
    damaged: dict[str, TiyuError] | None = None,
    read: Callable[[str], bytes] | None = None,
    *,
    in_pieces: bool = False,
) -> Iterator[tuple[str, str, Any]]:
    """The same for objects of any kind."""
    for number, item in enumerate(objects, 1):
        if progress:
            progress(contract.id, number, len(objects))
        if in_pieces and item["size"] > PIECE_FROM_BYTES:
            pieces = partial(_pieces, contract.id, item["sha256"], damaged is not None)
            yield item["sha256"], item["name"], Pieces(item["size"], pieces)
            continue
        try:
            content = read(item["sha256"]) if read else archive.read_object(contract.id, item["sha256"])
        except TiyuError as error:
            if damaged is None or error.code not in archive.DAMAGED:
                raise
            damaged[item["sha256"]] = error
            continue
        yield item["sha256"], item["name"], content


def _pieces(resource: str, sha256: str, may_be_lost: bool, piece_bytes: int) -> Iterator[bytes]:
    try:
        yield from archive.read_pieces(resource, sha256, piece_bytes)
    except TiyuError as error:
        if not may_be_lost or error.code not in archive.DAMAGED:
            raise
        raise LostObject(error) from None


_ISSUE_SCHEMA = {
    "_source_object": pl.String,
    "_record_no": pl.Int64,
    "rule_id": pl.String,
    "reason": pl.String,
    "preview": pl.String,
    "byte_from": pl.Int64,
    "byte_to": pl.Int64,
}


def _issue_frame(rows: pl.DataFrame | list[dict[str, Any]]) -> pl.DataFrame:
    frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows, schema=_ISSUE_SCHEMA)
    missing = [pl.lit(None, dtype).alias(name) for name, dtype in _ISSUE_SCHEMA.items() if name not in frame.columns]
    return frame.with_columns(missing).select(_ISSUE_SCHEMA.keys())


def _issues(chunk: Decoded) -> pl.DataFrame:
    """Unreadable records; their raw preview bytes are dropped, because an unreadable record cannot be masked."""
    return _issue_frame(
        [
            {
                "_source_object": i.object_sha256,
                "_record_no": i.record_no,
                "rule_id": i.rule_id,
                "reason": i.reason_zh,
                "preview": None,
                "byte_from": i.byte_from,
                "byte_to": i.byte_to,
            }
            for i in chunk.issues
        ]
    )


def _with_athlete(obj: ObjectSpec, root: pa.Table, names: dict[str, str]) -> pa.Table:
    """Put the token that the protected object name carries into the identifier column of a device-file contract.

    Records of a device that several persons share belong to none of them.
    """
    shared = root["is_shared"].to_pylist() if "is_shared" in root.column_names else [False] * root.num_rows
    for prop in obj.properties:
        if prop.protection == "token" and prop.name not in root.column_names:
            kind = str(prop.identifier_kind)
            tokens = {sha: naming.token_in_name(kind, name) for sha, name in names.items()}
            found = [
                None if is_shared else tokens[sha]
                for sha, is_shared in zip(root["_source_object"].to_pylist(), shared, strict=True)
            ]
            root = root.append_column(prop.name, pa.array(found, pa.string()))
    return root


def _stamp(frame: pl.DataFrame, obj: ObjectSpec, batch: dict[str, Any]) -> pa.Table:
    """Add the technical columns and cast to the contract's schema, in its order."""
    schema = ods_schema(obj)
    stamped = frame.with_columns(
        pl.lit(batch["batch_id"]).alias("_batch_id"), pl.lit(batch["as_of_at"]).alias("_ingested_at")
    )
    arrow = stamped.select(schema.names).to_arrow()
    return arrow.cast(pa.schema([pa.field(f.name, f.type) for f in schema]))


def write_quarantine(
    contract: Contract, batch: dict[str, Any], refusals: pl.DataFrame, objects: list[dict[str, Any]], key: str
) -> None:
    """Write refused records of a batch; a second time with the same key nothing is written."""
    if refusals.is_empty():
        return
    named = pl.DataFrame({"source_object": [o["sha256"] for o in objects], "object_name": [o["name"] for o in objects]})
    rows = refusals.rename({"_source_object": "source_object", "_record_no": "record_no"}).join(
        named, on="source_object", how="left"
    )
    rows = rows.with_columns(
        batch_id=pl.lit(batch["batch_id"]),
        resource=pl.lit(contract.id),
        table_name=pl.lit(contract.root.table),
        quarantined_at=pl.lit(batch["as_of_at"]),
    ).sort("source_object", "record_no")
    quarantine.append_quarantine(_plain_strings(rows.to_arrow()), key)


def store(
    contract: Contract,
    batch: dict[str, Any],
    kept: Deduplicated,
    children: dict[str, list[pa.Table]],
    key: str,
    others: dict[str, pl.DataFrame] | None = None,
) -> dict[str, int]:
    """Write what a batch brings; what it replaces is noted first and taken out last. Returns versions by table.

    Interrupted anywhere, the same call ends in the same tables: what is noted, written or taken out already is left alone.
    """
    table = contract.root.table
    noted = kept.replaced.drop("part_date")
    if not noted.is_empty():
        identity = ["batch_id", "source_object", "record_no", "by_batch_id", "by_source_object", "by_record_no"]
        known = row_events.of("replaced", by_batches=noted["by_batch_id"].unique().to_list())
        known = known.join(
            row_events.replaced_now(contract.id), on=identity[:3], how="semi"
        )  # a restored one may go again
        noted = noted.join(known.select(identity), on=identity, how="anti")
        row_events.append(noted, f"{key}:replaced", resource=contract.id, table=table, event="replaced")
    written = write_rows(contract, batch, kept.unique, children, key, others)
    stored = kept.replaced.filter(pl.col("part_date").is_not_null())
    if not stored.is_empty():
        rows = stored.select(
            "part_date",
            pl.col("batch_id").alias("_batch_id"),
            pl.col("source_object").alias("_source_object"),
            pl.col("record_no").alias("_record_no"),
        )
        on = ("_batch_id", "_source_object", "_record_no")
        for obj in (*(obj for obj in contract.objects if obj.parent == table), contract.root):
            if tables.exists(obj.table):
                written[obj.table] = tables.change_rows(obj.table, rows, on, metadata={REPLACED_BY: batch["batch_id"]})
    return written


def conclude_absence(
    contract: Contract, batch: dict[str, Any], objects: list[dict[str, Any]], judged: Judged, refused: pl.DataFrame
) -> tuple[int, str | None]:
    """Mark what the batch's snapshot no longer lists: how many rows, or why nothing could be concluded."""
    data = [item for item in objects if holds_records(contract, item["name"])]
    rows, reason = deletes.absent(contract, batch, data, judged.accepted, judged.decoded, refused)
    deletes.mark_absent(contract.root, batch, rows)
    return rows.height, reason


def write_rows(
    contract: Contract,
    batch: dict[str, Any],
    unique: pl.DataFrame,
    children: dict[str, list[pa.Table]],
    key: str,
    others: dict[str, pl.DataFrame] | None = None,
) -> dict[str, int]:
    """Further root tables and child tables first, the root table last: a batch in the root table is complete. Returns
    versions by table.

    ``key`` makes the commits happen once; it is the batch's id, or the id of a replay of the batch.
    """
    metadata = {"tiyu.resource": contract.id, "tiyu.contract_version": contract.version}
    written: dict[str, int] = {}
    for obj in contract.roots[1:]:
        rows = (others or {}).get(obj.table)
        if rows is not None and not rows.is_empty():
            written[obj.table] = tables.append(obj.table, _stamp(rows, obj, batch), batch_id=key, metadata=metadata)
    if unique.is_empty():
        return written
    for obj in contract.objects:
        parts = children.get(obj.table)
        if not parts:
            continue
        # a child row belongs to the parent that was accepted, in the object that brought it, and to its date
        link = ["_source_object", *obj.parent_key]
        if "_record_no" in parts[0].column_names:  # a file may hold the same thing twice
            link.append("_record_no")
        parents = unique.select(*link, "part_date")
        owners = pl.concat([child_rows(part.select(link)).unique() for part in parts])
        days = parents.join(owners, on=link, how="semi")["part_date"].unique().to_list()
        if days:
            stream = partial(_stamped_children, parts, parents, link, obj, batch)
            written[obj.table] = tables.append_stream(
                obj.table, stream, ods_schema(obj), part_dates=days, batch_id=key, metadata=metadata
            )
    written[contract.root.table] = tables.append(
        contract.root.table, _stamp(unique, contract.root, batch), batch_id=key, metadata=metadata
    )
    return written


def _stamped_children(
    parts: list[pa.Table], parents: pl.DataFrame, link: list[str], obj: ObjectSpec, batch: dict[str, Any]
) -> Iterator[pa.RecordBatch]:
    """Child rows as they are stored, part after part: together they would be several times as large as what is held. A part is
    made while the one before is written."""
    joined = (child_rows(part).join(parents, on=link, how="inner", maintain_order="left") for part in parts)
    for rows in ahead(_stamp(rows, obj, batch) for rows in joined):
        yield from rows.to_batches()


def _plain_strings(table: pa.Table) -> pa.Table:
    return table.cast(
        pa.schema(
            [
                pa.field(
                    f.name, pa.string() if pa.types.is_large_string(f.type) or f.type == pa.string_view() else f.type
                )
                for f in table.schema
            ]
        )
    )


@dataclass(frozen=True)
class Taken:
    """Accepted records per object, and the dates of their rows."""

    per_object: dict[str, int]
    part_dates: list[Any]


def per_object(frame: pl.DataFrame) -> dict[str, int]:
    """Rows per source object."""
    return dict(frame.group_by("_source_object").len().iter_rows())


def _account(
    result: BatchResult,
    batch: dict[str, Any],
    objects: list[dict[str, Any]],
    decoded: dict[str, int],
    taken: Taken,
    refusals: pl.DataFrame,
    duplicate: dict[str, int],
    *,
    held: bool = False,
) -> None:
    """Balance the batch and close it; raises TIYU-ING-0006 when a record is unaccounted for.

    ``held``: the batch does not enter (`ingestion.delivery`).
    """
    accepted, quarantined = taken.per_object, per_object(refusals)
    outcomes = []
    reasons = {r.sha256: r.code for r in result.refusals}
    if held:
        reasons = {item["sha256"]: delivery.HELD.code for item in objects} | reasons
    for item in objects:
        sha = item["sha256"]
        counts = (decoded.get(sha, 0), accepted.get(sha, 0), quarantined.get(sha, 0), duplicate.get(sha, 0))
        if counts[0] != sum(counts[1:]):
            raise TiyuError(
                "TIYU-ING-0006",
                "记录对账不平：解码数不等于入库、隔离与重复之和",
                "保留现场并报告维护者；该批次未关闭，可安全重跑",
                EXIT_INTERNAL,
                object=item["name"],
                decoded=counts[0],
                accepted=counts[1],
                quarantined=counts[2],
                duplicate=counts[3],
            )
        status = "refused" if sha in reasons else "partial" if counts[2] else "accepted"
        outcomes.append(
            {
                "seq": item["seq"],
                "status": status,
                "reason": reasons.get(sha),
                "decoded": counts[0],
                "accepted": counts[1],
                "quarantined": counts[2],
                "duplicate": counts[3],
            }
        )
    result.decoded = sum(o["decoded"] for o in outcomes)
    result.accepted = sum(o["accepted"] for o in outcomes)
    result.quarantined = sum(o["quarantined"] for o in outcomes)
    result.duplicate = sum(o["duplicate"] for o in outcomes)
    result.quarantined_by_rule = dict(sorted(refusals.group_by("rule_id").len().iter_rows()))
    states = {o["status"] for o in outcomes}
    result.status = "refused" if states == {"refused"} else "accepted" if states == {"accepted"} else "partial"
    if held:
        result.status = "held"
    ledger.finish_batch(
        batch["batch_id"],
        {
            "status": result.status,
            "decoded_count": result.decoded,
            "accepted_count": result.accepted,
            "quarantined_count": result.quarantined,
            "duplicate_count": result.duplicate,
            "first_part_date": min(filter(None, taken.part_dates), default=None),
            "last_part_date": max(filter(None, taken.part_dates), default=None),
        },
        outcomes,
    )
