"""Read the receiver's answers and know from them what the receiver holds.

A receipt is recorded once (its id is the SM3 of its file). One that does not fit the schema, an unknown delivery, the
numbers sent or an earlier answer is refused with a code and an alert, and read again the next time. Nothing that was
sent is forgotten: a delivery is pending until it is answered or a later accepted one contains it (ADR 0010).
"""

from __future__ import annotations

import csv
import hmac
import io
import json
import os
import re
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from lake import clock, ledger
from lake.errors import TiyuError
from lake.settings import settings
from protection.redaction import redact
from sharing import files
from sharing.exchange import published
from sharing.exchange.codes import BY_CODE

REJECTED_ALERT = "EC-01"
REFUSED_ALERT = "EC-02"
OVERDUE_ALERT = "EC-03"
RESTORED_ALERT = "EC-04"
ANSWER_DAYS = 2  # working days the receiver has (interface specification, §9)
REJECT_HEADER = ["row_no", "rule_id", "masked_value"]
_MASKED = re.compile(r"(?:空|\\N|.?\*{3,})?")
_FOREIGN = re.compile(r"[^!-~]+")
_PLAIN_NAME = re.compile(r"^[0-9A-Za-z][0-9A-Za-z._-]*$")

STATES_ZH = {
    "pending": "待回执",
    "unanswered": "逾期未回执",
    "accepted": "已接收",
    "partial": "部分接收",
    "rejected": "被拒收",
    "superseded": "已由后续批次覆盖",
    "lost": "接收方恢复后丢失",
}


@dataclass(frozen=True)
class Answer:
    """What became of one sent delivery.

    state: pending | unanswered (pending for longer than agreed) | accepted | partial | rejected | superseded (a later
    accepted batch contains it) | lost (accepted once, but the receiver now holds an earlier state).
    """

    row: dict[str, Any]
    state: str
    receipt: dict[str, Any] | None


@dataclass(frozen=True)
class Standing:
    """Where the receiver stands with one resource: the base of the next increment and what was sent after it."""

    base: dict[str, Any] | None
    outstanding: list[dict[str, Any]]
    answers: bool


@dataclass(frozen=True)
class ReceiptResult:
    """One receipt file. outcome: recorded | known | refused. reasons: what the receiver named, None when it took all."""

    name: str
    outcome: str
    batch_id: str | None
    status: str | None
    rows_bad: int | None
    code: str | None = None
    message: str | None = None
    reasons: str | None = None


@dataclass(frozen=True)
class ReceiveReport:
    """Result of :func:`receive`. unread: files of the inbox that are neither a receipt by their name nor named by one."""

    receipts: list[ReceiptResult]
    unread: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """False when a receipt was refused, or a delivery newly turned down, in whole (be it of 0 rows) or in part."""
        return not any(
            r.outcome == "refused" or (r.outcome == "recorded" and r.status != "ACCEPTED") for r in self.receipts
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "ok": self.ok,
            "examined": len(self.receipts),
            "receipts": [asdict(r) for r in self.receipts],
            "unread": self.unread,
        }


def inbox() -> Path:
    """Where the receiver puts its answers."""
    return settings().exchange_root / "inbox"


def schema_path() -> Path:
    """The published JSON Schema of a receipt."""
    return settings().repo_root / "docs" / "interface_spec" / "receipt.schema.json"


def receive() -> ReceiveReport:
    """Read every receipt in the inbox; running it again records nothing twice."""
    with files.exclusive(settings().exchange_root / ".lock"):
        return take_in()


def take_in() -> ReceiveReport:
    """The same for a caller that holds the exchange lock. A bad receipt never stops the others."""
    known = {row["receipt_id"]: row for row in ledger.receipts()}
    fresh: list[tuple[datetime, str, Path, bytes, dict[str, Any]]] = []
    results: list[ReceiptResult] = []
    belonging: set[str | None] = set()
    for path in sorted(inbox().glob("*.receipt.json")):
        data = path.read_bytes()
        seen = known.get(files.sm3_bytes(data))
        if seen:
            said = json.loads(seen["body"])
            belonging.add(said.get("reject_file"))
            results.append(
                ReceiptResult(
                    shown(path.name),
                    "known",
                    seen["delivery_id"],
                    seen["status"],
                    seen["rows_bad"],
                    reasons=reasons(said),
                )
            )
            continue
        try:
            receipt = _parse(path, data)
            belonging.add(receipt.get("reject_file"))
            fresh.append((datetime.fromisoformat(receipt["received_at"]), path.name, path, data, receipt))
        except TiyuError as error:
            results.append(_refuse(path, error))
    for _, _, path, data, receipt in sorted(fresh, key=lambda item: item[:2]):
        try:
            results.append(_record(path, data, receipt))
        except TiyuError as error:
            results.append(_refuse(path, error))
    for resource in sorted({row["resource"] for row in ledger.deliveries() if row["status"] == "sent"}):
        refresh_alerts(resource)
    for name in set(refused()) - {result.name for result in results if result.outcome == "refused"}:
        ledger.close_alert(REFUSED_ALERT, "receipt", name)  # mended, or taken away again
    return ReceiveReport(sorted(results, key=lambda result: result.name), _unread(belonging))


