"""One pass over the outbox: what is complete and new is checked, applied in order, and answered."""

from __future__ import annotations

import csv
import hmac
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from simulation.center.checks import FOLDER, BadRow, Findings, check, is_complete, mask, sm3
from simulation.center.state import State

RECEIVER = "上海市大数据中心（模拟）"


@dataclass(frozen=True)
class Behaviour:
    """How the center behaves; everything off is the normal center.

    ``reject_every``: every n-th row is refused by a rule of its own. ``rules``: value limits of the receiver
    (resource_code, column, min, max). ``key``: sign receipts (HMAC-SM3). ``world``: folder of a simulated city that says
    what time it is and why one delivery of the day is turned down (``today.json``: ``{"as_of", "incidents": {"refusal"}}``).
    """

    slow_seconds: float = 0.0
    reject_all: bool = False
    reject_every: int = 0
    rules: list[dict[str, Any]] = field(default_factory=list)
    key: str | None = None
    world: Path | None = None
    now: Callable[[], str] = lambda: time.strftime("%Y-%m-%dT%H:%M:%S+08:00", time.gmtime(time.time() + 8 * 3600))


@dataclass(frozen=True)
class Pending:
    """A delivery folder in the outbox."""

    folder: Path
    code: str
    mode: str
    day: str
    batch: str

    @property
    def batch_id(self) -> str:
        """The id a receipt names."""
        return f"{self.code}_{self.day}_{self.batch}"


def waiting(outbox: Path) -> list[Pending]:
    """Delivery folders by business date and batch, whatever their state."""
    found = []
    for folder in outbox.glob("*/*"):
        match = FOLDER.match(folder.name)
        if match and folder.is_dir():
            found.append(Pending(folder, match["code"], match["mode"], match["day"], match["batch"]))
    return sorted(found, key=lambda p: (p.day, p.batch, p.code))


def work(outbox: Path, inbox: Path, state: State, behaviour: Behaviour) -> list[dict[str, Any]]:
    """Take in everything that is complete; returns the new receipts. Answers that got lost are written again."""
    inbox.mkdir(parents=True, exist_ok=True)
    _write_missing(inbox, state)
    fresh: list[dict[str, Any]] = []
    stopped: set[str] = set()
    behaviour = _today(state, behaviour)
    for delivery in waiting(outbox):
        if delivery.code in stopped:
            continue
        known = state.answered(delivery.batch_id)
        if known:
            if is_complete(delivery.folder) and _content(delivery.folder) != known["content"]:
                print(f"内容与已答复的批次不同，忽略：{delivery.batch_id}", file=sys.stderr)
            continue
        if not is_complete(delivery.folder):
            stopped.add(delivery.code)  # in order or not at all
            continue
        if behaviour.slow_seconds:
            time.sleep(behaviour.slow_seconds)
        state.backup(delivery.day)
        said = _by_hand(delivery, inbox)
        if said is not None:
            _follow(delivery, said, inbox, state)
            continue
        fresh.append(_take(delivery, state, behaviour))
        _write_missing(inbox, state)
    return fresh


def _content(folder: Path) -> str:
    """Fingerprint of the data files."""
    return sm3("".join(sm3(path.read_bytes()) for path in sorted(folder.glob("*.csv.gz"))).encode())


WRONG_LIMIT = {"column": "value", "max": 100}
"""A limit that is wrong for a day: redox potentials are several hundred millivolts."""


def _today(state: State, behaviour: Behaviour) -> Behaviour:
    """With a world, receipts carry its clock: its present, and a second more for every answer given so far."""
    if behaviour.world is None:
        return behaviour
    present = datetime.fromisoformat(_present(behaviour.world)["as_of"])
    return replace(behaviour, now=lambda: (present + timedelta(seconds=1 + len(state.all_answers()))).isoformat())


