from __future__ import annotations

import pytest

from catalog.policy import Facet
from lake import properties
from sharing import outputs
from sharing.exchange import config
from tests.unit.exchange import synthetic

OPEN = Facet("L1", "N", None)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty demo installation on 2026-11-20, deliveries as in the synthetic contracts."""
    monkeypatch.setenv("TIYU_HOME", str(tmp_path / "var"))
    monkeypatch.setenv("TIYU_TODAY", "2026-11-20")
    for name in ("LAKE_ROOT", "TIYU_LEDGER_URL", "TIYU_AS_OF", "TIYU_EXCHANGE_USCC"):
        monkeypatch.delenv(name, raising=False)
    specs = {spec.table: spec for spec in (synthetic.REGISTER_SPEC, synthetic.WATER_SPEC)}
    monkeypatch.setattr(config, "load", lambda: sorted(specs.values(), key=lambda spec: spec.resource))
    monkeypatch.setattr(
        outputs,
        "described",
        lambda table: {c.name: OPEN for c in specs[table].columns} if table in specs else {},
    )
    properties.set("is_demo", "true")
    return tmp_path / "var"


@pytest.fixture
def filled(home):
    """Both tables filled and checked."""
    synthetic.put(synthetic.REGISTER, synthetic.register_frame())
    synthetic.put(synthetic.WATER, synthetic.water_frame())
    return home
