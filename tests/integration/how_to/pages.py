"""Carry out a how-to page: its fenced blocks are the steps, applied to a copy of the repository.

The word after the language of a fence says what the block is:

``yaml file PATH``      the content of a new file of the repository
``diff patch``          a change of existing files (unified diff; the line numbers of ``@@`` do not matter, the context does)
``bash run [exit=N]``   commands run at the top of the repository; `tiyu` and `python` are those of the environment
``text expect``         lines that the output of the commands before must contain, in this order
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "docs" / "how_to"
LEFT_OUT = (
    ".git", ".venv", ".venv-cockpit", ".tools", "var", "build", "__pycache__", ".pytest_cache", ".ruff_cache", ".mypy_cache",
    ".import_linter_cache", "target", "logs", "*.egg-info",
)  # fmt: skip
_BLOCK = re.compile(r"^```(\w+) (file|patch|run|expect)\b([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TOUCHED = re.compile(r"^- `([^`]+)`", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One step of a page."""

    kind: str
    argument: str
    text: str


@dataclass(frozen=True)
class Page:
    """A page: its steps, and the files it says it touches (the list below its heading "Files touched")."""

    name: str
    blocks: tuple[Block, ...]
    touched: tuple[str, ...]


def read(path: Path) -> Page:
    """The steps of one page."""
    return parse(path.name, path.read_text("utf-8"))


def parse(name: str, text: str) -> Page:
    """The steps of a page's text."""
    section = re.search(r"^## Files touched\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    touched = tuple(_TOUCHED.findall(section.group(1))) if section else ()
    blocks = tuple(Block(kind, argument.strip(), body) for _, kind, argument, body in _BLOCK.findall(text))
    return Page(name, blocks, touched)


class Refused(AssertionError):
    """A step of a page could not be carried out."""


def patch(folder: Path, text: str) -> list[str]:
    """Apply a diff: what a hunk removes and its context must stand exactly once in the file. Returns the files changed."""
    changed = []
    for part in re.split(r"^--- a/", text, flags=re.MULTILINE)[1:]:
        header, _, body = part.partition("\n")
        target = folder / header.strip()
        if not target.is_file():
            raise Refused(f"no file {header.strip()} to change")
        content = target.read_text("utf-8")
        for hunk in re.split(r"^@@.*\n", body, flags=re.MULTILINE)[1:]:
            lines = hunk.splitlines()
            old = "".join(line[1:] + "\n" for line in lines if line[:1] in (" ", "-", ""))
            new = "".join(line[1:] + "\n" for line in lines if line[:1] in (" ", "+", ""))
            if content.count(old) != 1:
                raise Refused(f"{header.strip()}: the lines to change stand {content.count(old)} times in it:\n{old}")
            content = content.replace(old, new)
        target.write_text(content, "utf-8")
        changed.append(header.strip())
    return changed


class Workshop:
    """A copy of the repository with a copy of an installation (None: none yet); pages are carried out in it."""

    def __init__(self, folder: Path, home: Path | None) -> None:
        self.repo, self.home, self.drops = folder / "repo", folder / "var", folder / "drops"
        shutil.copytree(ROOT, self.repo, ignore=shutil.ignore_patterns(*LEFT_OUT))
        if home is not None:
            shutil.copytree(home, self.home)
        self.drops.mkdir()
        programs = folder / "bin"
        programs.mkdir()
        for name, command in (("python", sys.executable), ("tiyu", f"{sys.executable} -m cli.main")):
            (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n', "utf-8")
            (programs / name).chmod(stat.S_IRWXU)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("TIYU_", "LAKE_", "PYTEST_"))}
        self.environment = kept | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.repo),
            "TIYU_HOME": str(self.home),
            "TIYU_TODAY": "2026-11-20",
            "TIYU_AS_OF": "2026-11-20T12:00:00+08:00",
            "TIYU_CONN_CITY_DROP": f"file://{self.drops}",
            "DROPS": str(self.drops),
            "COLUMNS": "250",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, script: str, code: int = 0) -> str:
        """Run commands; both streams in the order printed. Raises Refused on another exit code than ``code``."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.repo, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900,
            check=False,
        )  # fmt: skip
        if done.returncode != code:
            raise Refused(f"exit code {done.returncode}, expected {code}:\n{script}\n{done.stdout[-4000:]}")
        return done.stdout

    def carry_out(self, page: Page, *, changes: bool = True) -> list[str]:
        """Do every step; returns the files touched.

        ``changes=False`` does nothing but the last commands and looks for what they should print: then it must fail.
        """
        touched: list[str] = []
        output, runs, steps = "", 0, page.blocks
        if not changes:
            steps = steps[max(number for number, block in enumerate(steps) if block.kind == "run") :]
        for block in steps:
            if block.kind == "file":
                target = self.repo / block.argument
                if target.exists():
                    raise Refused(f"{block.argument} is there already")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(block.text, "utf-8")
                touched.append(block.argument)
            elif block.kind == "patch":
                touched += patch(self.repo, block.text)
            elif block.kind == "run":
                code = re.search(r"exit=(\d+)", block.argument)
                output, runs = self.run(block.text, int(code.group(1)) if code else 0), runs + 1
            elif block.kind == "expect":
                place = 0
                for line in filter(None, map(str.strip, block.text.splitlines())):
                    found = output.find(line, place)
                    if found < 0:
                        raise Refused(f"not in the output: {line}\n{output[-4000:]}")
                    place = found + len(line)
        if not runs:
            raise Refused("the page proves nothing: it runs no command")
        return touched
