"""No source's contract is left with a text that a draft marked as to be settled (`contracts.UNSETTLED`)."""

from __future__ import annotations

from catalog import contracts
from catalog.checks.base import Check, Context, Findings

_NAMED = 8


def run(context: Context, found: Findings) -> None:
    """Every line of every source's contract."""
    for path in contracts.files(context.folder / "sources"):
        lines = path.read_text(encoding="utf-8").splitlines()
        found.count("contract_lines", len(lines))
        open_lines = [number for number, line in enumerate(lines, 1) if contracts.UNSETTLED in line]
        if open_lines:
            named = "、".join(map(str, open_lines[:_NAMED])) + (" 等" if len(open_lines) > _NAMED else "")
            found.add(
                "unsettled", path.name, f"还有 {len(open_lines)} 处“{contracts.UNSETTLED}”（第 {named} 行），由人写定"
            )


CHECK = Check("unsettled", "待确认的文字", run, counts={"contract_lines": "契约的行"})
