"""Scratch tables: graded like their inputs, never exported, gone after thirty days, seen by their owner only."""

from __future__ import annotations

import stat

import pytest

from catalog.policy import replaced
from lake.errors import TiyuError
from sharing import serving
from sharing.serving import scratch
from sharing.serving.publish import publish_serving
from tests.policies import changed

pytestmark = pytest.mark.policy


@pytest.fixture
def mine(served):
    """An account name; its scratch file is removed afterwards."""
    yield "wang"
    for account in ("wang", "li"):
        scratch.file_of(account).unlink(missing_ok=True)


def grade_in_file(table: str) -> str:
    with serving.connect("analyst") as con:
        return con.execute("SELECT grade FROM main.catalog_tables WHERE table_name = ?", [table]).fetchone()[0]


def test_a_result_is_kept_and_joined_with_an_upload(mine, tmp_path):
    made = scratch.create(mine, "visits", "SELECT venue_id, count(*) AS n FROM ods_fitness__checkin GROUP BY 1")
    assert made.row_count == 1
    assert (made.grade, made.inputs) == (grade_in_file("ods_fitness__checkin"), "ods_fitness__checkin")
    file = tmp_path / "容量.csv"
    file.write_bytes("venue_id,容量,检查日\nV310101-001,120,2026-11-01\n".encode("gb18030"))
    assert scratch.upload(mine, file, "容量", "L2").grade == "L2"
    with scratch.connect(mine) as con:
        joined = con.execute("SELECT n, 容量, 检查日 FROM scratch.visits JOIN scratch.容量 USING (venue_id)").fetchall()
        assert [(n, c, str(d)) for n, c, d in joined] == [(2, 120, "2026-11-01")]
        comment = con.execute("SELECT comment FROM duckdb_tables() WHERE table_name = 'visits'").fetchone()[0]
        assert "不得导出" in comment
    both = scratch.create(mine, "both", "SELECT * FROM scratch.visits JOIN scratch.容量 USING (venue_id)")
    assert both.grade == made.grade, "the highest of the inputs, through scratch tables too"


def test_a_policy_that_became_stricter_holds_for_what_was_kept(mine):
    scratch.create(mine, "kept", "SELECT person_token FROM ods_fitness__checkin")
    stricter = changed(("surfaces.scratch.limit", {"grades": {"L1": "plain", "L2": "plain"}, "marks": {"N": "plain", "P": "plain", "S": "plain"}, "kinds": {}}))  # fmt: skip
    with replaced(stricter):
        for act in (lambda: scratch.connect(mine), lambda: scratch.create(mine, "more", "SELECT 1 AS one")):
            with pytest.raises(TiyuError) as caught:
                act()
            assert caught.value.code == "TIYU-SCR-0009"
        assert scratch.drop(mine, "kept").name == "kept"
        with pytest.raises(TiyuError, match="TIYU-SRV-0007"):  # the file itself is of the policy before
            scratch.create(mine, "more", "SELECT district_name FROM dim_district")
        publish_serving(["analyst"])
        assert scratch.create(mine, "more", "SELECT district_name FROM dim_district").grade <= "L2"
        with pytest.raises(TiyuError, match="TIYU-SQL-0001"):  # no longer in the file
            scratch.create(mine, "again", "SELECT person_token FROM ods_fitness__checkin")
    publish_serving(["analyst"])
    scratch.connect(mine).close()


