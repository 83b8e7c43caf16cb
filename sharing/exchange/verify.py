"""Check a delivery as its receiver would: from the folder alone, with none of our state.

Only the published manifest schema and the files are used, so the big-data center could run the same checks.
"""

from __future__ import annotations

import gzip
import json
import re
import tempfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from lake.errors import EXIT_USAGE, TiyuError
from sharing import files
from sharing.exchange import config, published
from sharing.exchange.codes import BY_CODE, CHECKS

NAME = re.compile(
    r"^(?P<uscc>[0-9A-Z]{18})_(?P<code>[0-9A-Z]+-[0-9]+)_(?P<mode>[FI])_(?P<date>\d{8})_(?P<batch>\d{4})"
    r"_(?P<part>\d{3})of(?P<parts>\d+)\.(?P<kind>csv\.gz|manifest\.json|ok)$"
)
README = "README.txt"


@dataclass
class CheckResult:
    """One check: what it is, how many things it looked at, and what it found wrong."""

    code: str
    title_zh: str
    examined: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        """pass | fail | error; a check that looked at nothing is an error, never a pass."""
        return "fail" if self.problems else ("pass" if self.examined else "error")


@dataclass
class VerifyReport:
    """Result of verifying one delivery folder."""

    folder: Path
    results: list[CheckResult]
    manifest: dict[str, Any] | None

    @property
    def ok(self) -> bool:
        """True when every check ran on something and found nothing."""
        return all(result.outcome == "pass" for result in self.results)

    @property
    def failed_codes(self) -> list[str]:
        """Codes of the checks that failed."""
        return [result.code for result in self.results if result.outcome == "fail"]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "folder": str(self.folder),
            "ok": self.ok,
            "batch_id": (self.manifest or {}).get("batch_id"),
            "row_count": (self.manifest or {}).get("row_count"),
            "checks": [
                {
                    "code": r.code,
                    "title": r.title_zh,
                    "outcome": r.outcome,
                    "examined": r.examined,
                    "problems": r.problems,
                    "action": BY_CODE[r.code].action_zh if r.problems else None,
                }
                for r in self.results
            ],
        }


class _Run:
    def __init__(self, folder: Path, schema: dict[str, Any]):
        self.folder = folder
        self.schema = schema
        self.results = {check.code: CheckResult(check.code, check.title_zh) for check in CHECKS}
        self.manifest: dict[str, Any] | None = None

    def look(self, code: str, good: bool, problem: str, things: int = 1) -> bool:
        """Count what was examined; note the problem when it is not good."""
        result = self.results[code]
        result.examined += things
        if not good:
            result.problems.append(problem)
        return good


