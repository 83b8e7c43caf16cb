"""Command line of the simulation: ``python -m simulation generate``, ``advance`` and ``serve``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from simulation.sizes import SIZES


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code (2: usage or foreign data in the folder)."""
    parser = argparse.ArgumentParser(
        prog="python -m simulation", description="A simulated city of sports data sources."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("generate", help="write drops, API data and ground truth to a folder")
    make.add_argument("--size", choices=sorted(SIZES), default="small")
    make.add_argument("--seed", type=int, default=20260101)
    make.add_argument("--out", type=Path, required=True)
    make.add_argument("--days", type=int, help="observe the city for fewer days (flows shrink with them)")
    make.add_argument("--force", action="store_true", help="write again even if the folder holds this city")
    move = commands.add_parser("advance", help="let one more day happen (or several)")
    move.add_argument("--dir", type=Path, required=True)
    move.add_argument("--to", type=int, help="day to stop at, counted from the day of generation; default: the next")
    move.add_argument("--uninterrupted", action="store_true", help="no source is down on the last of these days")
    serve = commands.add_parser("serve", help="serve the booking and check-in APIs of a generated folder")
    serve.add_argument("--dir", type=Path, required=True)
    serve.add_argument("--port-venue", type=int, default=8701, help="0 takes a free port")
    serve.add_argument("--port-fitness", type=int, default=8702, help="0 takes a free port")
    args = parser.parse_args(argv)
    try:
        if args.command == "generate":
            from simulation.generate import generate

            size = SIZES[args.size]
            generate(size.shortened(args.days) if args.days else size, args.seed, args.out, force=args.force)
            return 0
        if args.command == "advance":
            from simulation.advance import advance

            print(json.dumps(advance(args.dir, args.to, uninterrupted=args.uninterrupted), ensure_ascii=False))
            return 0
        from simulation.api import serve_forever

        return serve_forever(args.dir, port_venue=args.port_venue, port_fitness=args.port_fitness)
    except (FileExistsError, FileNotFoundError, ValueError) as error:
        print(f"simulation: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
