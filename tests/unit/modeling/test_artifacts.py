"""dbt leaves no value behind: its real log writer and its run results, after a model that choked on one."""

from __future__ import annotations

import json
from types import SimpleNamespace

from catalog import policy
from modeling import artifacts
from tests.policies import changed

PHONE = "19912345678"
MESSAGE = f"Runtime Error in model dwd_x\n  Conversion Error: Could not convert string '张三' to INT32, {PHONE}"


def written_by_dbt(folder) -> str:
    """The log file that dbt's own event manager writes for one event, guarded as an invocation guards it."""
    from dbt.events.logging import _get_logfile_config
    from dbt_common.events.base_types import EventLevel
    from dbt_common.events.event_manager_client import add_logger_to_manager, cleanup_event_logger, get_event_manager
    from dbt_common.events.functions import fire_event
    from dbt_common.events.logger import LineFormat
    from dbt_common.events.types import Note

    file = folder / "dbt.log"
    cleanup_event_logger()
    try:
        add_logger_to_manager(_get_logfile_config(str(file), False, LineFormat.DebugText, EventLevel.DEBUG, 0))
        artifacts.guard_logs(SimpleNamespace())
        artifacts.guard_logs(SimpleNamespace())  # once per event: wraps only once
        fire_event(Note(msg=MESSAGE), level=EventLevel.ERROR)
        get_event_manager().flush()
    finally:
        cleanup_event_logger()
    return file.read_text("utf-8")


def test_dbts_log_holds_no_value(tmp_path):
    text = written_by_dbt(tmp_path)
    assert "Runtime Error in model dwd_x" in text
    assert PHONE not in text
    assert "张三" not in text


def test_the_log_would_hold_it_if_the_policy_let_it(tmp_path):
    loose = changed(
        ("surfaces.dbt_artifact.limit", "audience"),
        ("audiences.operations.grades", dict.fromkeys(("L1", "L2", "L3", "L4"), "plain")),
        ("audiences.operations.marks", dict.fromkeys("NPS", "plain")),
        ("audiences.operations.kinds.phone", "plain"),
    )
    with policy.replaced(loose):
        assert PHONE in written_by_dbt(tmp_path)


def test_run_results_are_cleaned_and_a_broken_file_goes(tmp_path):
    assert artifacts.clean(tmp_path) == 0
    file = tmp_path / "target" / artifacts.RESULTS
    file.parent.mkdir()
    file.write_text(json.dumps({"results": [{"message": MESSAGE, "status": "error"}, {"message": None}]}), "utf-8")
    assert artifacts.clean(tmp_path) == 2
    kept = json.loads(file.read_text("utf-8"))["results"][0]
    assert kept["status"] == "error"
    assert PHONE not in kept["message"]
    assert "张三" not in kept["message"]
    file.write_text('{"results": [{"mess', "utf-8")
    assert artifacts.clean(tmp_path) == 0
    assert not file.exists()
