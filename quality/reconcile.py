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

_ENDED = ("success", "nothing_new")
"""States of a run that came to its end."""
_DONE = ("accepted", "partial", "refused", "withdrawn", "held")


@dataclass
class BatchBalance:
    """One batch: what the ledger says beside what is there. `problems` (Chinese) is empty when it balances.

    `quarantined` counts what is refused, given up or not; `in_quarantine` and `discarded` are the two parts as the quarantine
    has them. `replaced`: accepted records that a newer one took the place of; the lake holds the others, of which `restated`
    have a later version beside them (the time of the update belongs to the key).
    """

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
    discarded: int = 0
    restated: int = 0
    replaced: int = 0
    child_rows: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems


@dataclass
class ResourceBalance:
    """Both ledgers of one source. Objects: received = accepted + partial + refused + waiting + duplicate. Records: decoded =
    accepted + quarantined + discarded + duplicate; `replaced` of the accepted have a successor.

    Objects received by runs that failed before they opened a batch are received again by the next one, and counted there.
    """

    resource: str
    batches: int = 0
    objects_received: int = 0
    objects_accepted: int = 0
    objects_partial: int = 0
    objects_refused: int = 0
    objects_waiting: int = 0
    objects_duplicate: int = 0
    decoded: int = 0
    accepted: int = 0
    quarantined: int = 0
    discarded: int = 0
    duplicate: int = 0
    replaced: int = 0
    problems: int = 0


@dataclass
class ReconcileReport:
    """All balances looked at. `examined` counts batches; a report that examined none is not ok. `rows` is for tables
    on a screen (Chinese headings), `problems` names every imbalance with its resource and batch."""

    ok: bool
    examined: int
    balances: list[BatchBalance]
    problems: list[str]
    resources: list[ResourceBalance] = field(default_factory=list)

    @property
    def totals(self) -> list[dict[str, Any]]:
        """One row a source, for a screen: the ledger of objects, then that of records."""
        return [
            {
                "资源": item.resource,
                "批次": item.batches,
                "收到对象": item.objects_received,
                "全部入库": item.objects_accepted,
                "部分入库": item.objects_partial,
                "拒收": item.objects_refused,
                "待处理": item.objects_waiting,
                "重复对象": item.objects_duplicate,
                "解码记录": item.decoded,
                "入库": item.accepted,
                "隔离": item.quarantined,
                "放弃": item.discarded,
                "重复": item.duplicate,
                "其中已被替代": item.replaced,
                "结论": "平" if not item.problems else f"{item.problems} 处不平",
            }
            for item in self.resources
        ]

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
                "隔离": balance.quarantined - balance.discarded,
                "放弃": balance.discarded,
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
    resources: list[ResourceBalance] = field(default_factory=list)


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


def _quarantined(con: duckdb.DuckDBPyConnection, contract: Contract, view: str) -> dict[str, int]:
    """Root records per batch in a view of the quarantine; a record that broke several rules counts once."""
    sql = (
        "SELECT batch_id, count(DISTINCT (source_object, record_no, byte_from))"
        f" FROM {view} WHERE resource = {quote_literal(contract.id)}"
        f" AND (table_name IS NULL OR table_name IN ({', '.join(quote_literal(o.table) for o in contract.roots)}))"
        " GROUP BY ALL"
    )
    return dict(con.execute(sql).fetchall())


def _restated(con: duckdb.DuckDBPyConnection, contract: Contract) -> dict[str, int]:
    """Stored rows per batch that a later update of the same record stands before: the key holds the time of the update."""
    root = contract.root
    if "updated_at" not in root.dedup or len(root.dedup) < 2 or not tables.exists(root.table):
        return {}
    keys = ", ".join(quote_name(key) for key in root.dedup if key != "updated_at")
    sql = (
        f"SELECT _batch_id, count(*) FROM (SELECT _batch_id, updated_at, max(updated_at) OVER (PARTITION BY {keys}) AS newest"
        f" FROM {quote_name(root.table)}) WHERE updated_at < newest GROUP BY ALL"
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
        if run["status"] not in _ENDED:
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
    return ReconcileReport(
        bool(found.balances) and not problems, len(found.balances), found.balances, problems, found.resources
    )


def _reconcile_contract(con: duckdb.DuckDBPyConnection, contract: Contract, found: _Findings) -> None:
    batches = ledger.batches(contract.id)
    archived = _archived(contract.id)
    counts = {obj.table: _counts(con, obj.table) for obj in contract.objects}
    quarantine.register_open(con)
    refused = _quarantined(con, contract, "open_quarantine")
    discarded = _quarantined(con, contract, "discarded_quarantine")
    replaced = dict(row_events.replaced_now(contract.id).group_by("batch_id").len().iter_rows())
    restated = _restated(con, contract)
    total, before = ResourceBalance(contract.id, len(batches)), len(found.problems)
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
            discarded=discarded.get(batch_id, 0),
            restated=restated.get(batch_id, 0),
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
        if balance.in_quarantine + balance.discarded != balance.quarantined:
            problems.append(
                f"隔离区有 {balance.in_quarantine} 条{f'、已放弃 {balance.discarded} 条' if balance.discarded else ''}"
                f"，台账记隔离 {balance.quarantined} 条"
            )
        if balance.status in ("withdrawn", "refused", "held") and any(balance.child_rows.values()):
            problems.append("批次未入湖，但子表仍有其数据行")
        problems += children.get(batch_id, [])
        found.balances.append(balance)
        _add(total, balance, objects)
    known = {batch["batch_id"] for batch in batches}
    for table, rows in counts.items():
        strangers = sorted(str(batch_id) for batch_id in set(rows) - known)
        if strangers:
            found.problems.append(f"{table} 含有台账中没有的批次（如 {strangers[0][:12]}）")
    found.problems += _run_problems(contract.id, objects_per_run)
    total.objects_duplicate = sum(
        run["duplicate_objects"] for run in ledger.runs(contract.id) if run["status"] in _ENDED
    )
    total.objects_received += total.objects_duplicate
    total.problems += len(found.problems) - before
    found.resources.append(total)


def _add(total: ResourceBalance, balance: BatchBalance, objects: list[dict[str, Any]]) -> None:
    """Count one batch into its source."""
    states = Counter(entry["status"] for entry in objects)
    total.objects_received += len(objects)
    total.objects_accepted += states["accepted"]
    total.objects_partial += states["partial"]
    total.objects_refused += states["refused"]
    total.objects_waiting += len(objects) - sum(states[name] for name in ("accepted", "partial", "refused"))
    for name in ("decoded", "accepted", "discarded", "duplicate"):
        setattr(total, name, getattr(total, name) + getattr(balance, name))
    total.replaced += balance.replaced + balance.restated
    total.quarantined += balance.quarantined - balance.discarded
    total.problems += len(balance.problems)
