"""Precision and recall of the detectors on a labelled set, and their speed, beside two peers.

Peers: *plain patterns* (a pattern per number without check characters, as scripts for data discovery commonly have it) and
*python-stdnum* (which validates whole values only: resident identity number, credit code, Luhn). Values are generated from
a seed with hand-written templates, right and nearly right; names are labelled by hand (`labelled_names`). The identity
numbers are of no region, so that they are nobody's; python-stdnum judges the region, too, and so finds none of them.

    .venv/bin/python -m benchmarks.detectors [--values 20000] [--json]
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections.abc import Callable, Iterable

import duckdb
from stdnum import luhn
from stdnum.cn import ric, uscc

from benchmarks.labelled_names import LABELLED
from catalog.detectors import content, names

SEED = 20261120
KINDS = (
    "id_no",
    "phone",
    "bank_card",
    "uscc",
    "email",
    "home_address",
    "address",
    "coordinate",
    "birth_date",
    "person_name",
)
PLAIN = {
    "id_no": r"\d{17}[\dXx]",
    "phone": r"1\d{10}",
    "bank_card": r"\d{16,19}",
    "uscc": r"[0-9A-Z]{18}",
    "email": r"\S+@\S+",
    "coordinate": r"\d+\.\d+\s*,\s*\d+\.\d+",
    "birth_date": r"(19|20)\d{2}[-/.年]\d{1,2}[-/.月]\d{1,2}",
    "home_address": r"室|单元|小区",
    "address": r"路|街|弄|号",
    "person_name": r"^[\u4e00-\u9fff]{2,4}$",
}
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_USCC = "0123456789ABCDEFGHJKLMNPQRTUWXY"


def _id_no(rng: random.Random) -> str:
    """An identity number of no region (99....): it can be nobody's."""
    body = f"99{rng.randrange(10**4):04d}{rng.randrange(1940, 2020)}{rng.randrange(1, 13):02d}{rng.randrange(1, 29):02d}{rng.randrange(1000):03d}"
    return body + "10X98765432"[sum(int(d) * w for d, w in zip(body, _WEIGHTS, strict=True)) % 11]


def _off(text: str) -> str:
    """The same with its last character wrong."""
    return text[:-1] + ("1" if text[-1] != "1" else "2")


def _card(rng: random.Random) -> str:
    body = "62" + "".join(str(rng.randrange(10)) for _ in range(16))
    return body + luhn.calc_check_digit(body)


def _code(rng: random.Random) -> str:
    body = f"91{rng.randrange(10**6):06d}" + "".join(rng.choice(_USCC) for _ in range(9))
    return body + uscc.calc_check_digit(body)


def values(count: int) -> list[tuple[str, set[str]]]:
    """Texts and the kinds they hold."""
    rng = random.Random(SEED)

    def phone() -> str:
        return f"1{rng.choice('3456789')}{rng.randrange(10**9):09d}"

    def day() -> str:
        return f"{rng.randrange(1950, 2015)}-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}"

    def point() -> str:
        return f"{121 + rng.random():.6f},{31 + rng.random():.6f}"

    road = ("漕溪北路", "世纪大道", "虹桥路", "四川北路", "沪闵路", "南京东路")
    people = ("王小明", "李建国", "张伟", "陈思雨", "欧阳修远", "赵雅", "刘洋", "周子涵")
    make: list[Callable[[], tuple[str, set[str]]]] = [
        lambda: (_id_no(rng), {"id_no"}),
        lambda: (f"报名人证件{_id_no(rng)}", {"id_no"}),
        lambda: (re.sub(r"(.{6})(.{8})", r"\1 \2 ", _id_no(rng)), {"id_no"}),
        lambda: (_off(_id_no(rng)), set()),
        lambda: (f"订单{rng.randrange(10**17, 10**18)}", set()),
        lambda: (phone(), {"phone"}),
        lambda: (f"请联系{phone()}（前台）", {"phone"}),
        lambda: ("{}-{}-{}".format(*re.match(r"(.{3})(.{4})(.{4})", phone()).groups()), {"phone"}),  # type: ignore[union-attr]
        lambda: (f"2026{rng.randrange(10**10):010d}", set()),
        lambda: (f"17{rng.randrange(10**11):011d}", set()),  # milliseconds
        lambda: (_card(rng), {"bank_card"}),
        lambda: (_off(_card(rng)), set()),
        lambda: (_code(rng), {"uscc"}),
        lambda: (_off(_code(rng)), set()),
        lambda: (f"user{rng.randrange(1000)}@example.org", {"email"}),
        lambda: ("在线@全体成员", set()),
        lambda: (f"{rng.choice(road)}{rng.randrange(1, 900)}号", {"address"}),
        lambda: (
            f"徐汇区{rng.choice(road)}{rng.randrange(1, 900)}弄{rng.randrange(1, 60)}号{rng.randrange(100, 999)}室",
            {"home_address"},
        ),
        lambda: (f"阳光花园{rng.randrange(1, 30)}幢{rng.randrange(100, 999)}室", {"home_address"}),
        lambda: (f"{rng.randrange(1, 30)}号泳道", set()),
        lambda: ("道路封闭", set()),
        lambda: (point(), {"coordinate"}),
        lambda: (f"{rng.randrange(1, 99)}.{rng.randrange(10)},{rng.randrange(1, 99)}.{rng.randrange(10)}", set()),
        lambda: (f"出生日期：{day()}", {"birth_date"}),
        lambda: (f"{day()} 开馆", set()),
        lambda: (f"V3101{rng.randrange(100):02d}-{rng.randrange(1000):03d}-U01", set()),
        lambda: (f"b_{rng.getrandbits(128):032x}", set()),
        lambda: ("羽毛球双打预赛", set()),
        lambda: ("游泳馆", set()),
        lambda: (rng.choice(people), {"person_name"}),
    ]
    return [rng.choice(make)() for _ in range(count)]


