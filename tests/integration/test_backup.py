"""Backup and restore, drilled: the state is destroyed and comes back; a damaged backup is refused."""

from __future__ import annotations

import json
import shutil
import sqlite3
import stat
import subprocess
import sys

import polars as pl
import pytest
import typer
from city import ingest_and_trust
from typer.testing import CliRunner

from ingestion.locks import resource_lock
from ingestion.run import ingest
from lake import backup as module
from lake import ledger, tables
from lake.backup import backup, restore, verify
from lake.errors import TiyuError
from lake.settings import settings
from quality.reconcile import reconcile

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def state_home(city, tmp_path_factory):
    """Register and device files taken in, a delivery and an open version lying in their folders. Built once."""
    root = tmp_path_factory.mktemp("state") / "home"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LAKE_ROOT", "TIYU_LEDGER_URL"):
            patch.delenv(name, raising=False)
        patch.setenv("TIYU_HOME", str(root))
        patch.setenv("TIYU_TODAY", "2026-11-20")
        patch.setenv("TIYU_AS_OF", "2026-11-20T12:00:00+08:00")
        patch.setenv("TIYU_CONN_CITY_DROP", f"file://{city.folder / 'drops'}")
        from protection import keys

        keys.ensure()
        ingest_and_trust("venue.register")
        ingest_and_trust("training.activity")
        out = settings().exchange_root / "outbox" / "d1"
        out.mkdir(parents=True)
        (out / "data.csv").write_text("a,b\n", "utf-8")
        version = settings().open_root / "venue_directory" / "v1"
        version.mkdir(parents=True)
        (version / "version.json").write_text("{}", "utf-8")
        (version.parent / "latest").symlink_to("v1")
        ledger.disconnect()
    return root


@pytest.fixture
def state(city, home, state_home, monkeypatch):
    """A private copy of that state."""
    shutil.rmtree(home)
    shutil.copytree(state_home, home, symlinks=True)
    monkeypatch.setenv("TIYU_CONN_CITY_DROP", f"file://{city.folder / 'drops'}")
    return settings().home


def content() -> dict:
    """Everything that must be equal afterwards."""
    rows = {name: pl.scan_delta(tables.path(name)).collect() for name in tables.all_tables()}
    return {
        "heads": {name: tables.version(name) for name in tables.all_tables()},
        "checked": ledger.checked_versions(),
        "rows": {name: frame.hash_rows(seed=1).sort().to_list() for name, frame in rows.items()},
        "batches": ledger.batches(),
        "balances": reconcile().to_dict(),
        "archive": sorted(p.name for p in settings().archive_root.rglob("*.tiyu")),
    }


def destroy(home) -> None:
    ledger.disconnect()
    for entry in home.iterdir():
        if entry.name == "keys":
            continue
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def test_the_whole_state_is_destroyed_and_comes_back(state, tmp_path):
    before = content()
    assert before["balances"]["ok"]
    assert before["balances"]["examined"] >= 2
    report = backup(tmp_path / "copy")
    assert report.tables == len(before["heads"])
    assert not (tmp_path / "copy" / "keys").exists()
    destroy(state)
    assert not ledger.batches()
    destroy(state)
    done = restore(tmp_path / "copy")
    assert (done.keys, done.files, done.kept) == ("kept", report.files, [])
    assert content() == before
    assert (settings().open_root / "venue_directory" / "latest" / "version.json").read_text("utf-8") == "{}"
    assert (settings().exchange_root / "outbox" / "d1" / "data.csv").is_file()
    again = ingest("venue.register")
    assert again.status == "nothing_new", "the restored ledger knows what was taken in"


def test_keys_travel_only_when_asked_and_stay_private(state, tmp_path):
    backup(tmp_path / "copy", with_keys=True)
    file = tmp_path / "copy" / "keys" / settings().key_file.name
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    key = settings().key_file.read_bytes()
    destroy(state)
    shutil.rmtree(state / "keys")
    assert restore(tmp_path / "copy").keys == "restored"
    assert settings().key_file.read_bytes() == key
    assert stat.S_IMODE(settings().key_file.stat().st_mode) == 0o600
    from ingestion import archive

    entry = ledger.objects(ledger.batches("venue.register")[0]["batch_id"])[0]
    assert archive.read_object("venue.register", entry["sha256"])


