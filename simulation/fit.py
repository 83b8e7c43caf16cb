"""A small FIT encoder: whole messages as NumPy arrays, so thousands of files take seconds.

Follows the public FIT protocol: 14-byte header with CRC, little-endian definition and data messages, file CRC.
"""

from __future__ import annotations

import struct
from functools import cache

import numpy as np

FIT_EPOCH = 631_065_600
"""Unix seconds of 1989-12-31T00:00:00Z."""

_TYPES = {"enum": ("<u1", 0x00), "u8": ("<u1", 0x02), "u16": ("<u2", 0x84), "u32": ("<u4", 0x86), "s32": ("<i4", 0x85),
          "u32z": ("<u4", 0x8C)}  # fmt: skip

MESSAGES: dict[str, tuple[int, dict[str, tuple[int, str]]]] = {
    "file_id": (0, {"type": (0, "enum"), "manufacturer": (1, "u16"), "product": (2, "u16"), "serial_number": (3, "u32z"),
                    "time_created": (4, "u32")}),
    "user_profile": (3, {"weight": (4, "u16"), "resting_heart_rate": (8, "u8"), "default_max_heart_rate": (11, "u8")}),
    "event": (21, {"timestamp": (253, "u32"), "event": (0, "enum"), "event_type": (1, "enum"), "event_group": (4, "u8")}),
    "record": (20, {"timestamp": (253, "u32"), "position_lat": (0, "s32"), "position_long": (1, "s32"), "altitude": (2, "u16"),
                    "heart_rate": (3, "u8"), "cadence": (4, "u8"), "distance": (5, "u32"), "speed": (6, "u16"),
                    "power": (7, "u16")}),
    "lap": (19, {"timestamp": (253, "u32"), "message_index": (254, "u16"), "event": (0, "enum"), "event_type": (1, "enum"),
                 "start_time": (2, "u32"), "total_elapsed_time": (7, "u32"), "total_timer_time": (8, "u32"),
                 "total_distance": (9, "u32"), "avg_heart_rate": (15, "u8"), "max_heart_rate": (16, "u8"), "sport": (25, "enum")}),
    "session": (18, {"timestamp": (253, "u32"), "message_index": (254, "u16"), "event": (0, "enum"), "event_type": (1, "enum"),
                     "start_time": (2, "u32"), "sport": (5, "enum"), "sub_sport": (6, "enum"),
                     "total_elapsed_time": (7, "u32"), "total_timer_time": (8, "u32"), "total_distance": (9, "u32"),
                     "avg_heart_rate": (16, "u8"), "max_heart_rate": (17, "u8"), "first_lap_index": (25, "u16"),
                     "num_laps": (26, "u16")}),
    "activity": (34, {"timestamp": (253, "u32"), "total_timer_time": (0, "u32"), "num_sessions": (1, "u16"), "type": (2, "enum"),
                      "event": (3, "enum"), "event_type": (4, "enum"), "local_timestamp": (5, "u32")}),
}  # fmt: skip


@cache
def _word_table() -> np.ndarray:
    """What two zero bytes make of each register value: reflected CRC-16, polynomial 0x8005."""
    table = np.arange(65_536, dtype=np.uint16)
    for _ in range(16):
        table = np.where(table & 1, (table >> 1) ^ 0xA001, table >> 1).astype(np.uint16)
    return table


_STRIDE = 128
"""Bytes of one stretch; even, since two bytes are taken at once."""


@cache
def _skip_table() -> tuple[list[int], list[int]]:
    """How a CRC changes when ``_STRIDE`` zero bytes follow, by its low and high byte (the CRC is linear)."""
    word = _word_table()

    def forward(value: np.ndarray) -> np.ndarray:
        for _ in range(_STRIDE // 2):
            value = word[value]
        return value

    low = forward(np.arange(256, dtype=np.uint16))
    high = forward((np.arange(256, dtype=np.uint16) << 8).astype(np.uint16))
    return low.tolist(), high.tolist()


def crc16(data: bytes) -> int:
    """CRC of the FIT protocol. All stretches of 128 bytes advance at once; then they are joined."""
    rows = -(-len(data) // _STRIDE)
    # Leading zeros do not change a CRC that starts at zero.
    words = np.frombuffer(data.rjust(rows * _STRIDE, b"\0"), "<u2").reshape(rows, _STRIDE // 2)
    columns = np.ascontiguousarray(words.T)
    table, crc = _word_table(), np.zeros(rows, np.uint16)
    for column in columns:
        crc = table[crc ^ column]
    low, high = _skip_table()
    total = 0
    for part in crc.tolist():
        total = low[total & 0xFF] ^ high[total >> 8] ^ part
    return total


def message(kind: str, local: int, fields: dict[str, np.ndarray | int]) -> bytes:
    """Definition message and data messages of one kind. Fields absent from ``fields`` are not declared at all.

    Raises KeyError for a field the encoder does not know.
    """
    number, known = MESSAGES[kind]
    chosen = [(name, *known[name]) for name in fields]
    count = max((len(v) for v in fields.values() if isinstance(v, np.ndarray)), default=1)
    dtype = np.dtype([("_head", "<u1")] + [(name, _TYPES[base][0]) for name, _, base in chosen])
    rows = np.empty(count, dtype)
    rows["_head"] = local
    definition = bytearray(struct.pack("<BBBHB", 0x40 | local, 0, 0, number, len(chosen)))
    for name, field_number, base in chosen:
        rows[name] = fields[name]
        definition += bytes((field_number, dtype[name].itemsize, _TYPES[base][1]))
    return bytes(definition) + rows.tobytes()


def assemble(parts: list[bytes]) -> bytes:
    """Header, messages and CRC: a complete FIT file."""
    body = b"".join(parts)
    head = struct.pack("<BBHI4s", 14, 0x20, 21_158, len(body), b".FIT")
    head += struct.pack("<H", crc16(head))
    return head + body + struct.pack("<H", crc16(head + body))


def degrees(value: np.ndarray) -> np.ndarray:
    """Degrees to semicircles."""
    return np.round(value * (2**31 / 180)).astype(np.int64)