#: Query → does it read the person-level table (L3), in plain or hidden ways?
QUERIES = {
    "SELECT district_name FROM dim_district": False,
    "SELECT 1 AS one": False,
    "SELECT range AS n FROM range(3)": False,
    "SELECT count(*) AS n FROM ods_fitness__checkin": True,
    "SELECT count(*) AS n FROM ods.ods_fitness__checkin": True,
    'SELECT count(*) AS n FROM analyst.ods."ods_fitness__checkin"': True,
    "SELECT count(*) AS n FROM ODS_FITNESS__CHECKIN": True,
    "WITH a AS (SELECT * FROM ods_fitness__checkin) SELECT count(*) AS n FROM a, dim_district": True,
    "SELECT district_name, (SELECT count(*) FROM ods_fitness__checkin) AS n FROM dim_district": True,
    "SELECT district_name FROM dim_district WHERE EXISTS (FROM ods_fitness__checkin)": True,
    "SELECT district_name AS n FROM dim_district UNION ALL SELECT person_token FROM ods_fitness__checkin": True,
    "FROM query_table('ods_fitness__checkin')": True,
    "FROM query('SELECT * FROM ods_' || 'fitness__checkin')": True,
    "SUMMARIZE ods_fitness__checkin": True,
    "FROM (SUMMARIZE ods_fitness__checkin)": True,
    "PIVOT ods_fitness__checkin ON purpose USING count(*)": True,
    "SELECT table_name FROM duckdb_tables()": True,
}


@pytest.mark.parametrize("query", QUERIES)
def test_the_grade_is_the_highest_of_what_the_query_reads(mine, query):
    made = scratch.create(mine, "kept", query)
    high, low = grade_in_file("ods_fitness__checkin"), grade_in_file("dim_district")
    assert high == "L3" == scratch.clearance()
    assert low < high
    if QUERIES[query]:
        assert (made.grade, made.pi_mark) >= (high, "N"), query
        assert made.grade == high
        assert made.pi_mark != "N"
    else:
        assert made.grade <= low


