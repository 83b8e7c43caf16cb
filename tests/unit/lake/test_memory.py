"""Freed memory goes back to the system, and would not by itself."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("asked", [True, False])
def test_large_blocks_go_back_to_the_system(asked):
    code = (
        "import resource, numpy, sys; from lake import memory\n"
        f"assert not {asked} or memory.give_back_large_blocks()\n"
        "def rss(): return int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize()\n"
        "numpy.ones(30 << 20, numpy.uint8)\n"  # by itself, glibc now keeps blocks up to this size
        "kept = [(numpy.ones(16 << 20, numpy.uint8), numpy.ones(1 << 17, numpy.uint8)) for _ in range(8)]\n"
        "small, before = [b for _, b in kept], rss()\n"
        "kept = None; print(before - rss() > 100 << 20)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == [str(asked)]
