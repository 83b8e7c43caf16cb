"""What the scheduler may hold in memory when it forks its workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CODE = """
import json, os, sys, threading
from deploy import scheduler
scheduler.preload()
names = sorted(open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task"))
print("RESULT", json.dumps({"forbidden": [n for n in scheduler.FORBIDDEN if n in sys.modules],
    "missing": [n for n in scheduler.PRELOAD if n not in sys.modules], "python": threading.active_count(), "threads": names}))
"""


def test_preload_starts_no_thread_that_forking_would_break(tmp_path: Path) -> None:
    env = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    result = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    line = next(line for line in result.stdout.splitlines() if line.startswith("RESULT"))
    found = json.loads(line.removeprefix("RESULT "))
    assert found["forbidden"] == []
    assert found["missing"] == []
    assert found["python"] == 1
    # pyarrow's allocator keeps one housekeeping thread, which it restarts safely in a fork; nothing else may run
    assert [name for name in found["threads"] if name != "jemalloc_bg_thd"] == [found["threads"][-1]]
