"""Set-up helpers of the cockpit that need no Superset: map drawing, fingerprint, passwords."""

from __future__ import annotations

import json
import sqlite3

import pytest

from dashboards import bootstrap, district_map


def test_sixteen_districts_with_codes_and_clockwise_rings(tmp_path):
    out = tmp_path / "districts.geojson"
    assert district_map.write(out) == 16
    features = json.loads(out.read_text("utf8"))["features"]
    names = {item["properties"]["ISO"]: item["properties"]["NAME_1"] for item in features}
    assert names["310104"] == "徐汇区"
    assert names["310151"] == "崇明区"
    rings = [ring for item in features for polygon in item["geometry"]["coordinates"] for ring in polygon[:1]]
    assert len(rings) >= 16
    assert all(district_map.signed_area(ring) < 0 for ring in rings)


def test_map_refuses_a_wrong_number_of_districts(tmp_path, monkeypatch):
    source = tmp_path / "one.geojson"
    square = [[[121.0, 31.0], [121.0, 31.1], [121.1, 31.1], [121.0, 31.0]]]
    feature = {
        "properties": {"gb": "156310101", "name": "黄浦区"},
        "geometry": {"type": "Polygon", "coordinates": square},
    }
    source.write_text(json.dumps({"features": [feature]}), "utf8")
    monkeypatch.setattr(district_map, "package_source", lambda: source)
    with pytest.raises(RuntimeError, match="TIYU-COCKPIT-0010"):
        district_map.write(tmp_path / "out.geojson")
    assert not (tmp_path / "out.geojson").exists()


def test_counter_clockwise_ring_is_turned():
    ring = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
    assert district_map.signed_area(ring) > 0
    assert district_map.signed_area(district_map.clockwise(ring, wanted=True)) < 0
    assert district_map.clockwise(ring, wanted=False) == ring


def test_fingerprint_changes_with_the_code(tmp_path, monkeypatch):
    folder = tmp_path / "dashboards"
    folder.mkdir()
    (folder / "a.py").write_text("x = 1")
    monkeypatch.setattr(bootstrap, "HERE", folder)
    monkeypatch.setattr(bootstrap, "REPO", tmp_path)
    before = bootstrap.fingerprint()
    assert before == bootstrap.fingerprint()
    (folder / "a.py").write_text("x = 2")
    assert before != bootstrap.fingerprint()


@pytest.fixture
def metadata(tmp_path, monkeypatch):
    path = tmp_path / "superset.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE ab_user (username TEXT, password TEXT, active BOOLEAN)")
        connection.executemany("INSERT INTO ab_user VALUES (?, '', 0)", [(user,) for user in bootstrap.ACCOUNTS])
    for user in bootstrap.ACCOUNTS:
        monkeypatch.setenv(bootstrap.password_variable(user), f"{user}-test-1")
    return path


def test_missing_password_is_named_and_nothing_changes(metadata, monkeypatch, capsys):
    monkeypatch.delenv(bootstrap.password_variable("leader"))
    with pytest.raises(bootstrap.MissingPassword):
        bootstrap.set_passwords(f"sqlite:///{metadata}")
    message = capsys.readouterr().err
    assert "TIYU-COCKPIT-0007" in message
    assert "TIYU_COCKPIT_LEADER_PASSWORD" in message
    with sqlite3.connect(metadata) as connection:
        assert {row[0] for row in connection.execute("SELECT password FROM ab_user")} == {""}


def test_start_without_template_says_what_to_do(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        bootstrap.prepare_home(tmp_path / "home", tmp_path / "missing.db")
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "TIYU-COCKPIT-0008" in message
    assert "bootstrap template" in message
