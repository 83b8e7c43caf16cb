"""Freed memory goes back to the system, and would not by itself; blocks that are used again never change under somebody who
still looks at one."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from lake import memory


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


@pytest.fixture
def _small(monkeypatch):
    monkeypatch.setattr(memory, "LARGE_BYTES", 64)


def parts(seed: int, size: int) -> list[bytes | memoryview]:
    data = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8).tobytes()
    return [data[: size // 3], memoryview(data)[size // 3 : size // 2], data[size // 2 :]]


@pytest.mark.usefixtures("_small")
def test_a_block_is_used_again_for_what_is_larger_or_smaller():
    blocks = memory.Blocks()
    made = set()
    for seed, size in enumerate((1_000, 1_000, 900, 70, 5_000, 1_000_000, 3_000_000, 100)):
        block = blocks.joined(parts(seed, size))
        assert block == b"".join(parts(seed, size))
        made.add(id(block))
        blocks.give_back(block)
        del block
    assert len(made) == 1


@pytest.mark.usefixtures("_small")
def test_small_parts_are_plain_bytes():
    blocks = memory.Blocks()
    small = blocks.joined([b"a", memoryview(b"bc")])
    assert small == b"abc"
    assert isinstance(small, bytes)
    blocks.give_back(small)
    assert blocks.joined(parts(1, 100)) == b"".join(parts(1, 100))


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("look", [memoryview, pa.py_buffer, lambda block: np.frombuffer(block, np.uint8)[3:]])
def test_a_block_that_somebody_looks_at_is_left_to_them(look):
    blocks = memory.Blocks()
    block = blocks.joined(parts(1, 1_000))
    seen = look(block)
    before = bytes(seen)
    blocks.give_back(block)
    other = blocks.joined(parts(2, 1_000))
    assert other is not block
    assert bytes(seen) == before


@pytest.mark.parametrize("closed", [True, False])
def test_holes_in_the_heap_are_closed(closed):
    code = (
        "import resource, sys; from lake import memory\n"
        "memory.give_back_large_blocks()\n"
        "def rss(): return int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize()\n"
        "assert not memory.close_holes()\n"
        "held = [b'x' * (1 << 20) for _ in range(400)]\n"
        "held, before = held[::8], rss()\n"
        f"assert not {closed} or memory.close_holes()\n"
        "print(before - rss() > 250 << 20)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == [str(closed)]
