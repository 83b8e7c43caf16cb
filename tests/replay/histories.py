"""Random histories of one source, lived twice: with rules that are mended on the way, and with the right rules from the start.

A history is a list of batches, of mends (each of them lets in what was wrongly refused) and of replays, at any moments. What
the two lives must agree in is said in :func:`differences`.
"""

from __future__ import annotations

import csv
import io
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from catalog import contracts
from catalog.contracts import Contract
from ingestion import archive, conversion, leaks
from ingestion.replay import ReplayReport, replay
from ingestion.run import ingest
from lake import ledger, query, tables, words
from quality import quarantine, row_events
from quality.reconcile import reconcile

RESOURCE, TABLE = "venue.trial_meter", "ods_venue__trial_meter"
TECHNICAL = ["_batch_id", "_record_no", "_source_object", "_ingested_at"]
MENDS = ("range", "enumeration", "pattern", "required", "format", "header", "correction")
"""What may be wrong with the contract at first. Without the header's alias whole files are refused, without the correction a
text that is no number."""
DEDUP: dict[str, dict[str, Any]] = {
    "conflict": {"key": ["meter_id", "read_date", "revision"], "onChanged": "conflict"},
    "keep": {"key": ["meter_id", "read_date", "revision"], "onSame": "keep", "onChanged": "conflict"},
    "version": {"key": ["meter_id", "read_date"], "onChanged": "version"},
    "newest": {"key": ["meter_id", "read_date"], "onChanged": "newest", "by": "revision"},
}
MEANT = {"x": "5"}
"""What the correction makes of a delivered amount."""
_COLUMNS = {
    "meter_id": "VARCHAR", "read_date": "DATE", "revision": "BIGINT", "amount": "DOUBLE", "state": "VARCHAR",
    "code": "VARCHAR", "remark": "VARCHAR",
}  # fmt: skip


def _tiyu(value: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"property": "tiyu", "value": value}]


def _rules(mended: frozenset[str]) -> list[dict[str, Any]]:
    """The rules before and after mends. Those that stay come last, so that a row may be refused for another reason later."""
    high = 100 if "range" in mended else 50
    rules = [
        {"kind": "range", "column": "amount", "id": "amount.range", "min": 0, "max": high, "messageZh": f"读数不在 0–{high}"},
        {"kind": "in_list", "column": "state", "id": "state.known", "values": ["on", "off", *(["idle"] if "enumeration" in mended else [])], "messageZh": "状态不在清单中"},
        {"kind": "pattern", "column": "code", "id": "code.form", "pattern": "^[AB]\\d$" if "pattern" in mended else "^A\\d$", "messageZh": "编码写法不对"},
    ]  # fmt: skip
    if "required" not in mended:
        rules.append({"kind": "not_null", "column": "remark", "id": "remark.present", "messageZh": "缺少备注"})
    rules.append(
        {"kind": "expression", "id": "meter.known", "sql": "meter_id <> 'M-9'", "columns": ["meter_id"], "messageZh": "没有这块表"}
    )  # fmt: skip
    return rules


@cache
def contract(mended: frozenset[str], dedup: str) -> Contract:
    """The contract of the trial source after some mends."""
    aliases = {"headerAliases": {"note": "remark"}} if "header" in mended else {}
    corrections = [
        {"id": "no_number", "where": "true", "column": "amount", "from": old, "to": new, "reason": "终端缺陷", "approvedBy": "数据处", "expires": "2026-12-31"}
        for old, new in MEANT.items() if "correction" in mended
    ]  # fmt: skip
    properties = [
        {"name": name, "physicalName": name, "businessName": f"列{name}", "description": f"试验列 {name}", "logicalType": "string",
         "physicalType": kind, "required": name in ("meter_id", "read_date"), "classification": "L1", "customProperties": _tiyu({"piMark": "N"})}
        for name, kind in _COLUMNS.items()
    ]  # fmt: skip
    document = {
        "apiVersion": "v3.2.0", "kind": "DataContract", "id": RESOURCE, "name": "试验表计", "version": "1.0.0", "status": "active", "domain": "venue",
        "description": {"purpose": "试验", "usage": "试验", "limitations": "试验"}, "team": {"name": "群众体育处"},
        "customProperties": _tiyu({"kind": "source", "share": {"type": "unconditional"}, "open": {"type": "unconditional"}, "updateCycle": {"cycle": "daily"}, "legalBasis": "试验", "retention": "1 年"}),
        "servers": [{"server": "drop", "type": "custom", "description": "试验", "customProperties": _tiyu({
            "connector": {"kind": "file_drop", "connection": "CITY_DROP", "pattern": "*.csv"},
            "decoder": {"kind": "csv", "encoding": "utf-8", "delimiter": ",", **aliases}})}],
        "schema": [{"name": "trial_meter", "businessName": "表计读数", "description": "一行是一次读数", "dataGranularityDescription": "一次读数", "logicalType": "object",
                    "customProperties": _tiyu({"partDate": "read_date", "dedup": DEDUP[dedup], "rules": _rules(mended), "corrections": corrections}), "properties": properties}],
    }  # fmt: skip
    path = contracts.FOLDER / "sources" / "venue" / "trial_meter.odcs.yaml"
    return contracts.read_contract(path, text=yaml.safe_dump(document, allow_unicode=True))


