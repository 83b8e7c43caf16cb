"""Check a delivery as its receiver, from the published rules alone (docs/interface_spec), with the standard library."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import zlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from pathlib import Path
from typing import Any

FOLDER = re.compile(
    r"^(?P<uscc>[0-9A-Z]{18})_(?P<code>[0-9A-Z]+-[0-9]+)_(?P<mode>[FI])_(?P<day>\d{8})_(?P<batch>\d{4})$"
)
SYSTEM = ["_op", "_src_pk", "_src_update_time", "_batch_id"]
NULL = r"\N"
NEEDED: dict[str, type | tuple[type, ...]] = {
    "resource_code": str,
    "mode": str,
    "biz_date": str,
    "batch": str,
    "batch_id": str,
    "part_count": int,
    "provider_uscc": str,
    "row_count": int,
    "insert_count": int,
    "update_count": int,
    "delete_count": int,
    "control_sums": dict,
    "files": list,
    "columns": list,
    "key": list,
    "base_batch_id": (str, type(None)),
}
_USCC = "0123456789ABCDEFGHJKLMNPQRTUWXY"


@dataclass(frozen=True)
class Row:
    """One data row; ``number`` counts from 1 over all parts, the header not counted."""

    number: int
    op: str
    key: str
    values: dict[str, str | None]


@dataclass(frozen=True)
class BadRow:
    """A row that is not taken: which rule, and the value masked."""

    number: int
    rule: str
    masked: str


@dataclass
class Findings:
    """What checking a folder gave: errors refuse the whole batch, bad rows only themselves."""

    manifest: dict[str, Any] | None = None
    rows: list[Row] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    messages: dict[str, str] = field(default_factory=dict)
    bad: list[BadRow] = field(default_factory=list)

    def error(self, code: str, message: str, count: int = 1) -> None:
        """Note something that refuses the whole batch."""
        self.errors[code] += count
        self.messages.setdefault(code, message)


def sm3(data: bytes) -> str:
    """SM3 of bytes, lower-case hex."""
    return hashlib.new("sm3", data).hexdigest()


def mask(value: str | None) -> str:
    """Enough to find a value again in its source, not enough to read it."""
    if value is None:
        return "空"
    return value[0] + "***" if len(value) > 3 else "***"


def uscc_valid(code: str) -> bool:
    """GB 32100: 18 characters, the last one a check character modulo 31."""
    if len(code) != 18 or any(c not in _USCC for c in code):
        return False
    total = sum(_USCC.index(c) * pow(3, i, 31) for i, c in enumerate(code[:17]))
    return _USCC[(31 - total % 31) % 31] == code[17]


def is_complete(folder: Path) -> bool:
    """Every part announced in a file name has its .ok: only then may the folder be read."""
    parts = list(folder.glob("*.ok"))
    if not parts:
        return False
    total = parts[0].name.rsplit("of", 1)[-1].removesuffix(".ok")
    return total.isdecimal() and len(parts) == int(total)


def check(folder: Path, rules: list[dict[str, Any]]) -> Findings:
    """All checks of one complete folder. ``rules`` are the receiver's own (EX-18)."""
    found = Findings()
    if any(path.stat().st_size for path in folder.glob("*.ok")):
        found.error("EX-04", ".ok 不是零字节")
    manifest = _manifest(folder, found)
    if manifest is None:
        return found
    found.manifest = manifest
    if not uscc_valid(manifest["provider_uscc"]):
        found.error("EX-06", "统一社会信用代码校验位错误")
    _names(folder, manifest, found)
    if not found.errors:
        _read(folder, manifest, found)
    if not found.errors:
        _whole(manifest, found)
    if not found.errors:
        for row in found.rows:
            if row.op != "D":
                _row(row, manifest, rules, found)
    return found


def _manifest(folder: Path, found: Findings) -> dict[str, Any] | None:
    manifests = []
    for path in sorted(folder.glob("*.manifest.json")):
        try:
            manifests.append(json.loads(path.read_text("utf-8")))
        except (ValueError, UnicodeDecodeError):
            found.error("EX-05", "清单不是合法 JSON")
            return None
    if not manifests:
        found.error("EX-01", "缺少清单")
        return None
    first = manifests[0]
    if not isinstance(first, dict) or any(not isinstance(first.get(n, ...), kind) for n, kind in NEEDED.items()):
        found.error("EX-05", "清单缺少必需的字段或类型不对")
        return None
    if any({**m, "part_no": 0} != {**first, "part_no": 0} for m in manifests):
        found.error("EX-03", "各分片清单不一致")
        return None
    return first


