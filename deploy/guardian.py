"""Kill everything of a demo whose supervisor died (``python -m deploy.guardian FD MARK``). See ``deploy.processes``."""

from __future__ import annotations

import os
import signal
import sys

from deploy.processes import sweep


def main(arguments: list[str]) -> int:
    """Wait for the end of the pipe, then sweep."""
    descriptor, mark = int(arguments[0]), arguments[1]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(descriptor, 1):
        pass
    sweep(mark)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
