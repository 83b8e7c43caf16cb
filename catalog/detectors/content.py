"""What a column's values say, counted in DuckDB over a whole relation at once; no value ever leaves.

Each detector is a pair of SQL expressions over a text: is one in it, and is the text nothing else. Numbers with a check
character are checked (GB 11643-1999, GB 32100-2015, Luhn), so that an order number is not taken for a person's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import duckdb
import numpy as np
import numpy.typing as npt

from catalog.rules import check_digit_gb11643, check_digit_gb32100
from lake import clock
from lake.sql import quote_literal, quote_whole

STOPPING = ("id_no",)
"""Kinds whose appearance in a column declared free of them stops a batch: sure enough (check character and real date)."""

_HAN = r"\x{4e00}-\x{9fff}"
_PROVINCE = "(?:1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3])"
_MONTH_DAY = r"(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
_SURNAMES = (
    "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘杜戴夏钟汪田任姜范方石姚谭廖邹熊金"
    "陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段雷钱汤尹黎易常武乔贺赖龚文庞樊兰殷施陶洪翟安颜倪严牛温芦季俞章鲁葛伍韦申尤毕聂丛焦向柳邢路岳齐沿梅莫庄辛管祝左涂谷祁时舒耿牟卜路詹关苗凌费纪靳盛童欧甄项曲成游阳裴席卫查屈鲍位覃霍翁隋植甘景薄单包司柏宁柯阮桂闵欧阳上官诸葛"
)


@dataclass(frozen=True)
class Finding:
    """How many of the non-empty values of a column hold an item of a kind (`hits`) and how many are one (`whole`)."""

    column: str
    kind: str
    examined: int
    hits: int
    whole: int

    @property
    def share(self) -> float:
        """Share of the values that hold one."""
        return self.hits / self.examined if self.examined else 0.0


@dataclass(frozen=True)
class _Detector:
    """SQL over a normalised text ``v_`` (``n_``: the same without blanks and hyphens between digits).

    `some` is true when the text holds an item, `whole` when it is one. shortest: texts below this length are not looked
    at. floor: least share of values that makes a column suspicious.
    """

    kind: str
    some: str
    whole: str
    shortest: int
    floor: float = 0.0


def _extracted(pattern: str, check: str) -> str:
    """True when one of the places where `pattern` (group 1) matches a number passes `check` over ``x_``."""
    matches = f"regexp_matches(n_, {quote_literal(pattern)})"
    found = f"regexp_extract_all(n_, {quote_literal(pattern)}, 1)"
    return f"({matches} AND len(list_filter({found}, lambda x_: {check})) > 0)"


def _matching(pattern: str, text: str = "v_") -> str:
    return f"regexp_matches({text}, {quote_literal(pattern)})"


def _luhn(expression: str) -> str:
    """Luhn check (ISO/IEC 7812-1) over a string of digits."""
    digit = f"CAST(substr({expression}, length({expression}) - i_, 1) AS INTEGER)"
    doubled = f"CASE WHEN i_ % 2 = 0 THEN {digit} WHEN {digit} * 2 > 9 THEN {digit} * 2 - 9 ELSE {digit} * 2 END"
    return f"list_sum(list_transform(range(length({expression})), lambda i_: {doubled})) % 10 = 0"


def _detectors(as_of: datetime) -> tuple[_Detector, ...]:
    moment = f"TIMESTAMPTZ '{as_of:%Y-%m-%d %H:%M:%S%z}'"
    id_no = rf"(?:^|\D)([1-9]\d{{5}}(?:18|19|20)\d{{2}}{_MONTH_DAY}\d{{3}}[\dX])(?:[^\dX]|$)"
    legacy = rf"(?:^|\D)({_PROVINCE}\d{{4}}\d{{2}}{_MONTH_DAY}\d{{3}})(?:\D|$)"
    phone = r"(?:^|[^0-9A-Z.])(?:\+?86)?(1[3-9]\d{9})(?:[^0-9A-Z]|$)"
    card = r"(?:^|[^0-9A-Z])(62\d{14,17}|4\d{15}|5[1-5]\d{14}|3[47]\d{13}|35\d{14})(?:[^0-9A-Z]|$)"
    uscc = (
        r"(?:^|[^0-9A-Z])((?:1[1-39]|2[19]|3[1-59]|4[19]|5[1-39]|6[129]|7[129]|8[19]|9[1-39]|A[19]|N[1-39]|Y1)"
        r"\d{6}[0-9A-HJ-NP-RTUWXY]{10})(?:[^0-9A-Z]|$)"
    )
    road = rf"[{_HAN}]{{1,12}}(?:路|街|大道|公路|巷|弄|胡同|里|村)[{_HAN}]{{0,6}}\d{{1,5}}(?:号|弄|支弄|室|幢|栋)"
    home = rf"(?:{road}|[{_HAN}]{{2,12}}(?:小区|公寓|花园|苑|新村|宿舍|家园)).{{0,12}}\d{{1,4}}(?:室|单元|幢|栋|楼)"
    pair = r"(?:7[3-9]|[89]\d|1[0-2]\d|13[0-5])\.\d{4,}\s*[,，;/ ]\s*(?:[1-4]?\d|5[0-3])\.\d{4,}"
    turned = r"(?:[1-4]?\d|5[0-3])\.\d{4,}\s*[,，;/ ]\s*(?:7[3-9]|[89]\d|1[0-2]\d|13[0-5])\.\d{4,}"
    day = r"(?:19|20)\d{2}\s*[-/.年]?\s*\d{1,2}\s*[-/.月]?\s*\d{1,2}"
    birth = rf"(?:出生|生日|生于|born|birth|DOB)[^0-9]{{0,8}}{day}|{day}日?\s*(?:出生|生\b|生于)"
    name = rf"^(?:[{_SURNAMES}])[{_HAN}·]{{1,3}}$"
    no_name = "[区县市镇乡村路街道馆场园池所院校厅部队室号楼店台赛]$"
    return (
        _Detector("id_no", _extracted(id_no, check_digit_gb11643("x_", moment)), "length(n_) = 18", 18),
        _Detector("id_no_15", _matching(legacy, "n_"), "length(n_) = 15", 15, 0.5),
        _Detector("phone", _matching(phone, "n_"), "length(n_) <= 14", 11),
        _Detector("bank_card", _extracted(card, _luhn("x_")), "length(n_) <= 19", 15),
        _Detector("uscc", _extracted(uscc, check_digit_gb32100("x_")), "length(n_) = 18", 18),
        _Detector("email", _matching(r"[A-Z0-9._%+-]+@[A-Z0-9-]+\.[A-Z]{2,}"), "NOT contains(v_, ' ')", 6),
        _Detector("home_address", _matching(home), "length(v_) <= 60", 8),
        _Detector("address", _matching(road), "length(v_) <= 60", 5),
        _Detector("coordinate", _matching(f"{pair}|{turned}"), "length(v_) <= 40", 13),
        _Detector("birth_date", _matching(birth), "length(v_) <= 24", 10),
        _Detector("person_name", f"({_matching(name)} AND NOT {_matching(no_name)})", "true", 2, 0.8),
    )


def kinds() -> tuple[str, ...]:
    """Kinds that are looked for in texts."""
    return tuple(detector.kind for detector in _detectors(clock.as_of()))


def shortest(only: Iterable[str]) -> int:
    """Characters below which no text holds an item of these kinds."""
    return min(item.shortest for item in _detectors(clock.as_of()) if item.kind in set(only))


def _texts(name: str, relation: str, shortest: int, carry: str = "") -> str:
    """Query of the texts of a column that are long enough: ``v_`` in upper case, full-width digits folded, and ``n_``."""
    full, half = "０１２３４５６７８９ＸｘＡＢＣ，．", "0123456789XXABC,."
    folded = (
        f"CASE WHEN regexp_full_match({name}, '[ -~]*') THEN upper(trim({name})) "
        f"ELSE translate(upper(trim({name})), {quote_literal(full)}, {quote_literal(half)}) END"
    )
    squeezed = "CASE WHEN contains(v_, ' ') OR contains(v_, '-') THEN regexp_replace(v_, '(\\d)[ -](\\d)', '\\1\\2', 'g') ELSE v_ END"
    inner = f"SELECT {carry}{folded} AS v_ FROM {relation} AS scanned WHERE length({name}) >= {shortest}"
    return f"(SELECT *, {squeezed} AS n_ FROM ({inner}) AS folded)"


def text_columns(con: duckdb.DuckDBPyConnection, relation: str) -> list[str]:
    """Names of the text columns of a relation (a table, a view, or a query in parentheses)."""
    rows = con.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
    return [row[0] for row in rows if row[1] == "VARCHAR"]


def scan(
    con: duckdb.DuckDBPyConnection,
    relation: str,
    columns: Iterable[str],
    *,
    only: Iterable[str] | None = None,
    as_of: datetime | None = None,
) -> list[Finding]:
    """Findings of every text column named: one row per column and kind with at least one hit.

    only: kinds to look for (default: all). A kind that is only telling when most values have it (a legacy number, a
    name) is reported from its least share on. One query per column, so memory stays that of a column.
    """
    wanted = set(kinds() if only is None else only)
    detectors = [item for item in _detectors(as_of or clock.as_of()) if item.kind in wanted]
    shortest = min(item.shortest for item in detectors)
    found: list[Finding] = []
    for column in columns:
        name = quote_whole(column)
        parts = [f"(SELECT count({name}) FROM {relation} AS counted)"]
        for item in detectors:
            long_enough = f"length(v_) >= {item.shortest}"
            parts.append(f"count(*) FILTER (WHERE {long_enough} AND {item.some})")
            parts.append(f"count(*) FILTER (WHERE {long_enough} AND {item.whole} AND {item.some})")
        row = con.execute(f"SELECT {', '.join(parts)} FROM {_texts(name, relation, shortest)} AS texts").fetchone()
        assert row is not None
        examined = int(row[0])
        for number, item in enumerate(detectors):
            hits, whole = int(row[1 + 2 * number]), int(row[2 + 2 * number])
            if hits and hits >= item.floor * examined:
                found.append(Finding(column, item.kind, examined, hits, whole))
    return _most_telling(found)


def holding(
    con: duckdb.DuckDBPyConnection,
    relation: str,
    column: str,
    *,
    only: Iterable[str],
    as_of: datetime | None = None,
) -> npt.NDArray[np.bool_]:
    """Which texts of a column, in order, hold an item of one of the kinds, however few they are."""
    wanted = set(only)
    detectors = [item for item in _detectors(as_of or clock.as_of()) if item.kind in wanted]
    tests = " OR ".join(f"(length(v_) >= {item.shortest} AND {item.some})" for item in detectors)
    numbered = f"(SELECT {quote_whole(column)}, row_number() OVER () - 1 AS at_ FROM {relation})"
    count = con.execute(f"SELECT count(*) FROM {relation}").fetchone()
    hits = con.execute(
        f"SELECT at_ FROM {_texts(quote_whole(column), numbered, min(item.shortest for item in detectors), 'at_, ')} AS texts"
        f" WHERE {tests}"
    ).fetchnumpy()["at_"]
    found = np.zeros(int(count[0]) if count else 0, dtype=bool)
    found[np.asarray(hits, dtype=np.int64)] = True
    return found


def _most_telling(found: list[Finding]) -> list[Finding]:
    """A home address is an address, too, and one identity number in 31 passes as a credit code: keep the more telling."""
    hits = {(item.column, item.kind): item.hits for item in found}
    weaker = {"address": "home_address", "uscc": "id_no"}
    return [
        item for item in found if item.kind not in weaker or hits.get((item.column, weaker[item.kind]), 0) < item.hits
    ]


def objects_with(
    con: duckdb.DuckDBPyConnection,
    relation: str,
    column: str,
    kind: str,
    *,
    as_of: datetime | None = None,
) -> dict[str, tuple[int, int]]:
    """Source object → (records that hold an item of the kind, number of the first): where a finding comes from."""
    (item,) = [d for d in _detectors(as_of or clock.as_of()) if d.kind == kind]
    texts = _texts(quote_whole(column), relation, item.shortest, "_source_object, _record_no, ")
    rows = con.execute(
        f"SELECT _source_object, count(*), min(_record_no) FROM {texts} AS texts "
        f"WHERE length(v_) >= {item.shortest} AND {item.some} GROUP BY ALL"
    ).fetchall()
    return {row[0]: (int(row[1]), int(row[2])) for row in rows}


def scan_numbers(con: duckdb.DuckDBPyConnection, relation: str, columns: Iterable[str]) -> list[Finding]:
    """Findings in numeric columns: whole numbers that are mobile or identity numbers, and precise coordinates.

    A column of doubles is taken for a coordinate when 95 % of its values lie in the range of Shanghai's longitudes or
    latitudes (120.8–122.3, 30.6–32.0) and have four decimals or more.
    """
    found = []
    for column in columns:
        name = quote_whole(column)
        row = con.execute(
            f"SELECT count({name}), "
            f"count(*) FILTER (WHERE {name} BETWEEN 13000000000 AND 19999999999 AND {name} = floor({name})), "
            f"count(*) FILTER (WHERE ({name} BETWEEN 120.8 AND 122.3 OR {name} BETWEEN 30.6 AND 32.0) "
            f"AND abs({name} * 1000 - round({name} * 1000)) > 1e-7) FROM {relation} AS scanned"
        ).fetchone()
        assert row is not None
        examined, phones, places = (int(value) for value in row)
        if examined and phones >= 0.5 * examined:
            found.append(Finding(column, "phone", examined, phones, phones))
        if examined and places >= 0.8 * examined:
            found.append(Finding(column, "coordinate", examined, places, places))
    return found
