"""Does the README keep its word on a machine that has nothing? (``make test-fresh``)

Builds a minimal Debian 12 with ``debootstrap``, installs exactly the packages of the README's apt line, and then, as an ordinary user
in a fresh clone of HEAD:

1. ``make demo HEADLESS=1`` and ``make test``;
2. ``make clean`` and ``make demo HEADLESS=1`` once more, and ``make test-unit``, without any network and without the machine's package
   folders. That the index cannot be reached there is proved: the same download of one locked package succeeds before and must fail now.

Needs root (chroot, namespaces), the Debian packages ``debootstrap`` and ``util-linux``, about 8 GB of disk and, in step 1, the package
indexes this machine is configured for: apt's sources and pip's or uv's settings are copied, no address is written here. Uses the standard
library only. The base system is kept in ``--cache`` and made again only when the apt line changes.

Everything runs in mount and process namespaces of its own: when this program ends, however it ends, the kernel takes its processes and
mounts away, and the folder is removed (after a SIGKILL by the next run). Exit codes: 0 all held · 1 a step failed · 2 something needed is
missing · 130 interrupted.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SUITE = "bookworm"
USER = "newcomer"
CHECKOUT = f"/home/{USER}/tiyu"
NEEDED = {"debootstrap": "debootstrap", "unshare": "util-linux", "chroot": "coreutils", "git": "git"}
FREE_BYTES = 8 * 2**30
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
SETTINGS = re.compile(r"^(PIP_|UV_)|^(SSL_CERT_FILE|HTTPS?_PROXY|NO_PROXY|https?_proxy|no_proxy)$")
LAYOUT = "1"
PR_SET_PDEATHSIG = 1


class FreshError(RuntimeError):
    """A step failed, or something this program needs is missing (exit code 2)."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived."""


@dataclass
class Index:
    """How this machine reaches its package indexes: variables, settings files of pip and uv, and the local paths they name."""

    variables: dict[str, str]
    files: dict[str, str]
    paths: list[str]


@dataclass
class Stages:
    """What was done and how long it took."""

    done: list[dict[str, Any]] = field(default_factory=list)

    def note(self, title: str, seconds: float, ok: bool) -> None:
        """Remember and show one step."""
        self.done.append({"title": title, "seconds": round(seconds, 1), "ok": ok})
        print(f"fresh: {'ok    ' if ok else 'FAILED'} {seconds:7.1f} s  {title}", flush=True)


def apt_line(readme: str) -> list[str]:
    """Packages of the first ``apt-get install`` line of the README; raises FreshError when there is none."""
    found = re.search(r"^(?:sudo )?apt-get install -y ([^#\n]+)", readme, re.MULTILINE)
    if not found:
        raise FreshError("the README has no `apt-get install -y …` line")
    return found[1].split()


def local_paths(texts: list[str]) -> list[str]:
    """Absolute local paths that settings name: certificates, folders of packages, and the folder around a ``file:`` index (its pages
    link to files beside it). A path inside another one is not listed.
    """
    words = {word.rstrip("/") for text in texts for word in re.split(r"[\s,=\"'\[\]]+", text)}
    named = {os.path.dirname(word.removeprefix("file://")) if word.startswith("file://") else word for word in words}
    existing = sorted(path for path in named if path.startswith("/") and path != "/" and Path(path).exists())
    return [path for path in existing if not any(path.startswith(f"{other}/") for other in existing)]


def machine_index(home: Path, environment: dict[str, str]) -> Index:
    """The settings of the account that runs this program."""
    variables = {name: value for name, value in environment.items() if SETTINGS.search(name)}
    places = {
        "/etc/pip.conf": "/etc/pip.conf",
        "/etc/xdg/pip/pip.conf": "/etc/xdg/pip/pip.conf",
        str(home / ".config/pip/pip.conf"): f"/home/{USER}/.config/pip/pip.conf",
        str(home / ".pip/pip.conf"): f"/home/{USER}/.pip/pip.conf",
        "/etc/uv/uv.toml": "/etc/uv/uv.toml",
        str(home / ".config/uv/uv.toml"): f"/home/{USER}/.config/uv/uv.toml",
    }
    files = {target: Path(source).read_text() for source, target in places.items() if Path(source).is_file()}
    return Index(variables, files, local_paths([*variables.values(), *files.values()]))


