"""Run the exchange: decide what is due, build it aside, make it appear whole, account for it.

A delivery is identified by (resource, business date, sequence). Its row in the ledger is written before anything is
built ("preparing") and closed after the folder appeared ("sent"). A crash leaves one of three states, each repaired by
the next run: no row (start), row and no folder (plan again: nothing left the house), row and folder (adopt it).
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from lake import clock, ledger, properties, steps, storage
from lake.errors import EXIT_INTERNAL, EXIT_USAGE, TiyuError
from lake.settings import settings
from sharing import files
from sharing.exchange import build as builder
from sharing.exchange import config, receipts
from sharing.exchange.build import Built, Plan
from sharing.exchange.config import DeliverySpec
from sharing.exchange.verify import verify


@dataclass(frozen=True)
class DeliveryResult:
    """What one run did about one delivery. action: sent | already_sent | adopted | resent."""

    resource: str
    batch_id: str
    action: str
    path: str
    row_count: int
    insert_count: int
    update_count: int
    delete_count: int


@dataclass(frozen=True)
class ExchangeReport:
    """Result of :func:`run_exchange`."""

    business_date: date
    deliveries: list[DeliveryResult]

    @property
    def written(self) -> int:
        """How many folders this run wrote."""
        return sum(result.action in ("sent", "resent") for result in self.deliveries)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "business_date": self.business_date.isoformat(),
            "written": self.written,
            "deliveries": [asdict(result) for result in self.deliveries],
        }


def outbox(business_date: date | None = None) -> Path:
    """The outbox, or the folder of one business date in it."""
    root = settings().exchange_root / "outbox"
    return root if business_date is None else root / business_date.isoformat()


@storage.coded()
@steps.step("exchange")
def run_exchange(
    business_date: date | None = None,
    *,
    resource: str | None = None,
    sequence: int | None = None,
    resend: bool = False,
    full_resync: bool = False,
) -> ExchangeReport:
    """Deliver every exchange resource for a business date (default: yesterday, the last complete day).

    Receipts that wait in the inbox are read first: the last accepted batch is what an increment builds on.
    Rerunning writes nothing. ``sequence`` asks for a further batch of the same day (a correction). ``resend`` sends a day
    again: as the next sequence with the data of today when the receiver refused it, in whole or in part; otherwise the
    batch the receiver lost, from the same table versions, and only if it is byte for byte the same.
    ``full_resync`` lets an increment start over from nothing, as the next batch of a day that was already sent; while such a
    batch waits for its answer, asking again writes nothing. A full delivery is whole anyway and takes no notice.

    Raises TIYU-EXC-0008 for a day that is not complete, 0009 for an increment out of order, 0004–0007 when the data must
    not leave, 0010/0012/0013 when a folder is not what it should be.
    """
    day = business_date or clock.yesterday()
    if day >= clock.today():
        raise TiyuError(
            "TIYU-EXC-0008",
            "业务日期尚未结束，不能交付",
            "等到次日，或给出更早的 --date",
            EXIT_USAGE,
            date=day,
            today=clock.today(),
        )
    specs = [config.find(resource)] if resource else config.load()
    if not specs:
        raise TiyuError("TIYU-EXC-0002", "没有任何交付可运行", "补齐交换契约", EXIT_USAGE)
    with files.exclusive(settings().exchange_root / ".lock"):
        _clean_aside()
        receipts.take_in()
        results = []
        for spec in specs:
            number, again = sequence or 1, resend
            if not sequence and resend:
                number, again = _resend_sequence(spec, day)
            elif not sequence and full_resync:
                number = _resync_sequence(spec, day)
            results.append(deliver(spec, day, number, resend=again, full_resync=full_resync))
            receipts.refresh_alerts(spec.resource)
    return ExchangeReport(day, results)


MENDED_UNATTENDED = 1
"""How many batches of one business date are sent without a person looking: a receiver that turns down the second one too
has a reason that another batch does not remove."""


def mend_refused() -> ExchangeReport:
    """Read the answers, and send again what the receiver turned down last: as the next sequence of the same business date.

    Done once per business date; what is turned down again stays with alert EC-01 for a person. Only the newest delivery
    of a resource is mended: the content of an older one is part of a later batch. Raises as :func:`run_exchange` does.
    """
    with files.exclusive(settings().exchange_root / ".lock"):
        _clean_aside()
        receipts.take_in()
        results, day = [], clock.yesterday()
        for spec in config.load():
            answers = receipts.answers(spec.resource)
            last = answers[-1] if answers else None
            if last is None or last.state not in ("rejected", "partial") or last.row["sequence"] > MENDED_UNATTENDED:
                continue
            day = last.row["business_date"]
            results.append(deliver(spec, day, last.row["sequence"] + 1))
            receipts.refresh_alerts(spec.resource)
    return ExchangeReport(day, results)


def _resend_sequence(spec: DeliverySpec, day: date) -> tuple[int, bool]:
    """What sending a day again means: the sequence, and whether it is the same bytes of a sent one."""
    answers = [a for a in receipts.answers(spec.resource) if a.row["business_date"] == day]
    if not answers:
        return 1, True
    last = answers[-1]
    mended = last.state in ("rejected", "partial")
    return last.row["sequence"] + int(mended), not mended


def _resync_sequence(spec: DeliverySpec, day: date) -> int:
    """The batch in which an increment starts over: the next one, unless the newest does and is not answered yet."""
    answers = [a for a in receipts.answers(spec.resource) if a.row["business_date"] == day]
    if spec.mode == "F" or not answers:
        return 1
    row = answers[-1].row
    waits = answers[-1].receipt is None and json.loads(row["detail"])["base_batch_id"] is None
    return row["sequence"] if waits else row["sequence"] + 1


def _aside_root() -> Path:
    return settings().exchange_root / ".aside"


def _clean_aside() -> None:
    """Remove what a crashed run left behind; safe because the caller holds the lock."""
    shutil.rmtree(_aside_root(), ignore_errors=True)
    _aside_root().mkdir(parents=True, exist_ok=True)


def deliver(
    spec: DeliverySpec, day: date, sequence: int, *, resend: bool = False, full_resync: bool = False
) -> DeliveryResult:
    """Bring one delivery to the state "sent". The caller holds the exchange lock."""
    existing = {row["sequence"]: row for row in ledger.deliveries(spec.resource, day)}
    row = existing.get(sequence)
    if sequence > 1 and (existing.get(sequence - 1) or {}).get("status") != "sent":
        raise TiyuError(
            "TIYU-EXC-0009",
            "前一批次还没有交付，不能跳号",
            "先交付较小的批次号",
            EXIT_USAGE,
            resource=spec.resource,
            date=day,
            sequence=sequence,
        )
    target = outbox(day) / spec.stem(day, sequence)
    if row and row["status"] == "sent":
        return _resend(spec, row) if resend and not target.exists() else _result(spec, row, "already_sent")
    if resend:
        raise TiyuError(
            "TIYU-EXC-0015", "该批次从未交付，无法重发", "去掉 --resend", EXIT_USAGE, resource=spec.resource, date=day
        )
    if row and target.exists():
        return _adopt(spec, row, target)
    if target.exists():
        raise TiyuError(
            "TIYU-EXC-0010",
            "发件箱里有台账没有记录的同名交付",
            "核对后移走该目录再重跑",
            EXIT_INTERNAL,
            path=target.name,
        )
    plan = _plan(spec, day, sequence, full_resync)
    values = _plan_row(spec, plan)
    ledger.upsert(ledger.delivery, values)
    built = _build_checked(spec, plan)
    _publish(built, target)
    values = {**values, **_sent_values(plan, built.manifest, target)}
    ledger.upsert(ledger.delivery, values)
    return _result(spec, values, "sent")


def _plan(spec: DeliverySpec, day: date, sequence: int, full_resync: bool) -> Plan:
    sent = [row for row in ledger.deliveries(spec.resource) if row["status"] == "sent"]
    later = [row for row in sent if row["business_date"] > day]
    if later:
        raise TiyuError(
            "TIYU-EXC-0009",
            "更晚的业务日期已经交付，不能再补交这一天",
            "这一天的变化已包含在之后的批次里；要更正请交付新的批次",
            EXIT_USAGE,
            resource=spec.resource,
            date=day,
            last=later[-1]["business_date"],
        )
    plan = Plan(
        day,
        sequence,
        builder.checked_source(spec),
        clock.as_of(),
        is_initial=not sent,
        banner=properties.demo_banner(),
    )
    if spec.mode == "F" or not sent or full_resync:
        return plan
    standing = receipts.standing(spec.resource)
    if standing.base is None:  # the receiver holds nothing we know of: start over
        return plan
    return replace(
        plan,
        base_batch_id=standing.base["delivery_id"],
        base_version=standing.base["source_version"],
        base_date=standing.base["business_date"],
        outstanding=tuple((row["source_version"], row["business_date"]) for row in standing.outstanding),
    )


def _detail(plan: Plan, batch_id: str, schema_version: str, provider_uscc: str, **more: Any) -> str:
    """What the ledger keeps of a plan, so that :func:`_plan_of` can give it back."""
    detail = {
        "batch_id": batch_id,
        "planned_at": plan.planned_at.isoformat(),
        "is_initial": plan.is_initial,
        "base_batch_id": plan.base_batch_id,
        "base_version": plan.base_version,
        "base_date": plan.base_date.isoformat() if plan.base_date else None,
        "outstanding": [[version, day.isoformat()] for version, day in plan.outstanding],
        "banner": plan.banner,
        "schema_version": schema_version,
        "provider_uscc": provider_uscc,
        **more,
    }
    return json.dumps(detail, ensure_ascii=False)


def _plan_row(spec: DeliverySpec, plan: Plan) -> dict[str, Any]:
    batch_id = spec.batch_id(plan.business_date, plan.sequence)
    return {
        "delivery_id": batch_id,
        "resource": spec.resource,
        "mode": spec.mode,
        "business_date": plan.business_date,
        "sequence": plan.sequence,
        "status": "preparing",
        "stem": spec.stem(plan.business_date, plan.sequence),
        "source_table": spec.table,
        "source_version": plan.source_version,
        "due_at": spec.due_at(plan.business_date),
        "detail": _detail(plan, batch_id, spec.schema_version, spec.provider.uscc),
    }


def _plan_of(row: dict[str, Any]) -> Plan:
    detail = json.loads(row["detail"])
    return Plan(
        row["business_date"],
        row["sequence"],
        row["source_version"],
        datetime.fromisoformat(detail["planned_at"]),
        detail["is_initial"],
        detail["base_batch_id"],
        detail["base_version"],
        date.fromisoformat(detail["base_date"]) if detail["base_date"] else None,
        detail["banner"],
        tuple((version, date.fromisoformat(day)) for version, day in detail.get("outstanding", [])),
    )


def _sent_values(plan: Plan, manifest: dict[str, Any], target: Path) -> dict[str, Any]:
    detail = _detail(
        plan,
        manifest["batch_id"],
        manifest["schema_version"],
        manifest["provider_uscc"],
        late_row_count=manifest["late_row_count"],
        files=manifest["files"],
        written_at=clock.utc_now().isoformat(),
    )
    return {
        "status": "sent",
        "path": str(target.relative_to(settings().exchange_root)),
        "row_count": manifest["row_count"],
        "insert_count": manifest["insert_count"],
        "update_count": manifest["update_count"],
        "delete_count": manifest["delete_count"],
        # Lateness is a business fact: judged by the business clock, like freshness. detail.written_at is the technical time.
        "sent_at": clock.as_of(),
        "detail": detail,
    }


def _build_checked(spec: DeliverySpec, plan: Plan) -> Built:
    """Build aside, then check it exactly as the receiver will, before anybody can see it."""
    folder = _aside_root() / f"{spec.stem(plan.business_date, plan.sequence)}.{os.getpid()}"
    built = builder.build(spec, plan, folder)
    report = verify(folder)
    if not report.ok:
        raise TiyuError(
            "TIYU-EXC-0012",
            "交付在出门前自检未通过，没有发出",
            "按检查代码修正数据或契约后重跑",
            resource=spec.resource,
            checks=[r.code for r in report.results if r.outcome != "pass"],
        )
    return built


def _publish(built: Built, target: Path) -> None:
    """The folder appears in the outbox in one rename."""
    files.publish_folder(built.folder, target)


def _adopt(spec: DeliverySpec, row: dict[str, Any], target: Path) -> DeliveryResult:
    """A folder that appeared just before a crash: check it and close its ledger row; nothing is written twice."""
    report = verify(target)
    manifest = report.manifest
    if not report.ok or manifest is None or manifest["source_version"] != row["source_version"]:
        raise TiyuError(
            "TIYU-EXC-0010",
            "发件箱里的交付与台账不一致",
            "把该目录移出发件箱后重跑，会重新生成并交付",
            EXIT_INTERNAL,
            path=target.name,
            checks=report.failed_codes,
        )
    values = {**row, **_sent_values(_plan_of(row), manifest, target)}
    ledger.upsert(ledger.delivery, values)
    return _result(spec, values, "adopted")


def _resend(spec: DeliverySpec, row: dict[str, Any]) -> DeliveryResult:
    """Build a sent batch again from the same versions; it must be the same bytes."""
    plan, detail = _plan_of(row), json.loads(row["detail"])
    built = _build_checked(spec, plan)
    if built.manifest["files"] != detail["files"]:
        raise TiyuError(
            "TIYU-EXC-0013",
            "重新生成的内容与当初交付的不一致，没有重发",
            "契约或数据版本已变化：请改交新的批次（--sequence）",
            EXIT_INTERNAL,
            resource=spec.resource,
            batch_id=detail["batch_id"],
        )
    _publish(built, settings().exchange_root / row["path"])
    return _result(spec, row, "resent")


def _result(spec: DeliverySpec, row: dict[str, Any], action: str) -> DeliveryResult:
    return DeliveryResult(
        spec.resource,
        spec.batch_id(row["business_date"], row["sequence"]),
        action,
        str(settings().exchange_root / row["path"]),
        row["row_count"],
        row["insert_count"],
        row["update_count"],
        row["delete_count"],
    )


@dataclass(frozen=True)
class DueDay:
    """One resource on one business date of the calendar.

    state: sent (in time) | late (sent after it was due) | initial (first delivery; not judged) | due (time not yet up) |
    overdue (time is up, nothing sent) | merged (missed, but contained in a later batch).
    sent_at, state, row_count, batch_id and path are those of the first batch of the day, the one that was due; sequence,
    newest_row_count and answer (see ``receipts.Answer``, None when nothing was sent) those of the newest. Times are Shanghai's.
    """

    resource: str
    title_zh: str
    mode: str
    business_date: date
    due_at: datetime
    sent_at: datetime | None
    state: str
    late_hours: float
    row_count: int | None
    batch_id: str | None
    path: str | None
    sequence: int | None = None
    newest_row_count: int | None = None
    answer: str | None = None
    answered_at: datetime | None = None


STATES_ZH = {
    "sent": "按时",
    "late": "迟交",
    "initial": "首次交付",
    "due": "待交",
    "overdue": "逾期未交",
    "merged": "已并入后续批次",
}


def status(days: int = 7) -> list[DueDay]:
    """The calendar of every delivery: last ``days`` business dates up to yesterday, newest first.

    A resource's calendar starts with its first delivery; before that it shows what is due now.
    """
    now, end = clock.as_of(), clock.yesterday()
    calendar: list[DueDay] = []
    for spec in config.load():
        rows = ledger.deliveries(spec.resource)
        answers = {answer.row["business_date"]: answer for answer in receipts.answers(spec.resource)}
        # The first batch of a day is the one that was due; later sequences are corrections.
        sent = {row["business_date"]: row for row in reversed(rows) if row["status"] == "sent"}
        first, last = (min(sent), max(sent)) if sent else (end, None)
        start = max(first, end - timedelta(days=days - 1))
        for offset in range((end - start).days + 1):
            day = end - timedelta(days=offset)
            item = _due_day(spec, day, sent.get(day), last, now)
            newest = answers.get(day)
            if newest:
                item = replace(
                    item,
                    sequence=newest.row["sequence"],
                    newest_row_count=newest.row["row_count"],
                    answer=newest.state,
                    answered_at=newest.receipt["received_at"].astimezone(clock.SHANGHAI) if newest.receipt else None,
                )
            calendar.append(item)
    return sorted(calendar, key=lambda item: (-item.business_date.toordinal(), item.resource))


def _due_day(spec: DeliverySpec, day: date, row: dict[str, Any] | None, last: date | None, now: datetime) -> DueDay:
    due = spec.due_at(day)
    if row:
        late = max(0.0, (row["sent_at"] - due).total_seconds() / 3600)
        initial = json.loads(row["detail"])["is_initial"]
        state = "initial" if initial else ("late" if late else "sent")
        return DueDay(
            spec.resource,
            spec.title_zh,
            spec.mode,
            day,
            due,
            row["sent_at"].astimezone(clock.SHANGHAI),
            state,
            0.0 if initial else round(late, 1),
            row["row_count"],
            row["delivery_id"],
            row["path"],
        )
    late = max(0.0, (now - due).total_seconds() / 3600)
    state = "merged" if last and day < last else ("overdue" if late else "due")
    return DueDay(
        spec.resource,
        spec.title_zh,
        spec.mode,
        day,
        due,
        None,
        state,
        round(late, 1) if state == "overdue" else 0.0,
        None,
        None,
        None,
    )
