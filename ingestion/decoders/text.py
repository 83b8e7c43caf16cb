"""Text objects made ready for reading line by line: byte-order mark, encoding, line ends, lines above the header.

The line splitter and the CSV reader work on bytes in which a delimiter, a quote and a line end are never part of a
character. UTF-8 and (for most delimiters) GB18030 are such as they stand; UTF-16 and Windows-1252 are rewritten as
UTF-8. A byte sequence that is not of the declared encoding is never replaced: it is carried over as a sequence that is
not UTF-8 either, so that the record holding it is found and reported with its place in the object as received.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ingestion.decoders.base import refusal

ENCODINGS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "utf-8-sig": "utf-8",
    "gb18030": "gb18030",
    "gbk": "gb18030",
    "utf-16": "utf-16",
    "utf-16-le": "utf-16-le",
    "utf-16-be": "utf-16-be",
    "windows-1252": "cp1252",
}
_MARKS = {
    "utf-8": codecs.BOM_UTF8,
    "gb18030": b"\x84\x31\x95\x33",
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
}
_HINT = "请数据源单位按约定的编码重新导出，或由维护者核对契约中的 encoding；文件已留存，未入库任何一行"


@dataclass
class PlainText:
    """One object ready for reading.

    body: its text as bytes of UTF-8 (or of GB18030 when ``encoding`` says so), from the header line on · line: number
    of the first line of ``body`` in the object · encoding: what ``body`` is written in.
    """

    body: bytes
    line: int
    encoding: str
    _codec: str | None = None
    _lead: bytes = field(default=b"", repr=False)  # what stands before ``body``, rewritten like it
    _skipped: int = 0  # bytes of the byte-order mark
    _at: tuple[int, int] = (0, 0)  # a place in ``body`` and the same place in the object

    def __post_init__(self) -> None:
        self._at = (0, self._skipped + self._length(self._lead))

    def _length(self, piece: bytes) -> int:
        """Bytes that a piece of rewritten text took in the object."""
        if self._codec is None:
            return len(piece)
        if piece.endswith(b"\xff"):  # half a code unit, see plain_text
            return 1 + self._length(piece[:-1])
        keep = "surrogatepass" if self._codec.startswith("utf-16") else "surrogateescape"
        return len(piece.decode("utf-8", "surrogatepass").encode(self._codec, keep))

    def place(self, offset: int) -> int:
        """Offset in the object as received of an offset in ``body`` at a line's border. Asked in rising order, all
        questions together read the text once."""
        known, original = self._at
        if offset < known:
            known, original = 0, self._skipped + self._length(self._lead)
        original += self._length(self.body[known:offset])
        self._at = (offset, original)
        return original


def plain_text(
    content: bytes, name: str, encoding: str, *, rewrite: bool = False, first_line: int = 1, quote: int = 34
) -> PlainText:
    """Make one object ready.

    encoding: a value of :data:`ENCODINGS`; ``utf-16`` needs a byte-order mark that says which · rewrite: make UTF-8 of
    GB18030 as well, for delimiters that may be the second byte of a character · first_line: 1-based line ``body``
    begins with · quote: byte of the quote. Error: TIYU-ING-0223 when the byte-order mark says another encoding than the contract.
    """
    encoding, skipped = _by_mark(content, name, encoding)
    body = content[skipped:] if skipped else content
    codec = None
    if encoding.startswith("utf-16"):
        codec, half = encoding, len(body) % 2  # half a code unit at the end: the object was cut
        text = body[: len(body) - half].decode(encoding, "surrogatepass")
        body = text.encode("utf-8", "surrogatepass") + (b"\xff" if half else b"")
    elif encoding != "utf-8" and (rewrite or encoding == "cp1252"):
        codec = encoding
        body = body.decode(encoding, "surrogateescape").encode("utf-8", "surrogatepass")
    body = _line_feeds(body, quote)
    cut = 0
    for _ in range(first_line - 1):
        found = body.find(b"\n", cut)
        cut = found + 1 if found >= 0 else len(body)
    written = encoding if codec is None else "utf-8"
    return PlainText(body[cut:], first_line, written, codec, body[:cut], skipped)


def _by_mark(content: bytes, name: str, encoding: str) -> tuple[str, int]:
    """The encoding and the length of the byte-order mark. The declared encoding wins; a mark that contradicts it
    refuses the object, because one of the two is wrong."""
    found = next((code for code, mark in _MARKS.items() if content.startswith(mark)), None)
    if encoding == "utf-16":
        if found not in ("utf-16-le", "utf-16-be"):
            if not content:
                return "utf-16-le", 0
            raise refusal(
                "TIYU-ING-0223",
                "文件没有 UTF-16 的字节顺序标记，无法得知字节顺序",
                "请在契约中写明 utf-16-le 或 utf-16-be，或请数据源单位带标记导出；文件已留存",
                object_name=name,
            )
        return found, 2
    if found is not None and found != encoding:
        raise refusal(
            "TIYU-ING-0223",
            f"文件的字节顺序标记表明编码为 {found}，契约约定为 {encoding}",
            _HINT,
            object_name=name,
            declared=encoding,
            found=found,
        )
    return encoding, len(_MARKS[encoding]) if found else 0


def _line_feeds(body: bytes, quote: int) -> bytes:
    """Line ends of an object whose lines end with a lone carriage return; every other object is left as it is.

    Only where no line feed stands outside quotes do carriage returns end lines; those inside quotes belong to values.
    """
    carriages = body.count(b"\r")
    if not carriages or carriages == body.count(b"\r\n"):
        return body
    data = np.frombuffer(body, dtype=np.uint8)
    quotes = np.flatnonzero(data == quote)

    def outside(places: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        return places[np.searchsorted(quotes, places) % 2 == 0] if len(quotes) else places

    if len(outside(np.flatnonzero(data == 10))):
        return body
    changed = data.copy()
    changed[outside(np.flatnonzero(data == 13))] = 10
    return changed.tobytes()
