"""`python -m simulation.center --outbox DIR --inbox DIR --state DIR [--once] [--mode …]`: see README.md beside this file."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from simulation.center.service import Behaviour, work
from simulation.center.state import State

BY_HAND = "by_hand"
"""While a file of this name lies in the state folder, the program does nothing: a person answers."""
MODES = ("normal", "slow", "down", "reject-all", "reject-rows", "restored")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="python -m simulation.center", description="A mock city big-data center.")
    p.add_argument("--outbox", type=Path, required=True, help="where deliveries appear (read only)")
    p.add_argument("--inbox", type=Path, required=True, help="where receipts and reject files are written")
    p.add_argument("--state", type=Path, required=True, help="the center's own tables, journal and backups")
    p.add_argument("--once", action="store_true", help="one pass, then end; otherwise every --interval seconds")
    p.add_argument("--interval", type=float, default=5.0)
    p.add_argument(
        "--mode",
        default="normal",
        help=f"{' | '.join(MODES)}; slow:SECONDS, reject-rows:N (every N-th row), restored:DAYS take a number",
    )
    p.add_argument("--rules", type=Path, help='JSON list of limits: [{"resource_code", "column", "min", "max"}]')
    p.add_argument("--world", type=Path, help="folder of the simulated city that it lives in")
    p.add_argument("--now", help="pin the clock of receipts, e.g. 2026-11-20T09:00:00+08:00")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the center. Exit codes: 0 done, 2 wrong usage, 3 down or nothing to restore."""
    options = parser().parse_args(arguments)
    mode, _, number = options.mode.partition(":")
    if mode not in MODES:
        parser().error(f"unknown mode {mode}")
    if mode == "down":
        print("down", file=sys.stderr)
        return 3
    behaviour = Behaviour(
        slow_seconds=float(number or 1) if mode == "slow" else 0.0,
        reject_all=mode == "reject-all",
        reject_every=int(number or 3) if mode == "reject-rows" else 0,
        rules=json.loads(options.rules.read_text("utf-8")) if options.rules else [],
        key=os.environ.get("CENTER_RECEIPT_KEY"),
        world=options.world,
        **({"now": lambda: options.now} if options.now else {}),
    )
    state = State(options.state)
    try:
        if mode == "restored":
            day = state.restore(int(number or 1))
            if day is None:
                print("no such backup", file=sys.stderr)
                return 3
            print(json.dumps({"restored_to_before": day}), flush=True)
        while True:
            by_hand = (options.state / BY_HAND).exists()
            for receipt in [] if by_hand else work(options.outbox, options.inbox, state, behaviour):
                print(json.dumps(receipt, ensure_ascii=False), flush=True)
            if options.once:
                return 0
            time.sleep(options.interval)
    finally:
        state.close()


if __name__ == "__main__":
    raise SystemExit(main())
