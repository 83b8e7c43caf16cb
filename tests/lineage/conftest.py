"""The compiled project, its graph, and the oracle over the micro-lake; a full run leaves its result behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import micro_lake
import scores


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """A folder that all processes of a run share."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    with contextlib.suppress(FileExistsError):
        (folder / "lineage_started").touch(exist_ok=False)
    return folder


@pytest.fixture(scope="session")
def project(shared, tmp_path_factory):
    """(project with specs and sources, compiled SQL, graph); dbt compiles once a run, in the process that asks first."""
    from modeling import lineage, run
    from modeling import project as dbt_project

    file = shared / "lineage_project.pickle"
    with open(shared / "lineage_project.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.is_file():
            with pytest.MonkeyPatch.context() as patch:
                for name in ("LAKE_ROOT", "TIYU_LEDGER_URL"):
                    patch.delenv(name, raising=False)
                patch.setenv("TIYU_HOME", str(tmp_path_factory.mktemp("lineage")))
                patch.setenv("TIYU_TODAY", micro_lake.TODAY.isoformat())
                session, compiled = run.compiled()
                graph = lineage.graph_of(session, compiled, dbt_project.parse())
            kept = (dict(session.specs), dict(session.sources), compiled, graph)
            file.write_bytes(pickle.dumps(kept))
        specs, sources, compiled, graph = pickle.loads(file.read_bytes())
    return SimpleNamespace(specs=specs, sources=sources), compiled, graph


@pytest.fixture(scope="session")
def oracle(project):
    """A fresh micro-lake with every model computed."""
    session, compiled, _ = project
    return micro_lake.build(session, compiled)


@pytest.fixture(scope="session", autouse=True)
def result(shared):
    """Stores the result when every part of it was noted: the process that ends last finds them all."""
    yield
    scores.write(shared)


@pytest.fixture
def note(shared) -> Callable[[str, dict], None]:
    """Notes a part of the result."""
    return partial(scores.note, shared)