def require() -> None:
    """Say at once what is missing."""
    if os.geteuid() != 0:
        raise FreshError("run as root: it makes a chroot and namespaces (the tests inside run as an ordinary user)", 2)
    missing = sorted({package for tool, package in NEEDED.items() if shutil.which(tool) is None})
    if missing:
        raise FreshError(f"install first: apt-get install -y {' '.join(missing)}", 2)


def debian_archive() -> str:
    """The Debian archive this machine's apt uses for the suite; raises FreshError when it uses none."""
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"],
        capture_output=True, text=True,
    )  # fmt: skip
    for line in listing.stdout.splitlines():
        codename, component, address = line.split()[:3]
        if (codename, component) == (SUITE, "main"):
            return address
    raise FreshError(f"apt of this machine has no source for Debian {SUITE}; run it on Debian 12", 2)


# ------------------------------------------------------------------ the base system
def run(command: list[str], log: Path, title: str) -> None:
    """Run a command into the log; raises FreshError with its last lines."""
    with log.open("ab") as out:
        code = subprocess.run(
            command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent
        ).returncode
    if code:
        raise FreshError(f"{title} failed ({code}), log {log}:\n{tail(log)}")


def tail(log: Path, lines: int = 25) -> str:
    """The end of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def base_system(cache: Path, packages: list[str], log: Path) -> tuple[Path, bool]:
    """A minimal Debian with the README's packages; returns its folder and whether it was made now."""
    key = hashlib.sha256(json.dumps([LAYOUT, SUITE, packages]).encode()).hexdigest()[:16]
    base = cache / f"base-{key}"
    if base.is_dir():
        return base, False
    partial = cache / f"base-{key}.partial"
    remove(partial)
    run(["debootstrap", "--variant=minbase", SUITE, str(partial), debian_archive()], log, "debootstrap")
    # debootstrap has written the source; how this machine reaches it (proxy, certificates, clock checks) is apt's configuration
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    acquire = [line for line in dump.splitlines() if line.startswith("Acquire::")]
    (partial / "etc/apt/apt.conf.d/90machine").write_text("\n".join(acquire) + "\n")
    for name in ("resolv.conf", "hosts"):
        shutil.copyfile(Path("/etc") / name, partial / "etc" / name)
    enter(partial, ["apt-get", "update"], log, user=None, network=True, paths=[])
    install = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", *packages]
    enter(partial, install, log, user=None, network=True, paths=[])
    enter(partial, ["useradd", "--create-home", "--shell", "/bin/bash", USER], log, user=None, network=True, paths=[])
    partial.rename(base)
    return base, True


def remove(folder: Path) -> None:
    """Remove a root file system that nothing is mounted in (mounts live in namespaces that are gone)."""
    if folder.exists():
        mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        if any(place == str(folder) or place.startswith(f"{folder}/") for place in mounted):
            raise FreshError(f"{folder} has something mounted in it; unmount it first", 2)
        shutil.rmtree(folder)


def fresh_root(cache: Path, base: Path, index: Index) -> Path:
    """A copy of the base system with a clone of HEAD that belongs to the user, and the machine's index settings."""
    root = cache / f"run-{os.getpid()}"
    remove(root)
    subprocess.run(["cp", "-a", "--reflink=auto", str(base), str(root)], check=True)
    checkout = root / CHECKOUT.lstrip("/")
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(checkout)], check=True)
    subprocess.run(["git", "-C", str(checkout), "remote", "remove", "origin"], check=True)
    for target, text in index.files.items():
        path = root / target.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    subprocess.run(["chroot", str(root), "chown", "-R", f"{USER}:{USER}", f"/home/{USER}"], check=True)
    return root


