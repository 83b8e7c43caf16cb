"""The one error type an operator sees: a stable code, a Chinese line, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

guard: Callable[[Any], Any] = lambda data: data  # noqa: E731
"""What every message passes through before anybody reads it; `protection.redaction.install` puts the policy here."""

EXIT_CHECK_FAILED = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 3
EXIT_INTERNAL = 4


class TiyuError(Exception):
    """An error whose message is written for the person who must act on it.

    Parameters
    ----------
    code: stable identifier ``TIYU-<area>-<4 digits>``; documented in docs/error_codes.md and never reused.
    message_zh: one Chinese sentence that says what is wrong, without any personal value.
    hint_zh: one Chinese sentence that says what to do.
    exit_code: 1 check failed or data problem, 2 usage, 3 source or service unavailable, 4 internal.
    context: file, row, column, rule … (JSON-able; never a raw personal value).
    """

    def __init__(
        self, code: str, message_zh: str, hint_zh: str = "", exit_code: int = EXIT_CHECK_FAILED, **context: Any
    ):
        super().__init__(code, message_zh, hint_zh, exit_code)
        self.code = code
        self.message_zh = message_zh
        self.hint_zh = hint_zh
        self.exit_code = exit_code
        self.context = context

    def __str__(self) -> str:
        where = "，".join(f"{key}={value}" for key, value in self.context.items() if value is not None)
        text = f"{self.code} {self.message_zh}"
        if where:
            text += f"（{where}）"
        if self.hint_zh:
            text += f" 处理办法：{self.hint_zh}"
        return str(guard(text))

    def __reduce__(self):  # keep context when the error crosses a process boundary
        return (_rebuild, (self.code, self.message_zh, self.hint_zh, self.exit_code, self.context))

    def as_dict(self) -> dict[str, Any]:
        """The error as JSON-able data, for ``--json`` output and the ledger."""
        return {
            "code": self.code,
            "message": guard(self.message_zh),
            "hint": guard(self.hint_zh),
            "exit_code": self.exit_code,
            "context": guard(self.context),
        }


def _rebuild(code: str, message_zh: str, hint_zh: str, exit_code: int, context: dict[str, Any]) -> TiyuError:
    return TiyuError(code, message_zh, hint_zh, exit_code, **context)
