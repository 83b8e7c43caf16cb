"""What one dbt invocation knows: the clock, what is visible, the plan of each model, what was built."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime

from lake import ledger, tables
from modeling import planner
from modeling.planner import ModelSpec, Plan, Recorded


@dataclass
class Session:
    """State of one invocation; the store plugin runs in the same process and finds it through ``current()``."""

    run_id: str
    business_date: date
    as_of: datetime
    specs: Mapping[str, ModelSpec]
    sources: Mapping[str, tuple[str, tuple[tuple[str, str], ...]]]
    full_refresh: bool = False
    selected: set[str] = field(default_factory=set)
    plans: dict[str, Plan] = field(default_factory=dict)
    built: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    _checked: dict[str, int | None] = field(default_factory=dict)
    _closures: dict[tuple[str, int | None], dict[str, int | None]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def checked(self, table: str) -> int | None:
        """Checked version at the start of the invocation: one build reads one consistent set of versions."""
        with self._lock:
            if table not in self._checked:
                self._checked[table] = ledger.checked_version(table)
            return self._checked[table]

    def visible(self, table: str) -> int | None:
        """The version a model of this invocation reads: the new head of what is built here, else the checked one."""
        return tables.version(table) if table in self.selected else self.checked(table)

    def recorded(self, model: str) -> Recorded | None:
        """The record in the model's newest commit."""
        return planner.recorded_from(tables.history(model))

    def plan(self, model: str) -> Plan:
        """Plan one model against what is visible now."""
        spec = self.specs[model]
        return planner.plan(
            spec,
            self.recorded(model),
            {name: self.visible(name) for name in spec.inputs},
            self.business_date,
            tables.touched_dates,
            full_refresh=self.full_refresh and model not in self.built,
        )

    def input_versions(self, table: str) -> dict[str, int | None]:
        """The table and everything it was computed from, down to the sources, each with the version read."""
        return self._closure(table, self.visible(table))

    def _closure(self, table: str, version: int | None) -> dict[str, int | None]:
        key = (table, version)
        with self._lock:
            if key in self._closures:
                return self._closures[key]
        found: dict[str, int | None] = {table: version}
        if table in self.specs and version is not None:
            record = planner.recorded_from(tables.history(table, None, version))
            for name, read in (record.inputs if record else {}).items():
                found.update(self._closure(name, read))
        with self._lock:
            self._closures[key] = found
        return found


_active: Session | None = None


def current() -> Session | None:
    """The session of the running invocation; None when dbt was started by hand."""
    return _active


@contextmanager
def active(session: Session) -> Iterator[Session]:
    """Make a session current for one dbt invocation."""
    global _active
    if _active is not None:
        raise RuntimeError("one dbt invocation at a time in a process")
    _active = session
    try:
        yield session
    finally:
        _active = None