def head() -> str:
    """The commit that is tried."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def remove_stale(cache: Path) -> None:
    """Folders of runs that were killed."""
    for folder in cache.glob("run-*"):
        number = folder.name.removeprefix("run-")
        if number.isdigit() and not Path(f"/proc/{number}").exists():
            remove(folder)


# ------------------------------------------------------------------ inside
def die_with_parent() -> None:
    """The kernel kills this process when its parent ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def enter(
    root: Path,
    command: list[str],
    log: Path,
    *,
    user: str | None = USER,
    network: bool,
    paths: list[str],
    variables: dict[str, str] | None = None,
    check: bool = True,
) -> int:
    """Run a command in the chroot, in namespaces of its own; returns its exit code.

    ``network`` False leaves a loopback interface and nothing else. ``paths`` of the machine are shown read-only.
    """
    plan = {
        "root": str(root),
        "command": command,
        "user": user,
        "network": network,
        "paths": paths,
        "variables": variables or {},
    }
    flags = [
        "--mount",
        "--pid",
        "--fork",
        "--kill-child=SIGKILL",
        "--propagation",
        "private",
        *([] if network else ["--net"]),
    ]
    with log.open("ab") as out:
        out.write(f"\n$ {' '.join(command)}\n".encode())
        out.flush()
        process = subprocess.Popen(
            ["unshare", *flags, sys.executable, __file__, "--inside", json.dumps(plan)],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=die_with_parent,
        )  # fmt: skip
        try:
            code = process.wait()
        finally:
            process.kill()  # the first process of the namespace goes with it, and with that one all others
            process.wait()
    if code and check:
        raise FreshError(f"`{' '.join(command)}` failed ({code}), log {log}:\n{tail(log)}")
    return code


def inside(plan: dict[str, Any]) -> None:
    """First process of the namespaces: mount what a system has, then become the command."""
    root = Path(plan["root"])

    def mount(*arguments: str) -> None:
        subprocess.run(["mount", *arguments], check=True)

    mount("-t", "proc", "proc", str(root / "proc"))
    mount("-t", "tmpfs", "-o", "mode=755,size=1m", "tmpfs", str(root / "dev"))
    for name in DEVICES:
        (root / "dev" / name).touch()
        mount("--bind", f"/dev/{name}", str(root / "dev" / name))
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        (root / "dev" / name).symlink_to(target)
    (root / "dev/shm").mkdir()
    mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", str(root / "dev/shm"))
    for path in plan["paths"]:
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if Path(path).is_dir():
            target.mkdir(exist_ok=True)
        else:
            target.touch()
        mount("--bind", path, str(target))
        mount("-o", "remount,bind,ro", str(target))
    if not plan["network"]:
        loopback_up()
    home = f"/home/{plan['user']}" if plan["user"] else "/root"
    environment = {
        "HOME": home, "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8",
        "USER": plan["user"] or "root", "TERM": "dumb", **plan["variables"],
    }  # fmt: skip
    spec = ["--userspec", f"{plan['user']}:{plan['user']}"] if plan["user"] else []
    # not exec: this process stays the first of its namespace and collects orphans until the command ends
    child = subprocess.Popen(["chroot", *spec, str(root), *plan["command"]], env=environment)
    while True:
        try:
            ended, status = os.waitpid(-1, 0)
        except InterruptedError:
            continue
        if ended == child.pid:
            sys.exit(os.waitstatus_to_exitcode(status) % 256)


