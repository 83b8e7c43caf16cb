"""Good breakers are accepted and bad ones refused: by the SQL where it shows there, by the data where it shows there."""

from __future__ import annotations

from datetime import date

import duckdb
import pytest

from catalog import breakers
from catalog.breakers.certificate import floor_problems
from catalog.breakers.structure import Refused

ON = date(2026, 11, 20)


@pytest.fixture(scope="module")
def con():
    """60 persons in two districts; sparse: a table that almost nothing joins; pair: a group of two; giant: one person dominates."""
    con = duckdb.connect()
    con.execute("""create table visit as select 'p' || (n % 60) as person_token, ['xh', 'pd'][n % 2 + 1] as district,
        date '2026-11-01' + cast(n % 3 as integer) as day, 10 + n % 7 as minutes, n % 60 < 30 and n % 3 = 0 as is_minor,
        1960 + n % 60 % 40 as birth_year, 'v' || (n % 5) as venue_id from range(600) t(n)""")
    con.execute("create table sparse as select 'v3' as venue_id, 'p3' as person_token")
    con.execute("create table pair as select * from visit where person_token in ('p1', 'p3')")
    con.execute(
        """create table giant as select person_token, district, case when person_token = 'p1' then 90000 else 10 end as amount from visit"""
    )
    con.execute(
        """create table couple as select person_token, district, case person_token when 'p1' then 4000 when 'p3' then 3990 when 'p5' then 4 else 2 end as amount from visit"""
    )
    con.execute(
        "create table lonely as select * from visit where person_token <> 'p1' union all select 'p1', 'ja', date '2026-11-01', 9, false, 1970, 'v1'"
    )
    con.execute("create table alike as select * replace (district = 'pd' as is_minor) from visit")
    con.execute("create table ods_reference__rule as select 'disclosure.k_open' as rule_id, 20.0 as value_min")
    return con


def breaker(kind, **more):
    content = {"kind": kind, "subject": "person_token", "reason": "测试用的措施", "approver": "数据安全管理岗",
               "approved": "2026-11-01", "expires": "2027-10-31", **more}  # fmt: skip
    found, problems = breakers.read(content)
    assert found is not None, problems
    return found


def verdict(con, sql, declared, grade="L2", column="n"):
    """Status and problems as a certificate would have them."""
    cursor = con.execute(breakers.evidence_sql(sql, column, declared))
    evidence = breakers.Evidence.of(dict(zip([d[0] for d in cursor.description], cursor.fetchone(), strict=True)))
    return *breakers.judge(declared, evidence, breakers.limits(grade), ON), evidence


GROUPED = "select district, {} as n from visit group by district"
HIDES = """with c as (select district, count(distinct person_token) as persons, count(*) as n from lonely group by district)
    select district, case when persons >= (select max(value_min) from ods_reference__rule where rule_id = 'disclosure.k_open') then n end as n from c"""
GOOD = [
    ("distinct persons", GROUPED.format("count(distinct person_token)"), breaker("count"), "L1"),
    ("rows", GROUPED.format("count(*)"), breaker("count"), "L1"),
    ("rows with a filter", GROUPED.format("count(*) filter (where minutes > 10)"), breaker("count"), "L2"),
    ("sum", GROUPED.format("sum(minutes)"), breaker("total"), "L1"),
    ("mean, rounded", GROUPED.format("round(avg(minutes), 1)"), breaker("mean"), "L1"),
    ("median of many", GROUPED.format("median(minutes)"), breaker("quantile"), "L1"),
    ("small cells hidden", HIDES, breaker("count"), "L1"),
    ("the flag of hiding", "select district, count(distinct person_token) < 20 as n from visit group by district", breaker("hidden_flag"), "L1"),
    ("share", "select district, 100.0 * sum(case when is_minor then 1 else 0 end) / count(*) as n from visit group by district", breaker("share", sensitive="is_minor"), "L2"),
    ("union of two counts", """select 'xh' as d, n from (select count(distinct person_token) as n from visit where district = 'xh')
        union all select 'all' as d, count(distinct person_token) as n from visit""", breaker("count"), "L1"),
    ("through a join and a default", """with c as (select district, count(*) as n from visit group by district)
        select d.district, coalesce(c.n, 0) as n from (select 'xh' as district union all select 'none') d left join c on d.district = c.district""", breaker("count"), "L1"),
    ("band", "select birth_year // 20 as n, district, person_token, is_minor from visit", breaker("band", sensitive="is_minor", group=["n"]), "L3"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "declared", "grade"), [g[1:] for g in GOOD], ids=[g[0] for g in GOOD])
def test_good_breakers_are_accepted(con, sql, declared, grade):
    status, problems, evidence = verdict(con, sql, declared, grade)
    assert (status, problems) == ("valid", [])
    assert evidence.groups > 0
    assert evidence.smallest_group >= breakers.limits(grade).k


