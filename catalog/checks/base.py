"""What a catalogue check is: one function over one context, which says what it examined and what it found.

    def run(context: Context, found: Findings) -> None:
        for thing in context.columns:
            found.count("columns", 1)
            if ...:
                found.add("undescribed", where, "列没有说明")

    CHECK = Check("columns", "列", run, counts={"columns": "列"})

A check must examine something: every name in `counts` must be above zero, or the run fails with `nothing_examined`.
A check that raises has not passed: the run fails with `check_error`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from catalog import columns, contracts, entries, project
from catalog.columns import ColumnRow
from catalog.contracts import Contract
from catalog.entries import Binding, Entry
from catalog.entries.derive import Builder, Inputs
from catalog.problems import DeclarationError

NOTHING = "nothing_examined"
CRASHED = "check_error"


@dataclass(frozen=True)
class Problem:
    """One finding: stable code, where, and a Chinese sentence."""

    code: str
    where: str
    message_zh: str


@dataclass(frozen=True)
class Seen:
    """What a probe saw of the real thing behind a binding. `examined`: how many things it looked at, 0 when it cannot
    tell from here; `dead`: why the binding leads nowhere, as a Chinese sentence."""

    examined: int
    dead: str | None = None


Probe = Callable[[Entry, Binding], Seen]
"""Looks at the real thing behind a binding; the rooms above hand theirs to `catalog.check.run(probes=…)`."""


@dataclass
class Findings:
    """What one check looked at (name → count) and what is wrong."""

    check: str
    title_zh: str
    words: Mapping[str, str]
    examined: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    crashed: bool = False

    @property
    def outcome(self) -> str:
        """pass, fail, or error when the check did not come to its end."""
        return "error" if self.crashed else "fail" if self.problems else "pass"

    def count(self, name: str, amount: int) -> None:
        """Say that `amount` more things of a kind were examined; the kind must be one the check declares."""
        if name not in self.words:
            raise KeyError(f"check {self.check} counts {name}, which it does not declare")
        self.examined[name] = self.examined.get(name, 0) + amount

    def add(self, code: str, where: str, message_zh: str) -> None:
        """Record a problem."""
        self.problems.append(Problem(code, where, message_zh))


@dataclass(frozen=True)
class Check:
    """One check. `counts`: what it must have examined (name → Chinese word); `may_be_none`: counted, but zero is fine."""

    name: str
    title_zh: str
    run: Callable[[Context, Findings], None]
    counts: Mapping[str, str]
    may_be_none: Mapping[str, str] = field(default_factory=dict)


@dataclass
class CheckReport:
    """The findings of every check, in the order they ran."""

    checks: list[Findings] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return bool(self.checks) and not self.problems

    @property
    def problems(self) -> list[Problem]:
        return [problem for found in self.checks for problem in found.problems]

    @property
    def examined(self) -> dict[str, int]:
        """All counts; the names are unique among the checks (tested)."""
        return {name: count for found in self.checks for name, count in found.examined.items()}

    @property
    def words(self) -> dict[str, str]:
        return {name: word for found in self.checks for name, word in found.words.items()}

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "ok": self.ok,
            "examined": self.examined,
            "checks": [
                {
                    "check": found.check,
                    "title": found.title_zh,
                    "outcome": found.outcome,
                    "examined": found.examined,
                    "problem_count": len(found.problems),
                }
                for found in self.checks
            ],
            "problems": [asdict(problem) for problem in self.problems],
        }


@dataclass
class Context:
    """What the checks look at, read once. The folders replace the places looked at (used by tests and editors).

    `lake`: whether an installation is present, so that declarations are judged against what is really stored; `probes`:
    by kind of binding, how the real thing is looked at (only with `lake`).
    A broken contract file does not hide the others: `contract_problems` lists what is wrong with it, `contracts` holds
    the good ones.
    """

    folder: Path = contracts.FOLDER
    dbt_models: Path = field(default_factory=columns.dbt_models_dir)
    entries_folder: Path = entries.FOLDER
    lake: bool = False
    probes: Mapping[str, Probe] = field(default_factory=dict)

    @cached_property
    def _contract_files(self) -> tuple[int, list[Contract], list[Problem]]:
        good: dict[str, Contract] = {}
        problems: list[Problem] = []
        files = contracts.files(self.folder)
        for path in files:
            try:
                contract = contracts.read_contract(path)
            except DeclarationError as error:
                problems += [Problem("contract", path.name, text) for text in error.problems]
                continue
            if contract.id in good:
                problems.append(Problem("contract", path.name, f"契约编号重复：{contract.id}"))
            good[contract.id] = contract
        return len(files), list(good.values()), problems

    @property
    def contract_count(self) -> int:
        """How many contract files there are, good or not."""
        return self._contract_files[0]

    @property
    def contracts(self) -> list[Contract]:
        """The contracts that are acceptable."""
        return self._contract_files[1]

    @property
    def contract_problems(self) -> list[Problem]:
        """What is wrong with the others."""
        return self._contract_files[2]

    @cached_property
    def columns(self) -> list[ColumnRow]:
        """Every stored column that the good contracts, the reference tables and the dbt project declare."""
        return columns.describe_all(self.dbt_models, [c for c in self.contracts if c.kind == "source"])

    @cached_property
    def tables(self) -> dict[str, dict[str, ColumnRow]]:
        """Table → column → row."""
        found: dict[str, dict[str, ColumnRow]] = {}
        for row in self.columns:
            found.setdefault(row["table"], {})[row["column"]] = row
        return found

    @cached_property
    def project(self) -> project.Project:
        """The dbt project as its files declare it."""
        return project.load(self.dbt_models)

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """Every entry of the catalogue by id."""
        return Builder(
            Inputs(
                contracts={contract.id: contract for contract in self.contracts},
                project=self.project,
                columns=self.columns,
                keys=columns.table_keys(self.dbt_models, [c for c in self.contracts if c.kind == "source"]),
                folder=self.entries_folder,
            )
        ).build()


def execute(check: Check, context: Context) -> Findings:
    """Run one check; a declaration it cannot read is a problem, any other failure an error, never a pass."""
    found = Findings(check.name, check.title_zh, {**check.counts, **check.may_be_none})
    try:
        check.run(context, found)
    except DeclarationError as error:
        for text in error.problems:
            found.add("declaration", error.code, text)
    except yaml.YAMLError as error:
        found.add("yaml", check.name, f"YAML 读不懂：{str(error).splitlines()[0]}")
    except Exception as error:  # whatever it is: the check did not come to its end
        found.crashed = True
        found.add(CRASHED, check.name, f"检查没有完成（{type(error).__name__}: {error}），不算通过")
    if not found.crashed:
        for name in check.counts:
            if not found.examined.get(name):
                found.add(NOTHING, name, f"没有检查到任何{check.counts[name]}，检查本身不算通过")
    return found