def _names(folder: Path, manifest: dict[str, Any], found: Findings) -> None:
    code, day = manifest["resource_code"].replace("/", "-"), manifest["biz_date"].replace("-", "")
    stem = f"{manifest['provider_uscc']}_{code}_{manifest['mode']}_{day}_{manifest['batch']}"
    if folder.name != stem or manifest["batch_id"] != f"{code}_{day}_{manifest['batch']}":
        found.error("EX-03", "目录名、批次标识与清单不一致")
    count = manifest["part_count"]
    wanted = {
        f"{stem}_{n:03d}of{count}.{kind}" for n in range(1, count + 1) for kind in ("csv.gz", "manifest.json", "ok")
    }
    present = {path.name for path in folder.iterdir()}
    if wanted - present or "README.txt" not in present:
        found.error("EX-01", "缺少文件")
    if present - wanted - {"README.txt"}:
        found.error("EX-02", "有多余文件")
    if any(n.endswith((".csv.gz", ".manifest.json", ".ok")) and n not in wanted for n in present):
        found.error("EX-03", "文件名与清单内容不一致")
    if sorted(entry["name"] for entry in manifest["files"]) != sorted(n for n in wanted if n.endswith(".csv.gz")):
        found.error("EX-03", "清单所列文件与分片不一致")


def _read(folder: Path, manifest: dict[str, Any], found: Findings) -> None:
    header = SYSTEM + [column["name"] for column in manifest["columns"]]
    number = 0
    for entry in manifest["files"]:
        packed = (folder / entry["name"]).read_bytes()
        if len(packed) != entry["size"] or sm3(packed) != entry["sm3"]:
            found.error("EX-07", "文件大小或 SM3 不一致")
            return
        try:
            plain = gzip.decompress(packed)
            lines = list(csv.reader(io.StringIO(plain.decode("utf-8"), newline=""), strict=True))
        except (OSError, EOFError, ValueError, zlib.error, csv.Error):
            found.error("EX-08", "数据文件无法读出")
            return
        if sm3(plain) != entry["sm3_uncompressed"]:
            found.error("EX-07", "解压后 SM3 不一致")
        if not lines or lines[0] != header:
            found.error("EX-09", "表头与清单不一致")
            return
        if len(lines) - 1 != entry["rows"]:
            found.error("EX-10", "行数与清单不一致")
        for line in lines[1:]:
            number += 1
            if len(line) != len(header):
                found.error("EX-08", "列数不齐")
                return
            values = dict(zip(header, (None if cell == NULL else cell for cell in line), strict=True))
            if values["_batch_id"] != manifest["batch_id"]:
                found.error("EX-15", "行内批次标识不一致")
            found.rows.append(
                Row(
                    number,
                    values["_op"] or "",
                    values["_src_pk"] or "",
                    {c["name"]: values[c["name"]] for c in manifest["columns"]},
                )
            )


def _whole(manifest: dict[str, Any], found: Findings) -> None:
    if len(found.rows) != manifest["row_count"]:
        found.error("EX-10", "行数与清单不一致")
    ops = Counter(row.op for row in found.rows)
    said = {"I": manifest["insert_count"], "U": manifest["update_count"], "D": manifest["delete_count"]}
    if set(ops) - set(said) or any(ops[op] != count for op, count in said.items()):
        found.error("EX-11", "新增、修改、删除行数不一致")
    keys = Counter(row.key for row in found.rows)
    if "" in keys or len(keys) != len(found.rows):
        found.error("EX-12", "主键为空或重复")
    for row in found.rows:
        if row.op != "D" and row.key != "|".join(row.values.get(name) or "" for name in manifest["key"]):
            found.error("EX-12", "_src_pk 与主键字段不一致")
    for name, total in manifest["control_sums"].items():
        try:
            cells = [Decimal(row.values[name] or "0") for row in found.rows if row.op != "D"]
            found_sum = sum((c.quantize(Decimal("0.000001"), ROUND_HALF_UP) for c in cells), Decimal("0.000000"))
        except (InvalidOperation, KeyError):
            found.error("EX-13", f"{name} 不是数值")
            continue
        if found_sum != Decimal(total):
            found.error("EX-13", f"{name} 的控制总和不一致")


def _row(row: Row, manifest: dict[str, Any], rules: list[dict[str, Any]], found: Findings) -> None:
    """The first thing wrong with a row turns the row away."""
    for column in manifest["columns"]:
        value = row.values[column["name"]]
        if value is None:
            if column.get("required"):
                found.bad.append(BadRow(row.number, "EX-14", mask(value)))
                return
        elif not _is(value, column["type"].upper()):
            found.bad.append(BadRow(row.number, "EX-18", mask(value)))
            return
    for rule in rules:
        if rule["resource_code"] != manifest["resource_code"] or row.values.get(rule["column"]) is None:
            continue
        value = row.values[rule["column"]] or ""
        amount = Decimal(value)
        if amount < Decimal(str(rule.get("min", "-Infinity"))) or amount > Decimal(str(rule.get("max", "Infinity"))):
            found.bad.append(BadRow(row.number, "EX-18", mask(value)))
            return


def _is(value: str, kind: str) -> bool:
    """Whether a text is a value of its declared type."""
    try:
        if kind == "DATE":
            date.fromisoformat(value)
        elif kind.startswith("TIMESTAMP"):
            return datetime.fromisoformat(value).tzinfo is not None or kind == "TIMESTAMP"
        elif kind == "BOOLEAN":
            return value in ("true", "false")
        elif kind in ("BIGINT", "INTEGER", "SMALLINT", "TINYINT", "HUGEINT"):
            int(value)
        elif kind in ("DOUBLE", "FLOAT", "REAL") or kind.startswith("DECIMAL"):
            Decimal(value)
    except (ValueError, InvalidOperation):
        return False
    return True