@dataclass(frozen=True)
class Batch:
    """Files that arrive together: name → rows as they are written. In those whose name ends in ``_n`` the last column bears
    another name."""

    files: dict[str, list[dict[str, str]]]


@dataclass(frozen=True)
class Mend:
    """From here on the contract is right in one more respect."""

    kind: str


@dataclass(frozen=True)
class Replay:
    """An operator replays."""


@dataclass
class History:
    """What happens, in order; the last replay is not part of it."""

    seed: int
    steps: list[Batch | Mend | Replay] = field(default_factory=list)
    dedup: str = "conflict"

    @property
    def mends(self) -> frozenset[str]:
        """All mends that are made sooner or later."""
        return frozenset(step.kind for step in self.steps if isinstance(step, Mend))

    def __str__(self) -> str:
        words = [
            f"batch{[len(rows) for rows in step.files.values()]}" if isinstance(step, Batch) else str(step)
            for step in self.steps
        ]
        return f"history {self.seed} ({self.dedup}): {' '.join(words)}"


def history(seed: int) -> History:
    """The history of a seed: three to six batches of small files that repeat, contradict and restate each other."""
    rng = random.Random(seed)
    dedup = rng.choices(list(DEDUP), (5, 1, 2, 2))[0]
    revisions = rng.sample(range(1, 1000), 100) if dedup == "newest" else []
    said: list[dict[str, str]] = []
    batches: list[Batch | Mend | Replay] = []
    for number in range(rng.randint(3, 6)):
        files = {}
        for part in range(rng.choice((1, 1, 2))):
            rows = [_row(rng, said, revisions) for _ in range(rng.randint(1, 7))]
            files[f"{number:02d}_{part}{'_n' if rng.random() < 0.2 else ''}.csv"] = rows
        batches.append(Batch(files))
    steps = batches
    for kind in rng.sample(MENDS, rng.randint(1, 3)):
        steps.insert(rng.randint(1, len(steps)), Mend(kind))
    for _ in range(rng.randint(0, 3)):
        steps.insert(rng.randint(1, len(steps)), Replay())
    return History(seed, steps, dedup)


def _row(rng: random.Random, said: list[dict[str, str]], revisions: list[int]) -> dict[str, str]:
    """A row: new, an exact repetition, the same key with another content, or a restatement with a higher revision.

    `revisions` are for a source whose newest row counts: every content bears one of its own, in any order. Equally new rows
    that contradict each other stay as they came, mended or not (ADR 0025).
    """
    kind = rng.choices(("new", "again", "other", "restated"), (4, 3, 3, 2))[0] if said else "new"
    row = {
        "meter_id": rng.choice(("M-1", "M-2", "M-3", "M-9") if rng.random() < 0.2 else ("M-1", "M-2", "M-3")),
        "read_date": rng.choice(("2026-11-10", "2026-11-11", "2026-11-12", "13.11.2026", "2026-13-40"))
        if rng.random() < 0.5
        else "2026-11-11",
        "revision": "1",
        **_content(rng),
    }
    if kind != "new":
        old = rng.choice(said)
        row = dict(old) if kind == "again" else {**old, **_content(rng)}
        if kind == "restated":
            row["revision"] = str(int(old["revision"]) + 1)
    if revisions and kind != "again":
        row["revision"] = str(revisions.pop())
    said.append(row)
    return row


def _content(rng: random.Random) -> dict[str, str]:
    return {
        "amount": rng.choice(("5", "20", "70", "70", "400", "x") if rng.random() < 0.6 else ("5", "20")),
        "state": rng.choice(("on", "off", "idle", "gone") if rng.random() < 0.4 else ("on", "off")),
        "code": rng.choice(("A1", "B2", "?") if rng.random() < 0.4 else ("A1", "A2")),
        "remark": rng.choice(("", "r1", "r2") if rng.random() < 0.4 else ("r1", "r2")),
    }


