"""Why a source is late or incomplete goes whole to every district, so it is made of closed words; a file's name, a header and a
message of an error cannot come through it."""

from __future__ import annotations

import csv
import importlib.util
import io
import re
from pathlib import Path

import pytest

from catalog import contracts, policy, vocabularies
from ingestion.run import ingest
from lake import ledger
from quality import ops, quarantine

pytestmark = pytest.mark.policy

REPO = Path(__file__).resolve().parents[2]
NAME, PHONE, VENUE = "欧阳探针", "19977665544", "张氏健身馆"
RESOURCE = "venue.register"


def header() -> list[str]:
    return [p.source_name for p in contracts.load(RESOURCE).root.properties if p.source_name and not p.derive]


def deliver(path: Path, *rows: list[str]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    path.write_bytes(text.getvalue().encode("gb18030"))


def reason(resource: str = RESOURCE) -> str:
    return next(row["reason"] for row in ops.freshness() if row["resource"] == resource)


def grammar() -> re.Pattern[str]:
    """Everything a reason may be: the vocabulary's texts with their codes, dates, counts, columns of the contract."""
    rows = vocabularies.load("ingest_problem")
    problem = "|".join(
        re.escape(row["name"]) + ("" if row["code"] == "other" else re.escape(f"（{row['code']}）")) for row in rows
    )
    columns = "|".join(re.escape(name) for name in contracts.load(RESOURCE).root.source_columns)
    late = r"应于 \d\d-\d\d \d\d:\d\d 前更新，(?:数据只到 \d{4}-\d\d-\d\d|未收到)"
    refused = rf"\d+ 个文件被整体拒收：(?:{problem})(?:：(?:{columns})(?:、(?:{columns}))*)?"
    part = rf"(?:{problem}|{late}|从未收到数据|{refused})"
    return re.compile(rf"{part}(?:；{part})*")


def test_a_refused_file_is_told_without_its_name_and_its_header(home, tmp_path):
    drop = tmp_path / "drop"
    drop.mkdir()
    columns = header()
    deliver(drop / f"场馆登记_{NAME}.csv", [*columns, f"{VENUE}电话{PHONE}", NAME], ["x"] * (len(columns) + 2))
    report = ingest(RESOURCE, drop)
    assert [item.code for item in report.refusals] == ["TIYU-ING-0211"]
    (batch,) = ledger.batches(RESOURCE)
    (refused,) = ledger.objects(batch["batch_id"])
    # what a district must not read is there to be told: in the name of the file and in the message about its header
    assert NAME in refused["name"] or "{" in refused["name"]
    assert quarantine.reason_of(batch["batch_id"], refused["sha256"])
    told = reason()
    assert grammar().fullmatch(told), told
    assert "文件含有契约未登记的列（TIYU-ING-0211）" in told
    for word in (NAME, PHONE, VENUE, "场馆登记_"):
        assert word not in told


def test_a_missing_column_is_named_because_the_contract_names_it(home, tmp_path):
    drop = tmp_path / "drop"
    drop.mkdir()
    columns = header()
    left = [name for name in columns if name != columns[3]]
    deliver(drop / f"场馆登记_{NAME}.csv", left, ["x"] * len(left))
    assert [item.code for item in ingest(RESOURCE, drop).refusals] == ["TIYU-ING-0210"]
    told = reason()
    assert told.endswith(f"1 个文件被整体拒收：文件缺少契约规定的列（TIYU-ING-0210）：{columns[3]}")
    assert grammar().fullmatch(told), told


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        ("TIYU-ING-0120", f"接口无法访问 https://{NAME}", "数据源接口无法访问（TIYU-ING-0120）"),
        ("TIYU-XYZ-0001", f"{NAME} {PHONE}", "汇聚失败，原因见运行日志"),
        (None, f"{NAME} {PHONE}", "汇聚失败，原因见运行日志"),
        ("", "", "汇聚失败，原因见运行日志"),
    ],
)
def test_a_failed_run_is_told_by_its_code_alone(home, code, message, expected):
    ledger.start_run("r1", RESOURCE, ledger.utc_now())
    ledger.finish_run("r1", "failed", error_code=code, error_message=message)
    assert reason() == expected
    assert grammar().fullmatch(reason())


@pytest.mark.parametrize(
    "free",
    [
        f"1 个文件被整体拒收：{NAME}",
        f"数据源接口无法访问（TIYU-ING-0120）{PHONE}",
        f"应于 {VENUE} 前更新，未收到",
        VENUE,
    ],
)
def test_the_grammar_refuses_free_text(free):
    assert not grammar().fullmatch(free)


def test_every_error_an_ingest_can_end_with_has_its_words():
    spec = importlib.util.spec_from_file_location("build_error_codes", REPO / "docs" / "build_error_codes.py")
    assert spec is not None
    assert spec.loader is not None
    builder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(builder)
    # these do not run as an ingest: a command of their own that leaves no run behind
    others = {f"ingestion/{name}.py" for name in ("replay", "reread", "backfill", "rebuild", "trial", "originals")} | {
        "lake/backup.py"
    }
    others |= {f"ingestion/drafting/{name}.py" for name in ("__init__", "recognise", "write")}
    needed = {
        code
        for code, entry in builder.collect().items()
        if {file for file in entry["files"] if file.split("/")[0] in ("ingestion", "lake", "protection")} - others
    }
    listed = set(vocabularies.codes("ingest_problem"))
    assert len(needed) > 50
    assert needed <= listed, sorted(needed - listed)
    assert "other" in listed
    texts = [row["name"] for row in vocabularies.load("ingest_problem")]
    assert not [text for text in texts if "…" in text or "{" in text]


def test_the_reason_is_open_to_all_because_it_is_closed():
    """A district's file holds the table of sources whole; that stays right only while the reason is made of closed words."""
    rows = policy.current().row_scopes["own_district"].tables["ads_cockpit__freshness"]
    assert rows.all
    assert "原因" in rows.reason
