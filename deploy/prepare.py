"""Prepare the state folder of a demo: keys, the business clock of the simulation's last day, and the one flag that marks everything built from simulated data.

``python -m deploy.prepare --scale 0.05``
"""

from __future__ import annotations

import argparse

from lake import clock, properties
from protection import keys


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Create keys and mark the lake as a demonstration.")
    parser.add_argument("--scale", required=True, help="share of the real city that the simulated one has (e.g. 0.05)")
    options = parser.parse_args()
    keys.ensure()
    clock.pin(clock.today(), clock.as_of())  # a command typed beside the demo sees the demo's today
    properties.set("is_demo", "true")
    properties.set("demo_scale", options.scale)


if __name__ == "__main__":
    main()