@dataclass
class Life:
    """What is there at the end: stored rows, open quarantine, corrected records, sums of the books; `commits` are table versions."""

    rows: pl.DataFrame
    refused: pl.DataFrame
    corrected: pl.DataFrame
    sums: dict[str, int]
    commits: dict[str, int | None]


class World:
    """A state folder of its own in which a history is lived."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch, key_file: Path):
        self.home, self.patch, self.key_file = home, patch, key_file
        self.replays: list[ReplayReport] = []
        # what costs time and is no part of what is compared: flushing every disk, the words of the catalogue in the schema,
        # the search for personal items
        patch.setattr(archive, "sync", lambda *_: None)
        patch.setattr(words, "of", lambda _: {})
        patch.setattr(leaks, "look", lambda *_: leaks.Found())
        self.mended: frozenset[str] = frozenset()
        self.dedup = "conflict"

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Make it the installation of this process."""
        ledger.disconnect()
        (self.home / "keys").mkdir(parents=True, exist_ok=True)
        if not (self.home / "keys" / "keys.json").exists():
            shutil.copy(self.key_file, self.home / "keys" / "keys.json")
        self.patch.setenv("TIYU_HOME", str(self.home))
        try:
            yield
        finally:
            ledger.disconnect()

    def use(self, mended: frozenset[str]) -> None:
        """Put the contract of some mends in force."""
        self.mended = mended
        current = contract(mended, self.dedup)
        self.patch.setattr(contracts, "load_all", lambda kind=None, **_: {RESOURCE: current})
        known = _FORMATS + (("%d.%m.%Y",) if "format" in mended else ())
        self.patch.setattr(conversion, "_DATE_FORMATS", known)

    def take_in(self, batch: Batch, number: int) -> None:
        """A batch arrives."""
        drop = self.home / "drop" / f"{number:02d}"
        drop.mkdir(parents=True)
        for name, rows in batch.files.items():
            text = io.StringIO()
            names = list(_COLUMNS)
            if Path(name).stem.endswith("_n"):
                names[-1] = "note"
            writer = csv.writer(text)
            writer.writerows([names, *([row[column] for column in _COLUMNS] for row in rows)])
            (drop / name).write_text(text.getvalue(), "utf-8")
            os.utime(drop / name, (1, 1))
        self.patch.setenv("TIYU_AS_OF", f"2026-11-{20 + number % 8:02d}T12:00:00+08:00")
        ingest(RESOURCE, drop)

    def replay(self) -> None:
        """An operator replays."""
        self.replays.append(replay(RESOURCE))

    def life(self) -> Life:
        """What is there now."""
        content = list(_COLUMNS)
        if tables.exists(TABLE):
            rows = pl.scan_delta(tables.path(TABLE)).collect().select(*content, "part_date", *TECHNICAL)
        else:
            rows = pl.DataFrame(schema=dict.fromkeys([*content, "part_date", *TECHNICAL], pl.String))
        con = query.connect()
        try:
            quarantine.register_open(con)
            refused = con.execute("SELECT * FROM open_quarantine ORDER BY ALL").pl()
        finally:
            con.close()
        batches = ledger.batches(RESOURCE)
        names = ("decoded", "accepted", "quarantined", "duplicate")
        sums = {name: sum(batch[f"{name}_count"] for batch in batches) for name in names}
        corrected = (
            row_events.of("corrected").select("batch_id", "source_object", "record_no", "rule_id").sort(pl.all())
        )
        commits = {table: tables.version(table) for table in (TABLE, quarantine.TABLE, row_events.TABLE)}
        return Life(rows.sort(pl.all()), refused, corrected, sums, commits)


_FORMATS = conversion._DATE_FORMATS


def balanced() -> list[str]:
    """What does not balance."""
    report = reconcile(RESOURCE)
    return report.problems


def live(world: World, lived: History, *, right_from_the_start: bool) -> tuple[Life, Life, list[str]]:
    """Live a history; returns what is there after the last replay, what after one more, and what ever did not balance."""
    problems: list[str] = []
    mended: frozenset[str] = lived.mends if right_from_the_start else frozenset()
    world.dedup = lived.dedup
    with world.entered():
        world.use(mended)
        for number, step in enumerate(lived.steps):
            if isinstance(step, Batch):
                world.take_in(step, number)
            elif right_from_the_start:
                continue
            elif isinstance(step, Mend):
                mended |= {step.kind}
                world.use(mended)
            else:
                world.replay()
                problems += [f"step {number}: {problem}" for problem in balanced()]
        if not right_from_the_start:
            world.replay()
        problems += balanced()
        first = world.life()
        if not right_from_the_start:
            world.replay()
        return first, world.life(), problems


