"""Write docs/sources.md: every source with owner, cycle, grade and volume, from the contracts and the last counted cities.

Run: ``python docs/build_sources.py``; with ``--count WORLD.json ...`` (of generated cities) the volumes are taken anew into
docs/source_volumes.yaml. tests/unit/docs/test_sources.py fails when the page is not current.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from catalog import contracts, vocabularies  # noqa: E402
from catalog.contracts import Contract  # noqa: E402

VOLUMES = ROOT / "docs" / "source_volumes.yaml"
PAGE = ROOT / "docs" / "sources.md"
HEADER = """# 数据来源一览

由 `python docs/build_sources.py` 从契约生成，请勿手改。级别为该来源各列中的最高级别（L1…L4）；个人信息：无、有、敏感。数据量为模拟城市发出的
记录数（含重复与错误行），是演示数据；`small` 为 60 个场馆、90 天，“city” 规模约为其 20 倍（参考类来源不随规模变化）。契约文件：
`catalog/contracts/sources/<主题域>/<名称>.odcs.yaml`；规则阈值与出处：`catalog/rules/*.yaml`。

"""
SHARE = {"unconditional": "无条件", "conditional": "有条件", "denied": "不予"}
OPEN = {"unconditional": "无条件", "conditional": "有条件", "closed": "非开放"}
MARKS = {"N": "无", "P": "有", "S": "敏感"}
CONNECTORS = {"file_drop": "文件投放", "rest": "接口", "rest_cursor": "接口（游标）", "database": "数据库", "s3": "对象存储", "sftp": "SFTP", "mqtt": "消息（MQTT）"}  # fmt: skip
DECODERS = {"csv": "CSV", "ndjson": "NDJSON", "json_items": "JSON", "xlsx": "XLSX", "xml": "XML", "parquet": "Parquet", "activity": "FIT、TCX、GPX"}  # fmt: skip


def volumes() -> dict[str, dict[str, int]]:
    """Size of a city → source → records sent."""
    return dict(yaml.safe_load(VOLUMES.read_text("utf-8"))["records_sent"])


def count(worlds: list[Path]) -> None:
    """Take the volumes of generated cities."""
    found = volumes() if VOLUMES.exists() else {}
    for path in worlds:
        world = json.loads(path.read_text("utf-8"))
        found[world["size"]] = {name: c["records_sent"] for name, c in sorted(world["counts"].items())}
    VOLUMES.write_text(
        "# Records that each simulated source sends, duplicates and bad rows included; taken by docs/build_sources.py --count.\n"
        + yaml.safe_dump({"records_sent": found}, allow_unicode=True, sort_keys=True),
        "utf-8",
    )


def _how(contract: Contract) -> str:
    assert contract.server is not None
    server = contract.server
    decoder = DECODERS.get(server.decoder, server.decoder)
    encoding = server.decoder_options.get("encoding")
    return f"{CONNECTORS.get(server.connector, server.connector)}，{decoder}{'（GB18030）' if encoding == 'gb18030' else ''}"


def render() -> str:
    """The page."""
    sizes = volumes()
    parts = [HEADER]
    sources = contracts.load_all("source")
    for domain in contracts.DOMAINS:
        mine = [c for c in sources.values() if c.domain == domain]
        parts.append(f"## {vocabularies.name_of('domain', domain)}（{len(mine)}）\n\n")
        parts.append(
            "| 来源 | 名称 | 责任处室 | 更新周期 | 级别 | 个人信息 | 共享 | 开放 | 接入 | 保存期限 | small | tiny |\n"
        )
        parts.append("|---|---|---|---|---|---|---|---|---|---|---:|---:|\n")
        for contract in mine:
            mark = max((p.pi_mark for o in contract.objects for p in o.properties), key="NPS".index)
            cells = [
                f"`{contract.id}`", contract.title, contract.owner_name, contract.update_cycle_zh, contract.grade, MARKS[mark],
                SHARE[contract.share.type], OPEN[contract.open.type], _how(contract), contract.retention,
                *("持续接收" if contract.is_stream else f"{sizes[size][contract.id]:,}" for size in ("small", "tiny")),
            ]  # fmt: skip
            parts.append("| " + " | ".join(cells) + " |\n")
        parts.append("\n")
    columns = sum(len(o.properties) for c in sources.values() for o in c.objects)
    rules = sum(len(o.rules) for c in sources.values() for o in c.objects)
    parts.append(f"合计 {len(sources)} 个来源、{columns} 列、{rules} 条行规则。\n")
    return "".join(parts)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--count"]:
        count([Path(name) for name in sys.argv[2:]])
    PAGE.write_text(render(), "utf-8")
