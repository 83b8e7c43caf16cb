"""Awkward SQL with hand-written lineage: what each output column really depends on.

Labels name, per output column, the source columns that can move the bag of its values: `v:` value, `i:` influence
(predicate, grouping, order, condition), `l:` link (equality join, deduplication, order or null test on a key). The
oracle runs every construct and must find no dependency that a label lacks; the engine must find exactly the labels.
Tables are small and typed; their columns are listed in TABLES.
"""

from __future__ import annotations

from dataclasses import dataclass

TABLES: dict[str, dict[str, str]] = {
    "visit": {
        "visit_id": "varchar", "person_token": "varchar", "venue_id": "varchar", "minutes": "integer", "age": "integer",
        "seen_at": "timestamp", "day": "date", "tags": "varchar[]",
    },
    "venue": {"venue_id": "varchar", "name": "varchar", "district": "varchar", "capacity": "integer"},
    "person": {"person_token": "varchar", "age": "integer", "sex": "varchar", "weight": "double"},
    "closed": {"venue_id": "varchar", "day": "date", "reason": "varchar"},
}  # fmt: skip


@dataclass(frozen=True)
class Construct:
    """name, SQL, and per output column the labels, e.g. {"n": "v:visit.minutes i:visit.day"}."""

    name: str
    sql: str
    labels: dict[str, str]
    extra: dict[str, str] | None = None
    """Edges that the engine has and that are not true: the price of never missing one."""


def labels(construct: Construct, *, with_extra: bool = False) -> dict[str, dict[tuple[str, str], str]]:
    """Output column → (table, column) → v | i | l."""
    found: dict[str, dict[tuple[str, str], str]] = {}
    for column, text in construct.labels.items():
        found[column] = {}
        if with_extra and construct.extra:
            text = f"{text} {construct.extra.get(column, '')}"
        for item in text.split():
            kind, name = item.split(":")
            table, source = name.split(".")
            found[column][table, source] = kind
    return found


