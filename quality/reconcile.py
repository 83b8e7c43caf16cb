"""Does everything that was received have an outcome, and is that outcome what the lake really holds?

Two balances (design §4.4): objects (accepted, partial, refused; duplicates per run) and root records
(accepted + quarantined + duplicate = decoded). Both are compared with the archive, with the rows in Delta and with
the quarantine, so that a ledger that agrees with itself but not with the data is found. Child rows are reconciled per
parent.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import duckdb

from lake import ledger, query, tables
from lake.query import quote_literal, quote_name
from lake.settings import settings
from quality import quarantine, row_events

if TYPE_CHECKING:
    from catalog.contracts import Contract, ObjectSpec

_DONE = ("accepted", "partial", "refused", "withdrawn", "held")


@dataclass
class BatchBalance:
    """One batch: what the ledger says beside what is there. `problems` (Chinese) is empty when it balances.

    `replaced`: accepted records that a newer one took the place of; the lake holds the others."""

    resource: str
    batch_id: str
    status: str
    objects: int
    objects_archived: int
    decoded: int
    accepted: int
    quarantined: int
    duplicate: int
    in_lake: int
    in_quarantine: int
    replaced: int = 0
    child_rows: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems


@dataclass
class ReconcileReport:
    """All balances looked at. `examined` counts batches; a report that examined none is not ok. `rows` is for tables
    on a screen (Chinese headings), `problems` names every imbalance with its resource and batch."""

    ok: bool
    examined: int
    balances: list[BatchBalance]
    problems: list[str]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "资源": balance.resource,
                "批次": balance.batch_id[:12],
                "状态": balance.status,
                "对象": balance.objects,
                "归档": balance.objects_archived,
                "解码": balance.decoded,
                "接受": balance.accepted,
                "隔离": balance.quarantined,
                "重复": balance.duplicate,
                "湖中": balance.in_lake,
                "结论": "平" if balance.ok else "；".join(balance.problems),
            }
            for balance in self.balances
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


@dataclass
class _Findings:
    """What is collected contract by contract."""

    balances: list[BatchBalance] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def _archived(resource: str) -> set[str]:
    """sha256 of the objects present in the archive of a resource."""
    root = settings().archive_root / resource
    return {path.stem for path in root.glob("??/*.tiyu")} if root.is_dir() else set()


def _counts(con: duckdb.DuckDBPyConnection, table: str) -> dict[str, int]:
    """Rows per batch at the head of a table."""
    if not tables.exists(table):
        return {}
    query.register(con, table, "head")
    return dict(con.execute(f"SELECT _batch_id, count(*) FROM {quote_name(table)} GROUP BY ALL").fetchall())


def _quarantined(con: duckdb.DuckDBPyConnection, contract: Contract) -> dict[str, int]:
    """Root records per batch that are still refused; a record that broke several rules counts once."""
    quarantine.register_open(con)
    sql = (
        "SELECT batch_id, count(DISTINCT (source_object, record_no, byte_from))"
        f" FROM open_quarantine WHERE resource = {quote_literal(contract.id)}"
        f" AND (table_name IS NULL OR table_name IN ({', '.join(quote_literal(o.table) for o in contract.roots)}))"
        " GROUP BY ALL"
    )
    return dict(con.execute(sql).fetchall())


def _child_problems(con: duckdb.DuckDBPyConnection, contract: Contract, obj: ObjectSpec) -> dict[str, list[str]]:
    """Per batch: child rows without their parent, and parents whose declared number of children is not there.

    A root column `<child>_count` (for example `lap_count` beside the object `…_lap`) is such a declared number.
    """
    root = contract.root
    found: dict[str, list[str]] = {}
    if not (tables.exists(obj.table) and tables.exists(root.table)):
        return found
    child, parent = quote_name(obj.table), quote_name(root.table)
    keys = obj.parent_key or []
    join = " AND ".join(f"c.{quote_name(key)} = p.{quote_name(key)}" for key in ["_batch_id", *keys])
    orphans = con.execute(
        f"SELECT c._batch_id, count(*) FROM {child} AS c ANTI JOIN {parent} AS p ON {join} GROUP BY ALL"
    ).fetchall()
    for batch_id, count in orphans:
        found.setdefault(batch_id, []).append(f"{obj.table} 有 {count} 行找不到父记录")
    declared = f"{obj.table.rsplit('_', 1)[-1]}_count"
    if declared in root.by_name and keys:
        grouped = ", ".join(quote_name(key) for key in ["_batch_id", *keys])
        wrong = con.execute(
            f"SELECT p._batch_id, count(*) FROM {parent} AS p"
            f" LEFT JOIN (SELECT {grouped}, count(*) AS n FROM {child} GROUP BY ALL) AS c ON {join}"
            f" WHERE p.{declared} IS DISTINCT FROM coalesce(c.n, 0) GROUP BY ALL"
        ).fetchall()
        for batch_id, count in wrong:
            found.setdefault(batch_id, []).append(f"{count} 条父记录的 {declared} 与 {obj.table} 的实际行数不符")
    return found


def _object_problems(batch: dict[str, Any], objects: list[dict[str, Any]], archived: set[str]) -> list[str]:
    problems = []
    if batch["object_count"] != len(objects):
        problems.append(f"台账记 {batch['object_count']} 个对象，明细有 {len(objects)} 个")
    missing = [entry["sha256"] for entry in objects if entry["sha256"] not in archived]
    if missing:
        problems.append(f"{len(missing)} 个对象不在归档中（如 {missing[0][:12]}）")
    undecided = [entry for entry in objects if entry["status"] not in ("accepted", "partial", "refused")]
    if undecided and batch["status"] in _DONE:
        problems.append(f"{len(undecided)} 个对象没有结论")
    for part in ("decoded", "accepted", "quarantined", "duplicate"):
        total = sum(entry[f"{part}_count"] for entry in objects)
        if total != batch[f"{part}_count"]:
            problems.append(f"各对象 {part} 之和 {total} 与批次 {batch[f'{part}_count']} 不等")
    uneven = [
        entry
        for entry in objects
        if entry["accepted_count"] + entry["quarantined_count"] + entry["duplicate_count"] != entry["decoded_count"]
    ]
    if uneven:
        problems.append(f"{len(uneven)} 个对象的记录数不平")
    return problems


def _run_problems(resource: str, objects_per_run: Counter[str]) -> list[str]:
    """Object balance per run: received = objects of the batches it opened + duplicates.

    A batch belongs to the run that opened it, also when a later run had to finish it.
    """
    problems = []
    for run in ledger.runs(resource):
        if run["status"] not in ("success", "nothing_new"):
            continue
        new = objects_per_run[run["run_id"]]
        if run["received_objects"] != new + run["duplicate_objects"]:
            problems.append(
                f"{resource} 运行 {run['run_id']}：收到 {run['received_objects']} 个对象"
                f" ≠ 新 {new} + 重复 {run['duplicate_objects']}"
            )
    return problems


def reconcile(resource: str | None = None) -> ReconcileReport:
    """Check both balances of every batch (of one resource, or of all) against the archive, Delta and the quarantine."""
    from catalog import contracts

    sources = contracts.load_all("source")
    wanted = [sources[resource]] if resource else list(sources.values())
    found = _Findings()
    con = query.connect()
    try:
        for contract in wanted:
            _reconcile_contract(con, contract, found)
    finally:
        con.close()
    problems = found.problems + [
        f"{balance.resource} 批次 {balance.batch_id[:12]}：{problem}"
        for balance in found.balances
        for problem in balance.problems
    ]
    return ReconcileReport(bool(found.balances) and not problems, len(found.balances), found.balances, problems)


def _reconcile_contract(con: duckdb.DuckDBPyConnection, contract: Contract, found: _Findings) -> None:
    batches = ledger.batches(contract.id)
    archived = _archived(contract.id)
    counts = {obj.table: _counts(con, obj.table) for obj in contract.objects}
    refused = _quarantined(con, contract)
    replaced = dict(row_events.replaced_now(contract.id).group_by("batch_id").len().iter_rows())
    children: dict[str, list[str]] = {}
    for obj in contract.objects:
        if not obj.is_root:
            for batch_id, problems in _child_problems(con, contract, obj).items():
                children.setdefault(batch_id, []).extend(problems)
    objects_per_run: Counter[str] = Counter()
    for batch in batches:
        batch_id = batch["batch_id"]
        objects = ledger.objects(batch_id)
        objects_per_run[batch["run_id"]] += len(objects)
        balance = BatchBalance(
            resource=contract.id,
            batch_id=batch_id,
            status=batch["status"],
            objects=len(objects),
            objects_archived=sum(entry["sha256"] in archived for entry in objects),
            decoded=batch["decoded_count"],
            accepted=batch["accepted_count"],
            quarantined=batch["quarantined_count"],
            duplicate=batch["duplicate_count"],
            in_lake=sum(counts[obj.table].get(batch_id, 0) for obj in contract.roots),
            in_quarantine=refused.get(batch_id, 0),
            replaced=replaced.get(batch_id, 0),
            child_rows={obj.table: counts[obj.table].get(batch_id, 0) for obj in contract.objects if not obj.is_root},
        )
        problems = balance.problems
        if balance.status not in _DONE:
            problems.append("批次已归档但尚未处理完（重跑 ingest 即可续作）")
        problems += _object_problems(batch, objects, archived)
        if balance.accepted + balance.quarantined + balance.duplicate != balance.decoded:
            problems.append(
                f"接受 {balance.accepted} + 隔离 {balance.quarantined} + 重复 {balance.duplicate} ≠ 解码 {balance.decoded}"
            )
        stands = balance.in_lake + (0 if balance.status in ("withdrawn", "held") else balance.replaced)
        if stands != balance.accepted:
            taken = f"，另有 {balance.replaced} 行已被取代" if balance.replaced else ""
            problems.append(f"湖中有 {balance.in_lake} 行{taken}，台账记接受 {balance.accepted} 行")
        if balance.in_quarantine != balance.quarantined:
            problems.append(f"隔离区有 {balance.in_quarantine} 条，台账记隔离 {balance.quarantined} 条")
        if balance.status in ("withdrawn", "refused", "held") and any(balance.child_rows.values()):
            problems.append("批次未入湖，但子表仍有其数据行")
        problems += children.get(batch_id, [])
        found.balances.append(balance)
    known = {batch["batch_id"] for batch in batches}
    for table, rows in counts.items():
        strangers = sorted(str(batch_id) for batch_id in set(rows) - known)
        if strangers:
            found.problems.append(f"{table} 含有台账中没有的批次（如 {strangers[0][:12]}）")
    found.problems += _run_problems(contract.id, objects_per_run)
