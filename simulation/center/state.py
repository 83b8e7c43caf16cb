"""The center's own state in one SQLite file: its tables, what it answered, and a journal of every row it applied.

The journal has one line for each (batch, row): applying a row twice is impossible, losing one is visible.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simulation.center.checks import Row

_SCHEMA = """
create table if not exists processed (
  batch_id text primary key, resource_code text not null, biz_date text not null, batch text not null,
  status text not null, content text not null, receipt text not null, reject text);
create table if not exists held (resource_code text primary key, batch_id text not null);
create table if not exists record (
  resource_code text not null, pk text not null, is_valid integer not null, batch_id text not null, data text not null,
  primary key (resource_code, pk));
create table if not exists journal (
  batch_id text not null, row_no integer not null, pk text not null, op text not null, effect text not null,
  primary key (batch_id, row_no));
"""


class State:
    """One open state file."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.path = folder / "center.db"
        self._open()

    def _open(self) -> None:
        self.db = sqlite3.connect(self.path, isolation_level=None)
        self.db.execute("pragma synchronous=full")
        self.db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A batch is applied, journalled and answered in one transaction, or not at all."""
        self.db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self.db.execute("rollback")
            raise
        self.db.execute("commit")

    # --- backups ----------------------------------------------------------------------------------------------------

    def backup(self, day: str) -> None:
        """Keep the state as it is before the first batch of a business date (once a date)."""
        target = self.folder / "backup" / f"{day}.db"
        if target.exists():
            return
        target.parent.mkdir(exist_ok=True)
        temporary = target.with_suffix(".tmp")
        with sqlite3.connect(temporary) as copy:
            self.db.backup(copy)
        copy.close()
        temporary.rename(target)

    def restore(self, days: int) -> str | None:
        """Roll back to the backup taken before the last ``days`` business dates; returns the date, None without one."""
        backups = sorted((self.folder / "backup").glob("*.db"))
        if len(backups) < days:
            return None
        chosen = backups[-days]
        self.db.close()
        temporary = self.path.with_suffix(".restored")
        temporary.write_bytes(chosen.read_bytes())
        temporary.replace(self.path)
        for later in backups[-days:]:
            later.unlink()
        self._open()
        return chosen.stem

    # --- what is known ----------------------------------------------------------------------------------------------

    def answered(self, batch_id: str) -> dict[str, Any] | None:
        """The stored answer to a batch: content fingerprint, receipt and reject file."""
        row = self.db.execute(
            "select content, receipt, reject from processed where batch_id = ?", [batch_id]
        ).fetchone()
        return None if row is None else {"content": row[0], "receipt": json.loads(row[1]), "reject": row[2]}

    def all_answers(self) -> list[tuple[str, str, str | None]]:
        """(batch, receipt, reject file) of everything answered."""
        return self.db.execute("select batch_id, receipt, reject from processed order by batch_id").fetchall()

    def is_applied(self, batch_id: str) -> bool:
        """Whether a batch is wholly in."""
        found = self.db.execute(
            "select 1 from processed where batch_id = ? and status = 'ACCEPTED'", [batch_id]
        ).fetchone()
        return found is not None

    def held(self, resource_code: str) -> str | None:
        """The newest batch that is wholly in."""
        row = self.db.execute("select batch_id from held where resource_code = ?", [resource_code]).fetchone()
        return row[0] if row else None

    def newest_applied(self, resource_code: str) -> tuple[str, str] | None:
        """(business date, batch number) of the newest batch of which anything is in."""
        return self.db.execute(
            """select biz_date, batch from processed where resource_code = ? and status <> 'REJECTED'
            order by biz_date desc, batch desc limit 1""",
            [resource_code],
        ).fetchone()

    def table(self, resource_code: str) -> dict[str, dict[str, str | None]]:
        """The valid rows of one table by key."""
        rows = self.db.execute(
            "select pk, data from record where resource_code = ? and is_valid = 1 order by pk", [resource_code]
        )
        return {pk: json.loads(data) for pk, data in rows}

    def applied_rows(self) -> dict[str, int]:
        """How many rows of each batch are in the journal."""
        return dict(self.db.execute("select batch_id, count(*) from journal group by batch_id").fetchall())

    # --- applying ---------------------------------------------------------------------------------------------------

    def apply(self, manifest: dict[str, Any], rows: list[Row], kept: set[str]) -> None:
        """Apply good rows inside the caller's transaction.

        A full batch, or an increment without a base, replaces the table: keys it does not name become invalid, except
        those in ``kept`` (named by a row that was turned away).
        """
        code, batch_id = manifest["resource_code"], manifest["batch_id"]
        if manifest["mode"] == "F" or manifest["base_batch_id"] is None:
            named = {row.key for row in rows} | kept
            for (pk,) in self.db.execute(
                "select pk from record where resource_code = ? and is_valid = 1", [code]
            ).fetchall():
                if pk not in named:
                    self.db.execute(
                        "update record set is_valid = 0, batch_id = ? where resource_code = ? and pk = ?",
                        [batch_id, code, pk],
                    )
        for row in rows:
            before = self.db.execute(
                "select is_valid from record where resource_code = ? and pk = ?", [code, row.key]
            ).fetchone()
            if row.op == "D":
                effect = "invalidated" if before and before[0] else "nothing"
                self.db.execute(
                    "update record set is_valid = 0, batch_id = ? where resource_code = ? and pk = ?",
                    [batch_id, code, row.key],
                )
            else:
                effect = "updated" if before and before[0] else "inserted"
                self.db.execute(
                    "insert or replace into record values (?, ?, 1, ?, ?)",
                    [code, row.key, batch_id, json.dumps(row.values, ensure_ascii=False)],
                )
            self.db.execute(
                "insert into journal values (?, ?, ?, ?, ?)", [batch_id, row.number, row.key, row.op, effect]
            )

    def hold(self, resource_code: str, batch_id: str) -> None:
        """Note that a batch is wholly in."""
        self.db.execute("insert or replace into held values (?, ?)", [resource_code, batch_id])

    def answer(self, manifest: dict[str, Any], receipt: dict[str, Any], content: str, reject: str | None) -> None:
        """Remember the answer; it is written out afterwards, again if need be."""
        self.db.execute(
            "insert into processed values (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                manifest["batch_id"],
                manifest["resource_code"],
                manifest["biz_date"],
                manifest["batch"],
                receipt["status"],
                content,
                json.dumps(receipt, ensure_ascii=False),
                reject,
            ],
        )
