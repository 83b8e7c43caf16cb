"""Cutting one audience's file once for every scope of its policy, for example a cockpit file per district.

Every changed table is read from the lake and treated once, for all scopes; a scope's file is then compared with its own
rows and written only when they differ, so a file whose rows did not change keeps every byte. What a file was last
compared with is kept in a small state file beside the files; without it, or when a file is not the one it speaks of,
all rows are compared. A row whose scope column holds no declared code is in nobody's file and is counted.
Files of an audience with originals (`sharing.serving.originals`) are never patched: a freed page would keep a name. They
are closed to other accounts than their owner and its group, and are tried again while somebody's original is missing.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from lake import ledger, query
from lake.errors import EXIT_INTERNAL, TiyuError
from lake.query import quote_literal, quote_name
from lake.settings import settings
from sharing.serving import describe, originals, policy, publish
from sharing.serving.policy import Audience, Rows
from sharing.serving.publish import FileReport, Plan

_SCOPE = "__scope"
_TARGET = "target"


@dataclass(frozen=True)
class _Staged:
    """Rows of one table for all scopes, in a temporary table; `deletions` empty means that they are the whole table."""

    plan: Plan
    rule: Rows
    deletions: tuple[str, ...]

    @property
    def name(self) -> str:
        return quote_name(f"staged_{self.plan.table}")

    @property
    def columns(self) -> str:
        return ", ".join(quote_name(publish.served_name(c, t)) for c, t in self.plan.shown)

    def own_rows(self, scope: str) -> str:
        """SELECT of the rows one scope may have."""
        where = "TRUE" if self.rule.all else f"{_SCOPE} IN ({_literals([scope, *self.rule.also])})"
        return f"SELECT {self.columns} FROM temp.{self.name} WHERE {where}"

    def served_rows(self) -> str:
        """SELECT of the rows now in the file that these rows replace."""
        ranges = [statement.partition(" WHERE ")[2] for statement in self.deletions]
        return f"SELECT {self.columns} FROM {self.plan.target} WHERE {' OR '.join(ranges) or 'TRUE'}"


def publish_scopes(name: str, *, full: bool = False, recall: originals.Recall | None = None) -> list[FileReport]:
    """Bring the files of every scope of an audience up to date; called under the publishing lock.

    Raises TIYU-SRV-0005 when the policy names a scope column that the table does not have, TIYU-SRV-0008 when originals have
    to be read and `recall` is not given.
    """
    who = policy.audience(name)
    assert who.scope is not None
    scopes = who.scope.codes()
    root = settings().serving_root
    general = FileReport(name, "", changed=False)
    probe = query.connect()
    try:
        plans = publish._plans(probe, who, general)
    finally:
        probe.close()
    _check_columns(who, plans)
    extra = {
        table: version
        for table in (publish.FRESHNESS, publish.KPI)
        if (version := ledger.checked_version(table)) is not None
    }
    stamp = publish._fingerprint(name, who)
    wanted: dict[str, Any] = {plan.table: [plan.version, plan.shape] for plan in plans}
    wanted |= {table: [version, ""] for table, version in extra.items() if table not in wanted}
    state = root / f".{name}.state.json"
    files = {code: root / who.file_of(code) for code in scopes}
    for stray in set(root.glob(who.file.format(scope="*"))) - set(files.values()):
        stray.unlink()  # a scope that is no longer declared
    reports = {code: FileReport(name, str(file), changed=False, scope=code) for code, file in files.items()}
    known = {} if full else _read(state)
    if known.get("stamp") != stamp or known.get("files") != {code: _identity(file) for code, file in files.items()}:
        known = {}
    if known.get("tables") == wanted and not known.get("unrecalled"):
        return list(reports.values())
    before = {table: (int(version), shape) for table, (version, shape) in known.get("tables", {}).items()}
    if who.originals:
        before = {}  # a file that changes is written anew, from all of its rows
    with _closed(bool(who.originals)), publish._writer(None, to_disk=not who.originals) as con:
        staged, unscoped = _stage(con, name, who, plans, before, set(scopes), general, recall)
        copies_moved = any(before.get(table) != (version, "") for table, version in extra.items())
        skeleton = _Skeleton(root / f".{name}.skeleton.{os.getpid()}.tmp", who, plans, extra, stamp)
        try:
            for code, title in scopes.items():
                report = reports[code]
                report.undescribed, report.unscoped, report.redacted = general.undescribed, unscoped, general.redacted
                report.recalled, report.unrecalled = general.recalled, general.unrecalled
                _publish_one(con, who, (code, title), files[code], staged, skeleton, report, full, copies_moved)
        finally:
            skeleton.remove()
    identities = {code: _identity(file) for code, file in files.items()}
    _write_state(state, {"stamp": stamp, "tables": wanted, "files": identities, "unrecalled": general.unrecalled})
    return list(reports.values())


def _check_columns(who: Audience, plans: list[Plan]) -> None:
    assert who.scope is not None
    for plan in plans:
        own = who.scope.tables[plan.table].own
        if own is not None and own not in plan.types:
            raise TiyuError(
                "TIYU-SRV-0005", "策略按某列分范围，但表中没有这一列", "修改 catalog/policy 中该表的 own，或为该表补上这一列", EXIT_INTERNAL,
                table=plan.table, column=own,
            )  # fmt: skip


def _stage(
    con: duckdb.DuckDBPyConnection,
    name: str,
    who: Audience,
    plans: list[Plan],
    before: dict[str, tuple[int, str]],
    scopes: set[str],
    general: FileReport,
    recall: originals.Recall | None,
) -> tuple[list[_Staged], dict[str, int]]:
    """Read what changed, once for all scopes; also how many of these rows belong to no declared scope, per table."""
    assert who.scope is not None
    work = [(p, change) for p in plans if (change := publish._changed_rows(p, before.get(p.table))) is not None]
    sources = [(plan, rows) for plan, (rows, _) in work if rows]
    publish._load_tokens(con, name, sources)
    general.redacted = publish._load_texts(con, name, sources)
    general.recalled, general.unrecalled = originals.load(con, who, sources, recall)
    staged, unscoped = [], {}
    for plan, (rows, deletions) in work:
        if not rows:
            continue  # a newer version with the same rows
        one = _Staged(plan, who.scope.tables[plan.table], tuple(deletions))
        own = "NULL" if one.rule.own is None else f"CAST(src.{quote_name(one.rule.own)} AS VARCHAR)"
        select = publish._select(who, plan, rows, f"{own} AS {_SCOPE}", redacted=general.redacted > 0)
        con.execute(f"CREATE TEMP TABLE {one.name} AS {select}")
        staged.append(one)
        if one.rule.own is not None:
            lost = con.execute(
                f"SELECT count(*) FROM temp.{one.name} WHERE {_SCOPE} IS NULL"
                f" OR {_SCOPE} NOT IN ({_literals([*scopes, *who.scope.without, *one.rule.also])})"
            ).fetchall()[0][0]
            if lost:
                unscoped[plan.table] = lost
    return staged, unscoped


def _publish_one(
    con: duckdb.DuckDBPyConnection,
    who: Audience,
    scope: tuple[str, str],
    final: Path,
    staged: list[_Staged],
    skeleton: _Skeleton,
    report: FileReport,
    full: bool,
    copies_moved: bool,
) -> None:
    stamp, known = publish._previous(final)
    rebuild = full or stamp != skeleton.stamp
    tables = {plan.table for plan in skeleton.plans}
    gone: set[str] = set()
    if rebuild:
        work = staged
    else:
        gone = set(known) - tables - set(skeleton.extra)
        _attach(con, final, read_only=True)
        try:
            work = [
                one
                for one in staged
                if known.get(one.plan.table, (0, ""))[1] != one.plan.shape or _differs(con, one, scope[0])
            ]
            copies = copies_moved and skeleton.copies_differ(con)
        finally:
            _detach(con)
        if not (work or gone or copies):
            return
        if who.originals:
            rebuild, work, gone = True, staged, set()
    aside = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    aside.unlink(missing_ok=True)
    shutil.copyfile(skeleton.file(con, staged) if rebuild else final, aside)
    try:
        _attach(con, aside)
        try:
            con.execute("BEGIN TRANSACTION")
            for table in sorted(gone):
                con.execute(f"DROP TABLE IF EXISTS {publish.tables.layer_of(table)}.{quote_name(table)}")
            for one in work:
                if not rebuild and known.get(one.plan.table, (0, ""))[1] != one.plan.shape:
                    _create(con, one, skeleton.described)
                _replace_rows(con, one, scope[0])
                report.replaced[one.plan.table] = len(one.deletions)
            counts = publish._write_catalog(
                con,
                f"{who.title}：{scope[1]}",
                scope,
                skeleton.plans,
                skeleton.extra,
                skeleton.stamp,
                skeleton.described,
            )
            con.execute("COMMIT")
            con.execute(f"CHECKPOINT {_TARGET}")
        finally:
            _detach(con)
        os.replace(aside, final)
    finally:
        aside.unlink(missing_ok=True)
        aside.with_name(f"{aside.name}.wal").unlink(missing_ok=True)
    report.changed, report.rebuilt, report.bytes = True, rebuild, final.stat().st_size
    report.tables, report.rows = len(counts), sum(counts.values())


def _differs(con: duckdb.DuckDBPyConnection, one: _Staged, scope: str) -> bool:
    new, old = one.own_rows(scope), one.served_rows()
    return bool(
        con.execute(f"SELECT EXISTS (({new}) EXCEPT ALL ({old})) OR EXISTS (({old}) EXCEPT ALL ({new}))").fetchall()[0][
            0
        ]
    )


def _replace_rows(con: duckdb.DuckDBPyConnection, one: _Staged, scope: str) -> None:
    for statement in one.deletions or (f"DELETE FROM {one.plan.target}",):
        con.execute(statement)
    con.execute(f"INSERT INTO {one.plan.target} BY NAME {one.own_rows(scope)}")


def _create(con: duckdb.DuckDBPyConnection, one: _Staged, described: dict[str, describe.Table]) -> None:
    """An empty, described table with the columns of the staged rows."""
    con.execute(f"CREATE SCHEMA IF NOT EXISTS {one.plan.schema}")
    con.execute(f"DROP TABLE IF EXISTS {one.plan.target}")
    con.execute(f"CREATE TABLE {one.plan.target} AS SELECT {one.columns} FROM temp.{one.name} LIMIT 0")
    publish._comment(con, one.plan, described.get(one.plan.table))


class _Skeleton:
    """The file every new scope starts from: all tables, described and empty, made once when it is first needed."""

    def __init__(self, path: Path, who: Audience, plans: list[Plan], extra: dict[str, int], stamp: str) -> None:
        self.path, self.who, self.plans, self.extra, self.stamp = path, who, plans, extra, stamp
        self.described = describe.tables()
        self._fresh: dict[str, str] = {}

    def file(self, con: duckdb.DuckDBPyConnection, staged: list[_Staged]) -> Path:
        """The file; the connection must have no target attached."""
        if not self.path.is_file():
            _attach(con, self.path)
            try:
                con.execute("BEGIN TRANSACTION")
                for one in staged:
                    _create(con, one, self.described)
                publish._write_catalog(
                    con, self.who.title, ("", ""), self.plans, self.extra, self.stamp, self.described
                )
                con.execute("COMMIT")
                con.execute(f"CHECKPOINT {_TARGET}")
            finally:
                _detach(con)
        return self.path

    def copies_differ(self, con: duckdb.DuckDBPyConnection) -> bool:
        """Whether the freshness or the KPI definitions in the attached file are not those of the lake."""
        for target, source, _ in publish.COPIES:
            if source not in self.extra:
                continue
            if target not in self._fresh:
                self._fresh[target] = publish._copied_rows(con, source, self.extra[source])
            new, old = self._fresh[target], f"SELECT * FROM {_TARGET}.main.{target}"
            columns = "SELECT count(*) FROM (DESCRIBE {})"
            same_shape = con.execute(f"SELECT ({columns.format(new)}) = ({columns.format(old)})").fetchall()[0][0]
            if (
                not same_shape
                or con.execute(
                    f"SELECT EXISTS (({new}) EXCEPT ALL ({old})) OR EXISTS (({old}) EXCEPT ALL ({new}))"
                ).fetchall()[0][0]
            ):
                return True
        return False

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.path.with_name(f"{self.path.name}.wal").unlink(missing_ok=True)


# --- small helpers -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _closed(needed: bool) -> Iterator[None]:
    """Files written meanwhile are for this account and its group, from their first byte: the cockpit may run as another one of
    the group."""
    before = os.umask(0o027) if needed else None
    try:
        yield
    finally:
        if before is not None:
            os.umask(before)


def _attach(con: duckdb.DuckDBPyConnection, path: Path, *, read_only: bool = False) -> None:
    # Small blocks: a scope's tables are small, and every column of every table takes at least a block or two.
    option = "READ_ONLY" if read_only else "BLOCK_SIZE 16384" if not path.is_file() else "READ_WRITE"
    con.execute(f"ATTACH {quote_literal(str(path))} AS {_TARGET} ({option})")
    con.execute(f"USE {_TARGET}")


def _detach(con: duckdb.DuckDBPyConnection) -> None:
    with contextlib.suppress(duckdb.TransactionException):
        con.execute("ROLLBACK")  # only after an error is there something to undo
    con.execute("USE memory")
    con.execute(f"DETACH {_TARGET}")


def _literals(codes: list[str]) -> str:
    return ", ".join(quote_literal(code) for code in sorted(codes))


def _identity(file: Path) -> list[int]:
    try:
        stat = file.stat()
    except FileNotFoundError:
        return []
    return [stat.st_size, stat.st_mtime_ns]


def _read(state: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(state.read_text("utf-8")))
    except (FileNotFoundError, ValueError):
        return {}


def _write_state(state: Path, content: dict[str, Any]) -> None:
    partial = state.with_name(f"{state.name}.tmp")
    partial.write_text(json.dumps(content), encoding="utf-8")
    os.replace(partial, state)


__all__ = ["publish_scopes"]
