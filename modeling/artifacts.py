"""What dbt leaves behind (log, run results) holds no data value: the policy of the surface `dbt_artifact` is applied.

The log is cleaned line by line as dbt writes it; the run results, which carry the messages of failed models, as soon as dbt
has written them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from protection import redaction

SURFACE = "dbt_artifact"
RESULTS = "run_results.json"


def cleaned(text: str) -> str:
    """A text of dbt as the policy lets it be kept."""
    return redaction.redact(text, SURFACE)


def guard_logs(event: Any) -> None:
    """Callback of `dbtRunner`: from dbt's first event on, which only names its version, its loggers write cleaned lines."""
    del event
    from dbt_common.events.event_manager_client import get_event_manager

    for logger in getattr(get_event_manager(), "loggers", []):
        if getattr(logger.scrubber, "before", None) is None:
            logger.scrubber = _Scrubber(logger.scrubber)


class _Scrubber:
    """dbt's own scrubber (secrets of the environment), then the policy."""

    def __init__(self, before: Any):
        self.before = before

    def __call__(self, text: str) -> str:
        return cleaned(self.before(text))


def clean(state: Path) -> int:
    """Apply the policy to the run results below dbt's state folder; returns how many texts were examined.

    A file that no longer reads as JSON (dbt was killed while writing) is removed.
    """
    file = state / "target" / RESULTS
    if not file.is_file():
        return 0
    try:
        content = json.loads(file.read_text("utf-8"))
    except ValueError:
        file.unlink()
        return 0
    results = content.get("results") or []
    for result in results:
        for name in ("message", "compiled_code", "adapter_response", "failures_preview"):
            if name in result:
                result[name] = redaction.redacted(result[name], SURFACE)
    aside = file.with_name(f".{RESULTS}.{os.getpid()}.tmp")
    aside.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    os.replace(aside, file)
    return len(results)
