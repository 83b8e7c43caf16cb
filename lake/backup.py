"""A copy of everything that cannot be fetched or built again, and the way back from it.

What is copied: the ledger (SQLite's online backup), the Delta tables up to the head each had at one instant, the
archive, the outbox of deliveries, the published dataset versions; the keys only when asked for. What is not: serving
files, pages, temporary files, all of which are built again.

One instant: the ledger is copied between two looks at the heads of all tables, and the looks must agree. A writer that
is at work then has at most a batch *archived* in the ledger, which the next ingest finishes, exactly as after a crash.
Archived objects are stored before the ledger speaks of them and never change, so they may be copied later.

A backup is written aside and renamed when it is whole; every file is in the manifest with size and SHA-256, and the
manifest has a checksum of its own. A restore checks all of it, copies aside, checks the copy, and only then swaps. What
was there before is kept beside, under `.NAME.replaced-…`, for a person to remove.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lake import clock, ledger, migrations, state, tables
from lake.errors import EXIT_UNAVAILABLE, EXIT_USAGE, TiyuError
from lake.settings import settings

FORMAT = 1
MANIFEST = "manifest.json"
_SUM = "manifest.sha256"
_ATTEMPTS = 10
_LOG_VERSION = re.compile(r"^(\d{20})\.")
_CHUNK = 1 << 20


@dataclass
class BackupReport:
    """A finished backup. `checked` and `heads` are versions per table at the instant of the copy."""

    path: str
    taken_at: str
    files: int
    bytes: int
    tables: int
    with_keys: bool


@dataclass
class RestoreReport:
    """A finished restore. `keys`: restored | kept (those of this installation) | missing. `kept`: what was there."""

    path: str
    taken_at: str
    files: int
    bytes: int
    tables: int
    keys: str
    kept: list[str]


def _ledger_file() -> Path:
    url = settings().ledger_url
    if not url.startswith("sqlite:///") or "://" in settings().lake_root:
        raise TiyuError(
            "TIYU-BAK-0001", "只有本机目录和 SQLite 台账用本命令备份", "Postgres 与对象存储请用其自身的备份工具", EXIT_USAGE
        )  # fmt: skip
    return Path(url.removeprefix("sqlite:///"))


def _parts() -> dict[str, Path]:
    """Folders of the state: name in the backup → place."""
    where = settings()
    return {
        "lake": Path(where.lake_root),
        "archive": where.archive_root,
        "exchange": where.exchange_root,
        "open": where.open_root,
    }


def _io(action: str, error: OSError) -> TiyuError:
    return TiyuError(
        "TIYU-BAK-0007", f"{action}时读写失败，没有改动现有状态", "检查磁盘空间与目录权限后重跑", EXIT_UNAVAILABLE,
        reason=error.strerror or type(error).__name__,
    )  # fmt: skip


# --- taking -------------------------------------------------------------------------------------------------------


def backup(target: str | os.PathLike[str], *, with_keys: bool = False) -> BackupReport:
    """Copy the state into a new folder, verified; returns what was copied.

    Raises TIYU-BAK-0001 (not a local installation), 0002 (the folder exists or lies inside the state), 0003 (nothing to
    back up), 0004 (tables kept changing), 0005 (the lake misses files of a version that readers see), 0007.
    """
    final = Path(target).expanduser().absolute()
    source = _ledger_file()
    inside = [place for place in _parts().values() if final == place or place in final.parents]
    if inside or (final.exists() and (not final.is_dir() or any(final.iterdir()))):
        raise TiyuError(
            "TIYU-BAK-0002", "备份目录已存在或在数据目录之内", "给出一个数据目录之外的新目录名", EXIT_USAGE, folder=str(final)
        )  # fmt: skip
    if not source.is_file():
        raise TiyuError("TIYU-BAK-0003", "这里没有可备份的状态", "检查 TIYU_HOME 是否指向正在使用的目录", EXIT_USAGE)
    aside = final.with_name(f".{final.name}.{os.getpid()}-{uuid.uuid4().hex[:6]}.part")
    try:
        aside.mkdir(parents=True)
        heads = _ledger_between_equal_heads(source, aside / "ledger.db")
        checked = _checked_in(aside / "ledger.db")
        _require_whole(heads, checked)
        files = [_entry(aside / "ledger.db", "ledger.db")]
        for name, place in _parts().items():
            files += _copy_tree(place, aside / name, name, heads if name == "lake" else None)
        if with_keys:
            files += _copy_keys(aside)
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "taken_at": clock.utc_now().isoformat(),
            "as_of_at": clock.as_of().isoformat(),
            "heads": heads,
            "checked": checked,
            "with_keys": with_keys,
            "files": sorted(files, key=lambda item: item["path"]),
        }
        text = json.dumps(manifest, ensure_ascii=False, indent=1)
        (aside / MANIFEST).write_text(text, "utf-8")
        (aside / _SUM).write_text(hashlib.sha256(text.encode()).hexdigest() + "\n", "utf-8")
        verify(aside)
        os.sync()
        if final.is_dir():
            final.rmdir()  # was found empty above
        os.replace(aside, final)
    except OSError as error:
        raise _io("备份", error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return BackupReport(
        str(final), manifest["taken_at"], len(files), sum(item["size"] for item in files), len(heads), with_keys
    )


def _heads() -> dict[str, int]:
    found = {name: tables.version(name) for name in tables.all_tables()}
    return {name: version for name, version in found.items() if version is not None}


def _ledger_between_equal_heads(source: Path, target: Path) -> dict[str, int]:
    """Copy the ledger while no table moves; returns the heads that belong to the copy."""
    ledger.engine()  # the schema is there, and a damaged file is named before anything is copied
    for _ in range(_ATTEMPTS):
        before = _heads()
        target.unlink(missing_ok=True)
        reader, writer = sqlite3.connect(f"file:{source}?mode=ro", uri=True), sqlite3.connect(target)
        try:
            reader.backup(writer)
            writer.execute("PRAGMA journal_mode=DELETE")
            healthy = writer.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        except sqlite3.DatabaseError:
            healthy = False
        finally:
            reader.close()
            writer.close()
        if not healthy:
            raise TiyuError(
                "TIYU-BAK-0008", "控制台账已损坏，不做备份", "从上一份完好的备份恢复台账：tiyu restore", EXIT_UNAVAILABLE
            )  # fmt: skip
        if _heads() == before:
            return before
    raise TiyuError(
        "TIYU-BAK-0004", "备份期间数据表一直在变化", "暂停调度或等当前任务结束后重跑", EXIT_UNAVAILABLE, attempts=_ATTEMPTS
    )  # fmt: skip


def _checked_in(file: Path) -> dict[str, int]:
    con = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        return dict(con.execute("SELECT table_name, version FROM checked_version ORDER BY table_name").fetchall())
    finally:
        con.close()


def _require_whole(heads: dict[str, int], checked: dict[str, int]) -> None:
    """Every file of the head and of the checked version must be there: a backup of a damaged lake would hide it."""
    for name, head in heads.items():
        for version in {head, checked.get(name, head)}:
            uris = tables.open_table(name, version).file_uris()
            missing = [uri for uri in uris if not Path(uri.removeprefix("file://")).is_file()]
            if missing:
                raise TiyuError(
                    "TIYU-BAK-0005", "数据表缺少文件，不做备份", "从上一份完好的备份恢复：tiyu restore", EXIT_UNAVAILABLE,
                    table=name, version=version, missing=len(missing),
                )  # fmt: skip
    lost = sorted(set(checked) - set(heads))
    if lost:
        raise TiyuError(
            "TIYU-BAK-0005", "数据表缺少文件，不做备份", "从上一份完好的备份恢复：tiyu restore", EXIT_UNAVAILABLE, table=lost[0]
        )  # fmt: skip


def _walk(place: Path) -> Iterator[Path]:
    """Files and links below a folder; names with a leading dot are work in progress."""
    for folder, names, files in os.walk(place):
        names[:] = sorted(name for name in names if not name.startswith("."))
        links = [name for name in names if (Path(folder) / name).is_symlink()]
        names[:] = [name for name in names if name not in links]
        for name in sorted([*files, *links]):
            if not name.startswith("."):
                yield Path(folder) / name


def _wanted(relative: Path, heads: dict[str, int]) -> bool:
    """Whether a file of the lake belongs to the copy: data, and log entries up to the head of the instant."""
    if len(relative.parts) < 3 or relative.parts[1] not in heads:
        return False
    if relative.parts[2] != "_delta_log":
        return True
    found = _LOG_VERSION.match(relative.name)
    return found is not None and int(found[1]) <= heads[relative.parts[1]]


def _copy_tree(place: Path, target: Path, name: str, heads: dict[str, int] | None) -> list[dict[str, Any]]:
    entries = []
    target.mkdir(parents=True, exist_ok=True)
    for file in _walk(place) if place.is_dir() else []:
        relative = file.relative_to(place)
        if heads is not None and not _wanted(relative, heads):
            continue
        copy = target / relative
        copy.parent.mkdir(parents=True, exist_ok=True)
        entries.append(_copy(file, copy, f"{name}/{relative.as_posix()}"))
    return entries


def _copy(source: Path, target: Path, name: str) -> dict[str, Any]:
    """Copy one file or link with mode and times; its manifest entry, hashed on the way."""
    if source.is_symlink():
        points_to = os.readlink(source)
        os.symlink(points_to, target)
        return {"path": name, "size": 0, "link": points_to}
    digest, size = hashlib.sha256(), 0
    with open(source, "rb") as reader, open(target, "xb") as writer:
        while data := reader.read(_CHUNK):
            digest.update(data)
            size += len(data)
            writer.write(data)
    shutil.copystat(source, target)
    return {"path": name, "size": size, "sha256": digest.hexdigest()}


def _entry(file: Path, name: str) -> dict[str, Any]:
    digest = hashlib.sha256()
    with open(file, "rb") as reader:
        while data := reader.read(_CHUNK):
            digest.update(data)
    return {"path": name, "size": file.stat().st_size, "sha256": digest.hexdigest()}


def _copy_keys(aside: Path) -> list[dict[str, Any]]:
    source = settings().key_file
    if not source.is_file():
        raise TiyuError(
            "TIYU-BAK-0009", "找不到密钥文件，无法随备份带走", "去掉 --with-keys，或检查密钥所在", EXIT_UNAVAILABLE
        )  # fmt: skip
    folder = aside / "keys"
    folder.mkdir(mode=0o700)
    target = folder / source.name
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    target.write_bytes(source.read_bytes())
    return [_entry(target, f"keys/{source.name}")]


# --- checking and restoring ---------------------------------------------------------------------------------------


def verify(source: str | os.PathLike[str]) -> dict[str, Any]:
    """Check every byte of a backup and return its manifest; raises TIYU-BAK-0006 naming the first thing that is wrong."""
    root = Path(source).expanduser().absolute()

    def damaged(what: str, file: str | None = None) -> TiyuError:
        return TiyuError(
            "TIYU-BAK-0006", "备份不完整或已损坏，拒绝使用", "换一份完好的备份；现有状态没有改动", EXIT_UNAVAILABLE,
            reason=what, file=file,
        )  # fmt: skip

    try:
        text = (root / MANIFEST).read_text("utf-8")
        expected = (root / _SUM).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise damaged("没有清单") from None
    if hashlib.sha256(text.encode()).hexdigest() != expected:
        raise damaged("清单被改动", MANIFEST)
    manifest = json.loads(text)
    if manifest.get("format") != FORMAT:
        raise damaged("清单格式未知", MANIFEST)
    listed = {item["path"]: item for item in manifest["files"]}
    present = {file.relative_to(root).as_posix() for file in _walk(root)} - {MANIFEST, _SUM}
    for name in sorted(set(listed) ^ present):
        raise damaged("文件缺失" if name in listed else "多出文件", name)
    for name, item in listed.items():
        file = root / name
        if "link" in item:
            if not file.is_symlink() or os.readlink(file) != item["link"]:
                raise damaged("链接被改动", name)
        elif file.is_symlink() or {**_entry(file, name)} != item:
            raise damaged("内容与清单不符", name)
    return manifest


def restore(source: str | os.PathLike[str], *, force: bool = False) -> RestoreReport:
    """Put the state of a backup in the place of this installation's; returns what was restored.

    The keys of this installation stay when the backup has none. Without ``force`` an installation that holds any state
    is left alone. Raises TIYU-BAK-0001, 0006 (damaged backup), 0010 (state present), 0011 (a run is at work), 0007,
    TIYU-LED-0002 (a ledger of newer code).
    """
    root = Path(source).expanduser().absolute()
    ledger_file = _ledger_file()
    manifest = verify(root)
    migrations.refuse_newer(_ledger_number(root / "ledger.db"))
    stamp = f"{clock.utc_now():%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    places = {**_parts(), "ledger.db": ledger_file}
    key_file = settings().key_file
    if manifest["with_keys"]:
        places["keys"] = key_file.parent
    occupied = [name for name, place in places.items() if name != "keys" and _holds_something(place)]
    if occupied and not force:
        raise TiyuError(
            "TIYU-BAK-0010", "这里已有状态，不覆盖", "确认要替换后加 --force；原状态会改名保留在旁边", EXIT_USAGE,
            found="、".join(sorted(occupied)),
        )  # fmt: skip
    fresh = {name: place.with_name(f".{place.name}.restore-{stamp}") for name, place in places.items()}
    kept: list[str] = []
    with _no_run_at_work():
        try:
            for name, place in fresh.items():
                place.parent.mkdir(parents=True, exist_ok=True)
                _copy_back(root, name, place, manifest)
            os.sync()
            ledger.disconnect()
            for name, place in places.items():
                kept += _swap(place, fresh[name], stamp)
            os.sync()
        except OSError as error:
            raise _io("恢复", error) from error
        finally:
            for place in fresh.values():
                shutil.rmtree(place, ignore_errors=True)
                if place.is_file():
                    place.unlink()
    keys = "restored" if manifest["with_keys"] else "kept" if key_file.is_file() else "missing"
    size = sum(item["size"] for item in manifest["files"])
    return RestoreReport(
        str(root), manifest["taken_at"], len(manifest["files"]), size, len(manifest["heads"]), keys, kept
    )


def _ledger_number(file: Path) -> int:
    """How many migrations a copied ledger has seen; an older one is brought up to date when it is opened."""
    con = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        return int(con.execute(f"SELECT coalesce(max(version), 0) FROM {migrations.schema_version.name}").fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # from before schemas had numbers
    finally:
        con.close()


def _holds_something(place: Path) -> bool:
    return place.is_file() or (place.is_dir() and any(place.iterdir()))


def _copy_back(root: Path, name: str, target: Path, manifest: dict[str, Any]) -> None:
    """Copy one part aside and compare what was written with the manifest."""
    single = name == "ledger.db"
    if not single:
        target.mkdir(mode=0o700 if name == "keys" else 0o777)
    for item in manifest["files"]:
        if item["path"] != name and not item["path"].startswith(f"{name}/"):
            continue
        copy = target if single else target / item["path"].removeprefix(f"{name}/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        if _copy(root / item["path"], copy, item["path"]) != item:
            raise TiyuError(
                "TIYU-BAK-0006", "备份不完整或已损坏，拒绝使用", "换一份完好的备份；现有状态没有改动", EXIT_UNAVAILABLE,
                reason="复制时内容改变", file=item["path"],
            )  # fmt: skip


def _swap(place: Path, fresh: Path, stamp: str) -> list[str]:
    """Rename what is there out of the way and the restored part into its place. SQLite's side files go with their file:
    a write-ahead log beside another database would be replayed into it."""
    kept = []
    for old in (place, *(place.with_name(place.name + suffix) for suffix in ("-wal", "-shm"))):
        if old.exists() or old.is_symlink():
            if old.is_dir() and not any(old.iterdir()):
                old.rmdir()
                continue
            aside = old.with_name(f".{old.name}.replaced-{stamp}")
            os.replace(old, aside)
            kept.append(str(aside))
    os.replace(fresh, place)
    return kept


class _no_run_at_work:
    """Hold the lock of the state and those of all resources, so that nothing reads or writes while it is replaced."""

    def __enter__(self) -> None:
        self._files: list[Any] = []
        state.lock_file().parent.mkdir(parents=True, exist_ok=True)
        state.lock_file().touch()
        for lock in sorted(state.lock_file().parent.glob("*.lock")):
            file = open(lock, "a")
            self._files.append(file)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.__exit__()
                raise TiyuError(
                    "TIYU-BAK-0011", "有任务或命令正在使用数据，不能恢复", "停止调度和服务，等命令结束后重跑", EXIT_UNAVAILABLE,
                    lock=lock.stem,
                ) from None  # fmt: skip

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()