def _unread(belonging: set[str | None]) -> list[str]:
    """Names in the inbox that nobody reads; a reject file comes before its receipt and waits for it."""
    if not inbox().is_dir():
        return []
    names = sorted(path.name for path in inbox().iterdir() if not path.name.startswith("."))
    return [shown(n) for n in names if not n.endswith((".receipt.json", ".reject.csv")) and n not in belonging]


def refused() -> list[str]:
    """Names of the receipts that were not believed when they were last read."""
    return sorted(a["subject_id"] for a in ledger.alerts("open") if a["rule_code"] == REFUSED_ALERT)


def reasons(receipt: dict[str, Any]) -> str | None:
    """What the receiver named, one code after the other, fit for a terminal; None when it named nothing."""
    named = [
        f"{e['code']} {e.get('message') or BY_CODE[e['code']].title_zh} {e['count']} 条" for e in receipt["errors"]
    ]
    return redact("".join(c if c.isprintable() else " " for c in "；".join(named))) or None


def shown(name: str) -> str:
    """The name of a file in the inbox as it may be written down. The receiver chose it, so it may hold anything: numbers of persons
    are shown as in an error message, and what is no plain ASCII (a name cannot be told from other words) is left out."""
    return _FOREIGN.sub("…", redact(name))


def resend_command(row: dict[str, Any]) -> str:
    """How a person sends a business date again."""
    return f"tiyu exchange run --resend {row['resource']} {row['business_date']}"


def _parse(path: Path, data: bytes) -> dict[str, Any]:
    """TIYU-EXC-0017 unless it is what the schema says, under the name it should have, signed when a key is agreed."""
    receipt, unreadable = published.parse(data)
    schema = json.loads(schema_path().read_text(encoding="utf-8"))
    problems = [unreadable] if unreadable else published.problems(receipt, schema)
    if not problems and path.name != f"{receipt['batch_id']}.receipt.json":
        problems = ["文件名与 batch_id 不一致"]
    if not problems:
        try:
            datetime.fromisoformat(receipt["received_at"])
        except ValueError:
            problems = ["received_at 不是真实时刻"]
    if problems:
        raise TiyuError(
            "TIYU-EXC-0017",
            "回执不符合接口规范",
            "请接收方按 receipt.schema.json 更正后以同一文件名放入收件箱",
            file=shown(path.name),
            problems=problems,
        )
    key = os.environ.get("TIYU_EXCHANGE_RECEIPT_KEY")
    if key and not hmac.compare_digest(receipt.get("signature", ""), sign(receipt, key)):
        raise TiyuError(
            "TIYU-EXC-0018",
            "回执签名不符，可能被改动",
            "与接收方核对原件与密钥；确认之前该批次仍为待回执",
            file=shown(path.name),
        )
    return receipt


def sign(receipt: dict[str, Any], key: str) -> str:
    """HMAC-SM3 of a receipt without its signature, as the interface specification says."""
    body = {name: value for name, value in receipt.items() if name != "signature"}
    text = json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hmac.new(key.encode(), text.encode(), "sm3").hexdigest()


def _record(path: Path, data: bytes, receipt: dict[str, Any]) -> ReceiptResult:
    batch_id = receipt["batch_id"]
    row = {r["delivery_id"]: r for r in ledger.deliveries() if r["status"] == "sent"}.get(batch_id)
    if row is None:
        raise TiyuError(
            "TIYU-EXC-0019",
            "回执所指的批次从未交付",
            "与接收方核对批次标识；不要改动台账",
            file=shown(path.name),
            batch_id=batch_id,
        )
    problems = _contradictions(receipt, row)
    if problems:
        raise TiyuError(
            "TIYU-EXC-0020",
            "回执与交付台账或先前的回执矛盾",
            "与接收方核对；以先记录的回执为准，必要时以下一批次号重交",
            file=shown(path.name),
            problems=problems,
        )
    problems = _reject_file(receipt)
    if problems:
        raise TiyuError(
            "TIYU-EXC-0021",
            "拒收文件缺失或与回执不一致",
            "请接收方重新放入拒收文件后再次读取",
            file=shown(path.name),
            problems=problems,
        )
    ledger.insert_many(
        ledger.receipt,
        [
            {
                "receipt_id": files.sm3_bytes(data),
                "delivery_id": batch_id,
                "resource": row["resource"],
                "business_date": row["business_date"],
                "sequence": row["sequence"],
                "status": receipt["status"],
                "rows_in": receipt["rows_in"],
                "rows_ok": receipt["rows_ok"],
                "rows_bad": receipt["rows_bad"],
                "says_held": "held_batch_id" in receipt,
                "held_batch_id": receipt.get("held_batch_id"),
                "received_at": datetime.fromisoformat(receipt["received_at"]),
                "recorded_at": clock.utc_now(),
                "body": redact(data.decode("utf-8")),
            }
        ],
    )
    return ReceiptResult(
        shown(path.name), "recorded", batch_id, receipt["status"], receipt["rows_bad"], reasons=reasons(receipt)
    )


