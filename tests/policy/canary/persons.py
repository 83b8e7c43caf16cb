"""The canaries: persons nobody has ever been, and every spelling by which one of them could be recognised.

Identity numbers lie in the never-assigned region 990199 with a right check character, phones in the block 199 0000–0999 that
the simulation reserves for invention, homes in the East China Sea.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone

import polars as pl

SHANGHAI = timezone(timedelta(hours=8))
DAY = date(2026, 11, 19)
"""Yesterday of the pinned business clock: inside every partition and freshness rule."""


def check_character(body: str) -> str:
    """Check character of a 17-character identity number (GB 11643-1999)."""
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return "10X98765432"[sum(int(c) * w for c, w in zip(body, weights, strict=True)) % 11]


@dataclass(frozen=True)
class Person:
    """One invented person. `at` is when the person was somewhere, `home` (longitude, latitude) where a track begins."""

    name: str
    id_no: str
    phone: str
    athlete_no: str
    heart_rate: tuple[int, ...]
    home: tuple[float, float]
    at: datetime

    @property
    def email(self) -> str:
        """An address of the domain reserved for invention (RFC 2606)."""
        return f"mail{self.phone[-4:]}@canary.invalid"

    @property
    def bank_card(self) -> str:
        """Sixteen digits with a right check digit (ISO/IEC 7812-1) of an issuer number nobody has."""
        body = "6299" + self.phone[::-1]
        total = sum(sum(divmod(int(c) * 2, 10)) if n % 2 == 0 else int(c) for n, c in enumerate(body))
        return body + str(-total % 10)

    @property
    def plate_no(self) -> str:
        """A plate of a letter that Shanghai does not give out."""
        return f"沪Z{self.phone[-5:]}"


def _person(
    name: str, serial: str, phone: str, athlete: str, heart: tuple[int, ...], home: tuple[float, float], at: datetime
) -> Person:
    body = "990199" + "19900307" + serial
    return Person(name, body + check_character(body), phone, athlete, heart, home, at)


#: Goes through the doors: checks in, books, trains.
VISITOR = _person(
    "阙雀丝", "713", "19909987341", "SHA990713",
    (151, 83, 167, 94, 178, 71, 162, 88, 173, 79, 158, 97), (123.481357, 30.613579),
    datetime(2026, 11, 19, 6, 37, 41, tzinfo=SHANGHAI),
)  # fmt: skip
#: Appears only in rows that are refused, and in places where no person belongs.
STRAY = _person(
    "阚黄鸟", "926", "19909912683", "SHA990926",
    (92, 169, 77, 181, 86, 154, 99, 163, 74, 176, 81, 149), (123.527193, 30.592741),
    datetime(2026, 11, 19, 9, 14, 53, tzinfo=SHANGHAI),
)  # fmt: skip
#: Appears only as the contact of a venue and of an event: no analyst may see even a token of this person.
CONTACT = _person(
    "雒联系", "338", "19909945027", "SHA990338",
    (88, 157, 101, 184, 69, 172, 93, 166, 78, 180, 84, 159), (123.508264, 30.561938),
    datetime(2026, 11, 19, 16, 28, 37, tzinfo=SHANGHAI),
)  # fmt: skip
PERSONS = (VISITOR, STRAY, CONTACT)

ITEMS = ("id_no", "phone", "name", "athlete_no", "heart_rate", "home", "moment", "email", "bank_card", "plate_no")
"""What a person is recognised by. Stored tokens and masked spellings are searched besides (see `needles`)."""
PLANTED = {
    "fitness.checkin": ("id_no", "phone", "moment"),
    "venue.booking": ("phone",),
    "venue.entry": ("id_no", "phone", "name"),
    "venue.register": ("name", "phone"),
    "event.filing": ("name", "phone"),
    "supervision.water_reading": ("id_no", "phone"),
    "training.athlete": ("athlete_no", "name", "phone"),
    "training.activity": ("athlete_no", "heart_rate", "home", "name"),
    "venue.flow_count": ("id_no", "phone", "name"),
}
"""Source → what is planted in it; the suite shows by its own search that it is there."""


def _spellings(text: str) -> Iterator[bytes]:
    wide = "".join(chr(ord(c) + 0xFEE0) if c.isascii() and c.isalnum() else c for c in text)
    for form in {text, wide, text.lower()}:
        for encoding in ("utf-8", "gb18030", "utf-16-le", "utf-16-be"):
            yield form.encode(encoding)
    if not text.isascii():
        yield text.encode("unicode_escape")  # JSON and Python escapes
        yield "".join(f"%{b:02X}" for b in text.encode()).encode()  # in an address
        yield "".join(f"&#{ord(c)};" for c in text).encode()
    if re.fullmatch(r"\d{11}", text):
        for gap in (" ", "-"):
            yield f"{text[:3]}{gap}{text[3:7]}{gap}{text[7:]}".encode()
    if text[:17].isdigit():
        yield struct.pack("<q", int(text[:17] if text[-1] == "X" else text))
        yield f"{text[:6]} {text[6:]}".encode()


def _numbers(values: tuple[int, ...]) -> Iterator[bytes]:
    for code in ("B", "<h", ">h", "<i", ">i", "<q", "<f", "<d"):
        yield b"".join(struct.pack(code, value) for value in values)


def _coordinate(value: float) -> Iterator[bytes]:
    yield f"{value:.6f}".encode()
    yield f"{value:.5f}".encode()[:-1]  # written with fewer digits it is still the doorstep
    yield struct.pack("<d", value)
    yield struct.pack(">d", value)


def _place(home: tuple[float, float]) -> Iterator[bytes]:
    """Both values side by side where one alone is so short that other bytes may look like it by chance."""
    for pair in (home, home[::-1]):
        yield struct.pack("<ff", *pair)
        yield struct.pack("<ii", *(round(value / 180 * 2**31) for value in pair))  # semicircles of FIT


def _moment(at: datetime) -> Iterator[bytes]:
    for zone in (UTC, SHANGHAI):
        local = at.astimezone(zone)
        for gap in (" ", "T"):
            yield f"{local:%Y-%m-%d}{gap}{local:%H:%M:%S}".encode()
        yield struct.pack("<q", int(local.replace(tzinfo=UTC).timestamp()) * 1_000_000)
    yield str(int(at.timestamp())).encode()


@dataclass(frozen=True)
class Needles:
    """Literal bytes (all looked for in one pass) and patterns of a series of values, each with its item."""

    literals: dict[bytes, str]
    patterns: tuple[tuple[re.Pattern[bytes], str], ...]

    def found(self, documents: Sequence[bytes]) -> list[set[str]]:
        """For each document the items that occur in it."""
        texts = pl.Series([data.decode("latin-1") for data in documents], dtype=pl.String)  # one character a byte
        words = [literal.decode("latin-1") for literal in self.literals]
        hits = texts.str.extract_many(words, overlapping=True).list.unique().to_list()
        return [self._items(data, found) for data, found in zip(documents, hits, strict=True)]

    def _items(self, data: bytes, hits: list[str]) -> set[str]:
        items = {item for pattern, item in self.patterns if pattern.search(data)}
        for literal in (hit.encode("latin-1") for hit in hits):
            is_number = literal[:1].isdigit() and b"." in literal
            if not is_number or re.search(rb"(?<![\d.])" + re.escape(literal), data):  # not within a longer number
                items.add(self.literals[literal])
        return items


def needles(tokens: dict[str, str] | None = None) -> Needles:
    """Everything that gives a canary away. `tokens` maps a stored token to the item it stands for (`token_…`)."""
    literals: dict[bytes, str] = {}
    patterns = []
    for person in PERSONS:
        for item in ("id_no", "phone", "name", "athlete_no", "email", "bank_card", "plate_no"):
            literals |= dict.fromkeys(_spellings(getattr(person, item)), item)
        # whole numbers may be written as decimal ones
        separated = rb"(?:\.0{1,6})?[^0-9A-Za-z]{1,24}".join(str(value).encode() for value in person.heart_rate)
        patterns.append((re.compile(rb"(?<!\d)" + separated + rb"(?!\d)"), "heart_rate"))
        literals |= dict.fromkeys(_numbers(person.heart_rate), "heart_rate")
        literals |= dict.fromkeys([form for value in person.home for form in _coordinate(value)], "home")
        literals |= dict.fromkeys(_place(person.home), "home")
        literals |= dict.fromkeys(_moment(person.at), "moment")
        literals |= {form.encode(): f"masked_{kind}" for kind, form in _masked(person).items()}
    literals |= {token.encode(): item for token, item in (tokens or {}).items()}
    return Needles(literals, tuple(patterns))


def _masked(person: Person) -> dict[str, str]:
    """The spellings that the policy's masks give (`kinds` of policy.yaml), which only some surfaces may show."""
    return {
        "name": f"{person.name[0]}**",
        "id_no": f"{person.id_no[:4]}**********{person.id_no[-4:]}",
        "phone": f"{person.phone[:3]}****{person.phone[-4:]}",
        "email": f"{person.email[0]}***@***",
        "plate_no": f"{person.plate_no[:2]}***{person.plate_no[-2:]}",
    }