def _refusal(delivery: Pending, behaviour: Behaviour) -> str | None:
    """Why this delivery is turned down: the first increment of the business date that ended last night."""
    if behaviour.world is None:
        return None
    world = _present(behaviour.world)
    ended = datetime.fromisoformat(world["as_of"]).date() - timedelta(days=1)
    first = delivery.mode == "I" and delivery.batch == "0001" and delivery.day == f"{ended:%Y%m%d}"
    return (world.get("incidents") or {}).get("refusal") if first else None


def _present(world: Path) -> dict[str, Any]:
    """What the city's folder says about its present; on its first day only ``world.json`` does."""
    moved = world / "today.json"
    path = moved if moved.is_file() else world / "world.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    # the incidents that world.json names are venues, not what happens today
    return found if path == moved else {"as_of": found["as_of"]}


def _arrived(delivery: Pending, state: State, damaged: bool) -> Path:
    """The folder as it arrived: a copy of its own with a flipped bit, when the way damaged it."""
    if not damaged:
        return delivery.folder
    copy = state.folder / "damaged" / delivery.folder.name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(delivery.folder, copy)
    packed = next(copy.glob("*.csv.gz"))
    data = bytearray(packed.read_bytes())
    data[len(data) // 2] ^= 1
    packed.write_bytes(data)
    return copy


def _take(delivery: Pending, state: State, behaviour: Behaviour) -> dict[str, Any]:
    refusal = _refusal(delivery, behaviour)
    code = delivery.code.replace("-", "/")
    rules = [*behaviour.rules, {"resource_code": code, **WRONG_LIMIT}] if refusal == "rows" else behaviour.rules
    found = check(_arrived(delivery, state, refusal == "damaged"), rules)
    if refusal == "catalogue":
        found.error("EX-18", "本中心目录尚未登记该版本，暂不入库")
    if found.manifest is not None and not found.errors:
        _fits(delivery, found, code, state)
        _moods(found, behaviour)
    manifest = found.manifest or {
        "batch_id": delivery.batch_id,
        "resource_code": code,
        "biz_date": f"{delivery.day[:4]}-{delivery.day[4:6]}-{delivery.day[6:]}",
        "batch": delivery.batch,
    }
    manifest = {
        **manifest,
        "batch_id": delivery.batch_id,
        "resource_code": code,
    }  # the folder name is what was picked up
    bad_numbers = {bad.number for bad in found.bad}
    good = [row for row in found.rows if row.number not in bad_numbers]
    if found.errors or (found.bad and not good):
        status, good = "REJECTED", []
    else:
        status = "PARTIAL" if found.bad else "ACCEPTED"
    reject = _reject_file(found.bad) if found.bad and not found.errors else None
    with state.transaction():
        if status != "REJECTED":
            state.apply(manifest, good, {row.key for row in found.rows if row.number in bad_numbers})
        if status == "ACCEPTED":
            state.hold(code, delivery.batch_id)
        receipt = _receipt(delivery, status, found, len(good), reject, state.held(code), behaviour)
        state.answer(manifest, receipt, _content(delivery.folder), reject)
    return receipt


def _by_hand(delivery: Pending, inbox: Path) -> dict[str, Any] | None:
    """The receipt that a person in this center wrote for a delivery, if there is one that can be read."""
    try:
        receipt = json.loads((inbox / f"{delivery.batch_id}.receipt.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(receipt, dict) or receipt.get("receiver") == RECEIVER:
        return None
    fits = receipt.get("batch_id") == delivery.batch_id and receipt.get("status") in ("ACCEPTED", "PARTIAL", "REJECTED")
    return receipt if fits else None


def _follow(delivery: Pending, receipt: dict[str, Any], inbox: Path, state: State) -> None:
    """Do to the center's tables what a receipt written by hand says, and answer nothing else."""
    code = delivery.code.replace("-", "/")
    found = check(delivery.folder, [])
    manifest = {
        **(found.manifest or {"biz_date": f"{delivery.day[:4]}-{delivery.day[4:6]}-{delivery.day[6:]}"}),
        "batch_id": delivery.batch_id,
        "resource_code": code,
        "batch": delivery.batch,
    }
    name = str(receipt.get("reject_file") or "")
    path = inbox / name
    reject = path.read_text("utf-8", "replace") if name and path.name == name and path.is_file() else None
    lines = csv.reader(io.StringIO(reject or ""))
    refused = {int(line[0]) for line in lines if line and line[0].isdecimal()}
    taken = receipt["status"] != "REJECTED" and found.manifest is not None and not found.errors
    with state.transaction():
        if taken:
            good = [row for row in found.rows if row.number not in refused]
            state.apply(manifest, good, {row.key for row in found.rows if row.number in refused})
        if taken and receipt["status"] == "ACCEPTED":
            state.hold(code, delivery.batch_id)
        state.answer(manifest, receipt, _content(delivery.folder), reject)


def _fits(delivery: Pending, found: Findings, code: str, state: State) -> None:
    """EX-16 and EX-17: does the batch fit what is already in?"""
    manifest = found.manifest or {}
    newest = state.newest_applied(code)
    if newest and newest > (manifest["biz_date"], delivery.batch):
        found.error("EX-17", "已有更晚的批次入库")
    base = manifest["base_batch_id"]
    if base is not None and not state.is_applied(base):
        found.error("EX-16", "所依据的批次不在本中心")


def _moods(found: Findings, behaviour: Behaviour) -> None:
    """What a test asked the center to be like."""
    if behaviour.reject_all:
        found.error("EX-18", "本中心业务规则：全部拒收")
    if behaviour.reject_every and not found.errors:
        done = {bad.number for bad in found.bad}
        for row in found.rows:
            if row.number % behaviour.reject_every == 0 and row.number not in done:
                found.bad.append(BadRow(row.number, "EX-18", mask(row.key)))


def _receipt(
    delivery: Pending,
    status: str,
    found: Findings,
    taken: int,
    reject: str | None,
    held: str | None,
    behaviour: Behaviour,
) -> dict[str, Any]:
    counts = dict(found.errors)
    if not counts:
        for bad in found.bad:
            counts[bad.rule] = counts.get(bad.rule, 0) + 1
    # A batch refused before its rows were counted as the manifest has them says so with 0.
    said = (found.manifest or {}).get("row_count")
    rows_in = len(found.rows) if len(found.rows) == said else 0
    receipt = {
        "receipt_version": "1.0",
        "batch_id": delivery.batch_id,
        "status": status,
        "rows_in": rows_in,
        "rows_ok": taken,
        "rows_bad": rows_in - taken,
        "received_at": behaviour.now(),
        "receiver": RECEIVER,
        "reject_file": f"{delivery.batch_id}.reject.csv" if reject else None,
        "reject_file_sm3": sm3(reject.encode()) if reject else None,
        "held_batch_id": held,
        "errors": [
            {"code": code, "count": count, "message": found.messages.get(code, "见拒收文件")}
            for code, count in sorted(counts.items())
        ],
    }
    if behaviour.key:
        text = json.dumps(receipt, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        receipt["signature"] = hmac.new(behaviour.key.encode(), text.encode(), "sm3").hexdigest()
    return receipt


def _reject_file(bad: list[BadRow]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["row_no", "rule_id", "masked_value"])
    writer.writerows((b.number, b.rule, b.masked) for b in sorted(bad, key=lambda b: b.number))
    return out.getvalue()


def _write_missing(inbox: Path, state: State) -> None:
    """Put every stored answer that is not in the inbox as stored; the reject file before the receipt that names it."""
    for batch_id, receipt, reject in state.all_answers():
        said = json.loads(receipt)
        if said.get("receiver") != RECEIVER:  # a person's, and a person's to mend
            continue
        if reject is not None:
            _write(inbox / f"{batch_id}.reject.csv", reject)
        _write(inbox / f"{batch_id}.receipt.json", json.dumps(said, ensure_ascii=False, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    """Whole or not at all; nothing is written when the file already says so."""
    if path.is_file() and path.read_bytes() == text.encode():
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(text.encode())
    os.replace(temporary, path)