def _contradictions(receipt: dict[str, Any], row: dict[str, Any]) -> list[str]:
    """What cannot be true of this delivery."""
    status, sent = receipt["status"], row["row_count"]
    problems = []
    if receipt["rows_ok"] + receipt["rows_bad"] != receipt["rows_in"]:
        problems.append("rows_ok 与 rows_bad 之和不等于 rows_in")
    # A batch turned down before its rows were read may say 0.
    if receipt["rows_in"] != sent and not (status == "REJECTED" and receipt["rows_in"] == 0):
        problems.append(f"rows_in {receipt['rows_in']}，交付 {sent} 行")
    # Receipts count in the order of their times: one from the future would overrule every later answer.
    now = clock.as_of().astimezone(clock.SHANGHAI)
    if datetime.fromisoformat(receipt["received_at"]) > now + timedelta(days=1):
        problems.append(f"received_at 比平台时刻 {now:%Y-%m-%d %H:%M} 晚一天以上")
    earlier = {r["status"] for r in ledger.receipts(row["resource"]) if r["delivery_id"] == row["delivery_id"]}
    if earlier and earlier != {status}:
        problems.append(f"先前已答复 {'、'.join(sorted(earlier))}，现为 {status}")
    held = receipt.get("held_batch_id")
    if status == "ACCEPTED" and "held_batch_id" in receipt and held != receipt["batch_id"]:
        problems.append("全部接收，却称未持有本批次")
    if status != "ACCEPTED" and held == receipt["batch_id"]:
        problems.append("未全部接收，却称完整持有本批次")
    if held and held.split("_")[0] != receipt["batch_id"].split("_")[0]:
        problems.append("held_batch_id 属于另一资源")
    unknown = sorted({error["code"] for error in receipt["errors"]} - set(BY_CODE))
    if unknown:
        problems.append(f"未知错误代码 {unknown}")
    return problems


def _reject_file(receipt: dict[str, Any]) -> list[str]:
    """The file of refused rows must be there, unaltered, masked, and hold as many rows as the receipt says."""
    name = receipt.get("reject_file")
    if name is None:
        return []
    path = inbox() / name
    if not _PLAIN_NAME.match(name) or path.is_symlink() or not path.is_file():
        return [f"没有文件 {shown(Path(name).name)}"]
    data = path.read_bytes()
    if receipt.get("reject_file_sm3") and files.sm3_bytes(data) != receipt["reject_file_sm3"]:
        return [f"{shown(name)}：SM3 不一致"]
    try:
        lines = list(csv.reader(io.StringIO(data.decode("utf-8")), strict=True))
    except (ValueError, csv.Error):
        return [f"{shown(name)}：不是 UTF-8 的 CSV"]
    if not lines or lines[0] != REJECT_HEADER or any(len(line) != len(REJECT_HEADER) for line in lines):
        return [f"{shown(name)}：表头或列数不对"]
    numbers = {line[0] for line in lines[1:]}
    if not all(n.isdecimal() and 1 <= int(n) <= receipt["rows_in"] for n in numbers):
        return [f"{shown(name)}：行号超出范围"]
    if len(numbers) != receipt["rows_bad"]:
        return [f"{shown(name)}：{len(numbers)} 行，回执称 {receipt['rows_bad']} 行"]
    unknown = sorted({line[1] for line in lines[1:]} - set(BY_CODE))
    if unknown:
        return [f"{shown(name)}：未知规则 {unknown}"]
    bare = [line[0] for line in lines[1:] if not _MASKED.fullmatch(line[2])]
    return (
        [f"{shown(name)}：行号 {'、'.join(bare[:5])} 的 masked_value 未脱敏（只留首字，如 9***；空值写“空”）"]
        if bare
        else []
    )


def _refuse(path: Path, error: TiyuError) -> ReceiptResult:
    ledger.open_alert(
        REFUSED_ALERT,
        "receipt",
        shown(path.name),
        severity="orange",
        message=f"回执未采信：{error.message_zh}",
        evidence=error.as_dict(),
    )
    return ReceiptResult(shown(path.name), "refused", None, None, None, error.code, str(error))


# --- what the receiver holds --------------------------------------------------------------------------------------


