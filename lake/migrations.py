"""The schema of the ledger has a number; an older ledger is brought up to it, a newer one is refused.

A migration only adds (a column that may be null, an index), so that it is safe to run while another process reads, and
a ledger is never half of two schemas: all missing migrations are one transaction. A *new table* needs no migration,
because missing tables are created on opening; a *new column* of a table that exists does. To add one: declare it in
``lake.ledger``, append a `Migration` here, and never change one that has been released.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from lake.clock import utc_now
from lake.errors import EXIT_UNAVAILABLE, TiyuError

schema_version = sa.Table(
    "ledger_schema",
    sa.MetaData(),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("note", sa.String, nullable=False),
    sa.Column("applied_at", sa.String, nullable=False),  # ISO 8601, UTC
)


@dataclass(frozen=True)
class Migration:
    """One step: what it is for, and what it does."""

    note: str
    apply: Callable[[Connection], None]


def add_column(table: str, column: sa.Column[object]) -> Callable[[Connection], None]:
    """Add a nullable column; a column that is there already (a ledger created by newer code) is left alone."""

    def apply(connection: Connection) -> None:
        if any(entry["name"] == column.name for entry in sa.inspect(connection).get_columns(table)):
            return
        quote = connection.dialect.identifier_preparer.quote
        kind = column.type.compile(connection.dialect)
        connection.exec_driver_sql(f"ALTER TABLE {quote(table)} ADD COLUMN {quote(column.name)} {kind}")

    return apply


#: In order; the number of a schema is how many of these it has seen.
MIGRATIONS: tuple[Migration, ...] = (
    Migration("batch.supersedes: which batch a re-read one replaces", add_column("batch", sa.Column("supersedes", sa.String))),
    Migration("quarantine_replay.rule_id: for which rule a record is refused now", add_column("quarantine_replay", sa.Column("rule_id", sa.String))),
    Migration("quarantine_replay.reason: why, in Chinese", add_column("quarantine_replay", sa.Column("reason", sa.String))),
    Migration("quarantine_replay.decided_by: which account gave a record up", add_column("quarantine_replay", sa.Column("decided_by", sa.String))),
)  # fmt: skip


def migrate(engine: Engine, metadata: sa.MetaData) -> int:
    """Create what is missing, apply what has not been applied, and return the schema's number.

    Raises TIYU-LED-0002 when the ledger was written by newer code.
    """
    wanted = len(MIGRATIONS)
    if _number(engine) == wanted:
        metadata.create_all(engine)  # tables that newer code added
        return wanted
    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # two processes may open an old ledger at the same instant
        else:
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7469797500)")
        try:
            found = _number_in(connection)
            refuse_newer(found)
            metadata.create_all(connection)
            schema_version.create(connection, checkfirst=True)
            for number in range(found, wanted):
                MIGRATIONS[number].apply(connection)
                connection.execute(
                    sa.insert(schema_version).values(
                        version=number + 1, note=MIGRATIONS[number].note, applied_at=utc_now().isoformat()
                    )
                )
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
    return wanted


def _number(engine: Engine) -> int:
    with engine.connect() as connection:
        return _number_in(connection)


def _number_in(connection: Connection) -> int:
    """How many migrations a ledger has seen; 0 for an empty one and for one from before there were any."""
    if not sa.inspect(connection).has_table(schema_version.name):
        return 0
    return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(schema_version.c.version), 0))).scalar_one())


def refuse_newer(number: int) -> None:
    """Raise TIYU-LED-0002 for a number this code does not know."""
    if number > len(MIGRATIONS):
        raise TiyuError(
            "TIYU-LED-0002",
            "控制台账由更新版本的程序写成，本版本不能使用",
            "换用写成它的程序版本或更新的版本；不要删改台账",
            EXIT_UNAVAILABLE,
            ledger=number,
            program=len(MIGRATIONS),
        )
