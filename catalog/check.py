"""`tiyu catalog check`: is everything the platform holds declared, described, graded and allowed where it goes?

The checks are the list in `catalog.checks`; this runs them and collects what they say. The report says how many things
each examined: a check that found nothing to examine is a failure, because an empty folder must not look like a clean
catalogue, and a check that crashed is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from catalog import columns, contracts, entries
from catalog.checks import CHECKS, Check, CheckReport, Context
from catalog.checks.base import Probe, execute

__all__ = ["CheckReport", "run"]


def run(
    *,
    folder: Path = contracts.FOLDER,
    dbt_models: Path | None = None,
    entries_folder: Path = entries.FOLDER,
    lake: bool = False,
    more: Iterable[Check] = (),
    probes: Mapping[str, Probe] | None = None,
    only: Iterable[str] | None = None,
) -> CheckReport:
    """Examine the whole catalogue.

    `folder`, `dbt_models` and `entries_folder` replace the places looked at (used by tests); `lake`: judge against what is stored;
    `more`: checks of rooms above this one; `probes`: how rooms above look at the real thing behind a binding; `only`: names of the checks to run (default: all).
    Raises KeyError when `only` names a check that does not exist.
    """
    context = Context(folder, dbt_models or columns.dbt_models_dir(), entries_folder, lake, probes or {})
    checks = [*CHECKS, *more]
    if only is not None:
        by_name = {check.name: check for check in checks}
        checks = [by_name[name] for name in only]
    return CheckReport([execute(check, context) for check in checks])
