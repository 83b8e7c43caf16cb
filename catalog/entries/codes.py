"""Resource codes: 类 1 digit, 项 2, 目 3, 细目, `/`, sequence (政务信息资源目录编制指南（试行）2017, reference §1.2).

`codes.yaml` is the register: one line for every code ever given, never changed, removed or used again. What happens
later to an entry is appended (`withdrawn`, `renamed`). Each line carries a seal of its content, sequences of a class
have no gaps, and with a lake the register is compared with what was published: a line that was edited or removed shows.
The register holds 细目 and sequence; the digits before come from the prefix in force (`provider.yaml`), so that the real
prefix, once allotted, is one line, and the codes under the earlier one stay known as former codes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from catalog import yamlfile
from catalog.entries import declared
from catalog.entries.declared import FOLDER, Provider, Strict
from catalog.problems import DeclarationError

CODE = re.compile(r"^[1-3]\d{2}\d{3}[0-9A-Z]*/[0-9]{1,10}$")
FILE = "codes.yaml"
TABLE = "ods_reference__resource"
_HEAD = """# The register of resource codes: append only (`tiyu catalog assign` writes it). A line is never edited, removed or used for
# something else. An entry that is gone gets a line under `withdrawn`, one that got another id a line under `renamed`.
"""


class Line(Strict):
    """One code: 细目/sequence, the entry it was given to, the day, and the seal of the three."""

    code: str = Field(pattern=r"^[0-9A-Z]+/[0-9]{4}$")
    entry: str
    published_on: date
    seal: str

    @property
    def expected_seal(self) -> str:
        return seal(self.code, self.entry, self.published_on)


class Withdrawn(Strict):
    """A code whose entry is gone."""

    code: str
    withdrawn_on: date
    reason_zh: str = Field(min_length=4)


class Renamed(Strict):
    """A code whose entry got another id; the code stays."""

    code: str
    entry: str
    renamed_on: date


class Register(Strict):
    """The whole file."""

    codes: tuple[Line, ...]
    withdrawn: tuple[Withdrawn, ...] = ()
    renamed: tuple[Renamed, ...] = ()

    def entry_of(self, line: Line) -> str:
        """The id the code belongs to today."""
        return next((r.entry for r in reversed(self.renamed) if r.code == line.code), line.entry)

    def by_entry(self) -> dict[str, Line]:
        """Entry id → its line, withdrawn ones left out."""
        gone = {item.code for item in self.withdrawn}
        return {self.entry_of(line): line for line in self.codes if line.code not in gone}


@dataclass
class Assigned:
    """What `assign` did: entry id → full code."""

    codes: dict[str, str] = field(default_factory=dict)


def seal(code: str, entry: str, published_on: date) -> str:
    """Short fingerprint of a line, so that an edit cannot pass for the line that was published."""
    return hashlib.sha256(f"{code}|{entry}|{published_on.isoformat()}".encode()).hexdigest()[:12]


@lru_cache(maxsize=8)
def _load(file: str, _modified: int, _size: int) -> Register:
    try:
        return Register.model_validate(yamlfile.read(Path(file)))
    except yaml.YAMLError as error:
        problems = [f"{FILE}: YAML 读不懂：{str(error).splitlines()[0]}"]
    except ValidationError as error:
        problems = [f"{FILE}.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    raise DeclarationError(
        "TIYU-CAT-0012", "资源代码登记簿不合格，拒绝使用", "登记簿只能追加；用 tiyu catalog assign 编码", problems
    )


def register(folder: Path = FOLDER) -> Register:
    """The register. Raises DeclarationError TIYU-CAT-0012."""
    path = folder / FILE
    state = path.stat()
    return _load(str(path), state.st_mtime_ns, state.st_size)


def full(local: str, provider: Provider) -> str:
    """The code as others see it: prefix in force, 细目, `/`, sequence."""
    return provider.prefix.digits + local


def former(local: str, provider: Provider) -> tuple[str, ...]:
    """The codes of the same line under earlier prefixes."""
    now = full(local, provider)
    return tuple(code for p in provider.prefixes if (code := p.digits + local) != now)


def every(local: str, provider: Provider) -> set[str]:
    """All codes the line has had: under the prefix in force and under earlier ones."""
    return {full(local, provider), *former(local, provider)}


def of(entry: str, folder: Path = FOLDER) -> str | None:
    """The full code of an entry, None where it has none yet."""
    line = register(folder).by_entry().get(entry)
    return full(line.code, declared.provider(folder)) if line else None


def problems(found: Register, provider: Provider) -> list[tuple[str, str, str]]:
    """(problem code, where, Chinese sentence) of the register itself."""
    wrong: list[tuple[str, str, str]] = []
    seen: dict[str, str] = {}
    owners: dict[str, str] = {}
    sequences: dict[str, list[int]] = {}
    gone = {item.code for item in found.withdrawn}
    for prefix in provider.prefixes:
        levels = (prefix.category, prefix.item, prefix.catalogue)
        if not re.fullmatch(r"[1-3]", levels[0].digits) or [len(level.digits) for level in levels] != [1, 2, 3]:
            wrong.append(("code_structure", prefix.digits, "资源代码的前段须为类 1 位（1–3）、项 2 位、目 3 位"))
    for line in found.codes:
        if line.code in seen:
            wrong.append(("code_reused", line.code, f"资源代码用了两次：{seen[line.code]} 与 {line.entry}"))
        seen[line.code] = line.entry
        if line.seal != line.expected_seal:
            wrong.append(("code_changed", line.code, "已发布的资源代码被改动（封签不符）；登记簿只能追加"))
        if not CODE.match(full(line.code, provider)):
            wrong.append(("code_structure", full(line.code, provider), "资源代码不符合类、项、目、细目与顺序码的结构"))
        entry = found.entry_of(line)
        if line.code not in gone:
            if entry in owners:
                wrong.append(("code_twice", entry, f"一个条目有两个资源代码：{owners[entry]} 与 {line.code}"))
            owners[entry] = line.code
        group, _, sequence = line.code.partition("/")
        sequences.setdefault(group, []).append(int(sequence))
    for group, numbers in sequences.items():
        if sorted(set(numbers)) != list(range(1, max(numbers) + 1)):
            missing = sorted(set(range(1, max(numbers) + 1)) - set(numbers))
            wrong.append(("code_gap", group, f"登记簿少了已发布的顺序码：{missing}；登记簿只能追加"))
    for code in [*(item.code for item in found.withdrawn), *(item.code for item in found.renamed)]:
        if code not in seen:
            wrong.append(("code_unknown", code, "停用或改名的资源代码不在登记簿内"))
    return wrong


def assign(entries: Iterable[tuple[str, str]], on: date, folder: Path = FOLDER) -> Assigned:
    """Give a code to every (entry id, domain) that has none, by appending to the register.

    Raises DeclarationError when the register or the provider's declarations are not acceptable.
    """
    found, provider = register(folder), declared.provider(folder)
    taken = found.by_entry()
    highest: dict[str, int] = {}
    for line in found.codes:
        group, _, sequence = line.code.partition("/")
        highest[group] = max(highest.get(group, 0), int(sequence))
    done, lines = Assigned(), []
    for entry, domain in entries:
        if entry in taken:
            continue
        group = provider.domains[domain].digits
        highest[group] = highest.get(group, 0) + 1
        local = f"{group}/{highest[group]:04d}"
        lines.append(Line(code=local, entry=entry, published_on=on, seal=seal(local, entry, on)))
        done.codes[entry] = full(local, provider)
    if lines:
        write(found.model_copy(update={"codes": (*found.codes, *lines)}), folder)
    return done


def write(found: Register, folder: Path = FOLDER) -> None:
    """Write the register, one line a code."""

    def flow(item: Strict) -> str:
        pairs = ", ".join(f'{key}: "{value}"' for key, value in item.model_dump(mode="json").items())
        return f"  - {{{pairs}}}\n"

    parts = [_HEAD]
    for name in ("codes", "withdrawn", "renamed"):
        items = getattr(found, name)
        parts.append(f"{name}:\n{''.join(map(flow, items))}" if items else f"{name}: []\n")
    (folder / FILE).write_text("".join(parts), encoding="utf-8")


def published() -> dict[str, str]:
    """Code → entry id as last published into the lake; empty when nothing was."""
    from lake import query, tables

    if not tables.exists(TABLE):
        return {}
    con = query.connect()
    try:
        query.register(con, TABLE, "head", view="published")
        rows = con.execute("SELECT resource_code, resource FROM published WHERE resource_code IS NOT NULL").fetchall()
        return dict(rows)
    finally:
        con.close()