def _order(row: dict[str, Any]) -> tuple[Any, int]:
    return row["business_date"], row["sequence"]


def standing(resource: str) -> Standing:
    """The base of the next increment: what the receiver last said it holds, or else the last batch it accepted.

    While a receiver has never answered for a resource, every delivery builds on the one before it, which it is told in
    the manifest; with the first receipt the answers decide.
    """
    sent = [row for row in ledger.deliveries(resource) if row["status"] == "sent"]
    receipts = ledger.receipts(resource)
    if not receipts:
        return Standing(sent[-1] if sent else None, [], False)
    by_id = {row["delivery_id"]: row for row in sent}
    base: dict[str, Any] | None = None
    for receipt in receipts:
        accepted = by_id.get(receipt["delivery_id"]) if receipt["status"] == "ACCEPTED" else None
        if receipt["says_held"]:  # an id we do not know is as good as nothing
            base = by_id.get(receipt["held_batch_id"] or "")
        elif accepted and (base is None or _order(accepted) > _order(base)):
            base = accepted
    outstanding = [row for row in sent if base is None or _order(row) > _order(base)]
    return Standing(base, outstanding, True)


def answers(resource: str) -> list[Answer]:
    """Every sent delivery of a resource with what became of it, in delivery order."""
    now, where = clock.as_of(), standing(resource)
    latest = {receipt["delivery_id"]: receipt for receipt in ledger.receipts(resource)}
    base = _order(where.base) if where.answers and where.base else None
    result = []
    for row in (row for row in ledger.deliveries(resource) if row["status"] == "sent"):
        receipt = latest.get(row["delivery_id"])
        contained = base is not None and _order(row) <= base
        if receipt and receipt["status"] == "ACCEPTED":
            state = "accepted" if contained else "lost"
        elif contained:
            state = "superseded"
        elif receipt:
            state = receipt["status"].lower()
        else:
            state = "unanswered" if now > answer_due(row["sent_at"]) else "pending"
        result.append(Answer(row, state, receipt))
    return result


def answer_due(sent_at: datetime) -> datetime:
    """End of the second working day after a delivery. Weekends do not count; public holidays are not known here."""
    at, left = sent_at.astimezone(clock.SHANGHAI), ANSWER_DAYS
    while left:
        at += timedelta(days=1)
        left -= at.weekday() < 5
    return at.replace(hour=23, minute=59, second=59, microsecond=0)


def unacknowledged() -> list[Answer]:
    """Everything sent that the receiver does not hold as far as it told us, however long ago."""
    resources = sorted({row["resource"] for row in ledger.deliveries() if row["status"] == "sent"})
    return [a for r in resources for a in answers(r) if a.state not in ("accepted", "superseded")]


def refresh_alerts(resource: str) -> None:
    """Open and close the alerts of one resource so that they say what is so now."""
    everything = answers(resource)
    lost = [a.row["delivery_id"] for a in everything if a.state == "lost"]
    newest = everything[-1].row["delivery_id"] if everything else None
    for answer in everything:
        batch_id = answer.row["delivery_id"]
        # A refused batch is dealt with when the day was sent again; its successor speaks for itself.
        again = any(
            o.row["business_date"] == answer.row["business_date"] and o.row["sequence"] > answer.row["sequence"]
            for o in everything
        )
        if answer.state in ("rejected", "partial") and not again and answer.receipt:
            said = json.loads(answer.receipt["body"])
            word = STATES_ZH[answer.state]
            ledger.open_alert(
                REJECTED_ALERT,
                "delivery",
                batch_id,
                severity="orange",
                message=f"{word}（{resource}，{answer.row['business_date']}）：{reasons(said)}",
                evidence={
                    "resource": resource,
                    "rows_bad": said["rows_bad"],
                    "errors": said["errors"],
                    "reject_file": said.get("reject_file"),
                    "next": resend_command(answer.row),
                },
            )
        else:
            ledger.close_alert(REJECTED_ALERT, "delivery", batch_id)
        if answer.state == "unanswered":
            ledger.open_alert(
                OVERDUE_ALERT,
                "delivery",
                batch_id,
                severity="yellow",
                message=f"逾期未收到回执（{resource}，{answer.row['business_date']}）",
                evidence={"resource": resource, "sent_at": answer.row["sent_at"]},
            )
        else:
            ledger.close_alert(OVERDUE_ALERT, "delivery", batch_id)
    if lost:
        base = standing(resource).base
        ledger.open_alert(
            RESTORED_ALERT,
            "resource",
            resource,
            severity="orange",
            message=f"接收方持有的批次早于已接收的批次，疑似从备份恢复（{resource}）：{len(lost)} 个批次需补齐",
            evidence={"held": base["delivery_id"] if base else None, "lost": lost, "newest": newest},
        )
    else:
        ledger.close_alert(RESTORED_ALERT, "resource", resource)