def _scores(truth: list[set[str]], said: list[set[str]], kinds: Iterable[str]) -> dict[str, tuple[float, float]]:
    """kind → (precision, recall)."""
    result = {}
    for kind in kinds:
        hit = sum(kind in t and kind in s for t, s in zip(truth, said, strict=True))
        told, real = sum(kind in s for s in said), sum(kind in t for t in truth)
        result[kind] = (hit / told if told else 1.0, hit / real if real else 1.0)
    return result


def ours(texts: list[str]) -> tuple[list[set[str]], float]:
    """What our detectors say of each text, each judged as a column of one value; and seconds for all as one column."""
    con = duckdb.connect()
    con.execute("create table t (n integer, v varchar)")
    con.execute("insert into t select unnest(range(?)), unnest(?)", [len(texts), texts])
    said: list[set[str]] = [set() for _ in texts]
    for number in range(len(texts)):
        for hit in content.scan(con, f"(select v from t where n = {number})", ["v"]):
            said[number].add(hit.kind)
    started = time.process_time()
    content.scan(con, "t", ["v"])
    return said, time.process_time() - started


def plain(texts: list[str]) -> list[set[str]]:
    """What plain patterns say."""
    return [{kind for kind, pattern in PLAIN.items() if re.search(pattern, text)} for text in texts]


def stdnum(texts: list[str]) -> tuple[list[set[str]], float]:
    """What python-stdnum says of whole values."""
    started = time.process_time()
    said = []
    for text in texts:
        kinds = set()
        if ric.is_valid(text):
            kinds.add("id_no")
        if uscc.is_valid(text):
            kinds.add("uscc")
        if text.isdigit() and 16 <= len(text) <= 19 and luhn.is_valid(text):
            kinds.add("bank_card")
        said.append(kinds)
    return said, time.process_time() - started


def main() -> None:
    """Print the scores of names and values and the ratio of speeds."""
    parser = argparse.ArgumentParser(description="Precision and recall of the detectors of sensitive items.")
    parser.add_argument("--values", type=int, default=3000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    labelled = values(options.values)
    texts, truth = [text for text, _ in labelled], [kinds for _, kinds in labelled]
    mine, seconds = ours(texts)
    peer, peer_seconds = stdnum(texts)
    value_scores = {
        "ours": _scores(truth, mine, KINDS),
        "plain patterns": _scores(truth, plain(texts), KINDS),
        "python-stdnum": _scores(truth, peer, ("id_no", "uscc", "bank_card")),
    }
    said = [{hit.kind for hit in names.detect(name)} for name, _ in LABELLED]
    real = [{kind} if kind else set() for _, kind in LABELLED]
    name_kinds = sorted({kind for _, kind in LABELLED if kind})
    hit = sum(bool(s & r) for s, r in zip(said, real, strict=True))
    told, wanted = sum(map(len, said)), sum(map(len, real))
    wrong = [(name, sorted(s), sorted(r)) for (name, _), s, r in zip(LABELLED, said, real, strict=True) if s != r]
    if options.json:
        print(json.dumps({"values": value_scores, "names": {"precision": hit / told, "recall": hit / wanted, "count": len(LABELLED)}}))  # fmt: skip
        return
    print(f"{len(texts)} labelled values (precision / recall)")
    print(f"{'kind':14}{'ours':>16}{'plain patterns':>18}{'python-stdnum':>18}")
    for kind in KINDS:
        cells = [value_scores[peer_name].get(kind) for peer_name in ("ours", "plain patterns", "python-stdnum")]
        print(f"{kind:14}" + "".join(f"{f'{c[0]:.3f} / {c[1]:.3f}' if c else '–':>17}" for c in cells))
    print(
        f"\n{len(LABELLED)} labelled names, {len(name_kinds)} kinds: precision {hit / told:.3f}, recall {hit / wanted:.3f}"
    )
    for name, got, right in wrong:
        print(f"  {name}: said {got or 'nothing'}, labelled {right or 'nothing'}")
    print(
        f"\nspeed on {len(texts)} values, CPU: ours {len(texts) / seconds:,.0f}/s over {len(KINDS)} kinds inside texts, python-stdnum "
        f"{len(texts) / peer_seconds:,.0f}/s over 3 kinds of whole values; ratio {peer_seconds / seconds:.2f}"
    )


if __name__ == "__main__":
    main()
