"""The SQLAlchemy dialect through which Great Expectations reads the lake (`duckdb+lake://`)."""

from __future__ import annotations

from typing import Any

from duckdb_engine import Dialect

from lake import query


class LakeDialect(Dialect):
    """DuckDB with the offline Delta extension loaded and without transactions.

    Reading needs none, and inside one a single crashing rule would abort every rule after it.
    """

    supports_statement_cache = False

    def connect(self, *args: Any, **kwargs: Any) -> Any:
        connection = super().connect(*args, **kwargs)
        query.load_delta(connection)
        connection.execute("SET TimeZone = 'UTC'")
        return connection

    def do_begin(self, connection: Any) -> None:
        """Nothing to begin."""

    def do_commit(self, connection: Any) -> None:
        """Nothing to commit."""

    def do_rollback(self, connection: Any) -> None:
        """Nothing to roll back."""
