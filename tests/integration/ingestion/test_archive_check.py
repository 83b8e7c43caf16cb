"""`tiyu archive check`: every kind of damage is found, named, and nothing else is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from city import ingest_and_trust
from typer.testing import CliRunner

from catalog import contracts
from cli import main
from ingestion import archive, batch_list
from ingestion.inspection import inspect, require_whole
from ingestion.rebuild import rebuild
from lake import ledger
from lake.errors import TiyuError
from lake.settings import settings

pytestmark = pytest.mark.integration
REGISTER = "venue.register"


@pytest.fixture
def filled(city, home, monkeypatch) -> list[str]:
    """One source taken in; the hashes of its objects."""
    monkeypatch.setenv("TIYU_CONN_CITY_DROP", f"file://{city.folder / 'drops'}")
    ingest_and_trust(REGISTER)
    return sorted(archive.stored(REGISTER))


def checked(*arguments: str) -> tuple[int, dict]:
    result = CliRunner().invoke(main.build_app(), ["archive", "check", *arguments, "--json"])
    return result.exit_code, json.loads(result.stdout)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_whole_archive_passes_and_is_counted(filled):
    named = [item for batch in ledger.batches(REGISTER) for item in ledger.objects(batch["batch_id"])]
    (found,) = inspect([REGISTER])
    assert found.ok
    assert found.objects == len(filled) == len({item["sha256"] for item in named}) > 1
    assert found.bytes == sum({item["sha256"]: item["size"] for item in named}.values()) > 0
    assert found.lists == len(ledger.batches(REGISTER)) > 0
    code, answer = checked()
    assert (code, answer["ok"], answer["objects"]) == (0, True, len(filled))
    assert len(answer["resources"]) == len(contracts.load_all("source"))


DAMAGES: dict[str, tuple[Callable[[list[Path]], None], str]] = {
    "a flipped bit": (lambda paths: flip(paths[0]), "TIYU-ARC-0002"),
    "cut short": (lambda paths: paths[0].write_bytes(paths[0].read_bytes()[:-40]), "TIYU-ARC-0002"),
    "empty": (lambda paths: paths[0].write_bytes(b""), "TIYU-ARC-0002"),
    "another object's content": (lambda paths: paths[0].write_bytes(paths[1].read_bytes()), "TIYU-ARC-0002"),
    "gone": (lambda paths: paths[0].unlink(), "TIYU-ARC-0001"),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_each_kind_of_damage_is_found_and_named(filled, how):
    damage, code = DAMAGES[how]
    damage([archive.object_path(REGISTER, sha256) for sha256 in filled])
    (found,) = inspect([REGISTER])
    assert found.damaged == {filled[0]: code}
    exit_code, answer = checked(REGISTER)
    assert (exit_code, answer["ok"]) == (1, False)
    shown = CliRunner().invoke(main.build_app(), ["archive", "check", REGISTER])
    assert f"{code} {REGISTER}/{filled[0]}" in shown.output
    assert "tiyu backfill" in shown.output


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"batch_id": "b_other", "objects": []}', '{"objects": [{}]}']
)
def test_a_damaged_list_of_a_batch_is_found_and_stops_a_rebuild(filled, content):
    (batch_id, *_) = batch_list.names(REGISTER)
    (settings().archive_root / REGISTER / "batches" / f"{batch_id}.json").write_text(content, "utf-8")
    (found,) = inspect([REGISTER])
    assert found.damaged == {batch_id: "TIYU-ARC-0005"}
    ledger.disconnect()
    for file in settings().home.glob("ledger.db*"):
        file.unlink()
    with pytest.raises(TiyuError, match="TIYU-ARC-0005"):
        rebuild()


def test_a_schedule_is_told_of_damage(filled):
    """What the DAG `archive_check` runs."""
    assert sum(item.objects for item in require_whole()) == len(filled)
    for sha256 in filled[:2]:
        archive.object_path(REGISTER, sha256).unlink()
    with pytest.raises(TiyuError) as told:
        require_whole()
    assert told.value.code == "TIYU-ARC-0011"
    assert told.value.context["damaged"] == f"{REGISTER} 2"


def test_an_archive_without_objects_is_not_called_whole(home):
    settings().archive_root.mkdir(parents=True, exist_ok=True)
    with pytest.raises(TiyuError, match="TIYU-ARC-0011"):
        require_whole()
    code, answer = checked()
    assert (code, answer["ok"], answer["objects"]) == (1, False, 0)


def test_a_folder_or_source_that_is_not_there_is_said(filled):
    with pytest.raises(TiyuError, match="TIYU-CAT-0002"):
        inspect(["venue.none"])
    shutil.rmtree(settings().archive_root)
    with pytest.raises(TiyuError, match="TIYU-ARC-0004"):
        inspect()
