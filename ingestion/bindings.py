"""目录挂接 at the sources: does the place answer that a source entry is bound to? For `tiyu catalog check --lake`.

A source is asked only where its connection is set (`TIYU_CONN_<NAME>`), as it is for the tasks that fetch; elsewhere there is
no credential to ask with. Nothing is fetched into the lake.
"""

from __future__ import annotations

import os

from catalog import contracts
from catalog.checks.base import Seen
from catalog.entries import Binding, Entry
from ingestion import connectors
from lake.errors import TiyuError


def connection(entry: Entry, binding: Binding) -> Seen:
    """Ask the source of an entry for a sign of life with the credential of its connection."""
    server = contracts.load(entry.id).server
    assert server is not None  # only a source has a binding of this kind
    if not os.environ.get(f"TIYU_CONN_{server.connection}"):
        return Seen(0)
    try:
        uri = connectors.uri_from_environment(server.connection)
        for _ in connectors.create(server, uri, lambda _: False).fetch({}, max_bytes=1):
            break  # whether there is something to take is a matter of freshness
    except TiyuError as error:
        return Seen(1, f"数据源没有应答：{error.message_zh}（{error.code}）")
    return Seen(1)