def test_state_is_not_overwritten_without_force_and_kept_with_it(state, tmp_path):
    backup(tmp_path / "copy")
    before = content()
    tables.replace_table("dim_sport", pl.DataFrame({"sport_code": ["later"]}))
    with pytest.raises(TiyuError, match="TIYU-BAK-0010"):
        restore(tmp_path / "copy")
    assert tables.exists("dim_sport")
    done = restore(tmp_path / "copy", force=True)
    assert not tables.exists("dim_sport")
    assert content() == before
    assert len(done.kept) >= 3
    assert any((module.Path(place) / "dim" / "dim_sport").is_dir() for place in done.kept)
    assert not list(state.rglob("*restore-*"))


def flip(path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


DAMAGES = {
    "a flipped bit in a data file": lambda root: flip(next(root.glob("lake/**/*.parquet"))),
    "a flipped bit in the ledger": lambda root: flip(root / "ledger.db"),
    "a missing archive object": lambda root: next(root.glob("archive/**/*.tiyu")).unlink(),
    "a file too many": lambda root: (root / "lake" / "extra").write_text("x", "utf-8"),
    "a changed link": lambda root: (
        (root / "open" / "venue_directory" / "latest").unlink(),
        (root / "open" / "venue_directory" / "latest").symlink_to("v2"),
    ),
    "a changed manifest": lambda root: (root / "manifest.json").write_text(
        (root / "manifest.json").read_text("utf-8").replace('"with_keys": false', '"with_keys": true'), "utf-8"
    ),
    "no manifest": lambda root: (root / "manifest.json").unlink(),
}


def test_a_damaged_backup_is_refused_and_nothing_is_touched(state, tmp_path):
    whole = tmp_path / "whole"
    backup(whole)
    heads, checked = module._heads(), ledger.checked_versions()
    for number, (name, damage) in enumerate(DAMAGES.items()):
        copy = tmp_path / f"copy{number}"
        shutil.copytree(whole, copy, symlinks=True)
        assert verify(copy)["format"] == 1
        damage(copy)
        with pytest.raises(TiyuError, match="TIYU-BAK-0006"):
            restore(copy, force=True)
        assert (module._heads(), ledger.checked_versions()) == (heads, checked), name
        shutil.rmtree(copy)
    assert len(DAMAGES) == 7


def test_a_backup_is_never_half_there(state, tmp_path, monkeypatch):
    real, calls = module._copy, 0

    def full(*arguments):
        nonlocal calls
        calls += 1
        if calls > 5:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(module, "_copy", full)
    with pytest.raises(TiyuError, match="TIYU-BAK-0007"):
        backup(tmp_path / "copy")
    assert list(tmp_path.glob("*copy*")) == []
    calls = -10_000
    backup(tmp_path / "copy")
    calls = 0
    with pytest.raises(TiyuError, match="TIYU-BAK-0007"):
        restore(tmp_path / "copy", force=True)
    assert not list(state.rglob("*restore-*"))
    assert reconcile().ok


def test_tables_that_move_are_copied_at_one_instant_or_not_at_all(state, tmp_path, monkeypatch):
    """Writers that commit while the ledger is copied: the copy is taken again; a lake that never rests is an error."""
    real, moves = module._heads, iter([{"a": 1}, {"a": 2}])
    monkeypatch.setattr(module, "_heads", lambda: next(moves, None) or real())
    backup(tmp_path / "copy")
    counter = iter(range(1000))
    monkeypatch.setattr(module, "_heads", lambda: {"a": next(counter)})
    with pytest.raises(TiyuError, match="TIYU-BAK-0004"):
        backup(tmp_path / "other")


def test_commits_after_the_instant_are_left_out(state, tmp_path, monkeypatch):
    """A commit made while files are copied is in no half of the backup."""
    real = module._copy_tree
    head = tables.version("ods_venue__register")

    def late(place, target, name, heads):
        if name == "lake":
            tables.delete("ods_venue__register", "venue_id >= 'V'", part_dates=[])
        return real(place, target, name, heads)

    monkeypatch.setattr(module, "_copy_tree", late)
    backup(tmp_path / "copy")
    assert tables.version("ods_venue__register") == head + 1
    destroy(state)
    restore(tmp_path / "copy")
    assert tables.version("ods_venue__register") == head


def test_a_damaged_state_is_not_backed_up(state, tmp_path):
    next(module.Path(tables.path("ods_venue__register")).glob("part_date=*/*.parquet")).unlink()
    with pytest.raises(TiyuError, match="TIYU-BAK-0005"):
        backup(tmp_path / "copy")


def test_places_that_will_not_do(state, tmp_path, monkeypatch):
    with pytest.raises(TiyuError, match="TIYU-BAK-0002"):
        backup(settings().archive_root / "copy")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(TiyuError, match="TIYU-BAK-0002"):
        backup(tmp_path / "full")
    with monkeypatch.context() as patch:
        patch.setenv("TIYU_HOME", str(tmp_path / "nothing"))
        with pytest.raises(TiyuError, match="TIYU-BAK-0003"):
            backup(tmp_path / "copy")
    with monkeypatch.context() as patch:
        patch.setenv("TIYU_LEDGER_URL", "postgresql://x/y")
        with pytest.raises(TiyuError, match="TIYU-BAK-0001"):
            backup(tmp_path / "copy")
    backup(tmp_path / "copy")
    with resource_lock("venue.register"), pytest.raises(TiyuError, match="TIYU-BAK-0011"):
        restore(tmp_path / "copy", force=True)


def test_anything_at_work_stops_a_restore_and_a_restore_stops_anything(state, tmp_path, monkeypatch):
    """A gate, a build or a command in another process; and one that begins while the state is being replaced."""
    backup(tmp_path / "copy")
    before = content()
    code = (
        "import sys\nfrom lake import state\nwith state.in_use():\n    print('in', flush=True)\n    sys.stdin.read()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "in\n"
        with pytest.raises(TiyuError, match=r"TIYU-BAK-0011.*lock=state"):
            restore(tmp_path / "copy", force=True)
        assert content() == before
    finally:
        child.communicate("")
    real, seen = module._copy_back, []

    def also_somebody_else(*arguments):
        done = subprocess.run([sys.executable, "-m", "cli.main", "status"], capture_output=True, text=True, check=False)
        seen.append((done.returncode, "TIYU-BAK-0012" in done.stderr + done.stdout))
        monkeypatch.setattr(module, "_copy_back", real)
        return real(*arguments)

    monkeypatch.setattr(module, "_copy_back", also_somebody_else)
    restore(tmp_path / "copy", force=True)
    assert seen == [(3, True)]
    assert content() == before


def test_a_write_ahead_log_of_the_old_ledger_never_reaches_the_new_one(state, tmp_path):
    backup(tmp_path / "copy")
    batches = ledger.batches()
    file = state / "ledger.db"
    con = sqlite3.connect(file)  # a process that died with a log not yet checkpointed
    con.execute("PRAGMA journal_mode=WAL")
    con.execute("DELETE FROM batch")
    con.commit()
    logs = {name: (state / name).read_bytes() for name in ("ledger.db-wal", "ledger.db-shm")}
    ledger.disconnect()
    con.close()
    for name, data in logs.items():
        (state / name).write_bytes(data)
    restore(tmp_path / "copy", force=True)
    assert ledger.batches() == batches


def test_the_commands(state, tmp_path):
    from cli import backup as command

    app = typer.Typer()
    command.register(app)
    runner = CliRunner()
    data = json.loads(runner.invoke(app, ["backup", str(tmp_path / "copy"), "--json"]).stdout)
    assert data["files"] > 10
    result = runner.invoke(app, ["restore", str(tmp_path / "copy"), "--force"])
    assert result.exit_code == 0, result.output
    assert "原状态保留在" in result.output


def test_a_backup_of_newer_code_is_refused_and_one_of_older_code_is_brought_up_to_date(state, tmp_path):
    backup(tmp_path / "copy")
    before = content()

    def write(*statements: str) -> None:
        con = sqlite3.connect(tmp_path / "copy" / "ledger.db")
        for statement in statements:
            con.execute(statement)
        con.commit()
        con.close()
        manifest = json.loads((tmp_path / "copy" / "manifest.json").read_text("utf-8"))
        listed = [item for item in manifest["files"] if item["path"] != "ledger.db"]
        manifest["files"] = [*listed, module._entry(tmp_path / "copy" / "ledger.db", "ledger.db")]
        text = json.dumps(manifest, ensure_ascii=False)
        (tmp_path / "copy" / "manifest.json").write_text(text, "utf-8")
        (tmp_path / "copy" / "manifest.sha256").write_text(module.hashlib.sha256(text.encode()).hexdigest(), "utf-8")

    write("INSERT INTO ledger_schema VALUES (99, 'of tomorrow', 'x')")
    with pytest.raises(TiyuError, match="TIYU-LED-0002"):
        restore(tmp_path / "copy", force=True)
    assert content() == before
    write("DROP TABLE ledger_schema", "ALTER TABLE batch DROP COLUMN supersedes")
    restore(tmp_path / "copy", force=True)
    assert content() == before
