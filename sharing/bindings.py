"""目录挂接 on the surfaces: what an entry is bound to is looked for where it really stands.

For `tiyu catalog check --lake`: a table in every serving file whose audience may have it, a delivery in the outbox, a
published version of an open dataset, a page with the tables it reads. Nothing is written.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import duckdb

from catalog import project
from catalog.checks.base import Seen
from catalog.entries import Binding, Entry
from lake import ledger
from lake.errors import TiyuError
from lake.settings import settings
from sharing.open_data import config as datasets
from sharing.open_data import versions
from sharing.serving import connect, describe, policy


class Surfaces:
    """The surfaces of one installation, each opened at most once. Its methods are probes of `catalog.checks`."""

    def table(self, entry: Entry, binding: Binding) -> Seen:
        """A checked table is in every serving file whose audience may have it."""
        if ledger.checked_version(binding.target) is None:
            return Seen(0)
        examined = 0
        for audience, scope in self._files_for(binding.target):
            held = self._held(audience, scope)
            if isinstance(held, str):
                return Seen(examined, held)
            examined += 1
            if binding.target not in held:
                return Seen(
                    examined, f"服务文件 {policy.audience(audience).file_of(scope)} 里没有这张表，运行 tiyu serve"
                )
        return Seen(examined)

    def delivery(self, entry: Entry, binding: Binding) -> Seen:
        """The newest delivery stands in the outbox with every file of its manifest, whole."""
        output = next(b.target for b in entry.bindings if b.kind == "table")
        sent = [row for row in ledger.deliveries() if row["status"] == "sent" and row["source_table"] == output]
        if not sent:
            return Seen(0, "还没有交付过，运行 tiyu exchange run")
        newest = max(sent, key=lambda row: (row["business_date"], row["sequence"]))
        folder = settings().exchange_root / newest["path"]
        if not folder.is_dir():
            return Seen(1, f"发件箱里没有最近一次交付的目录 {newest['path']}")
        listed = json.loads(newest["detail"]).get("files", [])
        broken = [file["name"] for file in listed if not _whole(folder, file["name"], file["size"])]
        if broken or not listed:
            return Seen(1, f"最近一次交付缺文件或大小不符：{'、'.join(broken) or '没有文件清单'}")
        return Seen(1)

    def dataset(self, entry: Entry, binding: Binding) -> Seen:
        """The newest published version has every file, as it was published."""
        spec = next((spec for spec in datasets.load() if spec.contract_id == binding.target), None)
        if spec is None:
            return Seen(0, "没有这个开放数据集的发布配置")
        folder = versions.newest(spec.name)
        if folder is None:
            return Seen(0, "还没有发布过版本，运行 tiyu open-data build")
        try:
            versions.check(folder)
        except TiyuError as error:
            return Seen(1, f"{error.message_zh}（{error.code}，{folder.name}）")
        page = folder.parent / "index.html"
        return Seen(1, None if page.is_file() else f"开放数据页面不存在：{spec.name}/index.html")

    def page(self, entry: Entry, binding: Binding) -> Seen:
        """The files of the audience that the page is named after hold every table that it reads, and Superset, where it is
        at hand, has the page."""
        reads = project.load().exposures[binding.target].depends_on
        files = [(audience, scope) for audience, scope in self._served if audience == binding.target]
        if not files:
            return Seen(0, "没有与页面同名的受众，它没有可读的服务文件")
        for examined, (audience, scope) in enumerate(files):
            held = self._held(audience, scope)
            if isinstance(held, str):
                return Seen(examined, held)
            lacking = sorted(table for table in reads if table not in held)
            if lacking:
                name = policy.audience(audience).file_of(scope)
                return Seen(examined + 1, f"服务文件 {name} 里没有页面所读的：{'、'.join(lacking)}，运行 tiyu serve")
        known = _dashboards()
        missing = known is not None and binding.target not in known
        return Seen(len(files), "驾驶舱里没有这个页面" if missing else None)

    @cached_property
    def _served(self) -> list[tuple[str, str | None]]:
        """(audience, scope) of every serving file there should be."""
        found: list[tuple[str, str | None]] = []
        for name in policy.served():
            scope = policy.audience(name).scope
            found += [(name, code) for code in scope.codes()] if scope else [(name, None)]
        return found

    def _files_for(self, table: str) -> Iterator[tuple[str, str | None]]:
        known = self._described.get(table, {})
        person_level = policy.is_person_level(list(known.values()))
        for name, scope in self._served:
            who = policy.audience(name)
            if policy.table_allowed(who, table) and any(
                policy.decide(who, column, person_level=person_level) != "absent"
                for column in known.values()
                if column.name not in policy.TECHNICAL
            ):
                yield name, scope

    @cached_property
    def _described(self) -> dict[str, dict[str, policy.Column]]:
        return describe.columns()

    @cached_property
    def _contents(self) -> dict[tuple[str, str | None], frozenset[str] | str]:
        return {}

    def _held(self, audience: str, scope: str | None) -> frozenset[str] | str:
        """Names of the tables in a serving file, or why it cannot be read."""
        if (audience, scope) not in self._contents:
            self._contents[audience, scope] = _read(audience, scope)
        return self._contents[audience, scope]


def _whole(folder: Path, name: str, size: int) -> bool:
    """Whether a data file has its size and its two companions beside it."""
    data, stem = folder / name, name.removesuffix(".csv.gz")
    beside = [folder / f"{stem}.manifest.json", folder / f"{stem}.ok"]
    return data.is_file() and data.stat().st_size == size and all(file.is_file() for file in beside)


def _read(audience: str, scope: str | None) -> frozenset[str] | str:
    name = policy.audience(audience).file_of(scope)
    try:
        con = connect(audience, scope)
    except TiyuError as error:
        return f"服务文件 {name} 不可用：{error.message_zh}"
    except duckdb.Error as error:
        return f"服务文件 {name} 打不开（{type(error).__name__}）"
    try:
        rows = con.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = ? "
            "UNION SELECT view_name FROM duckdb_views() WHERE database_name = ?",
            [audience, audience],
        ).fetchall()
    except duckdb.Error as error:
        return f"服务文件 {name} 读不出来（{type(error).__name__}）"
    finally:
        con.close()
    return frozenset(row[0] for row in rows)


def _dashboards() -> set[str] | None:
    """Names of the pages in the cockpit's own store; None when it is not on this machine."""
    home = Path(os.environ.get("TIYU_COCKPIT_HOME") or settings().home / "cockpit")
    file = home / "superset.db"
    if not file.is_file():
        return None
    con = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)
    try:
        return {row[0] for row in con.execute("select slug from dashboards where slug is not null").fetchall()}
    except sqlite3.Error:
        return set()
    finally:
        con.close()
