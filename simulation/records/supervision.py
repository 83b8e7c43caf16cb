"""Supervision of the trade: licences, inspections, who is on duty at a pool, prepaid contracts and balances, complaints."""

from __future__ import annotations

from datetime import date, timedelta

from simulation.city import SPORTS, City, Unit, Venue
from simulation.people import person_names
from simulation.records.feed import Feed, Form, Row, daily, days_between, weekly
from simulation.records.venue import NO_VENUE
from simulation.times import iso_text, midnight, stream

LICENSED = ("swimming", "climbing")


def licensed(city: City) -> list[tuple[int, Venue, str]]:
    """(number, venue, sport) of every venue with a pool or a climbing wall."""
    pairs = sorted({(u.venue, u.sport) for u in city.units if u.sport in LICENSED})
    return [(number, city.venues[venue], sport) for number, (venue, sport) in enumerate(pairs)]


def licences(city: City, day: date, since: date | None) -> list[Row]:
    """First all of them, later what changed in a week: one in forty is renewed, at least one."""
    everything = licensed(city)
    rng = stream(city.seed, "licences", day.toordinal())
    renewed = {int(i) for i in rng.choice(len(everything), 1 + len(everything) // 40, replace=False)}
    rows = []
    for number, venue, sport in everything:
        own = stream(city.seed, "licence", number)
        opened = date(2019, 1, 1) + timedelta(days=int(own.integers(0, 2_400)))
        licence = own.random() < 0.55
        issued = (
            opened - timedelta(days=20)
            if licence
            else opened + timedelta(days=int(own.integers(1, 13)) + (20 if own.random() < 0.06 else 0))
        )
        begin = issued + timedelta(days=(day - issued).days // 1_826 * 1_826)
        if number in renewed:
            begin = day - timedelta(days=1)
        elif since is not None:
            continue
        label = "经营许可" if licence else "备案"
        rows.append({
            "编号": f"沪{venue.district_code[-2:]}体{'许' if licence else '备'}{number + 1:05d}", "类别": label, "场馆编码": venue.venue_id,
            "统一社会信用代码": venue.uscc, "项目": SPORTS[sport], "机关": f"{city.names[venue.district]}体育局", "开业日期": opened.isoformat(),
            "决定日期": begin.isoformat() if number in renewed else issued.isoformat(), "有效期起": begin.isoformat(),
            "有效期止": (begin + timedelta(days=1_825)).isoformat(), "状态": "有效", "更新时间": iso_text(midnight(day - timedelta(days=1)) + 17 * 3600),
        })  # fmt: skip
    return rows


CHECKED = ("救生员配备", "水质", "持证经营", "设施设备", "保险")


def inspections(city: City, day: date, since: date | None) -> list[Row]:
    """What was inspected since the last delivery: some venues a week, three items each, a tenth of them to be put right."""
    rows = []
    for on in days_between(since, day, INSPECTIONS.starts(city) - timedelta(days=21)):
        rng = stream(city.seed, "inspections", on.toordinal())
        inspector = person_names(rng, 1)[0]
        for number in range(1 + int(rng.poisson(len(city.venues) / 200))):
            venue = city.venues[int(rng.integers(len(city.venues)))]
            kind = ("双随机", "专项", "投诉核查", "复查")[int(rng.choice(4, p=[0.5, 0.3, 0.12, 0.08]))]
            for item in rng.choice(CHECKED, 3, replace=False):
                bad = rng.random() < 0.1
                rows.append({
                    "检查编号": f"JC{on:%y%m%d}{number + 1:04d}", "检查项目": str(item), "场馆编码": venue.venue_id, "检查类型": kind,
                    "检查日期": on.isoformat(), "检查结果": "不合格" if bad else "合格", "问题描述": f"{item}不符合要求（演示）" if bad else None,
                    "整改期限": (on + timedelta(days=10)).isoformat() if bad else None, "完成日期": None, "检查人员": inspector,
                    "更新时间": iso_text(midnight(on) + 18 * 3600),
                })  # fmt: skip
    return rows


def required_guards(unit: Unit) -> int:
    """Lifeguards a pool needs: three up to 250 m², one more for each further 250 m² or part (GB 19079.1-2013 7.2)."""
    return 3 + int(-(-max(0.0, unit.area_m2 - 250) // 250))


def rosters(city: City, day: date, since: date | None) -> list[Row]:
    """Two shifts a day at every pool with the guards it needs (one shift in forty lacks one) and somebody for the water."""
    pools, rows = [u for u in city.units if u.unit_type == "泳池"], []
    for on in days_between(since, day, ROSTERS.starts(city)):
        rng = stream(city.seed, "rosters", on.toordinal())
        lacking = rng.random((len(pools), 2)) < 0.025
        for place, unit in enumerate(pools):
            venue = city.venues[unit.venue]
            middle = (venue.open_s + venue.close_s) // 2
            for shift, (start, end) in enumerate(((venue.open_s, middle), (middle, venue.close_s))):
                guards = required_guards(unit) - int(lacking[place, shift])
                for number in range(guards + 1):
                    staff = f"{unit.unit_id}-S{shift * 20 + number + 1:02d}"
                    expires = date(2026, 10, 1) + timedelta(days=(place * 37 + shift * 11 + number * 101) % 900 + 20)
                    rows.append({
                        "泳池编码": unit.unit_id, "上班时间": iso_text(midnight(on) + start), "下班时间": iso_text(midnight(on) + end), "工号": staff,
                        "岗位": "水质管理员" if number == guards else "救生员", "证书有效期止": expires.isoformat(),
                    })  # fmt: skip
    return rows


def operators(city: City) -> list[Venue]:
    """Venues that sell prepaid contracts: the private ones, or a few when there are none."""
    private = [v for v in city.venues if v.ownership == "民营"]
    return private or city.venues[:3]


def signed_on(city: City, on: date) -> list[Row]:
    """The contracts signed on a day; a few are beyond one of the three limits, or run longer than the lease."""
    rng, sellers, rows = stream(city.seed, "prepaid", on.toordinal()), operators(city), []
    for number in range(2 + int(rng.poisson(len(sellers) / 2))):
        venue, kind = sellers[int(rng.integers(len(sellers)))], int(rng.choice(3, p=[0.5, 0.35, 0.15]))
        over = rng.random() < 0.04
        amount = (int(rng.integers(8, 49)) * 100, int(rng.integers(10, 180)) * 100, int(rng.integers(5, 49)) * 100)[
            kind
        ]
        amount = (6_800, 22_000, 8_000)[kind] if over else amount
        months = int(rng.choice([6, 12, 24]))
        lease = on + timedelta(days=int(rng.integers(800, 2_400)) if rng.random() > 0.03 else 90)
        rows.append({
            "合同编号": f"YF{on:%y%m%d}{number + 1:05d}", "统一社会信用代码": venue.uscc, "场馆编码": venue.venue_id, "合同类型": ("会籍类", "课时类", "储值类")[kind],
            "合同金额": float(amount), "期限月数": months, "课时数": int(rng.integers(10, 60)) if kind == 1 else None,
            "合计预收": float(amount + int(rng.choice([0, 0, 0, 800]))), "剩余金额": float(amount), "租约到期": lease.isoformat(),
            "签订日期": on.isoformat(), "更新时间": iso_text(midnight(on) + 21 * 3600),
        })  # fmt: skip
    return rows


def contracts(city: City, day: date, since: date | None) -> list[Row]:
    return [row for on in days_between(since, day, CONTRACTS.starts(city)) for row in signed_on(city, on)]


def balances(city: City, day: date, since: date | None) -> list[Row]:
    """Each operator's day: what was received is the sum of that day's contracts, and the balance rolls from day to day."""
    first = BALANCES.starts(city)
    wanted = set(days_between(since, day, first))
    sellers: dict[str, Venue] = {}
    for venue in operators(city):
        sellers.setdefault(venue.uscc, venue)
    own = {code: stream(city.seed, f"operator {code}") for code in sellers}
    balance = {code: float(round(rng.uniform(40_000, 420_000), 2)) for code, rng in own.items()}
    revenue = {code: float(round(rng.uniform(600_000, 6_000_000), 2)) for code, rng in own.items()}
    rows = []
    for on in (first + timedelta(days=n) for n in range((day - first).days)):
        received: dict[str, float] = {}
        for row in signed_on(city, on):
            received[row["统一社会信用代码"]] = received.get(row["统一社会信用代码"], 0.0) + row["合同金额"]
        for code in sellers:
            rng = stream(city.seed, f"balance {code}", on.toordinal())
            opening, new = balance[code], received.get(code, 0.0)
            redeemed = round(opening * float(rng.uniform(0.002, 0.01)), 2)
            refunded = 300.0 if rng.random() < 0.1 else 0.0
            balance[code] = round(opening + new - redeemed - refunded, 2)
            if on in wanted:
                rows.append({
                    "统一社会信用代码": code, "余额日期": on.isoformat(), "期初余额": opening, "当日预收": new, "当日兑付": redeemed, "当日退款": refunded,
                    "期末余额": balance[code], "上年营收": revenue[code], "存管金额": round(balance[code] * (0.45 if sum(map(ord, code)) % 9 else 0.1), 2),
                    "保险到期": None,
                })  # fmt: skip
    return rows


CATEGORIES = (("refund", "申请退卡，商家拖延未退"), ("closure", "门店停业未提前告知"), ("hygiene", "更衣区卫生较差"), ("service", "团课临时取消未通知"),
              ("safety", "器械松动未及时维修"), ("price", "收费与公示不一致"))  # fmt: skip


def complaints(city: City, day: date, since: date | None) -> list[Row]:
    """What was complained about, told the next morning."""
    rows = []
    for on in days_between(since, day, COMPLAINTS.starts(city)):
        rng = stream(city.seed, "complaints", on.toordinal())
        for number in range(1 + int(rng.poisson(len(city.venues) / 30))):
            venue = city.venues[int(rng.integers(len(city.venues)))]
            category, text = CATEGORIES[int(rng.integers(len(CATEGORIES)))]
            at = midnight(on) + int(rng.integers(8 * 3600, 20 * 3600))
            done = rng.random() < 0.3
            rows.append({
                "complaint_no": f"TS{on:%y%m%d}{number + 1:04d}", "venue_id": venue.venue_id,
                "channel": ("hotline_12345", "hotline_12315", "app", "letter")[int(rng.choice(4, p=[0.5, 0.3, 0.17, 0.03]))], "category": category,
                "content": f"{text}（演示）", "amount": int(rng.integers(2, 60)) * 100 if category == "refund" else None, "received_at": iso_text(at),
                "closed_at": iso_text(at + 3_600) if done else None, "satisfied": bool(rng.random() < 0.8) if done else None,
                "updated_at": iso_text(midnight(on) + 22 * 3600),
            })  # fmt: skip
    return rows


LICENCES = Feed(
    "supervision.licence",
    ("编号", "类别", "场馆编码", "统一社会信用代码", "项目", "机关", "开业日期", "决定日期", "有效期起", "有效期止", "状态", "更新时间"),
    Form("xlsx", "许可备案", title="高危险性体育项目许可与备案（演示）", sheet="许可备案"), weekly, licences, "编号",
    {"unknown_kind": {"类别": "口头备案"}, "ends_before_it_begins": {"有效期起": "2026-01-01", "有效期止": "2025-01-01"}, "unknown_venue": {"场馆编码": NO_VENUE},
     "bad_uscc": {"统一社会信用代码": "91990000MA0000000A"}},
)  # fmt: skip
INSPECTIONS = Feed(
    "supervision.inspection",
    ("检查编号", "检查项目", "场馆编码", "检查类型", "检查日期", "检查结果", "问题描述", "整改期限", "完成日期", "检查人员", "更新时间"),
    Form("csv", "监督检查"), weekly, inspections, "检查编号",
    {"unknown_result": {"检查结果": "基本合格"}, "unknown_venue": {"场馆编码": NO_VENUE}, "closed_before": {"完成日期": "2020-01-01"}},
)  # fmt: skip
ROSTERS = Feed(
    "supervision.duty_roster", ("泳池编码", "上班时间", "下班时间", "工号", "岗位", "证书有效期止"),
    Form("csv", "当班名册"), daily, rosters, "工号",
    {"unknown_pool": {"泳池编码": f"{NO_VENUE}-U01"}, "unknown_role": {"岗位": "保安"}, "bad_date": {"证书有效期止": "2027-02-30"}},
)  # fmt: skip
CONTRACTS = Feed(
    "supervision.prepaid_contract",
    ("合同编号", "统一社会信用代码", "场馆编码", "合同类型", "合同金额", "期限月数", "课时数", "合计预收", "剩余金额", "租约到期", "签订日期", "更新时间"),
    Form("csv", "预付合同", "gb18030"), daily, contracts, "合同编号",
    {"unknown_kind": {"合同类型": "口头约定"}, "zero_amount": {"合同金额": 0, "剩余金额": 0}, "text_in_number": {"期限月数": "终身"}, "unknown_venue": {"场馆编码": NO_VENUE}},
)  # fmt: skip
BALANCES = Feed(
    "supervision.prepaid_balance",
    ("统一社会信用代码", "余额日期", "期初余额", "当日预收", "当日兑付", "当日退款", "期末余额", "上年营收", "存管金额", "保险到期"),
    Form("csv", "预付余额"), daily, balances, "余额日期",
    {"does_not_roll": {"余额日期": "2026-10-01", "期初余额": 1_000.0, "当日预收": 0, "当日兑付": 0, "当日退款": 0, "期末余额": 900.0},
     "negative_refund": {"余额日期": "2026-10-02", "期初余额": 1_000.0, "当日预收": 0, "当日兑付": 0, "当日退款": -10, "期末余额": 1_010.0},
     "text_in_number": {"余额日期": "2026-10-03", "存管金额": "足额"}},
)  # fmt: skip
COMPLAINTS = Feed(
    "supervision.complaint",
    ("complaint_no", "venue_id", "channel", "category", "content", "amount", "received_at", "closed_at", "satisfied", "updated_at"),
    Form("ndjson", "complaint"), daily, complaints, "complaint_no",
    {"unknown_channel": {"channel": "pigeon"}, "unknown_venue": {"venue_id": NO_VENUE}, "closed_before": {"closed_at": "2020-01-01T08:00:00+08:00"}},
)  # fmt: skip
FEEDS = (LICENCES, INSPECTIONS, ROSTERS, CONTRACTS, BALANCES, COMPLAINTS)
