"""Publish open datasets: a new immutable version when the content changed, nothing at all when it did not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from lake import clock, ledger, properties, query, steps, storage, tables
from lake.errors import TiyuError
from lake.settings import settings
from sharing import files
from sharing.open_data import completeness, config, disclosure, formats, pages, versions
from sharing.open_data.config import DatasetSpec


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
class Published:
    """A dataset after :func:`publish`: the outcome, its public rows, and every version there now is, oldest first."""

    result: DatasetResult
    rows: pl.DataFrame
    versions: list[dict[str, Any]]


@dataclass(frozen=True)
class OpenDataReport:
    """Result of :func:`build_open_data`; ``pages_written`` counts pages whose content changed."""

    datasets: list[DatasetResult]
    pages_written: int

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"datasets": [asdict(item) for item in self.datasets], "pages_written": self.pages_written}


@storage.coded()
@steps.step("open_data")
def build_open_data() -> OpenDataReport:
    """Publish every open dataset from its checked ADS table and render the portal preview.

    Raises TIYU-OPEN-0002 (grade), 0003 (disclosure), 0004 (nothing checked), 0005 (a published version was altered).
    """
    specs = config.load()
    root = settings().open_root
    with files.exclusive(root / ".lock"):
        shutil.rmtree(root / ".aside", ignore_errors=True)
        missing = completeness.missing_sources(specs)
        published = [publish(spec, missing[spec.name]) for spec in specs]
        written = pages.render_portal(
            [(spec, item.rows, item.versions) for spec, item in zip(specs, published, strict=True)]
        )
    return OpenDataReport([item.result for item in published], written)


def read_checked(spec: DatasetSpec) -> tuple[pl.DataFrame, int]:
    """All columns of the dataset's checked table, and the version read.

    Raises TIYU-OPEN-0004 when nothing passed its quality gate, 0006 when a contract column is missing.
    """
    version = query.resolve_version(spec.table, "checked")
    if version is None or not tables.exists(spec.table):
        raise TiyuError(
            "TIYU-OPEN-0004",
            "没有通过质量闸门的数据版本，不能发布",
            "先运行 ADS 层构建与质量闸门",
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


def publish(spec: DatasetSpec, missing: Sequence[str]) -> Published:
    """Publish one dataset if its content, or what is missing from it, is new. The caller holds the lock.

    missing: titles of the sources without their newest data (`completeness.missing_sources`).
    """
    columns_examined = disclosure.check_grades(spec)
    source, source_version = read_checked(spec)
    cells = disclosure.check_aggregate(spec, source)
    banner = properties.demo_banner()
    frame = formats.public_frame(spec, source, banner)
    fingerprint = hashlib.sha256(
        json.dumps(
            [spec.contract_id, spec.schema_version, banner, spec.licence.id, *([list(missing)] if missing else [])],
            ensure_ascii=False,
        ).encode()
        + formats.json_bytes(frame)
    ).hexdigest()
    folder = settings().open_root / spec.name
    known = versions.published(spec.name)
    action = "unchanged"
    if not known or known[-1]["fingerprint"] != fingerprint:
        known = [*known, _publish_new(spec, frame, folder, known, fingerprint, banner, missing)]
        action = "published"
    newest = known[-1]["version"]
    files.replace_link(folder / "latest", newest)
    _record(spec, source_version, known)
    result = DatasetResult(spec.name, newest, action, frame.height, cells, columns_examined, str(folder))
    return Published(result, frame, known)


def _publish_new(
    spec: DatasetSpec,
    frame: pl.DataFrame,
    folder: Path,
    known: list[dict[str, Any]],
    fingerprint: str,
    banner: str,
    missing: Sequence[str],
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
        "sequence": len(known) + 1,
        "published_at": clock.as_of().astimezone(clock.SHANGHAI).isoformat(timespec="seconds"),
        "data_date": clock.yesterday().isoformat(),
        "banner": banner,
        "missing_sources": list(missing),
        "row_count": frame.height,
        "fingerprint": fingerprint,
        "licence": spec.licence.title,
        "contract": f"{spec.contract_id}@{spec.contract_version}",
        "changes": _changes(spec, folder, known, frame),
    }
    aside = settings().open_root / ".aside" / f"{spec.name}-{name}.{os.getpid()}"
    version = formats.write_version(spec, frame, aside, version, versions.changelog(spec.title_zh, [*known, version]))
    pages.write_version_page(spec, version, aside)
    files.publish_folder(aside, folder / name)
    return version


def _changes(spec: DatasetSpec, folder: Path, earlier: list[dict[str, Any]], frame: pl.DataFrame) -> dict[str, Any]:
    """Rows added, removed and changed against the previous version, by key."""
    if not earlier:
        return {"previous": None, "added": frame.height, "removed": 0, "changed": 0}
    previous = earlier[-1]
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


def _record(spec: DatasetSpec, source_version: int, published: list[dict[str, Any]]) -> None:
    """Enter versions into the ledger that are not there yet (after a crash, or a lost ledger)."""
    known = {row["version"] for row in ledger.dataset_versions(spec.name)}
    for version in published:
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
