"""Prepare the state folder of a demo: keys, the business clock of the simulation's present, and the one flag that marks everything built from simulated data.

``python -m deploy.prepare --scale 0.05 --as-of 2026-11-20T12:00:00+08:00``; the demo calls it again when its clock moves on.
Running services and commands typed beside the demo read the clock from the state folder, so they follow.
"""

from __future__ import annotations

import argparse
from datetime import datetime

from lake import clock, properties
from protection import keys


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Create keys and mark the lake as a demonstration.")
    parser.add_argument("--scale", required=True, help="share of the real city that the simulated one has (e.g. 0.05)")
    parser.add_argument(
        "--as-of", type=datetime.fromisoformat, required=True, help="instant the business clock stands at"
    )
    options = parser.parse_args()
    keys.ensure()
    clock.pin(options.as_of.astimezone(clock.SHANGHAI).date(), options.as_of)
    properties.set("is_demo", "true")
    properties.set("demo_scale", options.scale)


if __name__ == "__main__":
    main()
