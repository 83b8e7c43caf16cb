"""Deliveries: content, idempotence, crash repair, and each check shown failing."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path

import jsonschema
import polars as pl
import pytest

from catalog.policy import Facet
from lake import ledger
from lake.errors import TiyuError
from sharing import files, outputs
from sharing.exchange import build, config, run
from sharing.exchange.codes import CHECKS
from sharing.exchange.verify import verify
from sharing.outputs import Column
from tests.unit.exchange import synthetic
from tests.unit.exchange.synthetic import DAY, REGISTER, REGISTER_SPEC, WATER, WATER_SPEC

OPEN = Facet("L1", "N", None)


def tree(root: Path) -> dict[str, tuple[bytes, int]]:
    """Every file with its bytes and modification time."""
    return {
        str(p.relative_to(root)): (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(root.rglob("*")) if p.is_file()
    }


def folder_of(report: run.ExchangeReport, resource: str) -> Path:
    return Path(next(d.path for d in report.deliveries if d.resource == resource))


def rows(folder: Path) -> pl.DataFrame:
    data = b"".join(gzip.decompress(p.read_bytes()) for p in sorted(folder.glob("*.csv.gz")))
    return pl.read_csv(data, infer_schema=False, null_values=config.NULL_TOKEN)


def manifest(folder: Path) -> dict:
    return json.loads(next(folder.glob("*.manifest.json")).read_text(encoding="utf-8"))


def test_sm3_is_the_standard_one(tmp_path):
    assert files.sm3_bytes(b"abc") == "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
    (tmp_path / "x").write_bytes(b"a" * 3_000_000)
    out = subprocess.run(
        ["openssl", "dgst", "-sm3", "-r", "x"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert out.split()[0] == files.sm3_file(tmp_path / "x")


def test_default_provider_code_is_valid_and_synthetic(monkeypatch):
    monkeypatch.delenv("TIYU_EXCHANGE_USCC", raising=False)
    assert config.uscc_valid(config.provider().uscc)
    assert config.provider().is_synthetic
    monkeypatch.setenv("TIYU_EXCHANGE_USCC", "91350100M000100Y42")
    with pytest.raises(TiyuError, match="TIYU-EXC-0001"):
        config.provider()


def test_delivery_files_names_and_content(filled):
    report = run.run_exchange()
    assert report.business_date == DAY
    folder = folder_of(report, "venue.register")
    stem = "11990000000000000D_307310001-0001_F_20261119_0001_001of1"
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        ["README.txt", *(f"{stem}.{k}" for k in ("csv.gz", "manifest.json", "ok"))]
    )
    assert folder.parent == filled / "exchange" / "outbox" / "2026-11-19"
    frame, said = rows(folder), manifest(folder)
    assert frame.columns[:4] == ["_op", "_src_pk", "_src_update_time", "_batch_id"]
    assert frame.columns[4:] == [c.name for c in REGISTER_SPEC.columns]
    assert frame["address"][0] == '某路 1 号, "东门" 二楼'
    assert said["line_breaks_replaced"] == 1
    assert frame["is_indoor"].to_list() == ["false", "true", "false", "true", "false"]
    assert frame["depth_min_m"].null_count() == 3
    assert said["row_count"] == said["insert_count"] == 5
    assert said["control_sums"] == {"area_m2": "1507.500000", "capacity_count": "300.000000"}
    assert said["banner"] == "演示数据，非真实统计"
    assert "演示数据，非真实统计" in (folder / "README.txt").read_text(encoding="utf-8")
    packed = next(folder.glob("*.csv.gz"))
    assert packed.read_bytes()[4:8] == b"\0\0\0\0", "gzip header must hold no time"
    assert "演示数据，非真实统计".encode() in packed.read_bytes()[:64], "the file itself carries the mark"
    plain = subprocess.run(["zcat", str(packed)], capture_output=True, check=True).stdout
    assert plain == gzip.decompress(packed.read_bytes())
    assert plain.startswith(b"_op,")


def test_a_column_outside_the_contract_never_leaves(filled):
    folder = folder_of(run.run_exchange(), "venue.register")
    packed = b"".join(
        gzip.decompress(p.read_bytes()) if p.suffix == ".gz" else p.read_bytes() for p in folder.iterdir()
    )
    assert b"contact_name" not in packed
    assert "不应离开".encode() not in packed


def test_contract_column_missing_in_the_table_is_refused(filled, monkeypatch):
    spec = synthetic.with_column(REGISTER_SPEC, Column("no_such", "无", "VARCHAR", "L1", "N"))
    monkeypatch.setattr(outputs, "described", lambda table: {c.name: OPEN for c in spec.columns})
    with pytest.raises(TiyuError, match="TIYU-EXC-0005"):
        _deliver(spec)


@pytest.mark.parametrize(("contract_grade", "lake_grade"), [("L3", "L3"), ("L1", "L2"), ("L1", None)])
def test_grade_above_the_channel_or_missing_is_refused(filled, monkeypatch, contract_grade, lake_grade):
    spec = synthetic.with_column(REGISTER_SPEC, Column("contact_name", "联系人", "VARCHAR", contract_grade, "P"))
    grades = {c.name: OPEN for c in spec.columns} | {"contact_name": OPEN._replace(grade=lake_grade)}
    monkeypatch.setattr(outputs, "described", lambda table: grades)
    with pytest.raises(TiyuError, match="TIYU-EXC-0006") as error:
        _deliver(spec)
    assert "contact_name" in str(error.value)
    assert build.check_grades(_graded(monkeypatch, REGISTER_SPEC)) == len(REGISTER_SPEC.columns)


def _graded(monkeypatch, spec):
    monkeypatch.setattr(outputs, "described", lambda table: {c.name: OPEN for c in spec.columns})
    return spec


def _deliver(spec, day=DAY, sequence=1, **options):
    with files.exclusive(run.settings().exchange_root / ".lock"):
        run._clean_aside()
        return run.deliver(spec, day, sequence, **options)


def test_duplicate_key_is_refused_and_nothing_appears(home):
    frame = synthetic.register_frame()
    synthetic.put(REGISTER, pl.concat([frame, frame[:1]]))
    with pytest.raises(TiyuError, match="TIYU-EXC-0007"):
        _deliver(REGISTER_SPEC)
    assert not (home / "exchange" / "outbox").exists()


def test_nothing_checked_is_not_delivered_as_zero_rows(home):
    synthetic.put(REGISTER, synthetic.register_frame(), checked=False)
    with pytest.raises(TiyuError, match="TIYU-EXC-0004"):
        _deliver(REGISTER_SPEC)


def test_an_incomplete_day_is_refused(filled):
    with pytest.raises(TiyuError, match="TIYU-EXC-0008"):
        run.run_exchange(date(2026, 11, 20))


def test_unchecked_rows_are_not_delivered(filled):
    synthetic.put(WATER, synthetic.water_frame(per_day=9), checked=False)
    assert manifest(folder_of(run.run_exchange(), "supervision.water_reading"))["row_count"] == 8


def test_rerun_changes_nothing(filled):
    assert run.run_exchange().written == 2
    before = tree(filled / "exchange" / "outbox")
    synthetic.put(WATER, synthetic.water_frame(per_day=9))
    again = run.run_exchange()
    assert again.written == 0
    assert {d.action for d in again.deliveries} == {"already_sent"}
    assert tree(filled / "exchange" / "outbox") == before
    assert len(before) == 8


def test_two_runs_at_once_deliver_once(filled):
    with ThreadPoolExecutor(2) as pool:
        reports = [future.result() for future in [pool.submit(run.run_exchange) for _ in range(2)]]
    assert sorted(report.written for report in reports) == [0, 2]
    assert len(ledger.deliveries()) == 2


def test_increment_has_insert_update_delete_and_ignores_new_stamps(filled, monkeypatch):
    run.run_exchange()
    monkeypatch.setenv("TIYU_TODAY", "2026-11-21")
    # Same rows with new stamps; one value changed, one row gone, a new day, and a late row of an earlier day.
    frame = (
        synthetic.water_frame(days=3, stamp=60)
        .with_columns(
            pl.when(pl.col("reading_id").str.ends_with("2026111801"))
            .then(8.5)
            .otherwise(pl.col("value"))
            .alias("value")
        )
        .filter(~pl.col("reading_id").str.ends_with("2026111902"))
    )
    late = frame[:1].with_columns(pl.lit("late").alias("reading_id"))
    synthetic.put(WATER, pl.concat([frame, late]))
    folder = folder_of(run.run_exchange(), "supervision.water_reading")
    said, data = manifest(folder), rows(folder)
    assert (said["insert_count"], said["update_count"], said["delete_count"], said["late_row_count"]) == (5, 1, 1, 2)
    assert said["base_batch_id"] == "307310005-0001_20261119_0001"
    assert said["window_start"] == "2026-11-20T00:00:00+08:00"
    assert said["window_end"] == "2026-11-21T00:00:00+08:00"
    tombstone = data.filter(pl.col("_op") == "D")
    assert tombstone["_src_pk"].to_list() == ["V310101-001-U01:ph:2026111902"]
    assert tombstone["value"].to_list() == [None]
    assert data.filter(pl.col("_op") == "U")["value"].to_list() == ["8.5"]
    assert data["sampled_at"].drop_nulls().str.ends_with("+08:00").all()
    assert verify(folder).ok


def test_applying_all_batches_gives_the_table(filled, monkeypatch):
    state: dict[str, str] = {}
    frames = [
        synthetic.water_frame(),
        synthetic.water_frame(days=3).filter(pl.col("value") != 7.1),
        synthetic.water_frame(days=4).with_columns(pl.col("value") + 1),
    ]
    for number, frame in enumerate(frames):
        monkeypatch.setenv("TIYU_TODAY", f"2026-11-{20 + number}")
        synthetic.put(WATER, frame)
        for op, key, value in (
            rows(folder_of(run.run_exchange(), "supervision.water_reading"))
            .select("_op", "_src_pk", "value")
            .iter_rows()
        ):
            state.pop(key) if op == "D" else state.__setitem__(key, value)
    assert state == dict(frames[-1].select("reading_id", pl.col("value").cast(pl.String)).iter_rows())


def test_a_day_without_data_is_delivered_as_zero_rows(filled, monkeypatch):
    run.run_exchange()
    monkeypatch.setenv("TIYU_TODAY", "2026-11-21")
    report = run.run_exchange()
    folder = folder_of(report, "supervision.water_reading")
    assert manifest(folder)["row_count"] == 0
    assert len(gzip.decompress(next(folder.glob("*.csv.gz")).read_bytes()).splitlines()) == 1
    assert "正常交付" in (folder / "README.txt").read_text(encoding="utf-8")
    assert verify(folder).ok


def test_today_is_not_in_yesterdays_delivery(home):
    synthetic.put(WATER, synthetic.water_frame(days=3))
    assert _deliver(WATER_SPEC).row_count == 8


def test_out_of_order_increment_and_skipped_sequence_are_refused(filled, monkeypatch):
    run.run_exchange()
    with pytest.raises(TiyuError, match="TIYU-EXC-0009"):
        run.run_exchange(date(2026, 11, 18))
    with pytest.raises(TiyuError, match="TIYU-EXC-0009"):
        run.run_exchange(sequence=3)
    assert run.run_exchange(sequence=2).written == 2


def test_parts_split_and_verify_together(filled):
    result = _deliver(replace(WATER_SPEC, rows_per_part=3))
    folder = Path(result.path)
    assert len(list(folder.glob("*of3.csv.gz"))) == 3
    assert len(list(folder.glob("*.ok"))) == 3
    report = verify(folder)
    assert report.ok, report.as_dict()
    assert rows_total(folder) == 8
    next(folder.glob("*002of3.csv.gz")).unlink()
    assert "EX-01" in verify(folder).failed_codes


def rows_total(folder: Path) -> int:
    return sum(entry["rows"] for entry in manifest(folder)["files"])


@pytest.mark.parametrize("moment", ["plan", "build", "before_rename", "after_rename"])
def test_crash_at_any_moment_is_repaired(filled, monkeypatch, moment):
    class Killed(BaseException):
        pass

    def die(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        if moment == "plan":
            patch.setattr(run, "_plan_row", die)
        elif moment == "build":
            patch.setattr(build.files, "gzip_deterministic", die)
        elif moment == "before_rename":
            patch.setattr(run, "_publish", die)
        else:
            original = run._publish
            patch.setattr(run, "_publish", lambda built, target: (original(built, target), die()))
        with pytest.raises(Killed):
            run.run_exchange()
    visible = list((filled / "exchange" / "outbox").rglob("*_F_*/*")) + list(
        (filled / "exchange" / "outbox").rglob("*_I_*/*")
    )
    assert len(visible) == (4 if moment == "after_rename" else 0), "a delivery appears whole or not at all"
    report = run.run_exchange()
    assert [d.action for d in report.deliveries] == (
        ["adopted", "sent"] if moment == "after_rename" else ["sent", "sent"]
    )
    assert not any((filled / "exchange" / ".aside").iterdir())
    assert all(verify(Path(d.path)).ok for d in report.deliveries)
    assert {row["status"] for row in ledger.deliveries()} == {"sent"}
    assert len(ledger.deliveries()) == 2
    assert run.run_exchange().written == 0


def test_damaged_folder_before_the_ledger_knew_is_not_adopted(filled, monkeypatch):
    original = run._publish

    def publish_and_die(built, target):
        original(built, target)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "_publish", publish_and_die)
        with pytest.raises(KeyboardInterrupt):
            run.run_exchange()
    packed = next((filled / "exchange" / "outbox").rglob("*.csv.gz"))
    packed.write_bytes(packed.read_bytes()[:-1])
    with pytest.raises(TiyuError, match="TIYU-EXC-0010"):
        run.run_exchange()


def test_resend_gives_the_same_bytes_or_refuses(filled, monkeypatch):
    folder = folder_of(run.run_exchange(), "supervision.water_reading")
    before = {name: data for name, (data, _) in tree(folder).items()}
    shutil.rmtree(folder)
    synthetic.put(WATER, synthetic.water_frame(per_day=9))
    assert run.run_exchange().written == 0
    assert run.run_exchange(resend=True).written == 1
    assert {name: data for name, (data, _) in tree(folder).items()} == before
    shutil.rmtree(folder)
    with monkeypatch.context() as patch:
        changed = replace(WATER_SPEC, columns=WATER_SPEC.columns[:-1])
        patch.setattr(config, "load", lambda: [changed])
        with pytest.raises(TiyuError, match="TIYU-EXC-0013"):
            run.run_exchange(resend=True)
    assert not folder.exists()


def test_the_lost_base_version_is_a_coded_error_and_resync_starts_over(filled, monkeypatch):
    run.run_exchange()
    monkeypatch.setenv("TIYU_TODAY", "2026-11-21")
    shutil.rmtree(filled / "lake" / "ads" / WATER)
    version = synthetic.put(WATER, synthetic.water_frame(days=3))
    row = ledger.deliveries("supervision.water_reading")[0]
    ledger.upsert(ledger.delivery, {**row, "source_version": version + 7})
    with pytest.raises(TiyuError, match="TIYU-EXC-0011"):
        run.run_exchange(resource="supervision.water_reading")
    assert run.run_exchange(resource="supervision.water_reading", full_resync=True).deliveries[0].insert_count == 12


def test_calendar_shows_due_sent_late_overdue_and_merged(filled, monkeypatch):
    assert {d.state for d in run.status()} == {"overdue"}
    run.run_exchange()
    assert {d.state for d in run.status()} == {"initial"}
    monkeypatch.setenv("TIYU_TODAY", "2026-11-23")
    monkeypatch.setenv("TIYU_AS_OF", "2026-11-23T07:00:00+08:00")
    states = {(d.business_date.day, d.state) for d in run.status()}
    assert states == {(22, "due"), (21, "overdue"), (20, "overdue"), (19, "initial")}
    run.run_exchange()
    assert {(d.business_date.day, d.state) for d in run.status()} == {
        (22, "sent"),
        (21, "merged"),
        (20, "merged"),
        (19, "initial"),
    }
    monkeypatch.setenv("TIYU_TODAY", "2026-11-24")
    monkeypatch.setenv("TIYU_AS_OF", "2026-11-24T09:30:00+08:00")
    run.run_exchange()
    newest = [d for d in run.status() if d.business_date.day == 23]
    assert {(d.state, d.late_hours) for d in newest} == {("late", 1.5)}


# --- the receiver's side -----------------------------------------------------------------------------------------


def readme_commands(folder: Path) -> list[tuple[str, str]]:
    lines = (folder / "README.txt").read_text(encoding="utf-8").splitlines()
    return [(a[2:], b[2:]) for a, b in itertools.pairwise(lines) if a.startswith("$ ") and b.startswith("> ")]


def run_command(folder: Path, command: str) -> str:
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, capture_output=True, text=True, check=False, env={"PATH": os.defpath}
    ).stdout.strip()


def test_every_readme_command_prints_what_it_says(filled):
    examined = 0
    for delivery in run.run_exchange().deliveries:
        for command, expected in readme_commands(Path(delivery.path)):
            assert run_command(Path(delivery.path), command) == expected
            assert {word for part in command.split("|") for word in part.split()[:1]} <= {"openssl", "zcat", "wc"}
            examined += 1
    assert examined == 8
    folder = Path(delivery.path)
    packed = next(folder.glob("*.csv.gz"))
    plain = gzip.decompress(packed.read_bytes())
    files_before = readme_commands(folder)
    packed.write_bytes(gzip.compress(plain + b"x\n", mtime=0))
    assert sum(run_command(folder, command) != expected for command, expected in files_before) == 3


def test_verify_passes_and_counts(filled):
    for delivery in run.run_exchange().deliveries:
        report = verify(Path(delivery.path))
        assert report.ok, report.as_dict()
        assert [r.code for r in report.results] == [c.code for c in CHECKS]
        assert all(r.examined > 0 for r in report.results)


def _edit_manifest(folder: Path, **changes) -> None:
    path = next(folder.glob("*.manifest.json"))
    path.write_text(
        json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}, ensure_ascii=False), encoding="utf-8"
    )


def _edit_rows(folder: Path, change) -> None:
    """Change the data and bring size, hashes and nothing else in the manifest up to date."""
    packed = next(folder.glob("*.csv.gz"))
    plain = change(gzip.decompress(packed.read_bytes()))
    packed.write_bytes(gzip.compress(plain, mtime=0))
    entry = {
        **manifest(folder)["files"][0],
        "size": packed.stat().st_size,
        "sm3": files.sm3_file(packed),
        "size_uncompressed": len(plain),
        "sm3_uncompressed": files.sm3_bytes(plain),
    }
    _edit_manifest(folder, files=[entry])


def _flip_byte(folder: Path) -> None:
    packed = next(folder.glob("*.csv.gz"))
    data = bytearray(packed.read_bytes())
    data[len(data) // 2] ^= 1
    packed.write_bytes(bytes(data))


def _rename_day(folder: Path) -> None:
    for path in list(folder.iterdir()):
        path.rename(path.with_name(path.name.replace("20261119", "20261118")))


def _lines(change):
    return lambda data: b"\n".join(change(data.split(b"\n")))


DAMAGE = {
    "EX-01": lambda f: next(f.glob("*.ok")).unlink(),
    "EX-02": lambda f: (f / "extra.csv").write_text("x"),
    "EX-03": _rename_day,
    "EX-04": lambda f: next(f.glob("*.ok")).write_text("ok"),
    "EX-05": lambda f: _edit_manifest(f, row_count="8"),
    "EX-06": lambda f: _edit_manifest(f, provider_uscc="119900000000000001"),
    "EX-07": _flip_byte,
    "EX-08": lambda f: _edit_rows(f, lambda data: data + b"\xff\xfe\n"),
    "EX-09": lambda f: _edit_rows(f, lambda data: data.replace(b"pool_id", b"pool_no", 1)),
    "EX-10": lambda f: _edit_rows(f, _lines(lambda lines: lines[:2] + lines[3:])),
    "EX-11": lambda f: _edit_rows(f, lambda data: data.replace(b"\nI,", b"\nU,", 1)),
    "EX-12": lambda f: _edit_rows(f, _lines(lambda lines: [*lines[:2], lines[1], *lines[3:]])),
    "EX-13": lambda f: _edit_rows(f, lambda data: data.replace(b",7.0,", b",9.0,", 1)),
    "EX-14": lambda f: _edit_rows(f, lambda data: data.replace(b",ph,", b",\\N,", 1)),
    "EX-15": lambda f: _edit_rows(f, lambda data: data.replace(b"_20261119_0001,", b"_20261119_0002,", 1)),
}


@pytest.mark.parametrize("code", [check.code for check in CHECKS])
def test_each_check_fails_when_it_should(filled, code):
    folder = folder_of(run.run_exchange(), "supervision.water_reading")
    DAMAGE[code](folder)
    report = verify(folder)
    assert not report.ok
    assert code in report.failed_codes, report.as_dict()


def test_one_flipped_byte_anywhere_in_the_data_file_fails(filled):
    folder = folder_of(run.run_exchange(), "supervision.water_reading")
    packed = next(folder.glob("*.csv.gz"))
    data = packed.read_bytes()
    positions = range(0, len(data), max(1, len(data) // 12))
    for position in positions:
        packed.write_bytes(data[:position] + bytes([data[position] ^ 0x40]) + data[position + 1 :])
        assert not verify(folder).ok, position
    packed.write_bytes(data)
    assert verify(folder).ok
    assert len(positions) >= 12


def test_a_delivery_that_fails_its_own_check_does_not_leave(filled, monkeypatch):
    frame = synthetic.water_frame().with_columns(pl.lit(None, dtype=pl.String).alias("item"))
    synthetic.put(WATER, frame)
    with pytest.raises(TiyuError, match="TIYU-EXC-0012") as error:
        _deliver(WATER_SPEC)
    assert "EX-14" in str(error.value)
    assert not list((filled / "exchange").glob("outbox/*/*"))


def test_a_manifest_cannot_smuggle_sql_into_the_check(filled, tmp_path):
    folder = folder_of(run.run_exchange(), "supervision.water_reading")
    stolen = tmp_path / "stolen.csv"
    attack = f"""_op" as int)), 0) as varchar) from d; copy (select 1) to '{stolen}'; select cast(coalesce(sum(try_cast("_op"""
    _edit_manifest(folder, control_sums={attack: "0.000000"})
    assert "EX-13" in verify(folder).failed_codes
    assert not stolen.exists()


def test_manifest_schema_refuses_what_it_should(filled):
    good = manifest(folder_of(run.run_exchange(), "venue.register"))
    schema = json.loads(config.manifest_schema_path().read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    for change in (
        {"extra": 1},
        {"mode": "X"},
        {"banner": ""},
        {"update_count": 1},
        {"batch": "0000"},
        {"row_count": -1},
        {"resource_code": "sports"},
        {"biz_date": "20261119"},
        {"files": []},
        {"grade": "L9"},
        {"encoding": "GBK"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**good, **change}, schema)
    for name in good:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({k: v for k, v in good.items() if k != name}, schema)
