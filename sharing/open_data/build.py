"""Publish open datasets: a new immutable version when the content changed, nothing at all when it did not."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from lake import clock, ledger, properties, query, tables
from lake.errors import EXIT_INTERNAL, TiyuError
from lake.settings import settings
from sharing.exchange import files
from sharing.exchange.build import schema_version_of
from sharing.open_data import config, disclosure, formats
from sharing.open_data.config import DatasetSpec

_VERSION = re.compile(r"^v\d{8}-[0-9a-f]{8}(-\d+)?$")


@dataclass(frozen=True)
class DatasetResult:
    """What one run did about one dataset. action: published | unchanged."""

    dataset: str
    version: str
    action: str
    row_count: int
    cells_examined: int
    columns_examined: int
    path: str


@dataclass(frozen=True)
class OpenDataReport:
    """Result of :func:`build_open_data`; ``pages_written`` counts pages whose content changed."""

    datasets: list[DatasetResult]
    pages_written: int

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"datasets": [asdict(item) for item in self.datasets], "pages_written": self.pages_written}


def build_open_data() -> OpenDataReport:
    """Publish every open dataset from its checked ADS table and render the portal preview.

    Raises TIYU-OPEN-0002 (grade), 0003 (disclosure), 0004 (nothing checked), 0005 (a published version was altered).
    """
    from sharing.open_data import pages

    specs = config.load()
    root = settings().open_root
    with files.exclusive(root / ".lock"):
        shutil.rmtree(root / ".aside", ignore_errors=True)
        results, frames = [], {}
        for spec in specs:
            result, frame = publish(spec)
            results.append(result)
            frames[spec.name] = frame
        written = pages.render_portal(specs, frames)
    return OpenDataReport(results, written)


def read_checked(spec: DatasetSpec) -> tuple[pl.DataFrame, int]:
    """All columns of the dataset's checked table, and the version read.

    Raises TIYU-OPEN-0004 when nothing passed its quality gate, 0006 when a contract column is missing.
    """
    version = query.resolve_version(spec.table, "checked")
    if version is None or not tables.exists(spec.table):
        raise TiyuError(
            "TIYU-OPEN-0004",
            "没有通过质量闸的数据版本，不能发布",
            "先运行 ADS 层构建与质量闸",
            dataset=spec.name,
            table=spec.table,
        )
    with query.connect() as con:
        frame = con.execute(f"select * from {query.scan_sql(spec.table, version)}").pl()
    missing = [column.name for column in spec.columns if column.name not in frame.columns]
    if missing:
        raise TiyuError(
            "TIYU-OPEN-0006",
            "数据表缺少契约所列字段，拒绝发布",
            "让 ADS 模型与开放契约一致后重跑",
            table=spec.table,
            columns=missing,
        )
    return frame, version


def publish(spec: DatasetSpec) -> tuple[DatasetResult, pl.DataFrame]:
    """Publish one dataset if its content is new. The caller holds the lock. Returns the public rows too."""
    columns_examined = disclosure.check_grades(spec)
    source, source_version = read_checked(spec)
    cells = disclosure.check_aggregate(spec, source)
    banner = properties.demo_banner()
    frame = formats.public_frame(spec, source, banner)
    layout = schema_version_of(spec.contract_version, spec.columns)
    fingerprint = hashlib.sha256(
        json.dumps([spec.contract_id, layout, banner, spec.licence.id], ensure_ascii=False).encode()
        + formats.json_bytes(frame)
    ).hexdigest()
    folder = settings().open_root / spec.name
    versions = published_versions(spec.name)
    if versions and versions[-1]["fingerprint"] == fingerprint:
        newest, action = versions[-1], "unchanged"
    else:
        newest, action = _publish_new(spec, frame, folder, versions, fingerprint, banner), "published"
    files.replace_link(folder / "latest", newest["version"])
    _record(spec, source_version, published_versions(spec.name))
    return DatasetResult(
        spec.name, newest["version"], action, frame.height, cells, columns_examined, str(folder)
    ), frame


def _publish_new(
    spec: DatasetSpec, frame: pl.DataFrame, folder: Path, versions: list[dict[str, Any]], fingerprint: str, banner: str
) -> dict[str, Any]:
    today = clock.today()
    name = f"v{today:%Y%m%d}-{fingerprint[:8]}"
    again = 1
    while (folder / name).exists():  # content went back to what it was earlier today: still a version of its own
        again += 1
        name = f"v{today:%Y%m%d}-{fingerprint[:8]}-{again}"
    version: dict[str, Any] = {
        "dataset": spec.name,
        "title": spec.title_zh,
        "version": name,
        "sequence": len(versions) + 1,
        "published_at": clock.as_of().astimezone(clock.SHANGHAI).isoformat(timespec="seconds"),
        "data_date": clock.yesterday().isoformat(),
        "banner": banner,
        "row_count": frame.height,
        "fingerprint": fingerprint,
        "licence": spec.licence.title,
        "contract": f"{spec.contract_id}@{spec.contract_version}",
        "changes": _changes(spec, folder, versions, frame),
    }
    aside = settings().open_root / ".aside" / f"{spec.name}-{name}.{os.getpid()}"
    version = formats.write_version(spec, frame, aside, version, changelog(spec, [*versions, version]))
    from sharing.open_data import pages

    pages.write_version_page(spec, version, aside)
    files.publish_folder(aside, folder / name)
    return version


def _changes(spec: DatasetSpec, folder: Path, versions: list[dict[str, Any]], frame: pl.DataFrame) -> dict[str, Any]:
    """Rows added, removed and changed against the previous version, by key."""
    if not versions:
        return {"previous": None, "added": frame.height, "removed": 0, "changed": 0}
    previous = versions[-1]
    old = pl.read_parquet(folder / previous["version"] / f"{spec.name}.parquet")
    key = list(spec.key)
    shared = [name for name in frame.columns if name in old.columns and name not in key]
    both = frame.join(old, on=key, how="inner", suffix="__old")
    changed = 0
    if shared and both.height:
        changed = both.filter(
            pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}__old")) for name in shared)
        ).height
    layout = sorted(set(frame.columns) ^ set(old.columns))
    return {
        "previous": previous["version"],
        "added": frame.join(old, on=key, how="anti").height,
        "removed": old.join(frame, on=key, how="anti").height,
        "changed": changed,
        **({"columns_changed": layout} if layout else {}),
    }


def changelog(spec: DatasetSpec, versions: list[dict[str, Any]]) -> str:
    """CHANGELOG.md, newest first."""
    lines = [f"# {spec.title_zh} 更新记录", ""]
    if versions[-1]["banner"]:
        lines += [f"**{versions[-1]['banner']}**", ""]
    for version in reversed(versions):
        lines += [
            f"## {version['version']}",
            "",
            f"- 发布时间：{version['published_at'][:19].replace('T', ' ')}　数据截至：{version['data_date']}　{version['row_count']} 行",
            f"- {describe_changes(version)}",
            "",
        ]
    return "\n".join(lines)


def describe_changes(version: dict[str, Any]) -> str:
    """One Chinese line about what changed."""
    changes = version["changes"]
    if changes["previous"] is None:
        return f"首次发布，{changes['added']} 行"
    text = f"与 {changes['previous']} 相比：新增 {changes['added']} 行，删除 {changes['removed']} 行，修改 {changes['changed']} 行"
    return text + (f"；字段变化：{'、'.join(changes['columns_changed'])}" if changes.get("columns_changed") else "")


def published_versions(dataset: str) -> list[dict[str, Any]]:
    """Published versions, oldest first, each proved unaltered.

    The folders are the truth (the ledger is filled from them). Raises TIYU-OPEN-0005 when a file of a published version no
    longer has the checksum it was published with.
    """
    folder = settings().open_root / dataset
    versions = []
    for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
        if entry.is_dir() and not entry.is_symlink() and _VERSION.match(entry.name):
            check_version(entry)
            versions.append(json.loads((entry / "version.json").read_text(encoding="utf-8")))
    return sorted(versions, key=lambda item: item["sequence"])


def check_version(folder: Path) -> int:
    """Compare every file with checksums.sm3; returns the number of files examined."""
    problems, examined = [], 0
    listing = folder / "checksums.sm3"
    entries = (
        [line.split(" *", 1) for line in listing.read_text(encoding="utf-8").splitlines()] if listing.is_file() else []
    )
    for digest, name in entries:
        examined += 1
        path = folder / name
        if not path.is_file() or files.sm3_file(path) != digest:
            problems.append(name)
    allowed = {name for _, name in entries} | {"checksums.sm3", "checksums.sha256", "index.html"}
    problems += sorted(path.name for path in folder.iterdir() if path.name not in allowed)
    if problems or not examined:
        raise TiyuError(
            "TIYU-OPEN-0005",
            "已发布的版本被改动过，停止发布",
            "从备份恢复该版本目录；已发布版本不得重算或改写",
            EXIT_INTERNAL,
            version=f"{folder.parent.name}/{folder.name}",
            files=problems or "没有校验清单",
        )
    return examined


def _record(spec: DatasetSpec, source_version: int, versions: list[dict[str, Any]]) -> None:
    """Enter versions into the ledger that are not there yet (after a crash, or a lost ledger)."""
    known = {row["version"] for row in ledger.dataset_versions(spec.name)}
    for version in versions:
        if version["version"] not in known:
            ledger.upsert(
                ledger.dataset_version,
                {
                    "dataset": spec.name,
                    "version": version["version"],
                    "source_table": spec.table,
                    "source_version": source_version,
                    "row_count": version["row_count"],
                    "sha256": version["fingerprint"],
                    "published_at": datetime.fromisoformat(version["published_at"]),
                    "detail": json.dumps(version["changes"], ensure_ascii=False),
                },
            )
