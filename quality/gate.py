"""The quality gate: Great Expectations judges what changed, and only what passed becomes visible.

A table is judged at the head version read at the start, over all partitions touched since its checked version, and
its checked version moves to exactly that head, all tables of a source contract together. Otherwise it stays where it
was, an alert is opened and the task fails. In an ODS table the batches that brought the failing rows are withdrawn
(`quality.withdrawal`), so that a bad batch neither blocks the good ones that follow nor is ever let through.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

import duckdb

from lake import ledger, query, steps, storage, tables
from lake.clock import utc_now
from lake.errors import EXIT_INTERNAL, EXIT_USAGE, TiyuError
from lake.query import quote_name, scan_sql
from quality import certificates, checks, engine, withdrawal
from quality.checks import EXAMINED_RULE, TableChecks
from quality.engine import Judgement, Target, failing_batches_sql, judged_sql, ranges_of, rows_sql

if TYPE_CHECKING:
    from catalog.contracts import Contract, ObjectSpec

ALERT_RULE = "QG-01"
NOTHING = "nothing_to_examine"


@dataclass
class TableVerdict:
    """What became of one table. outcome: pass | fail | error | nothing_to_examine."""

    table: str
    outcome: str
    examined: int = 0
    checked_from: int | None = None
    head: int | None = None
    moved_to: int | None = None
    partitions: int | None = None
    failed_rules: list[str] = field(default_factory=list)
    error_rules: list[str] = field(default_factory=list)
    rule_count: int = 0


@dataclass
class GateReport:
    """One gate run. `examined` counts rows; `withdrawn` maps resource → batches taken back, `repaired` table → rows
    of withdrawals that a crash had interrupted."""

    run_id: str
    tables: list[TableVerdict]
    withdrawn: dict[str, list[str]] = field(default_factory=dict)
    repaired: dict[str, int] = field(default_factory=dict)
    ok: bool = False
    examined: int = 0

    def close(self) -> None:
        """Sum up once every table has its verdict."""
        self.ok = all(verdict.outcome in ("pass", NOTHING) for verdict in self.tables)
        self.examined = sum(verdict.examined for verdict in self.tables)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


@dataclass
class _Work:
    """A table on its way through the gate."""

    verdict: TableVerdict
    target: Target | None = None
    days: set[date] | None = None
    judgements: list[Judgement] = field(default_factory=list)
    standing: certificates.Standing | None = None


def _contracts_of(names: Sequence[str]) -> tuple[list[Contract], list[str]]:
    """The source contracts behind the ODS tables asked for, and the ADS tables."""
    ads = [name for name in names if tables.layer_of(name) == "ads"]
    ods = [name for name in names if tables.layer_of(name) == "ods"]
    other = set(names) - set(ads) - set(ods)
    if other or not names:
        raise TiyuError(
            "TIYU-QG-0005", "质量闸门只判定 ODS 与 ADS 表", "DIM、DWD、DWS 由 dbt 测试放行；请只给出 ods_ 或 ads_ 开头的表", EXIT_USAGE,
            tables=sorted(other) or None,
        )  # fmt: skip
    if not ods:
        return [], ads
    from catalog import contracts

    by_table = {obj.table: contract for contract in contracts.load_all("source").values() for obj in contract.objects}
    unknown = sorted(set(ods) - set(by_table))
    if unknown:
        raise TiyuError(
            "TIYU-QG-0003", "该表没有声明质量规则，不能放行", "检查表名；ODS 表须由 catalog/contracts/sources 中的契约声明", EXIT_USAGE,
            table=unknown[0],
        )  # fmt: skip
    unique = {by_table[name].id: by_table[name] for name in ods}
    return list(unique.values()), ads


def _told_apart_by(obj: ObjectSpec) -> list[str]:
    """The columns that may not repeat in a partition: the key, unless the contract stores what repeats it."""
    rule = obj.dedup_rule
    if rule is None or (rule.on_same == "duplicate" and rule.on_changed != "version"):
        return list(obj.dedup)
    if rule.on_same == "keep":
        return ["_source_object", "_record_no"]
    return [prop.name for prop in obj.properties]


def ods_checks(contract: Contract, table: str) -> TableChecks:
    """The checks of an ODS table: its quarantine-severity row rules, where they can be asked of stored data.

    A rule that needs the raw identifier, or a column that is not stored, was settled at ingestion and is listed as
    skipped. On top: what tells rows apart is unique per partition, nothing came later than allowed, and the technical columns are
    present.
    """
    from catalog import rules, schemas

    obj = contract.object(table)
    stored = set(schemas.ods_schema(obj).names)
    wanted: list[checks.Check] = [checks.unique(_told_apart_by(obj), f"{obj.rule_prefix}.dedup")]
    wanted += [
        checks.not_null(column, f"{obj.rule_prefix}.{column}.technical")
        for column in ("part_date", "_batch_id", "_record_no", "_source_object", "_ingested_at")
    ]
    if obj.late and obj.late.refuse_after_days is not None:
        arrived = "cast(timezone('Asia/Shanghai', _ingested_at) as date)"
        oldest = f"part_date >= {arrived} - INTERVAL {obj.late.refuse_after_days} DAY"
        wanted.append(checks.Check(obj.late_rule_id, "row", "迟到超过契约允许的天数", oldest, ("part_date",)))
    skipped: list[str] = []
    references: set[str] = set()
    for rule in obj.rules:
        if rule.severity != "quarantine":
            continue
        if rule.needs_raw or not set(rule.columns) <= stored:
            skipped.append(rule.rule_id)
            continue
        compiled = rules.compile(rule)
        wanted.append(checks.Check(rule.rule_id, "row", rule.message_zh, compiled.predicate, tuple(rule.columns)))
        references |= {name for name, _ in compiled.references}
    return TableChecks(table, tuple(wanted), not obj.is_root, "part_date", tuple(sorted(references)), tuple(skipped))


def _columns(table: str, version: int) -> list[str]:
    return [entry.name for entry in tables.open_table(table, version).schema().fields]


def _prepare(con: duckdb.DuckDBPyConnection, table: str, contract: Contract | None) -> _Work:
    """Pin the head, find out what changed and how many rows there are to examine."""
    checked, head = ledger.checked_version(table), tables.version(table)
    work = _Work(TableVerdict(table, NOTHING, checked_from=checked, head=head))
    if head is None or head == checked:
        return work
    # Without a checked version all commits count, from the very first; None means "cannot know": judge everything.
    work.days = tables.touched_dates(table, -1 if checked is None else checked, head)
    if work.days == set():
        work.verdict.partitions = 0
        work.verdict.moved_to = head  # only content-free commits since: same rows, newer version
        return work
    table_checks = ods_checks(contract, table) if contract else checks.ads_checks(table, _columns(table, head))
    if table_checks.part_column is None:
        work.days = None
    ranges = None if work.days is None else ranges_of(work.days)
    target = Target(table_checks, head, ranges)
    work.verdict.partitions = None if work.days is None else len(work.days)
    work.verdict.rule_count = len(table_checks.checks) + 1
    count = f"SELECT count(*) FROM ({rows_sql(table, head, ranges, table_checks.part_column)}) AS judged"
    work.verdict.examined = int(con.execute(count).fetchall()[0][0])
    if work.verdict.examined == 0:
        return _nothing_there(con, work, target)
    work.target = target
    return work


def _nothing_there(con: duckdb.DuckDBPyConnection, work: _Work, target: Target) -> _Work:
    """Partitions changed but hold no row: fine for a table that may be empty or that lost only withdrawn batches."""
    verdict, table = work.verdict, target.table
    before = 0
    if verdict.checked_from is not None:
        rows = rows_sql(table, verdict.checked_from, target.ranges, target.checks.part_column)
        before = int(con.execute(f"SELECT count(*) FROM ({rows}) AS seen").fetchall()[0][0])
    after = -1 if verdict.checked_from is None else verdict.checked_from
    withdrawn = any(withdrawal.WITHDRAWN in entry for entry in tables.history(table, after, target.version))
    if target.checks.may_be_empty or (before == 0 and withdrawn):
        verdict.moved_to = target.version
    else:
        verdict.outcome = "fail"
        verdict.failed_rules.append(EXAMINED_RULE)
        work.target = target
    return work


def _new_batches(con: duckdb.DuckDBPyConnection, work: _Work) -> set[str]:
    """Batches in the judged rows that no reader has seen yet."""
    target = work.target
    if target is None:
        return set()
    head = rows_sql(target.table, target.version, target.ranges)
    sql = f"SELECT DISTINCT _batch_id FROM ({head}) AS judged"
    if work.verdict.checked_from is not None:
        seen = rows_sql(target.table, work.verdict.checked_from, target.ranges)
        sql += f" EXCEPT SELECT DISTINCT _batch_id FROM ({seen}) AS seen"
    return {row[0] for row in con.execute(sql).fetchall() if row[0] is not None}


def _bad_batches(con: duckdb.DuckDBPyConnection, work: _Work) -> set[str]:
    """New batches that brought failing rows; for a condition on the whole table all new batches."""
    target = work.target
    new = _new_batches(con, work)
    if target is None or not new:
        return set()
    con.execute(f"CREATE OR REPLACE TEMP VIEW judged AS {judged_sql(target)}")
    bad: set[str] = set()
    for number, judgement in enumerate(work.judgements):
        if judgement.outcome != "fail":
            continue
        if judgement.check.kind == "table":
            return new
        bad |= {row[0] for row in con.execute(failing_batches_sql(target, number, judgement.check)).fetchall()}
    return bad & new


def _settle(work: _Work, judgements: list[Judgement]) -> None:
    work.judgements = judgements
    verdict = work.verdict
    verdict.failed_rules += [item.check.rule_id for item in judgements if item.outcome == "fail"]
    verdict.error_rules += [item.check.rule_id for item in judgements if item.outcome == "error"]
    verdict.outcome = "error" if verdict.error_rules else "fail" if verdict.failed_rules else "pass"


def _require_certificates(works: list[_Work]) -> None:
    """What a table of ours is about to show must rest on certificates of the very version; otherwise it fails."""
    released = {
        work.verdict.table: (work, work.verdict.head)
        for work in works
        if work.verdict.outcome == "pass" or work.verdict.moved_to is not None
    }
    versions = {table: head for table, (_, head) in released.items() if head is not None}
    for table, standing in (certificates.standing(versions) if versions else {}).items():
        work = released[table][0]
        work.standing = standing
        work.verdict.rule_count += 1
        if standing.problems:
            work.verdict.outcome = "fail"
            work.verdict.failed_rules.append(certificates.RULE)


def _certificate_words(standing: certificates.Standing) -> str:
    return "；".join(f"{column}：{text}" for column, text in standing.problems)


def _result_rows(run_id: str, work: _Work) -> list[dict[str, Any]]:
    """Ledger rows of one table: the examined-rows rule, every check, the certificates of its breakers. Counts and class
    names, never values."""
    now, verdict = utc_now(), work.verdict
    common = {
        "run_id": run_id,
        "table_name": verdict.table,
        "layer": tables.layer_of(verdict.table),
        "examined_count": verdict.examined,
        "part_date_from": min(work.days) if work.days else None,
        "part_date_to": max(work.days) if work.days else None,
        "checked_at": now,
    }
    rows: list[dict[str, Any]] = []
    if work.standing is not None:
        rows.append(
            {
                **common,
                "rule_id": certificates.RULE,
                "outcome": "fail" if work.standing.problems else "pass",
                "examined_count": work.standing.examined,
                "failed_count": len(work.standing.problems),
                "message": _certificate_words(work.standing) or "每项降级措施都有本版本的有效证书",
            }
        )
    if work.target is None:
        return rows
    rows.append(
        {
            **common,
            "rule_id": EXAMINED_RULE,
            "outcome": "fail" if EXAMINED_RULE in verdict.failed_rules else "pass",
            "failed_count": int(EXAMINED_RULE in verdict.failed_rules),
            "message": "有分区变化时必须检查到数据行",
        }
    )
    for item in work.judgements:
        note = (
            f"{item.check.message_zh}（规则执行出错：{item.error}）"
            if item.outcome == "error"
            else item.check.message_zh
        )
        rows.append(
            {
                **common,
                "rule_id": item.check.rule_id,
                "outcome": item.outcome,
                "failed_count": item.failed_count,
                "message": note,
            }
        )
    return rows


def _require_finished(contract: Contract) -> None:
    """Refuse to judge while a batch of the contract is half in the lake: its counts, and so its withdrawal, are unknown."""
    for batch in ledger.batches(contract.id, "archived"):
        # a batch that is read again under a new contract version is missing from the tables until it is done
        if batch["supersedes"] or any(tables.has_batch(obj.table, batch["batch_id"]) for obj in contract.objects):
            raise TiyuError(
                "TIYU-QG-0006", "有批次尚未入湖完毕，暂不判定", "重跑 tiyu ingest，它会从中断处续作，然后再跑质量闸门",
                resource=contract.id, batch=batch["batch_id"],
            )  # fmt: skip


@storage.coded()
def run_gate(names: Sequence[str], run_id: str | None = None) -> GateReport:
    """Judge what changed in the given ODS and ADS tables and move the checked versions of what passed.

    All tables of a source contract are judged and moved together, whichever of them was named.
    An ADS table with breakers needs their valid certificates of the very version that is to be seen.
    Raises TIYU-QG-0001 when a rule failed, TIYU-QG-0002 when a rule could not be evaluated (neither pass nor fail),
    TIYU-QG-0007 when nothing but a certificate is missing or invalid, TIYU-QG-0003 for a table without declared rules, TIYU-QG-0005 for a table of another layer, TIYU-QG-0006 while an
    interrupted ingest has left a batch half in the lake. The report of a failed
    run is in the error's context (`report`), the details in the ledger.
    """
    run_id = run_id or f"gate-{utc_now():%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
    contracts, ads = _contracts_of(list(dict.fromkeys(names)))
    report = GateReport(run_id, [])
    with steps.step("gate-ods" if contracts else "gate-ads"), closing(query.connect()) as con:
        for contract in contracts:
            _require_finished(contract)
            report.repaired |= withdrawal.repair(con, contract)
        groups: list[tuple[Contract | None, list[_Work]]] = [
            (contract, [_prepare(con, obj.table, contract) for obj in contract.objects]) for contract in contracts
        ]
        groups += [(None, [_prepare(con, table, None)]) for table in ads]
        _judge(con, [work for _, works in groups for work in works])
        _require_certificates([work for owner, works in groups if owner is None for work in works])
        for owner, works in groups:
            report.tables += [work.verdict for work in works]
            ledger.record_quality([row for work in works for row in _result_rows(run_id, work)])
            _conclude(con, run_id, owner, works, report)
    report.close()
    _raise(report, {work.verdict.table: work.standing for _, works in groups for work in works if work.standing})
    return report


def _judge(con: duckdb.DuckDBPyConnection, works: list[_Work]) -> None:
    """One Great Expectations run over everything there is to judge."""
    pending = [work for work in works if work.target is not None and work.verdict.examined]
    registered: dict[str, int] = {}
    for work in pending:
        for name in work.target.checks.references if work.target else ():
            head = tables.version(name)
            if head is not None:
                registered[name] = head
    for name, head in registered.items():
        con.execute(f"CREATE OR REPLACE TEMP VIEW {quote_name(name)} AS SELECT * FROM {scan_sql(name, head)}")
    for work in pending:
        if work.target is not None:
            work.target = engine.bindable(con, work.target)
    verdicts = engine.judge(con, [work.target for work in pending if work.target is not None], registered)
    for work in pending:
        _settle(work, verdicts[work.verdict.table])


def _conclude(
    con: duckdb.DuckDBPyConnection, run_id: str, contract: Contract | None, works: list[_Work], report: GateReport
) -> None:
    """One decision for the group: move all checked versions, or keep them, open an alert and withdraw."""
    subject = contract.root.table if contract else works[0].verdict.table
    outcomes = {work.verdict.outcome for work in works}
    if not outcomes & {"fail", "error"}:
        moves = {}
        for work in works:
            verdict = work.verdict
            if verdict.outcome == "pass":
                verdict.moved_to = verdict.head
            if verdict.moved_to is not None:
                moves[verdict.table] = verdict.moved_to
        ledger.set_checked_versions(moves, run_id)
        if "pass" in outcomes:
            ledger.close_alert(ALERT_RULE, "table", subject)
        return
    for work in works:
        work.verdict.moved_to = None
    failed = sorted({rule for work in works for rule in work.verdict.failed_rules})
    crashed = sorted({rule for work in works for rule in work.verdict.error_rules})
    withdrawn: list[str] = []
    if (
        contract and not crashed
    ):  # a rule that crashed is no verdict on the batch: keep it, unseen, until the rule works
        bad = set().union(*(_bad_batches(con, work) for work in works))
        if bad:
            withdrawn = sorted(bad)
            reason = f"质量闸门未通过，整批撤回（{'、'.join(failed[:5])}{'等' if len(failed) > 5 else ''}）"
            days: set[date] | None = set()
            for work in works:
                if work.target is not None:
                    days = None if work.days is None or days is None else days | work.days
            withdrawal.withdraw(con, contract, withdrawn, reason, ranges_of(days) if days else None)
            report.withdrawn[contract.id] = withdrawn
    message = (
        "质量规则执行出错" if crashed else "质量闸门未通过，批次已撤回" if withdrawn else "质量闸门未通过，数据未放行"
    )
    evidence = {"run_id": run_id, "failed_rules": failed, "error_rules": crashed, "withdrawn_batches": withdrawn}
    ledger.open_alert(ALERT_RULE, "table", subject, severity="orange", message=message, evidence=evidence)
    for batch_id in withdrawn:  # stays open until a person has dealt with the batch: later good data does not answer it
        ledger.open_alert(ALERT_RULE, "batch", batch_id, severity="orange", message=message, evidence=evidence)


def _raise(report: GateReport, standings: dict[str, certificates.Standing]) -> None:
    bad = [verdict for verdict in report.tables if verdict.outcome in ("fail", "error")]
    if not bad:
        return
    crashed = [verdict for verdict in bad if verdict.outcome == "error"]
    context: dict[str, Any] = {
        "run_id": report.run_id,
        "tables": ",".join(verdict.table for verdict in bad),
        "rules": ",".join(sorted({rule for verdict in bad for rule in verdict.failed_rules + verdict.error_rules})[:8]),
        "withdrawn": ",".join(batch for batches in report.withdrawn.values() for batch in batches) or None,
    }
    if crashed:
        raise TiyuError(
            "TIYU-QG-0002", "质量规则执行出错，既不算通过也不算不通过，数据未放行",
            "查看台账 quality_result 中 outcome=error 的规则，修正规则或表结构后重跑质量闸门", EXIT_INTERNAL, **context,
        )  # fmt: skip
    uncertified = [verdict.table for verdict in bad if verdict.failed_rules == [certificates.RULE]]
    if len(uncertified) == len(bad):
        raise TiyuError(
            "TIYU-QG-0007", "降级措施没有本版本的有效证书，数据未放行",
            "重跑 tiyu build --layer ads，它会重新计算证书；仍无效时按原因修正模型、隐匿小组、提高该列级别或重新批准",
            **context, problems="；".join(_certificate_words(standings[table]) for table in uncertified),
        )  # fmt: skip
    hint = (
        "坏批次已撤回到隔离区（规则 QG-01）；请数据来源方更正后重新报送，重跑本任务即可放行其余数据"
        if report.withdrawn
        else "查看台账 quality_result 中不通过的规则，修正上游数据或模型后重跑"
    )
    raise TiyuError("TIYU-QG-0001", "质量闸门未通过，下游继续使用上一个已检版本", hint, **context)


def withdraw_batches(resource: str, batch_ids: list[str], reason: str) -> dict[str, int]:
    """An operator's decision: take batches back that were let through earlier. Returns rows deleted per table.

    The next gate run judges the partitions concerned and makes the smaller table visible.
    """
    from catalog import contracts

    con = query.connect()
    try:
        return withdrawal.withdraw(con, contracts.load(resource), batch_ids, reason)
    finally:
        con.close()
