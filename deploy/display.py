"""Progress on the console: a live line per running step on a terminal, plain lines elsewhere, a time table at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table


@dataclass
class Step:
    """One line of the time table."""

    title: str
    started: float
    seconds: float = 0.0
    note: str = ""
    state: str = "running"


@dataclass
class Display:
    """Steps may overlap; each is one line."""

    console: Console = field(default_factory=lambda: Console(highlight=False))
    steps: list[Step] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    _progress: Progress | None = None
    _lines: dict[str, TaskID] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.console.is_terminal:
            columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            self._progress = Progress(*columns, console=self.console, transient=True)
            self._progress.start()

    def close(self) -> None:
        """End the live part."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def say(self, text: str) -> None:
        """One line of text above the live part."""
        self.console.print(text, soft_wrap=True)

    def begin(self, title: str) -> Step:
        """A step starts."""
        step = Step(title, time.monotonic())
        self.steps.append(step)
        if self._progress is not None:
            self._lines[title] = self._progress.add_task(title, total=None)
        else:
            self.say(f"\\[{step.started - self.started:6.1f}s] … {title}")
        return step

    def end(self, step: Step, note: str = "", ok: bool = True) -> None:
        """A step ended."""
        step.seconds, step.note, step.state = time.monotonic() - step.started, note, "ok" if ok else "failed"
        if self._progress is not None and step.title in self._lines:
            self._progress.remove_task(self._lines.pop(step.title))
        mark = "[green]✔[/green]" if ok else "[red]✘[/red]"
        self.say(f"\\[{time.monotonic() - self.started:6.1f}s] {mark} {step.title}（{step.seconds:.1f} 秒）{note}")

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """A step around a block; its note may be set inside."""
        step = self.begin(title)
        try:
            yield step
        except BaseException:
            self.end(step, step.note, ok=False)
            raise
        self.end(step, step.note)

    def timetable(self) -> Table:
        """Every step with its start, duration and note."""
        table = Table(title="各步用时", title_justify="left", show_edge=False)
        table.add_column("步骤")
        table.add_column("开始", justify="right")
        table.add_column("用时（秒）", justify="right")
        table.add_column("说明", overflow="fold")
        for step in self.steps:
            table.add_row(step.title, f"{step.started - self.started:.1f}", f"{step.seconds:.1f}", step.note)
        return table