def repeated(lived: History) -> pl.DataFrame:
    """Contents that were delivered more than once, in the columns of the table as delivered."""
    meant = MEANT if "correction" in lived.mends else {}
    rows = [
        {**row, "amount": meant.get(row["amount"], row["amount"])}
        for step in lived.steps
        if isinstance(step, Batch)
        for part in step.files.values()
        for row in part
    ]
    seen = [tuple(row.items()) for row in rows]
    twice = [dict(item) for item in dict.fromkeys(seen) if seen.count(item) > 1]
    schema = dict.fromkeys(_COLUMNS, pl.String)
    frame = pl.DataFrame(twice, schema=schema) if twice else pl.DataFrame(schema=schema)
    day = pl.coalesce(
        pl.col("read_date").str.to_date("%Y-%m-%d", strict=False),
        pl.col("read_date").str.to_date("%d.%m.%Y", strict=False),
    )
    return frame.with_columns(
        day.alias("read_date"),
        pl.col("amount").cast(pl.Float64, strict=False),
        pl.col("revision").cast(pl.Int64),
        pl.when(pl.col("remark") == "").then(None).otherwise(pl.col("remark")).alias("remark"),
    )


def differences(lived: History, mended: Life, right: Life) -> list[str]:
    """In what two lives differ and must not.

    Table rows: every column, the technical ones too, with one exception. Where the very same content was delivered
    several times, *which* of the deliveries is stored may differ (the others are its duplicates): of those rows the
    business columns and `part_date` must agree, `_batch_id`, `_record_no`, `_source_object` and `_ingested_at` need not.
    Quarantine: every column of every row that is still refused, but not the preview of a record that a correction mends, which
    shows it as it was judged first. Records that were corrected: which, and by what. Books: decoded,
    accepted, quarantined, duplicate, in all; where the newest replaces, a repetition of what was replaced already is an accepted
    record that was replaced itself, of what is stored still a duplicate, so there the two are added up.
    """
    found = []
    content = [*_COLUMNS, "part_date"]
    if not mended.rows.select(content).sort(pl.all()).equals(right.rows.select(content).sort(pl.all())):
        found.append(f"rows differ\n{_only(mended.rows.select(content), right.rows.select(content))}")
    elif mended.rows.height:
        twice = repeated(lived)
        once = [
            rows.join(twice, on=list(_COLUMNS), how="anti", nulls_equal=True).sort(pl.all())
            for rows in (mended.rows, right.rows)
        ]
        if not once[0].equals(once[1]):
            found.append(f"technical columns differ\n{_only(*once)}")
    quarantines = [_without_old_previews(life.refused, right.corrected) for life in (mended, right)]
    if not quarantines[0].equals(quarantines[1]):
        found.append(f"quarantine differs\n{_only(*quarantines)}")
    sums = [dict(mended.sums), dict(right.sums)]
    if lived.dedup == "newest":
        for one in sums:
            one["accepted"] += one.pop("duplicate")
    if sums[0] != sums[1]:
        found.append(f"books differ: {mended.sums} and {right.sums}")
    if not mended.corrected.equals(right.corrected):
        found.append(f"corrected records differ\n{_only(mended.corrected, right.corrected)}")
    return found


def _without_old_previews(refused: pl.DataFrame, corrected: pl.DataFrame) -> pl.DataFrame:
    """The quarantine without the previews of corrected records: a preview shows a record as it was judged first."""
    mended = corrected.select("batch_id", "source_object", "record_no").unique().with_columns(mended=pl.lit(value=True))
    joined = refused.join(mended, on=["batch_id", "source_object", "record_no"], how="left", maintain_order="left")
    return joined.with_columns(preview=pl.when(pl.col("mended").is_null()).then(pl.col("preview"))).drop("mended")


def _only(one: pl.DataFrame, other: pl.DataFrame) -> str:
    """The rows that only one of two tables has."""
    parts = [a.join(b, on=a.columns, how="anti", nulls_equal=True) for a, b in ((one, other), (other, one))]
    return "\n".join(f"{name} only: {part.to_dicts()}" for name, part in zip(("mended", "right"), parts, strict=True))


def unchanged(once: Life, twice: Life) -> list[str]:
    """What a second replay changed: not even a commit."""
    found = [] if once.commits == twice.commits else [f"commits: {once.commits} → {twice.commits}"]
    if not (once.rows.equals(twice.rows) and once.refused.equals(twice.refused) and once.sums == twice.sums):
        found.append("tables, quarantine or books")
    if not once.corrected.equals(twice.corrected):
        found.append("what is noted as corrected")
    return found


__all__ = ["History", "World", "balanced", "differences", "history", "live", "unchanged"]