def verify(folder: Path) -> VerifyReport:
    """Run every check of the interface specification on one delivery folder.

    Checks that cannot run because an earlier one failed stay ``error`` with 0 examined; they never pass.
    Raises TIYU-EXC-0014 when the folder does not exist.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise TiyuError(
            "TIYU-EXC-0014",
            "没有这个目录",
            "给出交付目录的路径，例如 outbox/2026-01-31/…",
            EXIT_USAGE,
            path=str(folder),
        )
    run = _Run(folder, json.loads(config.manifest_schema_path().read_text(encoding="utf-8")))
    stems = _names(run)
    manifests = _manifests(run, stems)
    if manifests:
        run.manifest = manifests[stems[0]]
        _consistency(run, manifests)
        if _hashes(run):
            _content(run)
    return VerifyReport(folder, list(run.results.values()), run.manifest)


def _names(run: _Run) -> list[str]:
    """EX-01, 02, 04: complete triples, nothing foreign, .ok empty. Returns the stems of the parts, in order."""
    names = sorted(entry.name for entry in run.folder.iterdir())
    parsed = {name: NAME.match(name) for name in names}
    foreign = [name for name in names if parsed[name] is None and name != README]
    run.look("EX-02", not foreign, f"多余文件：{foreign}", max(1, len(names)))
    run.look("EX-01", README in names, "缺少 README.txt")
    stems = sorted({name.removesuffix("." + match["kind"]) for name, match in parsed.items() if match})
    run.look("EX-01", bool(stems), "没有数据文件、清单或 .ok")
    for stem in stems:
        for kind in ("csv.gz", "manifest.json", "ok"):
            run.look("EX-01", f"{stem}.{kind}" in names, f"缺少 {stem}.{kind}")
        ok = run.folder / f"{stem}.ok"
        if ok.is_file():
            run.look("EX-04", ok.stat().st_size == 0, f"{ok.name} 有 {ok.stat().st_size} 字节")
    return stems


def _manifests(run: _Run, stems: list[str]) -> dict[str, dict[str, Any]]:
    """EX-05: every manifest is valid by the published schema."""
    found = {}
    for stem in stems:
        path = run.folder / f"{stem}.manifest.json"
        if not path.is_file():
            continue
        manifest, unreadable = published.parse(path.read_bytes())
        errors = [unreadable] if unreadable else published.problems(manifest, run.schema)
        if run.look("EX-05", not errors, f"{path.name}：{'；'.join(errors)}"):
            found[stem] = manifest
    return found


def _consistency(run: _Run, manifests: dict[str, dict[str, Any]]) -> None:
    """EX-03 names equal manifest fields and parts are complete; EX-06 credit code."""
    first = next(iter(manifests.values()))
    run.look("EX-06", config.uscc_valid(first["provider_uscc"]), first["provider_uscc"])
    run.look(
        "EX-03",
        first["batch_id"]
        == f"{first['resource_code'].replace('/', '-')}_{first['biz_date'].replace('-', '')}_{first['batch']}",
        "batch_id 与资源代码、业务日期、批次号不一致",
    )
    listed = [entry["name"] for entry in first["files"]]
    run.look("EX-03", len(listed) == first["part_count"], "分片数与 part_count 不一致")
    run.look(
        "EX-03", sorted(listed) == sorted(f"{stem}.csv.gz" for stem in manifests), "清单所列文件与目录中的文件不一致"
    )
    for stem, manifest in manifests.items():
        match = NAME.match(f"{stem}.csv.gz")
        assert match is not None
        run.look("EX-03", {**manifest, "part_no": 0} == {**first, "part_no": 0}, f"{stem}：各分片清单不一致")
        said = (
            manifest["provider_uscc"],
            manifest["resource_code"].replace("/", "-"),
            manifest["mode"],
            manifest["biz_date"].replace("-", ""),
            manifest["batch"],
            f"{manifest['part_no']:03d}",
            str(manifest["part_count"]),
        )
        run.look("EX-03", match.groups()[:-1] == said, f"{stem}：文件名与清单字段不一致")


def _hashes(run: _Run) -> bool:
    """EX-07 size and SM3 of the files; EX-08 they unpack to what was packed."""
    good = True
    for entry in (run.manifest or {})["files"]:
        path = run.folder / entry["name"]
        if not path.is_file():
            good = False
            continue
        same = path.stat().st_size == entry["size"] and files.sm3_file(path) == entry["sm3"]
        run.look("EX-07", same, f"{entry['name']}：大小或 SM3 不一致")
        try:
            plain = gzip.decompress(path.read_bytes())
            plain.decode("utf-8")
        except (OSError, EOFError, ValueError, zlib.error) as error:
            good = run.look("EX-08", False, f"{entry['name']}：{type(error).__name__}") and good
            continue
        run.look("EX-08", True, "")
        run.look("EX-07", files.sm3_bytes(plain) == entry["sm3_uncompressed"], f"{entry['name']}：解压后 SM3 不一致")
    return good


def _content(run: _Run) -> None:
    """EX-09…EX-15: what the rows say, read as text by DuckDB."""
    manifest = run.manifest or {}
    columns = [*config.SYSTEM_COLUMNS, *(column["name"] for column in manifest["columns"])]
    with tempfile.TemporaryDirectory() as scratch, duckdb.connect(":memory:") as con:
        con.execute("SET enable_progress_bar = false")
        con.execute("SET memory_limit = '1GB'")
        con.execute(f"SET temp_directory = '{scratch}'")
        parts = []
        for number, entry in enumerate(manifest["files"]):
            plain = Path(scratch) / f"{number}.csv"
            with gzip.open(run.folder / entry["name"]) as packed:
                plain.write_bytes(packed.read())
            with plain.open(encoding="utf-8", newline="") as stream:
                header = stream.readline().rstrip("\n").split(",")
            if not run.look("EX-09", header == columns, f"{entry['name']}：表头不一致", len(columns)):
                return
            newlines = plain.read_bytes().count(b"\n")
            run.look(
                "EX-10",
                newlines == entry["rows"] + 1,
                f"{entry['name']}：wc -l 为 {newlines}，应为 {entry['rows'] + 1}",
            )
            parts.append(str(plain))
        spec = ", ".join(f"'{name}': 'VARCHAR'" for name in columns)
        try:
            con.execute(
                f"""create table d as select * from read_csv(?, header=true, delim=',', quote='"', escape='"', auto_detect=false,
                nullstr='{config.NULL_TOKEN}', columns={{{spec}}}, strict_mode=true)""",
                [parts],
            )
        except duckdb.Error as error:
            run.look("EX-08", False, f"CSV 无法解析：{type(error).__name__}")
            return
        con.execute("SET enable_external_access = false")
        _rows(run, con, manifest)


def _rows(run: _Run, con: duckdb.DuckDBPyConnection, manifest: dict[str, Any]) -> None:
    def number(sql: str) -> Any:
        return (con.execute(sql).fetchone() or (None,))[0]

    total = number("select count(*) from d")
    run.look("EX-10", total == manifest["row_count"] == sum(e["rows"] for e in manifest["files"]), f"实有 {total} 行")
    for op, name in (("I", "insert_count"), ("U", "update_count"), ("D", "delete_count")):
        found = number(f"select count(*) from d where _op = '{op}'")
        run.look("EX-11", found == manifest[name], f"{op}：实有 {found}，清单 {manifest[name]}")
    unknown = number("select count(*) from d where _op is null or _op not in ('I', 'U', 'D')")
    run.look("EX-11", unknown == 0, f"未知 _op {unknown} 行")
    empty = number("select count(*) from d where _src_pk is null or _src_pk = ''")
    twice = number("select count(*) - count(distinct _src_pk) from d where _src_pk is not null")
    run.look("EX-12", not empty and not twice, f"空 {empty}，重复 {twice}", max(1, total))
    known = {column["name"] for column in manifest["columns"]}
    for name, said in manifest["control_sums"].items():
        if name not in known:  # a name of a manifest is text of a stranger until it names a column
            run.look("EX-13", False, "控制总和中有清单未列的字段")
            continue
        found = number(
            f"""select cast(coalesce(sum(try_cast("{name}" as decimal(28,6))), 0) as varchar) from d where _op <> 'D'"""
        )
        run.look("EX-13", found == said, f"{name}：实为 {found}，清单 {said}")
    if not manifest["control_sums"]:
        run.look("EX-13", True, "")
    for column in (c["name"] for c in manifest["columns"] if c["required"]):
        nulls = number(f"""select count(*) from d where _op <> 'D' and "{column}" is null""")
        run.look("EX-14", nulls == 0, f"{column}：{nulls} 行为空")
    run.look("EX-14", True, "")
    wrong = con.execute("select count(*) from d where _batch_id is distinct from ?", [manifest["batch_id"]]).fetchone()
    run.look("EX-15", wrong == (0,), f"{(wrong or (0,))[0]} 行", max(1, total))


def find_deliveries(folder: Path) -> list[Path]:
    """Delivery folders at or below a path, sorted: the exchange folder (its outbox), an outbox, one day, or one delivery."""
    folder = Path(folder)
    if not folder.is_dir():
        raise TiyuError(
            "TIYU-EXC-0014",
            "没有这个目录",
            "给出交付目录的路径，例如 outbox/2026-01-31/…",
            EXIT_USAGE,
            path=str(folder),
        )
    if (folder / "outbox").is_dir():  # beside it lies the inbox: receipts are no deliveries
        folder = folder / "outbox"
    if any(entry.is_file() and not entry.name.startswith(".") for entry in folder.iterdir()):
        return [folder]
    found = sorted({path.parent for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")})
    if not found:
        raise TiyuError(
            "TIYU-EXC-0014",
            "目录里没有任何交付，无从核对",
            "给出含 .manifest.json 的目录",
            EXIT_USAGE,
            path=str(folder),
        )
    return found
