"""A fault of the disk gets one code whichever library reports it; nothing else does."""

from __future__ import annotations

import errno
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lake import ledger, storage
from lake.errors import TiyuError

FULL, READ_ONLY, BROKEN = "TIYU-DISK-0001", "TIYU-DISK-0002", "TIYU-DISK-0003"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TIYU_HOME", str(tmp_path))
    for name in ("LAKE_ROOT", "TIYU_LEDGER_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("message", "code"),
    [  # sentences of DuckDB, Delta, Polars and SQLite, as they were met on a full and on a read-only file system
        ('IO Error: Could not write file "x.duckdb": No space left on device', FULL),
        ("Out of Memory Error: failed to offload data block of size 256.0 KiB (7.0 MiB/7.1 MiB used).", FULL),
        ("Generic LocalFileSystem error: Unable to copy data to file: No space left on device (os error 28)", FULL),
        ("parquet: File out of specification: underlying IO error: No space left on device (os error 28)", FULL),
        ("(sqlite3.OperationalError) database or disk is full", FULL),
        ('IO Error: Cannot open file "x.duckdb": Read-only file system', READ_ONLY),
        ("Unable to open file part-0.parquet#1: Read-only file system (os error 30)", READ_ONLY),
        ("attempt to write a readonly database", READ_ONLY),
        ("(sqlite3.OperationalError) disk I/O error", BROKEN),
        ("Runtime Error in model dim_date: TIYU-DISK-0002 目录只读或没有写权限（place=lake/dim）", READ_ONLY),
        ("Binder Error: Referenced column \"full\" not found", None),
        ("Conversion Error: could not convert string 'os error 280'", None),
        ("", None),
    ],
)  # fmt: skip
def test_sentences_of_libraries(message: str, code: str | None) -> None:
    found = storage.from_text(message)
    assert (found.code if found else None) == code


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, FULL),
        (errno.EDQUOT, FULL),
        (errno.EFBIG, FULL),
        (errno.EROFS, READ_ONLY),
        (errno.EACCES, READ_ONLY),
        (errno.EIO, BROKEN),
        (errno.ENOENT, None),
        (errno.ECONNREFUSED, None),
    ],
)
def test_numbers_of_the_system(number: int, code: str | None) -> None:
    found = storage.fault(OSError(number, "text", "/somewhere"))
    assert (found.code if found else None) == code


def test_the_cause_behind_an_exception_counts_and_a_coded_error_stays_what_it_is() -> None:
    outer = RuntimeError("the model could not be written")
    outer.__cause__ = OSError(errno.ENOSPC, "no space")
    with pytest.raises(TiyuError) as raised, storage.coded():
        raise outer
    assert raised.value.code == FULL
    own = TiyuError("TIYU-X-0001", "text")
    with pytest.raises(TiyuError) as raised, storage.coded():
        raise own
    assert raised.value is own
    with pytest.raises(ValueError, match="other"), storage.coded():
        raise ValueError("other")


def test_the_place_is_a_folder_of_the_installation_and_never_a_file_name(home: Path) -> None:
    error = OSError(errno.ENOSPC, "no space", f"{home}/lake/ods/ods_x/part_date=2026/张三.parquet")
    found = storage.fault(error)
    assert found is not None
    assert found.context["place"] == "lake/ods"
    assert found.context["free_mib"] >= 0
    assert "张三" not in str(found)
    assert "TIYU-DISK-0001" in str(found)
    assert "处理办法" in str(found)
    outside = storage.fault(OSError(errno.EACCES, "denied", "/drop/张三.csv"))
    assert outside is not None
    assert "张三" not in str(outside)


# ------------------------------------------------------------------ the ledger's own file
def read_and_write() -> None:
    ledger.runs()
    ledger.start_run("r_2", "venue.booking", ledger.as_of())


def damage(home: Path, how: str) -> None:
    ledger.disconnect()
    file = home / "ledger.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in ("-wal", "-shm"):
        (home / f"ledger.db{suffix}").unlink(missing_ok=True)
    content = file.read_bytes()
    if how == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif how == "garbage":
        file.write_bytes(b"\x5a" * len(content))
    elif how == "zero bytes":
        file.write_bytes(b"")
    else:
        file.unlink()


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("truncated", "TIYU-LED-0003"),
        ("garbage", "TIYU-LED-0003"),
        ("zero bytes", "TIYU-LED-0005"),
        ("deleted", "TIYU-LED-0005"),
    ],
)
def test_a_broken_ledger_is_named_with_its_remedy(home: Path, how: str, code: str) -> None:
    ledger.start_run("r_1", "venue.booking", ledger.as_of())
    folder = home / "archive" / "venue.booking" / "ab"
    folder.mkdir(parents=True)
    (folder / f"{'ab' * 32}.tiyu").write_bytes(b"x")
    with ledger.engine().connect():  # an archive beside a ledger that has its tables is as it should be
        pass
    damage(home, how)
    for _ in range(2):  # the first look must not mend it by accident
        with pytest.raises(TiyuError) as raised:
            read_and_write()
        assert raised.value.code == code
        assert "tiyu restore" in raised.value.hint_zh
        assert "tiyu ledger rebuild" in raised.value.hint_zh
        ledger.disconnect()


def test_a_new_installation_has_no_ledger_and_that_is_no_fault(home: Path) -> None:
    assert ledger.runs() == []


def test_a_killed_run_is_closed_with_its_code_when_the_next_begins(home: Path) -> None:
    ledger.start_run("r_1", "venue.booking", ledger.as_of())
    ledger.start_run("r_2", "venue.entry", ledger.as_of())
    assert ledger.end_interrupted_runs("venue.booking") == 1
    found = {run["run_id"]: (run["status"], run["error_code"]) for run in ledger.runs()}
    assert found == {"r_1": ("failed", "TIYU-ING-0030"), "r_2": ("running", None)}
    assert ledger.end_interrupted_runs("venue.booking") == 0
