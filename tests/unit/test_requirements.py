"""What the platform imports is in the lock it is installed from: a module that only the development tools bring would
be missing in `make demo`."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = (
    "lake",
    "catalog",
    "protection",
    "quality",
    "ingestion",
    "modeling",
    "sharing",
    "cli",
    "dags",
    "deploy",
    "simulation",
)
#: Imported only when the development tools are installed, behind a try or in a check.
DEVELOPMENT_ONLY = {"compose", "check_jsonschema"}


def imported() -> dict[str, set[str]]:
    """Third-party top-level module → files that import it."""
    ours = {*ROOMS, "dashboards"}
    found: dict[str, set[str]] = {}
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                    names = [node.module]
                for name in names:
                    top = name.split(".")[0]
                    if top not in ours and top not in sys.stdlib_module_names:
                        found.setdefault(top, set()).add(str(path.relative_to(ROOT)))
    return found


def test_every_import_is_in_the_pipeline_lock():
    lock = (ROOT / "requirements" / "pipeline.txt").read_text("utf-8")
    locked = {
        re.sub(r"[-_.]+", "-", name).lower() for name in re.findall(r"^([A-Za-z0-9_.-]+)(?:\[.*?\])?==", lock, re.M)
    }
    providers = importlib.metadata.packages_distributions()
    modules = imported()
    assert len(modules) > 20
    missing = {
        module: sorted(files)
        for module, files in modules.items()
        if module not in DEVELOPMENT_ONLY
        and not {re.sub(r"[-_.]+", "-", name).lower() for name in providers.get(module, [])} & locked
    }
    assert missing == {}
