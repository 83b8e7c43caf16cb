"""Texts that somebody will read later (messages, logs, artifacts): identifiers in them become what the policy allows there.

What can be told from a text alone is replaced: identity and mobile numbers, bank cards (with check digit), e-mail
addresses, plates, tokens, passwords in addresses, and on surfaces that show no data at all the values an engine quotes in its
errors. A name cannot be told from other words, so code must never put one into a message in the first place.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from catalog import policy
from catalog.policy import Facet
from lake import errors
from protection.masking import ID_NO, MOBILE, mask_text

GONE = "‹已隐去›"
AUDIENCE = "operations"
_EDGE, _END = r"(?<![0-9A-Za-z])", r"(?![0-9A-Za-z])"
_ENGINE_ERROR = re.compile(
    r"(?:Conversion|Invalid Input|Constraint|Out of Range|Cast|Mismatch Type) ?Error|Could not (?:convert|cast)|Duplicate key"
)
_QUOTED = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'")


def _luhn(text: str) -> bool:
    digits = [int(sign) for sign in text if sign.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


Patterns = tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...]
#: Kind, pattern (its first group is the value) and a further test; earlier kinds win.
PATTERNS: Patterns = (
    ("credential", re.compile(r"(?<=://)([^/\s:@]*:[^/\s@]+)(?=@)"), bool),
    ("person_token", re.compile(_EDGE + r"((?:id_no|phone|name|athlete_no|token)_k\w+?_[a-z2-7]{26})" + _END), bool),
    ("id_no", re.compile(_EDGE + rf"({ID_NO})" + _END, re.ASCII), bool),
    ("bank_card", re.compile(_EDGE + r"([3-6]\d{3}[ -]?\d{4}[ -]?\d{4}[ -]?\d{4}(?:\d{0,3}))" + _END, re.ASCII), _luhn),
    ("phone", re.compile(r"(?<![0-9A-Za-z.])((?:\+?86[ -]?)?" + MOBILE + r")(?![0-9A-Za-z]|\.\d)", re.ASCII), bool),
    ("email", re.compile(r"(?<![\w.+-])([A-Za-z0-9._+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)", re.ASCII), bool),
    ("plate_no", re.compile(r"([京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-Z][·]?[0-9A-Z]{5,6})" + _END), bool),
)  # fmt: skip


def _replacement(kind: str, value: str, audience: str, surface: str) -> str:
    decision = policy.decide(audience, surface, Facet("L4", "S", kind))
    if decision.treatment == "plain":
        return value
    return mask_text(decision.mask, value) if decision.mask else GONE


def redact(
    text: str,
    surface: str = "error_message",
    audience: str = AUDIENCE,
    *,
    patterns: Patterns | None = None,
    replacement: Callable[[str, str], str] | None = None,
) -> str:
    """The text as the policy lets an audience (default: who runs the platform) read it on a surface.

    `patterns` (default: all of `PATTERNS`) are what is looked for. `replacement` gives what a value of a kind becomes;
    without it the policy is asked.
    """
    shown = replacement or (lambda kind, value: _replacement(kind, value, audience, surface))
    folded = unicodedata.normalize("NFKC", text)
    if len(folded) != len(
        text
    ):  # a value in full-width digits is the same value; other folding must not move positions
        folded = text
    for kind, pattern, is_one in PATTERNS if patterns is None else patterns:
        pieces, at = [], 0
        for found in pattern.finditer(folded):
            if is_one(found[1]):
                pieces += [text[at : found.start(1)], shown(kind, found[1])]
                at = found.end(1)
        if pieces:
            text = "".join([*pieces, text[at:]])
            folded = unicodedata.normalize("NFKC", text)
            folded = folded if len(folded) == len(text) else text
    if policy.decide(audience, surface, Facet("L1", "N", None)).treatment == "absent" and _ENGINE_ERROR.search(text):
        lines = text.split("\n")
        text = "\n".join(_QUOTED.sub(GONE, line) if _ENGINE_ERROR.search(line) else line for line in lines)
    return text


def redacted(data: Any, surface: str = "error_message", audience: str = AUDIENCE) -> Any:
    """The same for every text in JSON-like data, keys included."""
    if isinstance(data, str):
        return redact(data, surface, audience)
    if isinstance(data, dict):
        return {redacted(key, surface, audience): redacted(value, surface, audience) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return type(data)(redacted(item, surface, audience) for item in data)
    return data


class _Installed:
    """What `install` replaced, so that it can be put back."""

    def __init__(self, surface: str):
        self.guard = errors.guard
        self.factory = logging.getLogRecordFactory()
        self.hook = sys.excepthook
        make = self.factory

        def record(*values: Any, **named: Any) -> logging.LogRecord:
            made = make(*values, **named)
            if made.args or isinstance(made.msg, str):
                made.msg, made.args = redact(made.getMessage(), surface), None
            if made.exc_info and made.exc_info[0] is not None:
                made.exc_text = redact("".join(traceback.format_exception(*made.exc_info)).rstrip(), surface)
                made.exc_info = None
            return made

        def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace)), surface))

        errors.guard = lambda data: redacted(data, surface)
        logging.setLogRecordFactory(record)
        sys.excepthook = hook

    def undo(self) -> None:
        """Put back what was there."""
        errors.guard = self.guard
        logging.setLogRecordFactory(self.factory)
        sys.excepthook = self.hook


_installed: _Installed | None = None


def install(surface: str = "error_message") -> None:
    """Guard this process: every coded error, log record and unforeseen traceback passes through the policy of a surface.

    Called first by every entry point (the command line, tasks, services); calling it again only changes the surface.
    """
    global _installed
    remove()
    _installed = _Installed(surface)


def remove() -> None:
    """Take the guard away (tests)."""
    global _installed
    if _installed is not None:
        _installed.undo()
        _installed = None


@contextmanager
def guarding(surface: str) -> Iterator[None]:
    """Guard a block; what guarded the process before does so again afterwards."""
    inner = _Installed(surface)
    try:
        yield
    finally:
        inner.undo()