def loopback_up() -> None:
    """Switch the loopback interface of a new network namespace on (there is no ``ip`` command to rely on)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        flags = struct.unpack("16sh", fcntl.ioctl(handle, 0x8913, struct.pack("16sh", b"lo", 0)))[1]
        fcntl.ioctl(handle, 0x8914, struct.pack("16sh", b"lo", flags | 1))


# ------------------------------------------------------------------ the whole way
PROBE = (
    f"cd {CHECKOUT} && rm -rf /tmp/probe && "
    ".tools/bin/python -m pip download --quiet --disable-pip-version-check --no-cache-dir --no-deps --retries 0 --timeout 20 "
    "--require-hashes --only-binary :all: -d /tmp/probe -r requirements/bootstrap.txt"
)
"""Fetch one locked package from wherever this account gets packages."""


def whole_way(options: argparse.Namespace, stages: Stages) -> None:
    """All stages in order; raises FreshError at the first that fails."""
    cache: Path = options.cache
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if free < FREE_BYTES:
        raise FreshError(f"{cache} has {free / 2**30:.1f} GiB free, {FREE_BYTES / 2**30:.0f} are needed", 2)
    remove_stale(cache)
    log = cache / "last.log"
    log.write_bytes(b"")
    index = machine_index(Path.home(), dict(os.environ))
    packages = apt_line((ROOT / "README.md").read_text(encoding="utf-8"))
    print(f"fresh: commit {head()}, packages {' '.join(packages)}, log {log}", flush=True)

    started = time.monotonic()
    base, made = base_system(cache, packages, log)
    stages.note(
        "minimal Debian with the README's packages" + ("" if made else " (kept)"), time.monotonic() - started, True
    )
    root = cache / f"run-{os.getpid()}"
    try:
        started = time.monotonic()
        root = fresh_root(cache, base, index)
        stages.note("fresh clone for an ordinary user", time.monotonic() - started, True)

        def stage(title: str, script: str, network: bool, expect_failure: bool = False) -> None:
            begun = time.monotonic()
            code = enter(
                root, ["/bin/sh", "-c", script], log, network=network, paths=index.paths if network else [],
                variables=index.variables if network else {}, check=False,
            )  # fmt: skip
            ok = (code != 0) == expect_failure
            stages.note(title, time.monotonic() - begun, ok)
            if not ok:
                raise FreshError(f"{title}: exit code {code}, log {log}:\n{tail(log)}")

        make = f"cd {CHECKOUT} && exec make"
        stage("make setup", f"{make} setup", network=True)
        stage("make demo HEADLESS=1", f"{make} demo HEADLESS=1", network=True)
        stage("one package comes from the index (probe)", PROBE, network=True)
        stage(
            "the same probe fails without network: the index cannot be reached",
            PROBE,
            network=False,
            expect_failure=True,
        )
        stage("make clean, then make demo HEADLESS=1 without network", f"{make} clean demo HEADLESS=1", network=False)
        if not options.skip_tests:
            stage("make test", f"{make} test PYTEST_ARGS=-rs", network=True)
            stage("make test-unit without network", f"{make} test-unit PYTEST_ARGS=-q", network=False)
        for line in log.read_text(errors="replace").splitlines():
            if re.search(r"^(SKIPPED|FAILED|ERROR)|\d+ passed|全部进程内存峰值", line):
                print(f"fresh: | {line.strip()}", flush=True)
    finally:
        if options.keep:
            print(f"fresh: kept {root}", flush=True)
        else:
            remove(root)


def _interrupt(number: int, frame: Any) -> None:
    del number, frame
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    raise Interrupted


def main() -> int:
    """Entry point of ``make test-fresh``."""
    if len(sys.argv) == 3 and sys.argv[1] == "--inside":
        inside(json.loads(sys.argv[2]))
    summary, _, more = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cache", type=Path, default=Path("/var/cache/tiyu-fresh"), help="keeps the base system and the log"
    )
    parser.add_argument("--skip-tests", action="store_true", help="the demo twice, without `make test`")
    parser.add_argument("--keep", action="store_true", help="leave the chroot in place, to look into it")
    options = parser.parse_args()
    options.cache = options.cache.absolute()
    stages = Stages()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, _interrupt)
    try:
        require()
        whole_way(options, stages)
    except FreshError as error:
        print(f"fresh: {error}", file=sys.stderr)
        return error.exit_code
    except Interrupted:
        print("fresh: interrupted, everything removed", file=sys.stderr)
        return 130
    finally:
        if stages.done:
            (options.cache / "last.json").write_text(json.dumps(stages.done, indent=1) + "\n", encoding="utf-8")
    print(f"fresh: all {len(stages.done)} steps held", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
