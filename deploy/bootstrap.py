"""Build both environments from the committed hashed locks, then the prebuilt templates (``make setup``).

Runs on the bare system Python 3.11 with the standard library only, because nothing is installed yet. Every step is skipped when
its inputs did not change (a stamp holds the hash of the inputs), so a second run takes well under a second. A step that was
interrupted leaves no stamp and is done again.

The package index is whatever this machine is configured to use: ``uv`` reads its own configuration and ``UV_*`` variables; where it
has none, the settings of ``pip`` (index, extra indexes, find-links, certificate) are handed on to it. No address is written here.
"""

from __future__ import annotations

import argparse
import ast
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
VENV = ROOT / ".venv"
VENV_COCKPIT = ROOT / ".venv-cockpit"
TEMPLATES = ROOT / "build" / "templates"
APT_LINE = "apt-get install -y python3.11 python3.11-venv make"
OUR_PACKAGES = (
    "catalog",
    "cli",
    "dags",
    "dashboards",
    "deploy",
    "ingestion",
    "lake",
    "modeling",
    "protection",
    "quality",
    "sharing",
    "simulation",
)


class SetupError(RuntimeError):
    """A set-up step failed; the message says which and what to do."""


def digest(paths: Iterable[Path], *extra: str) -> str:
    """Hash of file contents and extra words: the identity of a step's inputs."""
    value = hashlib.sha256()
    for path in sorted(paths):
        value.update(path.relative_to(ROOT).as_posix().encode())
        value.update(path.read_bytes())
    for word in extra:
        value.update(word.encode())
    return value.hexdigest()


def stamped(stamp: Path) -> str:
    """Content of a stamp file, empty when there is none."""
    return stamp.read_text() if stamp.is_file() else ""


def write_stamp(stamp: Path, value: str) -> None:
    """Record that the step with these inputs is complete."""
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(value)


def run(command: list[str], *, env: dict[str, str] | None = None, quiet: bool = False) -> str:
    """Run a command, showing its output; raise SetupError when it fails. Returns standard output when ``quiet``."""
    result = subprocess.run(
        command,
        cwd=ROOT,
        env=env,
        text=True,
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
    )
    if result.returncode:
        tail = "\n".join((result.stdout or "").splitlines()[-30:])
        raise SetupError(f"command failed ({result.returncode}): {' '.join(command)}\n{tail}")
    return result.stdout or ""


