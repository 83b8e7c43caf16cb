"""Serving files: patched where something changed, untouched where nothing did, described in Chinese throughout."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta

import duckdb
import polars as pl
import pytest
from typer.testing import CliRunner

from catalog import policy
from dashboards import access
from lake import ledger, properties, tables
from lake.errors import TiyuError
from lake.settings import settings
from sharing import serving
from sharing.serving import publish, saved, trace, window
from tests import policies

pytestmark = pytest.mark.policy


def digest(audience="analyst") -> str:
    return hashlib.sha256(serving.file_of(audience).read_bytes()).hexdigest()


def content(table: str) -> list[tuple]:
    con = serving.connect("analyst")
    try:
        return con.execute(f"SELECT * FROM {table} ORDER BY ALL").fetchall()
    finally:
        con.close()


def test_nothing_changed_nothing_written(served):
    before = digest(), digest("cockpit")
    report = publish.publish_serving()
    assert not report.changed
    assert [file.changed for file in report.files] == [False] * (3 + 16 + 6)
    assert (digest(), digest("cockpit")) == before


def test_versions_read_are_recorded_and_checked_ones(served):
    con = serving.connect("analyst")
    recorded = dict(con.execute("SELECT table_name, delta_version FROM catalog_versions").fetchall())
    con.close()
    checked = ledger.checked_versions()
    assert len(recorded) >= 8
    assert recorded == {name: checked[name] for name in recorded}


def test_a_file_cut_under_another_policy_is_not_opened(served, monkeypatch):
    """The same rule as in Superset: the policy in force decides, not the one the file was cut under."""
    stricter = policies.changed(("audiences.analyst.grades.L2", "masked"))
    with monkeypatch.context() as patch:
        patch.setattr(policy, "current", lambda: stricter)
        with pytest.raises(TiyuError, match="TIYU-SRV-0007"):
            serving.connect("analyst")
        serving.connect("cockpit").close()  # that change says nothing of this file
    serving.connect("analyst").close()


def test_a_file_that_names_no_policy_is_not_opened(served):
    path = serving.file_of("cockpit")
    con = duckdb.connect(str(path))
    con.execute(f"DELETE FROM main.catalog_notice WHERE name = '{serving.FINGERPRINT}'")
    con.close()
    try:
        with pytest.raises(TiyuError, match="TIYU-SRV-0007"):
            serving.connect("cockpit")
    finally:
        publish.publish_serving(full=True)


def test_every_table_and_column_has_a_chinese_comment(served):
    examined = 0
    for audience in ("analyst", "cockpit"):
        con = serving.connect(audience)
        rows = con.execute(
            "SELECT schema_name || '.' || table_name, comment FROM duckdb_tables() WHERE NOT internal"
            " UNION ALL SELECT schema_name || '.' || table_name || '.' || column_name, comment FROM duckdb_columns() WHERE NOT internal"
        ).fetchall()
        con.close()
        for name, comment in rows:
            examined += 1
            assert comment, name
            assert any("\u4e00" <= letter <= "\u9fff" for letter in comment), (name, comment)
            if not name.startswith("main."):
                assert "分级：" in comment, (name, comment)
    assert examined > 100


def test_unit_grade_and_treatment_are_in_the_comment(served):
    con = serving.connect("analyst")
    comments = dict(
        con.execute(
            "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'ods_fitness__checkin'"
        ).fetchall()
    )
    con.close()
    assert "专用标记" in comments["person_token"]
    assert "L3（P）" in comments["person_token"]
    assert "小时" in comments["scanned_at"]
    assert "年龄段" in comments["age_band"]


def test_only_changed_partitions_are_replaced_and_equal_a_full_rebuild(served):
    reader = serving.connect("analyst")
    at = datetime(2026, 11, 19, 2, 30, tzinfo=UTC)
    served.append(
        "ods_venue__booking",
        [
            {
                "booking_id": "k2",
                "venue_id": "V310101-001",
                "slot_start_at": at,
                "part_date": served.days[1] + timedelta(days=1),
            }
        ],
        "b2",
    )
    report = publish.publish_serving(["analyst"]).files[0]
    assert report.changed
    assert not report.rebuilt
    assert report.replaced == {"ods_venue__booking": 1}
    patched = content("ods_venue__booking")
    assert len(patched) == 2
    assert reader.execute("SELECT count(*) FROM ods_venue__booking").fetchall() == [(1,)], (
        "an open reader keeps its file"
    )
    reader.close()
    others = content("ods_fitness__checkin")
    assert publish.publish_serving(["analyst"], full=True).files[0].rebuilt
    assert content("ods_venue__booking") == patched
    assert content("ods_fitness__checkin") == others
    con = serving.connect("analyst")
    assert con.execute("SELECT row_count FROM catalog_tables WHERE table_name = 'ods_venue__booking'").fetchall() == [
        (2,)
    ]
    assert con.execute("SELECT comment FROM duckdb_columns() WHERE column_name = 'booking_id'").fetchall()[0][0]
    con.close()


def test_rows_withdrawn_from_a_partition_disappear(served):
    served.append(
        "ods_venue__entry", [{"device_id": "D", "seq_no": n, "part_date": served.days[0]} for n in range(3)], "e1"
    )
    publish.publish_serving(["analyst"])
    tables.delete("ods_venue__entry", "seq_no = 1", part_dates=[served.days[0]])
    publish.publish_serving(["analyst"])
    assert len(content("ods_venue__entry")) == 3, "not checked yet, so still the old rows"
    ledger.set_checked_version("ods_venue__entry", tables.version("ods_venue__entry"), "test")
    publish.publish_serving(["analyst"])
    assert len(content("ods_venue__entry")) == 2


def test_a_column_nobody_described_is_left_out_and_reported(served):
    frame = pl.DataFrame({"district_code": ["310101"], "district_name": ["黄浦区"], "secret_note": ["x"]})
    tables.replace_table("dim_district", frame)
    ledger.set_checked_version("dim_district", tables.version("dim_district"), "test")
    report = publish.publish_serving(["analyst"]).files[0]
    assert "dim_district.secret_note" in report.undescribed
    con = serving.connect("analyst")
    with pytest.raises(duckdb.BinderException):
        con.execute("SELECT secret_note FROM dim_district")
    con.close()


def test_a_killed_writer_leaves_the_served_file_and_is_cleaned_up(served, monkeypatch):
    before = digest()
    served.append("ods_venue__entry", [{"device_id": "D", "seq_no": 9, "part_date": served.days[1]}], "e9")

    class Killed(BaseException):
        pass

    def killed(*args):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(publish, "_write_catalog", killed)
        with pytest.raises(Killed):
            publish.publish_serving(["analyst"])
    assert digest() == before
    stale = settings().serving_root / ".analyst.duckdb.999999.tmp"
    stale.write_bytes(b"half a file")
    assert publish.publish_serving(["analyst"]).changed
    assert not list(settings().serving_root.glob(".*.tmp*"))


def test_the_demo_flag_is_part_of_the_file(served):
    con = serving.connect("cockpit")
    notice = dict(con.execute("SELECT name, text FROM catalog_notice").fetchall())
    con.close()
    assert notice["数据声明"] == "演示数据，非真实统计"
    assert notice["构建指纹"].partition(".")[2] == access.policy_digest("cockpit"), "what Superset compares"
    properties.set("is_demo", "false")
    try:
        assert publish.publish_serving(["cockpit"]).files[0].rebuilt
    finally:
        properties.set("is_demo", "true")
        publish.publish_serving(["cockpit"])


def test_a_missing_file_says_what_to_do(home):
    with pytest.raises(TiyuError) as caught:
        serving.connect("analyst")
    assert caught.value.code == "TIYU-SRV-0003"
    assert "tiyu serve" in caught.value.hint_zh


# --- the window ------------------------------------------------------------------------------------------------------


@pytest.fixture
def con(served):
    con = serving.connect("analyst")
    yield con
    con.close()


def test_query_limit_and_duplicate_names(con):
    result = window.run(con, "SELECT 1 AS a, 2 AS a FROM range(5)", limit=3)
    assert result.columns == ["a", "a_2"]
    assert (len(result.rows), result.truncated) == (3, True)
    assert window.run(con, "-- 注释\nFROM catalog_notice", limit=100).truncated is False


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("SELECT no_such FROM ods_venue__booking", "没有这一列"),
        ("SELECT * FROM no_such", "没有这张表"),
        ("SELECT FROM WHERE", "语法"),
        ("SELECT * FROM read_text('/etc/passwd')", "只能查询本文件"),
        ("SELECT CAST('x' AS INTEGER)", "类型转换"),
        (
            "SELECT heart_rate_bpm FROM ods_training__activity_sample",
            "tiyu policy explain ods_training__activity_sample.",
        ),
        ("SELECT heart_rate_bpm FROM ods_venue__booking", "没有这一列"),
        ("SELECT bookin_id FROM ods_venue__booking", "是否指：booking_id"),
        ("SELECT person_name FROM ods_venue__booking", "不进湖仓"),
        ("SELECT activity_id FROM ods_venue__booking", "ods_training__activity"),
        ("SELECT * FROM ods_venue__bokking", "是否指：ods_venue__booking"),
        ("SELECT * FROM scratch.mine", "tiyu scratch list"),
        ("SELECT * FROM ods_venue__booking WHERE status = “booked”", "中文引号"),
        ('SELECT * FROM ods_venue__booking WHERE status = "已订"', "文字值用英文单引号"),
        ("SELECT * FROM ods_venue__booking WHERE part_date = '2026-11-31'", "没有这一天"),
        ("SELECT * FROM ods_venue__booking WHERE part_date = 2026-11-19", "日期要加单引号"),
    ],
)
def test_errors_are_explained_in_chinese(con, query, hint):
    with pytest.raises(TiyuError) as caught:
        window.run(con, query)
    assert caught.value.code == "TIYU-SQL-0001"
    assert hint in caught.value.hint_zh


def test_statements_that_do_not_read_are_refused(con):
    for query in ("DELETE FROM ods_venue__booking", "SET threads = 1", "COPY x TO 'y'"):
        with pytest.raises(TiyuError) as caught:
            window.run(con, query)
        assert caught.value.code == "TIYU-SQL-0004"


def test_an_exported_csv_holds_no_formula(con, tmp_path):
    query = "SELECT '=cmd|'' /C calc''!A0' AS a, '＝1+1' AS b, '@x' AS c, -5 AS d, 'plain' AS e, NULL::VARCHAR AS f"
    assert window.export(con, query, tmp_path / "x.csv") == 1
    row = (tmp_path / "x.csv").read_text("utf-8-sig").splitlines()[1]
    assert row == "'=cmd|' /C calc'!A0,'＝1+1,'@x,-5,plain,"


def test_exports_open_elsewhere(con, tmp_path):
    query = "SELECT purpose AS 目的, scanned_at AS 时间, age_band AS 年龄段 FROM ods_fitness__checkin ORDER BY 2"
    banner = properties.demo_banner()
    for name in ("x.csv", "x.xlsx", "x.parquet"):
        assert window.export(con, query, tmp_path / name, banner) == 2
    assert (tmp_path / "x.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    assert pl.read_csv(tmp_path / "x.csv").columns == ["目的", "时间", "年龄段"]
    assert banner in (tmp_path / "x.说明.txt").read_text("utf-8")
    assert pl.read_parquet(tmp_path / "x.parquet").height == 2
    sheet = pl.read_excel(tmp_path / "x.xlsx", has_header=False)
    assert sheet.row(0)[0] == banner
    assert sheet.height == 4
    with pytest.raises(TiyuError) as caught:
        window.export(con, query, tmp_path / "x.doc")
    assert caught.value.code == "TIYU-SQL-0005"


def test_describe(con):
    found = window.describe(con, "ods.ods_fitness__checkin")
    assert found.table["resource"] == "fitness.checkin"
    columns = {column["column_name"]: column for column in found.columns}
    assert columns["person_token"]["grade"] == "L3"
    assert columns["age_band"]["is_available"]
    with pytest.raises(TiyuError) as caught:
        window.describe(con, "ods_fitnes_checkin")
    assert "ods_fitness__checkin" in caught.value.hint_zh


def test_saved_queries_are_five_and_run_on_the_declared_columns():
    """Each query is bound against empty tables with the columns that models and policy declare."""
    from sharing.serving import describe, policy

    queries = saved.load_all()
    assert len(queries) >= 5
    who = policy.audience("analyst")
    con = duckdb.connect()
    made = 0
    for table, columns in describe.columns().items():
        if not policy.table_allowed(who, table):
            continue
        person = policy.is_person_level(columns.values())
        shown = {
            publish.served_name(c, t): c.type
            for c in columns.values()
            if (t := policy.decide(who, c, person_level=person)) != "absent"
        }
        schema = tables.layer_of(table)
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        text = ", ".join(f'"{n}" {"VARCHAR" if n == "age_band" else t or "VARCHAR"}' for n, t in shown.items())
        con.execute(f"CREATE TABLE {schema}.{table} ({text})")
        made += 1
    assert made > 20
    for query in queries:
        assert any("\u4e00" <= letter <= "\u9fff" for letter in query.title + query.question)
        con.execute(query.sql).fetchall()
    with pytest.raises(TiyuError) as caught:
        saved.load("no_such")
    assert queries[0].name in caught.value.hint_zh
    con.close()


# --- the commands ----------------------------------------------------------------------------------------------------


def invoke(*arguments: str):
    import typer

    from cli import describe, sql
    from cli import trace as trace_command

    app = typer.Typer()
    for module in (sql, describe, trace_command):
        module.register(app)
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def test_tiyu_sql_prints_json_and_files(served, tmp_path):
    found = invoke("sql", "SELECT count(*) AS n FROM ods_fitness__checkin", "--json")
    data = json.loads(found.stdout)
    assert data["rows"] == [{"n": 2}]
    assert data["notice"] == "演示数据，非真实统计"
    table = invoke("sql", "SELECT purpose AS 目的 FROM ods_fitness__checkin", "--limit", "1")
    assert "目的" in table.stdout
    assert "--output" in table.stdout
    file = tmp_path / "n.csv"
    assert invoke("sql", "SELECT 1 AS n", "--output", str(file)).exit_code == 0
    assert file.exists()


def test_the_shell_keeps_a_statement_until_its_semicolon(served, con, capsys):
    from cli import sql

    pending = sql.step(con, "SELECT 42 AS answer", 10)
    assert pending == "SELECT 42 AS answer"
    assert sql.step(con, pending + "\n;", 10) == ""
    assert sql.step(con, "tables", 10) == ""
    assert sql.step(con, "describe ods_fitness__checkin", 10) == ""
    assert sql.step(con, "saved", 10) == ""
    assert sql.step(con, "SELECT nothing FROM nowhere;", 10) == ""
    printed = capsys.readouterr()
    assert "42" in printed.out
    assert "ods_fitness__checkin" in printed.out
    assert "TIYU-SQL-0001" in printed.err


def test_the_shell_completes_tables_columns_and_saved_queries(con):
    from prompt_toolkit.document import Document

    from cli import sql

    completer = sql._completer(con)

    def offered(text):
        return {item.text for item in completer.get_completions(Document(text), None)}

    assert "ods_fitness__checkin" in offered("SELECT * FROM ods_fit")
    assert "person_token" in offered("SELECT person_")
    assert "max_hr_bpm" not in offered("SELECT max_hr"), "an absent column is not offered"
    assert "crowded_venues" in offered("saved crow")


def test_tiyu_describe(served):
    found = invoke("describe", "ods_fitness__checkin")
    assert "专用标记" in found.stdout
    data = json.loads(invoke("describe", "ods_training__activity", "--json").stdout)
    l4 = [column for column in data["columns"] if column["grade"] == "L4"]
    assert l4
    assert not any(column["is_available"] for column in l4)


# --- trace -----------------------------------------------------------------------------------------------------------


def test_trace_leads_from_the_number_to_its_source_object(served):
    version = tables.version("ods_fitness__checkin")
    day = served.days[0]
    row = {
        "kpi_code": "F-01",
        "kpi_name": "活跃人数",
        "variant_code": "",
        "variant_name": "",
        "period_type": "month",
        "period_start_date": day.replace(day=1),
        "period_end_date": served.days[1],
        "district_code": "310000",
        "district_name": "上海市",
        "numerator": 1.0,
        "denominator": None,
        "value": 1.0,
        "unit": "人",
        "quality": "ok",
        "input_versions": json.dumps({"dwd_fitness__checkin": 0, "ods_fitness__checkin": version, "dim_venue": None}),
        "part_date": day.replace(day=1),
    }
    frame = pl.DataFrame([row]).with_columns(pl.col("denominator").cast(pl.Float64))
    tables.replace_table("ads_cockpit__kpi", frame)
    ledger.set_checked_version("ads_cockpit__kpi", tables.version("ads_cockpit__kpi"), "test")
    name = f"checkins_{served.stored_tokens[0]}.json"
    ledger.open_batch(
        {"batch_id": "b1", "resource": "fitness.checkin", "contract_version": "1", "run_id": "r", "status": "accepted",
         "object_count": 1, "started_at": datetime(2026, 11, 19, tzinfo=UTC)},
        [{"batch_id": "b1", "seq": 0, "sha256": "0" * 64, "resource": "fitness.checkin", "name": name, "media_type": "x",
          "size": 1, "status": "accepted"}],
        {},
    )  # fmt: skip
    found = trace.trace("F-01")
    assert [source.table for source in found.sources] == ["ods_fitness__checkin"]
    assert found.sources[0].rows == 2
    (batch,) = found.sources[0].batches
    assert batch.batch_id == "b1"
    assert batch.objects[0].sha256 == "0" * 64
    assert served.stored_tokens[0] not in json.dumps(found.to_dict(), default=str), "the token in the name is blanked"
    assert "dwd_fitness__checkin" in {step["table"] for step in found.chain}
    files = {what: where for what, where in found.places.items() if "归档" not in what}
    assert {"指标定义", "dwd_fitness__checkin 的 SQL", "fitness.checkin 的契约"} <= set(files)
    assert [where for where in files.values() if not (settings().repo_root / where).is_file()] == []
    printed = invoke("trace", "f-01").stdout
    assert "catalog/kpis/F-01.yaml" in printed
    assert "全部入库" in printed
    assert "质量正常" in printed
    assert "ods_fitness__checkin" in printed
    assert "批次 b1" in printed
    for arguments, code in ((("X-99",), "TIYU-TRC-0002"), (("F-01", "310101"), "TIYU-TRC-0003")):
        with pytest.raises(TiyuError) as caught:
            trace.trace(arguments[0], **({"district": arguments[1]} if len(arguments) > 1 else {}))
        assert caught.value.code == code


def test_dependencies_come_from_the_model_files(home):
    reads = trace.dependencies()
    assert len(reads) > 15
    assert "dws_venue__daily_use" in reads["ads_cockpit__kpi"]
