"""The error type of the catalog: a declaration is wrong, with every problem found listed."""

from __future__ import annotations

from typing import Any

from lake.errors import TiyuError


class DeclarationError(TiyuError):
    """A declaration (contract, vocabulary, KPI, rule) is not acceptable; `problems` lists everything found."""

    def __init__(self, code: str, message_zh: str, hint_zh: str, problems: list[str], **context: Any):
        super().__init__(code, message_zh, hint_zh, problems="；".join(problems[:20]), **context)
        self.problems = problems
