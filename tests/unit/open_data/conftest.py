from __future__ import annotations

import pytest

from catalog.policy import Facet
from lake import properties
from sharing import outputs
from sharing.open_data import config
from tests.unit.open_data import synthetic

OPEN = Facet("L1", "N", None)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A demo installation on 2026-11-20 whose two open tables are filled and checked."""
    monkeypatch.setenv("TIYU_HOME", str(tmp_path / "var"))
    monkeypatch.setenv("TIYU_TODAY", "2026-11-20")
    for name in ("LAKE_ROOT", "TIYU_LEDGER_URL", "TIYU_AS_OF"):
        monkeypatch.delenv(name, raising=False)
    listed = synthetic.specs()
    monkeypatch.setattr(config, "load", lambda: listed)
    monkeypatch.setattr(
        outputs,
        "described",
        lambda table: {c.name: OPEN for spec in listed if spec.table == table for c in spec.columns},
    )
    properties.set("is_demo", "true")
    synthetic.put(synthetic.DIRECTORY, synthetic.directory_frame())
    synthetic.put(synthetic.VISITS, synthetic.visits_frame())
    return tmp_path / "var"
