"""The SQLAlchemy dialects through which Great Expectations reads judged rows."""

from __future__ import annotations

from typing import Any

from duckdb_engine import Dialect

from lake import query


class JudgedDialect(Dialect):
    """DuckDB without transactions (`duckdb+judged://`): reading needs none, and inside one a single crashing rule
    would abort every rule after it."""

    supports_statement_cache = False

    def do_begin(self, connection: Any) -> None:
        """Nothing to begin."""

    def do_commit(self, connection: Any) -> None:
        """Nothing to commit."""

    def do_rollback(self, connection: Any) -> None:
        """Nothing to roll back."""


class LakeDialect(JudgedDialect):
    """The same with the offline Delta extension (`duckdb+lake://`), for the rare view that reads the lake itself."""

    supports_statement_cache = False

    def connect(self, *args: Any, **kwargs: Any) -> Any:
        connection = super().connect(*args, **kwargs)
        query.load_delta(connection)
        connection.execute("SET TimeZone = 'UTC'")
        return connection
