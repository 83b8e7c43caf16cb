"""A tiny FIT encoder for tests: definition and data messages, compressed-timestamp headers, CRCs."""

from __future__ import annotations

import struct

FIT_EPOCH = 631_065_600
_CRC = [0x0000, 0xCC01, 0xD801, 0x1400, 0xF001, 0x3C00, 0x2800, 0xE401,
        0xA001, 0x6C00, 0x7800, 0xB401, 0x5000, 0x9C01, 0x8801, 0x4400]  # fmt: skip
_BASE = {"B": 0x02, "E": 0x00, "H": 0x84, "I": 0x86, "i": 0x85, "s": 0x07}


def crc(data: bytes) -> int:
    value = 0
    for byte in data:
        for nibble in (byte & 0xF, byte >> 4):
            value = ((value >> 4) & 0x0FFF) ^ _CRC[value & 0xF] ^ _CRC[nibble]
    return value


def definition(local: int, number: int, fields: list[tuple[int, str, int]]) -> bytes:
    """fields: (field number, letter, how many)"""
    size = {"B": 1, "E": 1, "H": 2, "I": 4, "i": 4, "s": 1}
    body = b"".join(bytes([num, size[kind] * count, _BASE[kind]]) for num, kind, count in fields)
    return struct.pack("<BBBHB", 0x40 | local, 0, 0, number, len(fields)) + body


def data(local: int, layout: str, *values: int) -> bytes:
    return bytes([local]) + struct.pack("<" + layout.replace("E", "B"), *values)


def wrap(body: bytes, *, header_crc: bool = True) -> bytes:
    head = struct.pack("<BBHI4s", 14, 0x20, 2132, len(body), b".FIT")
    head += struct.pack("<H", crc(head) if header_crc else 0)
    return head + body + struct.pack("<H", crc(head + body))


def stamp(unix: int) -> int:
    return unix - FIT_EPOCH


def activity(
    start: int = 1_788_000_000,
    count: int = 5,
    *,
    kind: int = 4,
    heart: bool = True,
    session: bool = True,
    header_crc: bool = True,
) -> bytes:
    """``count`` records one second apart around Shanghai; sport running; user profile 190/52."""
    raw = stamp(start)
    body = definition(0, 0, [(0, "E", 1), (1, "H", 1), (2, "H", 1), (4, "I", 1)]) + data(0, "EHHI", kind, 1, 3122, raw)
    body += definition(1, 3, [(8, "B", 1), (11, "B", 1)]) + data(1, "BB", 52, 190)
    body += definition(
        2, 20, [(253, "I", 1), (0, "i", 1), (1, "i", 1), (3, "B", 1), (6, "H", 1), (5, "I", 1), (2, "H", 1)]
    )
    for number in range(count):
        lat, lng = (round(degrees * 2**31 / 180) for degrees in (31.23 + number * 1e-5, 121.47))
        rate = 120 + number % 64 if heart else 255
        body += data(2, "IiiBHIH", raw + number, lat, lng, rate, 3000, number * 300, (10 + 500) * 5)
    body += definition(3, 19, [(253, "I", 1), (2, "I", 1), (7, "I", 1), (9, "I", 1), (15, "B", 1)])
    body += data(3, "IIIIB", raw + count, raw, count * 1000, count * 300, 122)
    if session:
        body += definition(
            4, 18, [(253, "I", 1), (2, "I", 1), (5, "E", 1), (7, "I", 1), (8, "I", 1), (9, "I", 1), (16, "B", 1)]
        )
        body += data(4, "IIEIIIB", raw + count, raw, 1, count * 1000, count * 1000, count * 300, 122)
    return wrap(body, header_crc=header_crc)


def compressed(start: int, count: int) -> bytes:
    """Records whose time is only in the compressed-timestamp header, five bits, seven seconds apart."""
    raw = stamp(start)
    body = definition(0, 0, [(0, "E", 1)]) + data(0, "E", 4)
    body += definition(1, 20, [(253, "I", 1), (3, "B", 1)]) + data(1, "IB", raw, 100)
    body += definition(2, 20, [(3, "B", 1)])
    for number in range(1, count):
        body += bytes([0x80 | (2 << 5) | ((raw + number * 7) & 0x1F), 100 + number % 50])
    return wrap(body)


def strap_beats(start: int, beats: list[tuple[float, int]]) -> bytes:
    """A chained sequence of ``hr`` messages: an anchor at ``start`` and beats at seconds after it, eight a message."""
    clock = 100_000
    body = definition(0, 132, [(253, "I", 1), (9, "I", 1), (6, "B", 1)]) + data(0, "IIB", stamp(start), clock, 255)
    body += definition(1, 132, [(10, "B", 12), (6, "B", 8)]).replace(bytes([10, 12, 0x02]), bytes([10, 12, 0x0D]))
    for at in range(0, len(beats), 8):
        group = beats[at : at + 8]
        group = group + [(group[-1][0], 255)] * (8 - len(group))
        ticks = [(clock + round(second * 1024)) & 0xFFF for second, _ in group]
        packed = b"".join(
            bytes([a & 0xFF, (a >> 8) | ((b & 0xF) << 4), b >> 4]) for a, b in zip(ticks[::2], ticks[1::2], strict=True)
        )
        body += bytes([1]) + packed + bytes(rate for _, rate in group)
    return wrap(body)