BAD_SQL = [
    ("unkeyed hash", "select md5(person_token) as n from visit", breaker("count"), "散列"),
    ("sha256", "select sha256(person_token) as n from visit", breaker("count"), "散列"),
    ("max", GROUPED.format("max(minutes)"), breaker("total"), "max"),
    ("min", GROUPED.format("min(minutes)"), breaker("total"), "min"),
    ("any value", GROUPED.format("any_value(minutes)"), breaker("total"), "any_value"),
    ("string_agg", GROUPED.format("string_agg(person_token, ',')"), breaker("count"), "拼接"),
    ("list", GROUPED.format("list(person_token)"), breaker("count"), "列表"),
    ("arg max", GROUPED.format("arg_max(person_token, minutes)"), breaker("count"), "arg_max"),
    ("mode", GROUPED.format("mode(birth_year)"), breaker("quantile"), "mode"),
    ("grouped by the person", "select count(*) as n from visit group by person_token", breaker("count"), "一个人"),
    ("cut token", "select left(person_token, 2) as n from visit", breaker("count"), "截取"),
    ("window", "select sum(minutes) over (partition by person_token) as n from visit", breaker("total"), "窗口"),
    ("plain copy", "select minutes as n from visit", breaker("count"), "没有对该列做汇总"),
    ("another kind than declared", GROUPED.format("sum(minutes)"), breaker("count"), "不是计数"),
    ("summed again", "select sum(n) as n from (select district, count(*) as n from visit group by district)", breaker("count"), "不是计数"),
    ("flag of rows, not persons", "select count(*) < 20 as n from visit group by district", breaker("hidden_flag"), "不同的人数"),
    ("band that is not coarse", "select birth_year + 1 as n, person_token, is_minor from visit", breaker("band", sensitive="is_minor", group=["n"]), "没有变粗"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "declared", "why"), [b[1:] for b in BAD_SQL], ids=[b[0] for b in BAD_SQL])
def test_bad_breakers_are_refused_by_their_sql(sql, declared, why):
    with pytest.raises(Refused, match=why):
        breakers.evidence_sql(sql, "n", declared)


BAD_DATA = [
    ("group of one", "select district, count(*) as n from lonely group by district", breaker("count"), "L2", "最小的组只有 1 人"),
    ("median of two", "select median(minutes) as n from pair", breaker("quantile"), "L2", "最小的组只有 2 人"),
    ("dominated group", "select district, sum(amount) as n from giant group by district", breaker("total"), "L2", "一个人占一组"),
    ("dominated by two", "select district, sum(amount) as n from couple group by district", breaker("total"), "L2", "两个人占一组"),
    ("sparse join", """select v.district, count(*) as n from visit v join sparse s on v.person_token = s.person_token
        group by v.district""", breaker("count"), "L2", "最小的组只有 1 人"),
    ("all alike", "select district, avg(case when is_minor then 1 else 0 end) as n from alike group by district", breaker("share", sensitive="is_minor"), "L2", "1 种取值"),
    ("filter of few", "select district, count(*) filter (where person_token = 'p2') as n from visit group by district", breaker("count"), "L2", "最小的组只有 1 人"),
    ("opened although only fit for sharing", "select day, venue_id, count(distinct person_token) as n from visit group by day, venue_id", breaker("count"), "L1", "少于 20"),
    ("expired", GROUPED.format("count(*)"), breaker("count", approved="2025-01-01", expires="2025-12-31"), "L2", "到期"),
    ("not yet approved", GROUPED.format("count(*)"), breaker("count", approved="2026-12-01", expires="2027-11-30"), "L2", "起有效"),
    ("hidden at too small a k", """select district, case when count(distinct person_token) >= 1 then count(*) end as n
        from lonely group by district""", breaker("count"), "L2", "最小的组只有 1 人"),
    ("fine bands", "select birth_year // 1 as n, district, person_token, is_minor from visit", breaker("band", sensitive="is_minor", group=["n"]), "L3", "最小的组"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("sql", "declared", "grade", "why"), [b[1:] for b in BAD_DATA if b[2] is not None], ids=[b[0] for b in BAD_DATA if b[2] is not None]
)  # fmt: skip
def test_bad_breakers_are_refused_by_the_data(con, sql, declared, grade, why):
    status, problems, _ = verdict(con, sql, declared, grade)
    assert status == "invalid"
    assert why in "；".join(problems)


def test_more_rows_can_end_a_certificate(con):
    sql = GROUPED.format("count(*)").replace("visit", "growing")
    con.execute("create or replace table growing as select * from visit")
    assert verdict(con, sql, breaker("count"))[0] == "valid"
    con.execute("insert into growing select * replace ('new' as district) from visit limit 1")
    assert verdict(con, sql, breaker("count"))[0] == "invalid"


def test_nothing_shown_is_empty_not_valid(con):
    sql = GROUPED.format("count(*)").replace("from visit", "from visit where false")
    assert verdict(con, sql, breaker("count"))[0] == "empty"


def test_a_band_stays_personal_and_a_count_does_not():
    assert floor_problems(breaker("count"), "L1", "N") == []
    assert floor_problems(breaker("band", sensitive="x", group=["n"]), "L2", "N") != []
    assert floor_problems(breaker("band", sensitive="x", group=["n"]), "L3", "P") == []


def test_limits_come_from_the_rules_table():
    assert (breakers.limits("L1").k, breakers.limits("L2").k) == (20, 5)
    assert breakers.limits("L2").top1_share == 0.5


@pytest.mark.parametrize(
    "change",
    [{"approver": ""}, {"expires": "2026-10-01"}, {"expires": "2036-01-01"}, {"kind": "magic"}, {"reason": ""},
     {"subject": "a; drop table"}, {"group": ["x"]}, {"kind": "share"}, {"unknown": 1}],
)  # fmt: skip
def test_a_declaration_must_be_whole(change):
    content = {
        "kind": "count",
        "subject": "person_token",
        "reason": "测试用的措施",
        "approver": "管理岗",
        "approved": "2026-11-01",
        "expires": "2027-10-31",
    }
    found, problems = breakers.read({**content, **change})
    assert found is None
    assert problems
