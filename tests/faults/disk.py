"""A state folder on a small file system of its own, which is filled up and made read-only while verbs run.

A user and mount namespace of an ordinary user (``unshare -Urm``) holds a tmpfs on the state folder: ENOSPC and EROFS are
the kernel's own, also for root. For every verb the same is tried with more and more free space, so that the disk is full
in another place each time; every failure must be the coded error, and with the space freed (the named remedy) the same
verb must pass. At the end the folder is copied out, to be compared with an undisturbed one.

``python -m tests.faults.disk JOB.json`` is the inside; :func:`run` the outside.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.faults.support import ROOT

LEVELS_KIB = (0, 48, 192, 768, 3072)
ENTER = ("unshare", "--user", "--map-root-user", "--mount")


@dataclass
class Attempt:
    """One run of a verb. ``state``: free KiB, ``read only`` or ``repaired``; ``said``: what it printed last."""

    verb: str
    state: str
    exit_code: int
    said: str


def possible() -> str | None:
    """Why a file system of one's own cannot be had here; None when it can."""
    try:
        result = subprocess.run([*ENTER, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True)
    except FileNotFoundError:
        return "there is no unshare(1)"
    return f"no user namespace: {result.stderr.strip()}" if result.returncode else None


def run(
    home: Path,
    env: dict[str, str],
    verbs: list[tuple[str, dict[str, Any]]],
    *,
    levels: tuple[int, ...] = LEVELS_KIB,
    size_mib: int = 512,
    read_only: str = "",
) -> list[Attempt]:
    """Run the verbs in order on ``home``; what they leave is in ``home`` afterwards.

    ``read_only``: the folder below home that is made read-only (the whole home when empty).
    """
    job = home.with_name(f"{home.name}.job.json")
    job.write_text(
        json.dumps({"home": str(home), "verbs": verbs, "levels": levels, "size_mib": size_mib, "read_only": read_only})
    )
    result = subprocess.run(
        [*ENTER, sys.executable, "-m", "tests.faults.disk", str(job)],
        cwd=ROOT, env={**env, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    line = next(line for line in result.stdout.splitlines() if line.startswith("ATTEMPTS "))
    return [Attempt(**item) for item in json.loads(line.removeprefix("ATTEMPTS "))]


# ------------------------------------------------------------------ inside the namespace
def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _verb(verb: str, arguments: dict[str, Any]) -> tuple[int, str]:
    out = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path("/tmp")
    command = [sys.executable, "-m", "dags.child", verb, json.dumps(arguments), str(out / f"report-{os.getpid()}.json")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    coded = [line for line in lines if line.startswith("TIYU-")]
    return result.returncode, (coded or lines or [""])[-1]


def _fill(ballast: Path, free_kib: int) -> None:
    """Leave about that much free space."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):  # buffered, closing it would fail once more
        while file.write(b"\0" * (1 << 16)):
            pass
    size = max(0, ballast.stat().st_size - free_kib * 1024)
    os.truncate(ballast, size)


def _inside(job: dict[str, Any]) -> list[Attempt]:
    home = Path(job["home"])
    outside = home.with_name(f"{home.name}.outside")
    outside.mkdir(exist_ok=True)  # left, empty, by the run before on the same folder
    _mount("--bind", str(home), str(outside))
    _mount("-t", "tmpfs", "-o", f"size={job['size_mib']}m,mode=0750", "none", str(home))
    shutil.copytree(outside, home, symlinks=True, dirs_exist_ok=True)
    attempts: list[Attempt] = []
    ballast = home / "ballast"
    for verb, arguments in job["verbs"]:
        title = f"{verb} {arguments}" if arguments else verb
        done = False
        for free_kib in job["levels"]:
            _fill(ballast, free_kib)
            attempts.append(Attempt(title, f"{free_kib} KiB free", *_verb(verb, arguments)))
            ballast.unlink()
            done = attempts[-1].exit_code == 0
            if done:
                break
        if not done:
            target = home / job["read_only"]
            target.mkdir(parents=True, exist_ok=True)
            _mount("--bind", str(target), str(target))
            _mount("-o", "remount,bind,ro", str(target))
            attempts.append(Attempt(title, "read only", *_verb(verb, arguments)))
            subprocess.run(["umount", str(target)], check=True)
        attempts.append(Attempt(title, "repaired", *_verb(verb, arguments)))
    for entry in outside.iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    shutil.copytree(home, outside, symlinks=True, dirs_exist_ok=True)
    return attempts


if __name__ == "__main__":
    found = _inside(json.loads(Path(sys.argv[1]).read_text("utf-8")))
    print("ATTEMPTS " + json.dumps([asdict(item) for item in found], ensure_ascii=False))
