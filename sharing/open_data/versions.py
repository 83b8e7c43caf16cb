"""Published versions of open datasets: read them back, prove them unaltered, say what changed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from lake.errors import EXIT_INTERNAL, TiyuError
from lake.settings import settings
from sharing import files
from sharing.open_data import completeness

_VERSION = re.compile(r"^v\d{8}-[0-9a-f]{8}(-\d+)?$")


def changelog(title: str, versions: list[dict[str, Any]]) -> str:
    """CHANGELOG.md, newest first."""
    lines = [f"# {title} 更新记录", ""]
    if versions[-1]["banner"]:
        lines += [f"**{versions[-1]['banner']}**", ""]
    for version in reversed(versions):
        lines += [
            f"## {version['version']}",
            "",
            f"- 发布时间：{version['published_at'][:19].replace('T', ' ')}　数据截至：{version['data_date']}　{version['row_count']} 行",
            f"- {describe_changes(version)}",
            *([f"- {completeness.note(version['missing_sources'])}"] if version["missing_sources"] else []),
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


def published(dataset: str) -> list[dict[str, Any]]:
    """Published versions, oldest first, each proved unaltered.

    The folders are the truth (the ledger is filled from them). Raises TIYU-OPEN-0005 when a file of a published version no
    longer has the checksum it was published with.
    """
    folder = settings().open_root / dataset
    versions = []
    for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
        if entry.is_dir() and not entry.is_symlink() and _VERSION.match(entry.name):
            check(entry)
            version = json.loads((entry / "version.json").read_text(encoding="utf-8"))
            version.setdefault("missing_sources", [])  # a version from before the field existed
            versions.append(version)
    return sorted(versions, key=lambda item: item["sequence"])


def newest(dataset: str) -> Path | None:
    """The folder of the newest published version; None when there is none."""
    folder = settings().open_root / dataset
    found = [
        (json.loads((entry / "version.json").read_text(encoding="utf-8"))["sequence"], entry)
        for entry in (sorted(folder.iterdir()) if folder.is_dir() else [])
        if entry.is_dir() and not entry.is_symlink() and _VERSION.match(entry.name)
    ]
    return max(found)[1] if found else None


def check(folder: Path) -> int:
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