def test_what_is_not_declared_has_the_highest_grade_and_l4_is_refused(mine, tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("x,y\n1,2\n", "utf-8")
    assert scratch.upload(mine, file, "undeclared").grade == "L3"
    for grade in ("L4", "L0", "公开"):
        with pytest.raises(TiyuError) as caught:
            scratch.upload(mine, file, "b", grade)
        assert caught.value.code == "TIYU-SCR-0005"


@pytest.mark.parametrize(
    "value",
    [
        "990199199001014578",
        "１９９１２３４５６７８",
        "电话 199 1234 5678",
        "卡 6222021234567890128",
        "问 someone@example.invalid",
        "车 沪A12345",
    ],
)
def test_raw_personal_numbers_do_not_come_in_by_the_back_door(mine, tmp_path, value):
    file = tmp_path / "p.csv"
    file.write_text(f"n,remark\n1,ok\n2,{value}\n", "utf-8")
    with pytest.raises(TiyuError) as caught:
        scratch.upload(mine, file, "p", "L3")
    assert caught.value.code == "TIYU-SCR-0007"
    assert value not in str(caught.value)
    assert scratch.tables(mine) == []


def test_tokens_and_plain_codes_may_be_uploaded_to_join(mine, tmp_path):
    file = tmp_path / "t.csv"
    token = "id_no_k1a2b3_" + "a2" * 13
    file.write_text(f"person_token,venue_id,note\n{token},V310104-001,沪A 馆\n", "utf-8")
    assert scratch.upload(mine, file, "t", "L3").grade == "L3"


@pytest.mark.parametrize("content", [b"", b"x,y\n", b"\xff\xfe\x00\x81\xff"])
def test_an_unreadable_file_is_refused(mine, tmp_path, content):
    file = tmp_path / "bad.csv"
    file.write_bytes(content)
    with pytest.raises(TiyuError) as caught:
        scratch.upload(mine, file, "bad", "L2")
    assert caught.value.code == "TIYU-SCR-0004"


def test_nobody_else_sees_it(mine):
    scratch.create(mine, "secret", "SELECT 42 AS answer")
    file = scratch.file_of(mine)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    with scratch.connect("li") as con, pytest.raises(Exception, match="secret"):
        con.execute("FROM scratch.secret")
    with scratch.connect(mine) as con:
        assert con.execute("FROM scratch.secret").fetchall() == [(42,)]
        for attack in ("CREATE TABLE scratch.x AS SELECT 1", "DROP TABLE scratch.secret", f"ATTACH '{file}' AS again",
                       f"COPY scratch.secret TO '{file.parent}/out.csv'"):  # fmt: skip
            with pytest.raises(Exception, match=r"read-only|Permission|disabled"):
                con.execute(attack)
    for account in ("../wang", "", "wang/li", ".hidden"):
        with pytest.raises(TiyuError) as caught:
            scratch.file_of(account)
        assert caught.value.code == "TIYU-SCR-0001"


def test_it_is_never_exported(mine, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from cli.main import build_app

    scratch.create(mine, "kept", "SELECT 42 AS answer")
    app, runner = build_app(), CliRunner()
    shown = runner.invoke(app, ["sql", "SELECT answer FROM scratch.kept", "--account", mine, "--json"])
    assert '"answer": 42' in shown.stdout
    described = runner.invoke(app, ["describe", "scratch.kept", "--account", mine])
    assert "answer" in described.stdout
    assert "不得导出" in described.stdout
    absent = runner.invoke(app, ["describe", "scratch.none", "--account", mine])
    assert getattr(absent.exception, "code", "") == "TIYU-SCR-0003"
    for query in ("SELECT * FROM scratch.kept", "SELECT * FROM scratch.main.kept", "FROM query_table('scratch.kept')"):
        result = runner.invoke(app, ["sql", query, "--account", mine, "--output", str(tmp_path / "x.csv")])
        assert getattr(result.exception, "code", "") in ("TIYU-SCR-0006", "TIYU-SQL-0001"), query
        assert not (tmp_path / "x.csv").exists()
    allowed = runner.invoke(app, ["sql", "SELECT 1 AS one", "--account", mine, "--output", str(tmp_path / "y.csv")])
    assert allowed.exit_code == 0
    from lake import backup

    assert "scratch" not in " ".join(str(item) for item in getattr(backup, "PARTS", ()))


def test_after_thirty_days_it_is_gone_and_so_are_its_bytes(mine, monkeypatch):
    scratch.create(mine, "old", "SELECT 'needle-in-the-file' AS word")
    monkeypatch.setenv("TIYU_AS_OF", "2026-12-10T12:00:00+08:00")
    monkeypatch.setenv("TIYU_TODAY", "2026-12-10")
    scratch.create(mine, "young", "SELECT 1 AS one")
    assert b"needle-in-the-file" in scratch.file_of(mine).read_bytes()
    monkeypatch.setenv("TIYU_AS_OF", "2026-12-20T11:59:00+08:00")
    assert scratch.expire() == []
    monkeypatch.setenv("TIYU_AS_OF", "2026-12-20T12:00:00+08:00")
    with scratch.connect(mine) as con, pytest.raises(Exception, match="old"):
        con.execute("FROM scratch.old")
    assert [one.name for one in scratch.tables(mine)] == ["young"]
    assert b"needle-in-the-file" not in scratch.file_of(mine).read_bytes()
    monkeypatch.setenv("TIYU_AS_OF", "2027-01-09T12:00:00+08:00")
    publish_serving(["cockpit"])
    assert not scratch.file_of(mine).exists(), "the daily serving run drops what has expired"


def test_names(mine):
    scratch.create(mine, "one", "SELECT 1 AS a")
    for name in ("one", "ONE", "scratch_tables", "catalog_tables", "1x", "a b", 'a"b', ""):
        with pytest.raises(TiyuError) as caught:
            scratch.create(mine, name, "SELECT 1 AS a")
        assert caught.value.code == ("TIYU-SCR-0008" if name.lower() == "one" else "TIYU-SCR-0002"), name
    with pytest.raises(TiyuError) as caught:
        scratch.create(mine, "two", "DROP TABLE scratch.one")
    assert caught.value.code == "TIYU-SQL-0004"
    with pytest.raises(TiyuError) as caught:
        scratch.create(mine, "two", "SELECT nothing FROM nowhere")
    assert caught.value.code == "TIYU-SQL-0001"
    assert scratch.drop(mine, "one").row_count == 1
    with pytest.raises(TiyuError) as caught:
        scratch.drop(mine, "one")
    assert caught.value.code == "TIYU-SCR-0003"
    assert not scratch.file_of(mine).exists()