CONSTRUCTS: tuple[Construct, ...] = (
    Construct("plain column", "select minutes from visit", {"minutes": "v:visit.minutes"}),
    Construct("alias and cast", "select cast(minutes as double) as m from visit", {"m": "v:visit.minutes"}),
    Construct("arithmetic over two columns", "select minutes * age as x from visit", {"x": "v:visit.minutes v:visit.age"}),
    Construct("constant column", "select 1 as one, minutes from visit", {"one": "", "minutes": "v:visit.minutes"}),
    Construct("where", "select minutes from visit where age > 30", {"minutes": "v:visit.minutes i:visit.age"}),
    Construct(
        "where on a token constant", "select minutes from visit where person_token = 'p3'",
        {"minutes": "v:visit.minutes i:visit.person_token"},
    ),
    Construct(
        "null test on a key", "select minutes from visit where person_token is not null",
        {"minutes": "v:visit.minutes l:visit.person_token"},
    ),
    Construct(
        "inner join on a key", "select v.minutes, p.sex from visit v join person p on v.person_token = p.person_token",
        {
            "minutes": "v:visit.minutes l:visit.person_token l:person.person_token",
            "sex": "v:person.sex l:visit.person_token l:person.person_token",
        },
    ),
    Construct(
        "inner join on an attribute", "select v.minutes from visit v join person p on v.age = p.age",
        {"minutes": "v:visit.minutes i:visit.age i:person.age"},
    ),
    Construct(
        "left join multiplies rows", "select v.minutes from visit v left join person p on v.person_token = p.person_token",
        {"minutes": "v:visit.minutes l:visit.person_token l:person.person_token"},
    ),
    Construct(
        "left join on a grouped key does not",
        """with n as (select person_token, max(weight) as w from person where sex = 'f' group by person_token)
           select v.minutes, n.w from visit v left join n on v.person_token = n.person_token""",
        {
            "minutes": "v:visit.minutes",
            "w": "v:person.weight i:person.sex l:person.person_token l:visit.person_token",
        },
    ),
    Construct(
        "right join", "select v.minutes, p.weight from visit v right join person p on v.person_token = p.person_token",
        {
            "minutes": "v:visit.minutes l:visit.person_token l:person.person_token",
            "weight": "v:person.weight l:visit.person_token l:person.person_token",
        },
    ),
    Construct(
        "full join", "select v.minutes, p.weight from visit v full join person p on v.person_token = p.person_token",
        {
            "minutes": "v:visit.minutes l:visit.person_token l:person.person_token",
            "weight": "v:person.weight l:visit.person_token l:person.person_token",
        },
    ),
    Construct(
        "full join using", "select person_token, minutes from visit full join person using (person_token)",
        {
            "person_token": "v:visit.person_token v:person.person_token",
            "minutes": "v:visit.minutes l:visit.person_token l:person.person_token",
        },
    ),
    Construct(
        "natural join", "select minutes, name from (select venue_id, minutes from visit) natural join venue",
        {
            "minutes": "v:visit.minutes l:visit.venue_id l:venue.venue_id",
            "name": "v:venue.name l:visit.venue_id l:venue.venue_id",
        },
    ),
    Construct("cross join", "select v.minutes, s.sex from visit v cross join (select sex from person where age > 40) s", {
        "minutes": "v:visit.minutes i:person.age", "sex": "v:person.sex i:person.age",
    }),
    Construct("semi join", "select minutes from visit semi join person using (person_token)", {
        "minutes": "v:visit.minutes l:visit.person_token l:person.person_token",
    }),
    Construct("anti join", "select minutes from visit v anti join closed c on v.venue_id = c.venue_id", {
        "minutes": "v:visit.minutes l:visit.venue_id l:closed.venue_id",
    }),
    Construct("anti join by null", """select v.minutes from visit v left join (select distinct venue_id from closed) c
        on v.venue_id = c.venue_id where c.venue_id is null""", {
        "minutes": "v:visit.minutes l:visit.venue_id l:closed.venue_id",
    }),
    Construct("in subquery on a key", "select minutes from visit where venue_id in (select venue_id from closed where reason = 'r1')", {
        "minutes": "v:visit.minutes l:visit.venue_id l:closed.venue_id i:closed.reason",
    }),
    Construct("in subquery on an attribute", "select minutes from visit where age in (select age from person)", {
        "minutes": "v:visit.minutes i:visit.age i:person.age",
    }),
    Construct("exists, correlated", """select minutes from visit v
        where exists (select 1 from person p where p.person_token = v.person_token and p.sex = 'f')""", {
        "minutes": "v:visit.minutes l:visit.person_token l:person.person_token i:person.sex",
    }),
    Construct("not exists", """select minutes from visit v
        where not exists (select * from closed c where c.venue_id = v.venue_id and c.day = v.day)""", {
        "minutes": "v:visit.minutes l:visit.venue_id l:closed.venue_id i:visit.day i:closed.day",
    }),
    Construct("tuple in subquery", """select minutes from visit where (venue_id, day) in (select venue_id, day from closed)""", {
        "minutes": "v:visit.minutes i:visit.venue_id i:visit.day i:closed.venue_id i:closed.day",
    }),
    Construct("scalar subquery", "select minutes, (select max(weight) from person where sex = 'f') as top from visit", {
        "minutes": "v:visit.minutes", "top": "v:person.weight i:person.sex",
    }),
    Construct("correlated scalar subquery", """select minutes,
        (select max(p.weight) from person p where p.person_token = v.person_token) as w from visit v""", {
        "minutes": "v:visit.minutes", "w": "v:person.weight l:person.person_token l:visit.person_token",
    }),
    Construct("count star", "select count(*) as n from visit", {"n": ""}),
    Construct("count star of a filter", "select count(*) as n from visit where age > 30", {"n": "i:visit.age"}),
    Construct("count distinct", "select count(distinct person_token) as n from visit", {"n": "v:visit.person_token"}),
    Construct("group by an attribute", "select age, count(*) as n from visit group by age", {
        "age": "v:visit.age", "n": "i:visit.age",
    }),
    Construct("group by a token", "select sum(minutes) as m from visit group by person_token", {
        "m": "v:visit.minutes l:visit.person_token",
    }),
    Construct("group by position and alias", "select age // 10 as band, sum(minutes) as m from visit group by 1", {
        "band": "v:visit.age", "m": "v:visit.minutes i:visit.age",
    }),
    Construct("group by all", "select day, venue_id, sum(minutes) as m from visit group by all", {
        "day": "v:visit.day l:visit.venue_id", "venue_id": "v:visit.venue_id i:visit.day",
        "m": "v:visit.minutes i:visit.day l:visit.venue_id",
    }),
    Construct("rollup", "select day, age, count(*) as n from visit group by rollup (day, age)", {
        "day": "v:visit.day i:visit.age", "age": "v:visit.age i:visit.day", "n": "i:visit.day i:visit.age",
    }),
    Construct("grouping sets", "select day, age, sum(minutes) as m from visit group by grouping sets ((day), (age), ())", {
        "day": "v:visit.day i:visit.age", "age": "v:visit.age i:visit.day", "m": "v:visit.minutes i:visit.day i:visit.age",
    }),
    Construct("having", "select day, sum(minutes) as m from visit group by day having count(distinct person_token) >= 3", {
        "day": "v:visit.day i:visit.person_token", "m": "v:visit.minutes i:visit.day i:visit.person_token",
    }),
    Construct("finer grouping below", """select day, count(*) as n from
        (select day, age from visit group by day, age) group by day""", {
        "day": "v:visit.day", "n": "i:visit.day i:visit.age",
    }),
    Construct("filter clause", "select sum(minutes) filter (where age > 30) as m from visit", {
        "m": "v:visit.minutes i:visit.age",
    }),
    Construct("case picks a value", "select case when age > 30 then minutes else 0 end as m from visit", {
        "m": "v:visit.minutes i:visit.age",
    }),
    Construct("case of a value", "select case venue_id when 'v1' then 'a' else 'b' end as k from visit", {
        "k": "i:visit.venue_id",
    }),
    Construct("sum of a case", "select day, sum(case when age < 18 then 1 else 0 end) as minors from visit group by day", {
        "day": "v:visit.day", "minors": "i:visit.age i:visit.day",
    }),
    Construct("coalesce and nullif", "select coalesce(nullif(minutes, 5), age) as x from visit", {
        "x": "v:visit.minutes v:visit.age",
    }),
    Construct("if function", "select if(age > 30, minutes, -1) as m from visit", {"m": "v:visit.minutes i:visit.age"}),
    Construct("window sum", "select sum(minutes) over (partition by venue_id order by day) as m from visit", {
        "m": "v:visit.minutes l:visit.venue_id i:visit.day",
    }),
    Construct("row number keeps the latest", """select minutes from
        (select *, row_number() over (partition by venue_id order by seen_at desc, visit_id) as n from visit) where n = 1""", {
        "minutes": "v:visit.minutes l:visit.venue_id i:visit.seen_at l:visit.visit_id",
    }),
    Construct("qualify", "select minutes from visit qualify row_number() over (partition by day order by age, visit_id) = 1", {
        "minutes": "v:visit.minutes i:visit.day i:visit.age l:visit.visit_id",
    }),
    Construct("named window", """select rank() over w as r, lag(minutes) over w as before from visit
        window w as (partition by venue_id order by seen_at, visit_id)""", {
        "r": "l:visit.venue_id i:visit.seen_at l:visit.visit_id",
        "before": "v:visit.minutes l:visit.venue_id i:visit.seen_at l:visit.visit_id",
    }),
    Construct("window over a group", "select day, sum(sum(minutes)) over (order by day) as m from visit group by day", {
        "day": "v:visit.day", "m": "v:visit.minutes i:visit.day",
    }),
    Construct("select star", "select * from venue", {
        "venue_id": "v:venue.venue_id", "name": "v:venue.name", "district": "v:venue.district", "capacity": "v:venue.capacity",
    }),
    Construct("star exclude, replace", "select * exclude (name, district) replace (capacity + 1 as capacity) from venue", {
        "venue_id": "v:venue.venue_id", "capacity": "v:venue.capacity",
    }),
    Construct("star rename", "select * exclude (district, capacity) rename (name as title) from venue", {
        "venue_id": "v:venue.venue_id", "title": "v:venue.name",
    }),
    Construct("table star of a join", """select v.* from (select minutes, venue_id from visit) v
        join venue u on v.venue_id = u.venue_id""", {
        "minutes": "v:visit.minutes l:visit.venue_id l:venue.venue_id",
        "venue_id": "v:visit.venue_id l:venue.venue_id",
    }),
    Construct("columns by pattern", "select columns('^(name|district)$') from venue", {
        "name": "v:venue.name", "district": "v:venue.district",
    }),
    Construct("aggregate of columns", "select max(columns(* exclude (venue_id))) from venue", {
        "name": "v:venue.name", "district": "v:venue.district", "capacity": "v:venue.capacity",
    }),
    Construct("cte shadows a table", "with visit as (select age as minutes from person) select minutes from visit", {
        "minutes": "v:person.age",
    }),
    Construct("cte of a cte with renamed columns", """with a(x, y) as (select age, weight from person),
        b as (select y as z from a where x > 30) select z from b""", {"z": "v:person.weight i:person.age"}),
    Construct("recursive cte", """with recursive r as (
        select 1 as n, 0 as total union all
        select r.n + 1, r.total + (select max(minutes) from visit) from r where r.n < (select count(*) from person where age > 30))
        select n, total from r""", {
        "n": "i:person.age", "total": "v:visit.minutes i:person.age",
    }),
    Construct("union all by position", "select minutes as a, age as b from visit union all select age, 1 from person", {
        "a": "v:visit.minutes v:person.age", "b": "v:visit.age",
    }),
    Construct("union all by name", "select minutes as a, age as b from visit union all by name select age as b, age as a from person", {
        "a": "v:visit.minutes v:person.age", "b": "v:visit.age v:person.age",
    }),
    Construct("union removes duplicates", "select day, age from visit union select day, 1 from closed", {
        "day": "v:visit.day v:closed.day i:visit.age", "age": "v:visit.age i:visit.day i:closed.day",
    }),
    Construct("except", "select venue_id from venue except select venue_id from closed where reason = 'r1'", {
        "venue_id": "v:venue.venue_id l:closed.venue_id i:closed.reason",
    }),
    Construct("intersect", "select age from visit intersect select age from person", {"age": "v:visit.age i:person.age"}),
    Construct("distinct", "select distinct day, venue_id from visit", {
        "day": "v:visit.day l:visit.venue_id", "venue_id": "v:visit.venue_id i:visit.day",
    }),
    Construct("distinct on", "select distinct on (venue_id) venue_id, minutes from visit order by venue_id, seen_at desc, visit_id", {
        "venue_id": "v:visit.venue_id",
        "minutes": "v:visit.minutes l:visit.venue_id i:visit.seen_at l:visit.visit_id",
    }),
    Construct("order by with limit", "select minutes from visit order by age desc, visit_id limit 3", {
        "minutes": "v:visit.minutes i:visit.age l:visit.visit_id",
    }),
    Construct("order by alone changes nothing", "select minutes from visit order by age", {"minutes": "v:visit.minutes"}),
    Construct("lateral alias", "select age // 10 as band, band * 2 as twice from person", {
        "band": "v:person.age", "twice": "v:person.age",
    }),
    Construct("alias in where", "select minutes * 2 as m from visit where m > 60", {"m": "v:visit.minutes"}),
    Construct("lateral join", "select v.minutes, x.k from visit v, lateral (select v.age + 1 as k) x", {
        "minutes": "v:visit.minutes", "k": "v:visit.age",
    }),
    Construct("values", "select minutes + w.add as m from visit join (values ('v1', 1), ('v2', 2)) w(venue_id, add) on visit.venue_id = w.venue_id", {
        "m": "v:visit.minutes i:visit.venue_id",
    }),
    Construct("unnest in select", "select unnest(tags) as tag, minutes from visit", {
        "tag": "v:visit.tags", "minutes": "v:visit.minutes i:visit.tags",
    }),
    Construct("unnest in from", "select t.tag, v.minutes from visit v, unnest(v.tags) as t(tag)", {
        "tag": "v:visit.tags", "minutes": "v:visit.minutes i:visit.tags",
    }),
    Construct("lambda", "select list_transform(tags, x -> x || name) as l from visit, venue where visit.venue_id = venue.venue_id", {
        "l": "v:visit.tags v:venue.name l:visit.venue_id l:venue.venue_id",
    }),
    Construct("struct and field", "select s.a as a from (select {'a': minutes, 'b': age} as s from visit)", {
        "a": "v:visit.minutes",
    }, extra={"a": "v:visit.age"}),  # a struct is one value here: its fields are not told apart
    Construct("string aggregate with order", "select string_agg(name, ',' order by capacity, venue_id) as names from venue", {
        "names": "v:venue.name i:venue.capacity l:venue.venue_id",
    }),
    Construct("percentile within group", "select percentile_cont(0.5) within group (order by minutes) as m from visit where age > 20", {
        "m": "v:visit.minutes i:visit.age",
    }),
    Construct("arg max", "select arg_max(name, capacity) as biggest from venue", {"biggest": "v:venue.name v:venue.capacity"}),
    Construct("first of an ordered subquery", "select first(name) as f from (select name from venue order by capacity, venue_id)", {
        "f": "v:venue.name i:venue.capacity l:venue.venue_id",
    }),
    Construct("pivot", "select * from (select day, age, minutes from visit) pivot (sum(minutes) for age in (20, 30))", {
        "day": "v:visit.day", "20": "v:visit.minutes i:visit.age i:visit.day", "30": "v:visit.minutes i:visit.age i:visit.day",
    }),
    Construct("unpivot", "select * from (select visit_id, minutes, age from visit) unpivot (amount for kind in (minutes, age))", {
        "visit_id": "v:visit.visit_id i:visit.minutes i:visit.age", "kind": "i:visit.minutes i:visit.age",
        "amount": "v:visit.minutes v:visit.age",
    }),
    Construct("asof join", """select v.minutes, c.reason from visit v asof join closed c
        on v.venue_id = c.venue_id and v.day >= c.day""", {
        "minutes": "v:visit.minutes l:visit.venue_id l:closed.venue_id i:visit.day i:closed.day",
        "reason": "v:closed.reason l:visit.venue_id l:closed.venue_id i:visit.day i:closed.day",
    }),
    Construct("from first", "from visit select minutes where age > 30", {"minutes": "v:visit.minutes i:visit.age"}),
    Construct("self join", """select a.minutes - b.minutes as delta from visit a join visit b
        on a.person_token = b.person_token and a.seen_at > b.seen_at""", {
        "delta": "v:visit.minutes l:visit.person_token i:visit.seen_at",
    }),
    Construct("quoted names and case", 'select "Minutes" as "M" from (select minutes as "Minutes" from VISIT)', {
        "m": "v:visit.minutes",
    }),
)  # fmt: skip