def uv_environment() -> dict[str, str]:
    """Environment for uv: its own settings win; otherwise the machine's pip settings are translated."""
    env = dict(os.environ)
    env["UV_NO_PROGRESS"] = "0" if sys.stderr.isatty() else "1"
    has_own = any(name in env for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_CONFIG_FILE"))
    homes = [Path(env.get("XDG_CONFIG_HOME", Path.home() / ".config")) / "uv" / "uv.toml", Path("/etc/uv/uv.toml")]
    if has_own or any(path.is_file() for path in homes):
        return env
    listing = run([str(TOOLS / "bin" / "python"), "-m", "pip", "config", "list"], quiet=True)
    values: dict[str, str] = {}
    for line in listing.splitlines():
        key, separator, raw = line.partition("=")
        # `install.x` and `global.x` both apply to an install; the environment form `:env:.x` comes first in the listing.
        if separator and key.split(".", 1)[0] in {"global", "install", ":env:"}:
            try:
                values.setdefault(key.split(".", 1)[1], str(ast.literal_eval(raw)))
            except (ValueError, SyntaxError):
                continue
    if "index-url" in values:
        env["UV_DEFAULT_INDEX"] = values["index-url"]
    if "extra-index-url" in values:
        env["UV_INDEX"] = " ".join(values["extra-index-url"].split())
        # pip looks at all indexes at once; the hashes of the lock make this safe.
        env["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if "find-links" in values:
        env.setdefault("UV_FIND_LINKS", ",".join(values["find-links"].split()))
    if "cert" in values:
        env.setdefault("SSL_CERT_FILE", values["cert"])
    if "trusted-host" in values:
        env.setdefault("UV_INSECURE_HOST", " ".join(values["trusted-host"].split()))
    if "proxy" in values:
        env.setdefault("HTTPS_PROXY", values["proxy"])
    return env


class Steps:
    """Numbered steps with elapsed time, so that a newcomer sees what is going on."""

    def __init__(self, total: int) -> None:
        self.total, self.number, self.done = total, 0, 0

    def step(
        self, title: str, needed: bool, action: Callable[[], None], stamp: Path | None = None, value: str = ""
    ) -> None:
        """Run one step when it is needed, say what happened, and leave its stamp only when it succeeded."""
        self.number += 1
        label = f"[{self.number}/{self.total}] {title}"
        if not needed:
            return
        print(f"{label} ...", flush=True)
        started = time.monotonic()
        action()
        if stamp is not None:
            write_stamp(stamp, value)
        self.done += 1
        print(f"{label} done in {time.monotonic() - started:.1f} s", flush=True)


def make_venv(path: Path) -> None:
    """Create an empty virtual environment with pip, or say which system package is missing."""
    shutil.rmtree(path, ignore_errors=True)
    result = subprocess.run([sys.executable, "-m", "venv", str(path)], capture_output=True, text=True)
    if result.returncode:
        shutil.rmtree(path, ignore_errors=True)
        raise SetupError(
            f"cannot create a virtual environment; install the system packages first:\n    {APT_LINE}\n{result.stdout}"
        )


def install_tools() -> None:
    """`.tools` holds uv and nothing else; pip verifies it against the hashed lock."""
    make_venv(TOOLS)
    pip = [
        str(TOOLS / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--require-hashes",
        "--only-binary",
        ":all:",
    ]
    run([*pip, "-r", "requirements/bootstrap.txt"])


def sync(venv: Path, lock: str) -> None:
    """Make ``venv`` hold exactly the packages of ``lock``, verified by hash, with compiled bytecode."""
    uv, env = str(TOOLS / "bin" / "uv"), uv_environment()
    python = venv / "bin" / "python"
    if not python.exists():
        # the folder may hold a stamp already, or be left over from an interrupted set-up
        run([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(venv)], env=env)
    # on a terminal uv shows its download bars; in a log its list of 200 packages says nothing
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    run([uv, "pip", "sync", *quiet, "--require-hashes", "--compile-bytecode", "-p", str(python), lock], env=env)


def install_project(venv: Path) -> None:
    """Make our packages importable and the ``tiyu`` command available; the build backend comes from the lock."""
    uv, env = str(TOOLS / "bin" / "uv"), uv_environment()
    python = str(venv / "bin" / "python")
    run(
        [uv, "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--offline", "-p", python, "-e", "."],
        env=env,
    )


def compile_ours() -> None:
    """Compile our own modules for the pipeline interpreter, so that the first start does not pay for it."""
    folders = [name for name in OUR_PACKAGES if (ROOT / name).is_dir()]
    subprocess.run([str(VENV / "bin" / "python"), "-m", "compileall", "-q", "-j", "2", *folders], cwd=ROOT, check=False)


def build_airflow_template() -> None:
    """A migrated, empty Airflow metadata database; the demo copies it instead of running 5 s of migrations."""
    work = TEMPLATES / "airflow.work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    env = dict(os.environ)
    env |= {
        "AIRFLOW_HOME": str(work),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(work / "none"),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{work}/airflow.db",
        "SCARF_ANALYTICS": "false",
        "DO_NOT_TRACK": "1",
    }
    run([str(VENV / "bin" / "airflow"), "db", "migrate"], env=env, quiet=True)
    # Fold the write-ahead log into the file: only one file is copied later.
    import sqlite3

    connection = sqlite3.connect(work / "airflow.db")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.close()
    os.replace(work / "airflow.db", TEMPLATES / "airflow.db")
    shutil.rmtree(work, ignore_errors=True)


def build_superset_template() -> None:
    """A migrated Superset metadata database with the roles, made by the cockpit's own bootstrap."""
    run(
        [
            str(VENV_COCKPIT / "bin" / "python"),
            "-m",
            "dashboards.bootstrap",
            "template",
            "--out",
            str(TEMPLATES / "superset.db"),
        ],
        quiet=True,
    )


def parse_dbt() -> None:
    """Parse the dbt project once; the demo copies the result, so that its first layer run starts from a partial parse."""
    home = TEMPLATES / "dbt.work"
    shutil.rmtree(home, ignore_errors=True)
    code = "from modeling import project; project.parse()"
    run([str(VENV / "bin" / "python"), "-c", code], env={**os.environ, "TIYU_HOME": str(home)}, quiet=True)
    os.replace(home / "dbt" / "target" / "partial_parse.msgpack", TEMPLATES / "partial_parse.msgpack")
    shutil.rmtree(home, ignore_errors=True)


def setup(dev: bool) -> int:
    """Bring the environments and templates up to date; returns the number of steps that had work."""
    if sys.version_info[:2] != (3, 11):
        raise SetupError(f"Python 3.11 is needed, this is {sys.version.split()[0]}; install it:\n    {APT_LINE}")
    steps = Steps(7)
    bootstrap = digest([ROOT / "requirements/bootstrap.txt"], sys.version)
    steps.step(
        "installer (.tools)",
        stamped(TOOLS / ".stamp") != bootstrap,
        install_tools,
        TOOLS / ".stamp",
        bootstrap,
    )

    stamp_file = VENV / ".stamp"
    stamp = json.loads(stamped(stamp_file) or "{}")
    dev = dev or bool(stamp.get("dev"))
    lock = "requirements/dev.txt" if dev else "requirements/pipeline.txt"
    lock_hash = digest([ROOT / lock], sys.version)
    fresh = stamp.get("lock") != lock_hash

    def sync_pipeline() -> None:
        write_stamp(stamp_file, json.dumps({"dev": dev}))  # not complete, but an interrupted set-up keeps its kind
        sync(VENV, lock)

    steps.step(f"pipeline environment (.venv from {lock})", fresh, sync_pipeline)

    project_hash = digest([ROOT / "pyproject.toml"])
    project_fresh = fresh or stamp.get("project") != project_hash

    def project() -> None:
        install_project(VENV)
        compile_ours()
        write_stamp(stamp_file, json.dumps({"dev": dev, "lock": lock_hash, "project": project_hash}))

    steps.step("the project itself (tiyu command)", project_fresh, project)

    cockpit_hash = digest([ROOT / "requirements/cockpit.txt"], sys.version)

    def cockpit() -> None:
        (VENV_COCKPIT / ".stamp").unlink(missing_ok=True)
        sync(VENV_COCKPIT, "requirements/cockpit.txt")
        write_stamp(VENV_COCKPIT / ".stamp", cockpit_hash)

    steps.step("cockpit environment (.venv-cockpit)", stamped(VENV_COCKPIT / ".stamp") != cockpit_hash, cockpit)

    airflow_hash = digest([ROOT / "requirements/pipeline.txt"])
    steps.step(
        "template of the Airflow metadata",
        stamped(TEMPLATES / "airflow.stamp") != airflow_hash or not (TEMPLATES / "airflow.db").is_file(),
        build_airflow_template,
        TEMPLATES / "airflow.stamp",
        airflow_hash,
    )

    cockpit_files = [path for path in (ROOT / "dashboards").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    superset_sources = [
        ROOT / "requirements/cockpit.txt",
        *cockpit_files,
        *sorted((ROOT / "catalog/policy").glob("*.yaml")),
    ]
    superset_hash = digest(superset_sources)
    steps.step(
        "template of the Superset metadata",
        stamped(TEMPLATES / "superset.stamp") != superset_hash,
        build_superset_template,
        TEMPLATES / "superset.stamp",
        superset_hash,
    )

    dbt_sources = [
        path
        for ext in ("sql", "yml", "yaml")
        for path in (ROOT / "dbt_project").rglob(f"*.{ext}")
        if "target" not in path.parts
    ]
    dbt_hash = digest(dbt_sources, lock_hash)
    steps.step(
        "first parse of the dbt project",
        stamped(TEMPLATES / "dbt.stamp") != dbt_hash,
        parse_dbt,
        TEMPLATES / "dbt.stamp",
        dbt_hash,
    )
    return steps.done


def main() -> int:
    """Entry point of ``make setup`` and ``make setup-dev``."""
    parser = argparse.ArgumentParser(description="Set up the environments of the Tiyu Lakehouse (idempotent).")
    parser.add_argument("--dev", action="store_true", help="also install the development tools (tests, linters)")
    arguments = parser.parse_args()
    (ROOT / "build").mkdir(exist_ok=True)
    started = time.monotonic()
    with (ROOT / "build" / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            done = setup(arguments.dev)
        except SetupError as error:
            print(f"make setup: {error}", file=sys.stderr)
            return 1
    if done:
        print(f"set-up complete in {time.monotonic() - started:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
