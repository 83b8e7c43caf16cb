"""Run one verb in a process of its own and write its report as JSON (``python -m dags.child VERB KWARGS OUT``).

A layer build imports dbt and holds its memory; a process of its own gives both back and keeps dbt's logging out of Airflow's.
Exit codes are those of ``tiyu``: 0 ok, 1 data problem, 2 usage, 3 unavailable, 4 internal.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import sys
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel to end this process when its parent dies, so that a killed task leaves no writer behind."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died before the request was in force
        os._exit(4)


def call(verb: str, *values: Any, **arguments: Any) -> Any:
    """Import ``package.module:function`` and call it; the import happens only now, never while a DAG file is parsed."""
    module, _, function = verb.partition(":")
    return getattr(importlib.import_module(module), function)(*values, **arguments)


def plain(report: Any) -> Any:
    """A verb's report as JSON-able data: dataclasses become mappings, everything unknown becomes text."""
    for method in ("as_dict", "to_dict", "model_dump"):
        if hasattr(report, method):
            report = getattr(report, method)()
            break
    else:
        if is_dataclass(report) and not isinstance(report, type):
            report = asdict(report)
    return json.loads(json.dumps(report, default=str, ensure_ascii=False))


def main(arguments: list[str]) -> int:
    """Entry point of the child process."""
    verb, keywords, out = arguments
    die_with_parent()
    from protection import redaction

    redaction.install("airflow_log")
    from lake import storage
    from lake.errors import TiyuError

    try:
        with storage.coded():
            report = call(verb, **json.loads(keywords))
    except TiyuError as error:
        print(error, file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):  # where the disk is full, the exit code and the line above must do
            Path(out).write_text(
                json.dumps({"error": error.as_dict()}, ensure_ascii=False, default=str), encoding="utf-8"
            )
        return error.exit_code
    except Exception as error:  # a library's message may quote the values it choked on: logs get its type only
        failure = TiyuError(
            "TIYU-DAG-0001",
            "任务出现未预见的错误",
            "在本机用 tiyu 重现并设置 TIYU_DEBUG=1",
            4,
            type=type(error).__name__,
        )
        print(failure, file=sys.stderr, flush=True)
        Path(out).write_text(json.dumps({"error": failure.as_dict()}, ensure_ascii=False), encoding="utf-8")
        return 4
    Path(out).write_text(json.dumps({"report": plain(report)}, ensure_ascii=False), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
