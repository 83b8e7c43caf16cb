"""Supervisor and doors: refusals, expected DAGs, and doors that must stay shut when there is nothing behind them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from catalog import contracts
from dashboards import district_map
from deploy import airflow, doors, effects, state, tomorrow
from deploy import demo as deploy_demo
from deploy.demo import Demo, DemoError
from deploy.display import Display


def demo(home: Path) -> Demo:
    """A demo that has not started anything."""
    display = Display(console=Console(file=io.StringIO(), width=120))
    return Demo(home, "tiny", 7, True, 18600, display=display)


def test_second_demo_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    first, second = demo(tmp_path), demo(tmp_path)
    lock = first.claim()
    try:
        with pytest.raises(DemoError, match="已有一个演示") as caught:
            second.claim()
        assert caught.value.exit_code == 2
    finally:
        first.stop()
        lock.close()


def test_another_city_in_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "city").mkdir()
    (tmp_path / "city" / "world.json").write_text(json.dumps({"size": "small", "seed": 7}))
    with pytest.raises(DemoError, match="已有另一座城市") as caught:
        demo(tmp_path).generate_city()
    assert caught.value.exit_code == 2


def test_expected_dags_are_those_of_the_contracts(tmp_path: Path) -> None:
    names = demo(tmp_path).expected_dags()
    assert len(names) == len(contracts.fetched()) + 6 > 13
    assert not [name for name in names if "flow_count" in name], "a stream has no DAG"
    assert {"ingest_venue_register", "catch_up", "layers", "serve", "exchange", "open_data"} <= names
    assert {deploy_demo.dag_of(resource) for resource in deploy_demo.LARGE} <= names


def test_connections_point_to_the_city(tmp_path: Path) -> None:
    (tmp_path / "city").mkdir()
    (tmp_path / "city" / "tokens.json").write_text(json.dumps({"venue": "tv", "fitness": "tf"}))
    found = demo(tmp_path).connections({"venue": 1, "fitness": 2}, {"tokens_file": "tokens.json"})
    assert found["venue_api"] == "http://:tv@127.0.0.1:1"
    assert found["fitness_api"] == "http://:tf@127.0.0.1:2"
    assert found["city_drop"] == f"file://{tmp_path}/city/drops"


def test_display_tells_time_and_outcome() -> None:
    out = io.StringIO()
    display = Display(console=Console(file=out, width=120))
    with display.step("第一步") as step:
        step.note = "很好"
    with pytest.raises(ValueError, match="boom"), display.step("第二步"):
        raise ValueError("boom")
    display.console.print(display.timetable())
    text = out.getvalue()
    assert "✔ 第一步" in text
    assert "✘ 第二步" in text
    assert "很好" in text
    assert [step.state for step in display.steps] == ["ok", "failed"]


def test_a_crashing_check_is_a_closed_door() -> None:
    def crash() -> doors.Door:
        raise ConnectionError("nobody there")

    door = doors.safely("门", crash)
    assert not door.ok
    assert door.examined == 0
    assert "nobody there" in door.note


@pytest.mark.parametrize("missing", [None, "file", "district", "address"])
def test_the_map_door_opens_only_for_all_districts(tmp_path: Path, monkeypatch, missing: str | None) -> None:
    served = tmp_path / "static" / "assets"
    served.mkdir(parents=True)
    (served / "a.entry.js").write_text("no map here" if missing == "address" else 'x={singapore:t.p+"0af.geojson"}')
    if missing != "file":
        assert district_map.write(served / "0af.geojson") == 16
    if missing == "district":
        drawing = json.loads((served / "0af.geojson").read_text("utf8"))
        drawing["features"].pop()
        (served / "0af.geojson").write_text(json.dumps(drawing), "utf8")

    def answer(url: str, **_: object) -> httpx.Response:
        file = tmp_path / url.removeprefix("http://cockpit/")
        return httpx.Response(200, content=file.read_bytes()) if file.is_file() else httpx.Response(503, text="缺少")

    monkeypatch.setattr(doors.httpx, "get", answer)
    door = doors.district_outlines("http://cockpit", served)
    assert door.ok == (missing is None)
    assert door.examined == {None: 16, "file": 1, "district": 15, "address": 1}[missing]


def test_the_cockpit_starts_with_the_outlines_of_the_districts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = demo(tmp_path)
    one.secrets = state.load_secrets(tmp_path)
    started = []
    monkeypatch.setattr(one.processes, "spawn", lambda name, command, **_: started.append((name, command)))
    one.start_cockpit({"cockpit": 1})
    assert [name for name, _ in started] == ["cockpit"]
    drawing = json.loads((Path(one.cockpit_environment()["TIYU_COCKPIT_HOME"]) / "districts.geojson").read_text("utf8"))
    assert len(drawing["features"]) == 16


def test_exchange_door_is_shut_without_deliveries(tmp_path: Path) -> None:
    import os

    door = doors.exchange({**os.environ, "TIYU_HOME": str(tmp_path)})
    assert not door.ok
    assert door.examined == 0


def test_last_error_shows_the_reason_first_hand() -> None:
    content = [
        {"event": "start"},
        {
            "event": "Task failed with exception",
            "error_detail": [{"exc_type": "AirflowFailException", "exc_value": "TIYU-QG-0001 x"}],
        },
    ]
    assert "AirflowFailException: TIYU-QG-0001 x" in airflow._last_error(content)


def test_query_context_of_a_chart() -> None:
    form = {
        "datasource": "7__table",
        "metrics": ["value"],
        "x_axis": "part_date",
        "groupby": ["district_name"],
        "adhoc_filters": [
            {"expressionType": "SIMPLE", "subject": "kpi_code", "operator": "==", "comparator": "V-06"},
            {
                "expressionType": "SIMPLE",
                "subject": "part_date",
                "operator": "TEMPORAL_RANGE",
                "comparator": "No filter",
            },
            {"expressionType": "SQL", "sqlExpression": "district_code <> '310000'"},
        ],
    }
    context = doors.query_context(form)
    query = context["queries"][0]
    assert context["datasource"] == {"id": 7, "type": "table"}
    assert query["columns"] == ["part_date", "district_name"]
    assert query["filters"] == [{"col": "kpi_code", "op": "==", "val": "V-06"}]
    assert query["extras"]["where"] == "(district_code <> '310000')"


def test_an_interrupted_day_is_judged_by_what_was_there_before_it(tmp_path: Path) -> None:
    """What the interrupted run has published already must still count as new when the next run finishes the day."""
    here = demo(tmp_path)
    versions = tmp_path / "open" / "daily_visits" / "versions.json"
    versions.parent.mkdir(parents=True)
    versions.write_text(json.dumps(["a"]))
    (tmp_path / "demo").mkdir()
    state.note_before(tmp_path, 3, effects.before(tmp_path).versions)
    versions.write_text(json.dumps(["a", "b"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Demo, "present", lambda self: {"number": 3})
        assert tomorrow.noted_before(here).versions == {"daily_visits": 1}
        patch.setattr(Demo, "present", lambda self: {"number": 4})
        assert tomorrow.noted_before(here).versions == {"daily_visits": 2}
