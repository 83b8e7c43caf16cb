"""Put the declared assets into Superset's metadata: import, then remove what the code no longer declares.

Superset's import only adds and updates. Everything we import is marked *managed externally*; a managed chart, dataset
or dashboard whose uuid is not in the bundle was ours and is gone from the code, so it is deleted. What a user built
himself is never touched. Cached figures need no call: the cache follows the serving file (``runtime.ServingCache``).

Runs inside Superset's own process environment (`bootstrap init`, `bootstrap template`), so that no account that may
change dashboards has to be able to sign in. A server that is running sees the result at its next request.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from dashboards import assets


@dataclass(frozen=True)
class DeployReport:
    """Number of imported files and the names of what was removed."""

    files: int
    charts: int
    removed_charts: tuple[str, ...]
    removed_datasets: tuple[str, ...]
    removed_dashboards: tuple[str, ...]
    seconds: float


def _declared(bundle: dict[str, str]) -> dict[str, set[str]]:
    """Folder of the bundle → uuids in it."""
    found: dict[str, set[str]] = {"charts": set(), "datasets": set(), "dashboards": set()}
    for name, text in bundle.items():
        folder = name.split("/")[0]
        if folder in found:
            found[folder].add(assets.yaml.safe_load(text)["uuid"])
    return found


def _remove_stale(model: Any, command: Any, declared: set[str], name_field: str) -> tuple[str, ...]:
    from superset import db

    stale = {
        row.id: str(getattr(row, name_field))
        for row in db.session.query(model).filter_by(is_managed_externally=True)
        if str(row.uuid) not in declared
    }
    if stale:
        command(list(stale)).run()
    return tuple(stale.values())


def install(bundle: dict[str, str] | None = None) -> DeployReport:
    """Import the bundle (default: the declared one) and remove our objects that are no longer in it.

    Needs Superset's application context and a current user with Superset's Admin role (`bootstrap.lent_admin`). Raises
    Superset's ``ImportFailedError`` when an object does not fit its schema; nothing is imported then.
    """
    from superset.commands.chart.delete import DeleteChartCommand
    from superset.commands.dashboard.delete import DeleteDashboardCommand
    from superset.commands.dataset.delete import DeleteDatasetCommand
    from superset.commands.importers.v1.assets import ImportAssetsCommand
    from superset.connectors.sqla.models import SqlaTable
    from superset.models.dashboard import Dashboard
    from superset.models.slice import Slice

    started = time.monotonic()
    wanted = assets.build() if bundle is None else bundle
    declared = _declared(wanted)
    ImportAssetsCommand(dict(wanted)).run()
    # From the outside in: a dataset cannot lose its charts, nor a chart its dashboard, before they are gone.
    gone_dashboards = _remove_stale(Dashboard, DeleteDashboardCommand, declared["dashboards"], "dashboard_title")
    gone_charts = _remove_stale(Slice, DeleteChartCommand, declared["charts"], "slice_name")
    gone_datasets = _remove_stale(SqlaTable, DeleteDatasetCommand, declared["datasets"], "table_name")
    return DeployReport(
        len(wanted), len(declared["charts"]), gone_charts, gone_datasets, gone_dashboards, time.monotonic() - started
    )
