"""The policy as declared in `policy.yaml`: strict models, cross references checked, nothing decided here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from catalog import yamlfile
from catalog.problems import DeclarationError

FILE = Path(__file__).with_name("policy.yaml")

Treatment = Literal["absent", "token", "masked", "plain"]
TREATMENTS: tuple[Treatment, ...] = ("absent", "token", "masked", "plain")
"""From the least that is shown to the most."""

TREATMENT_ZH: dict[str, str] = {
    "plain": "原样",
    "masked": "遮蔽",
    "token": "换成本受众专用标记",
    "absent": "不提供",
}
FILE_SURFACE = "serving_file"

Grades = dict[Literal["L1", "L2", "L3", "L4"], Treatment]
Marks = dict[Literal["N", "P", "S"], Treatment]
Basis = Annotated[str, Field(min_length=4)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Kind(_Strict):
    """A kind of identifier. `columns` and `personal_columns` are patterns that tell the kind of a column that declares none;
    `detected` are further names the detectors have for it. `stored`: what of a value the lake keeps."""

    title: str
    personal: bool
    mask: str
    example: str
    basis: Basis
    stored: Literal["value", "token", "mask"] = "value"
    columns: tuple[str, ...] = ()
    personal_columns: tuple[str, ...] = ()
    detected: tuple[str, ...] = ()


class Attribute(_Strict):
    """What a detector recognises and is no identifier: it has no mask, grade and mark alone decide."""

    title: str
    basis: Basis


class Limit(_Strict):
    """The most that may be shown, by grade, mark and identifier kind; what is not listed is absent."""

    grades: Grades
    marks: Marks
    kinds: dict[str, Treatment]
    basis: str = ""


class Rows(_Strict):
    """Which rows of one table go into a scoped file: those whose column `own` holds the file's code or one of `also`,
    or (`all`) every row. Whatever goes beyond the own code needs a reason."""

    own: str | None = None
    also: tuple[str, ...] = ()
    all: bool = False
    reason: str = ""

    @model_validator(mode="after")
    def _one_meaning(self) -> Rows:
        if (self.own is None) != self.all:
            raise ValueError("own 与 all 只能写一个")
        if (self.also or self.all) and not self.reason:
            raise ValueError("超出本范围的行须写理由")
        if self.also and self.all:
            raise ValueError("写了 all 就不写 also")
        return self


class RowScope(_Strict):
    """Which rows an audience may see: all of them (`whole`), or for every code of a vocabulary the rows of each table
    listed; a table that is not listed has no rows for anybody."""

    title: str
    basis: Basis
    whole: bool = False
    vocabulary: str | None = None
    without: tuple[str, ...] = ()
    tables: dict[str, Rows] = {}

    @model_validator(mode="after")
    def _one_meaning(self) -> RowScope:
        if self.whole and (self.vocabulary or self.tables):
            raise ValueError("whole 与逐表的范围只能写一种")
        if self.tables and not self.vocabulary:
            raise ValueError("逐表的范围须写代码表 vocabulary")
        return self

    def codes(self) -> dict[str, str]:
        """Code → Chinese name of every scope, in the order of the vocabulary; empty without a vocabulary."""
        from catalog import vocabularies

        if not self.vocabulary:
            return {}
        return {
            row["code"]: row["name"] for row in vocabularies.load(self.vocabulary) if row["code"] not in self.without
        }


class ColumnRule(_Strict):
    """An exception for one column; it can only be stricter than what grade, mark and kind allow."""

    column: str
    treatment: Literal["absent", "token", "masked"]
    reason: str
    table: str | None = None


class Original(_Strict):
    """Where the value of a kind that the lake keeps masked is read again for an audience that sees it plain: a column of a
    source, by the person's token, which stands under the same name in every table that shows the value."""

    source: str
    column: str
    by: str
    reason: Basis


class Audience(Limit):
    """Who data is cut for. `file` and `tables` (prefixes) only where a serving file is cut; `originals` by kind."""

    title: str
    basis: Basis
    rows: str
    at_least: tuple[str, ...] = ()
    purpose: str | None = None
    named: bool = False
    file: str | None = None
    tables: tuple[str, ...] = ()
    columns: tuple[ColumnRule, ...] = ()
    originals: dict[str, Original] = {}


class Surface(_Strict):
    """A place where data can be seen, who may use it and what it shows at most."""

    title: str
    values: Literal["rows", "samples", "text", "counts"]
    audiences: tuple[str, ...]
    limit: Literal["audience"] | Limit
    enforced_by: Annotated[str, Field(pattern=r"^[a-z_.]+:[a-z_]+$")]
    basis: Basis
    through: Literal["serving_file"] | None = None


class Role(_Strict):
    """What a person holds; it maps to one audience. `duty` names which of the three administrators it is."""

    title: str
    audience: str
    kind: Literal["business", "external", "admin"]
    basis: Basis
    alone: bool = False
    duty: Literal["system", "security", "audit"] | None = None


class Combination(_Strict):
    """What holding several roles may add up to."""

    maximum: Limit
    admin_alone: bool
    admin_ceiling: Limit


class Command(_Strict):
    """Who may do a command of `tiyu`: whoever may use a surface, the roles listed, or (`open`) any role."""

    surface: str | None = None
    roles: tuple[str, ...] = ()
    open: bool = False

    @model_validator(mode="after")
    def _one_meaning(self) -> Command:
        if (self.surface is not None) + bool(self.roles) + self.open != 1:
            raise ValueError("surface、roles、open 须恰写一种")
        return self


class Policy(_Strict):
    """The whole declaration. Raises ValueError when a name it refers to is not declared."""

    version: str
    kinds: dict[str, Kind]
    attributes: dict[str, Attribute] = {}
    row_scopes: dict[str, RowScope]
    audiences: dict[str, Audience]
    surfaces: dict[str, Surface]
    roles: dict[str, Role]
    combination: Combination
    commands: dict[str, Command] = {}

    @model_validator(mode="after")
    def _names(self) -> Policy:
        problems = list(self._unknown())
        if problems:
            raise ValueError("；".join(problems))
        return self

    def _unknown(self) -> Iterator[str]:
        limits: list[tuple[str, Limit]] = [(f"受众 {name}", who) for name, who in self.audiences.items()]
        limits += [(f"展示面 {n}", s.limit) for n, s in self.surfaces.items() if isinstance(s.limit, Limit)]
        limits += [("兼任上限", self.combination.maximum), ("管理员上限", self.combination.admin_ceiling)]
        for where, limit in limits:
            for kind in sorted(set(limit.kinds) - set(self.kinds)):
                yield f"{where}：没有声明的标识种类 {kind}"
        detected = [name for kind in self.kinds.values() for name in kind.detected]
        for name in sorted(
            {n for n in detected if detected.count(n) > 1 or n in self.kinds}
            | set(self.attributes) & {*self.kinds, *detected}
        ):
            yield f"检测器的种类 {name} 写了不止一次"
        for name, who in self.audiences.items():
            for other in sorted(set(who.at_least) - set(self.audiences)):
                yield f"受众 {name}：没有声明的受众 {other}"
            if who.rows not in self.row_scopes:
                yield f"受众 {name}：没有声明的行范围 {who.rows}"
            elif who.file and ("{scope}" in who.file) == self.row_scopes[who.rows].whole:
                yield f"受众 {name}：按范围分文件时文件名须含 {{scope}}，不分时不得含"
            if who.file and not who.tables:
                yield f"受众 {name}：有 file 须写 tables"
            masked = {kind for kind, stored in self.kinds.items() if stored.stored == "mask"}
            plain = {kind for kind, treatment in who.kinds.items() if treatment == "plain"}
            for kind in sorted(masked & plain - set(who.originals)):
                yield f"受众 {name}：{kind} 在湖中只有遮蔽后的样子，要原样提供须在 originals 中写明从哪里读回"
            for kind in sorted(set(who.originals) - (masked & plain)):
                yield f"受众 {name}：originals 中的 {kind} 须是湖中遮蔽、该受众原样可见的种类"
            whole = who.rows in self.row_scopes and self.row_scopes[who.rows].whole
            if who.originals and (whole or not (who.named and who.file)):
                yield f"受众 {name}：有 originals 须写 named 与 file，并按范围分文件"
            if who.file and name not in self.surfaces[FILE_SURFACE].audiences:
                yield f"受众 {name}：有服务文件，却不在展示面 {FILE_SURFACE} 中"
        for name, surface in self.surfaces.items():
            for audience in sorted(set(surface.audiences) - set(self.audiences)):
                yield f"展示面 {name}：没有声明的受众 {audience}"
        for name, command in self.commands.items():
            if command.surface is not None and command.surface not in self.surfaces:
                yield f"命令 {name}：没有声明的展示面 {command.surface}"
            for other in sorted(set(command.roles) - set(self.roles)):
                yield f"命令 {name}：没有声明的角色 {other}"
        for name, role in self.roles.items():
            if role.audience not in self.audiences:
                yield f"角色 {name}：没有声明的受众 {role.audience}"
            if (role.kind == "admin") != (role.duty is not None):
                yield f"角色 {name}：管理角色须写明 duty，且只有管理角色可写"

    def detected_kind(self, found: str) -> str | None:
        """The identifier kind that a detector's finding is; None for an attribute. Raises KeyError for one that the policy does
        not know, so that nobody decides about it."""
        if found in self.attributes:
            return None
        if found in self.kinds:
            return found
        for name, kind in self.kinds.items():
            if found in kind.detected:
                return name
        raise KeyError(found)

    def rank(self, treatment: Treatment) -> int:
        """How much a treatment shows, 0 (absent) to 3 (plain)."""
        return TREATMENTS.index(treatment)


@lru_cache(maxsize=4)
def _read(key: tuple[tuple[str, int, int], ...]) -> Policy:
    file = Path(key[0][0])
    try:
        return Policy.model_validate(yamlfile.read(file))
    except ValidationError as error:
        problems = [_problem(entry) for entry in error.errors()]
    except (ValueError, KeyError, TypeError) as error:  # not YAML, or not a mapping at all
        problems = [str(error).splitlines()[0] if str(error) else type(error).__name__]
    raise DeclarationError(
        "TIYU-POL-0001",
        "展示策略声明有误",
        "对照 catalog/policy/policy.yaml 各节开头的说明修改",
        problems,
        file=file.name,
    ) from None


def _problem(entry: Any) -> str:
    where = ".".join(str(part) for part in entry["loc"])
    return f"{where}: {entry['msg']}" if where else str(entry["msg"])


def load(file: Path = FILE) -> Policy:
    """Read a policy file. Raises DeclarationError TIYU-POL-0001 with every problem found."""
    return _read(((str(file), file.stat().st_mtime_ns, file.stat().st_size),))


_replacement: Policy | None = None


def current() -> Policy:
    """The policy in force."""
    return _replacement or load()


@contextmanager
def replaced(policy: Policy) -> Iterator[Policy]:
    """Put another policy in force for this process: proofs that a surface asks, and that a leak would be noticed."""
    global _replacement
    before, _replacement = _replacement, policy
    try:
        yield policy
    finally:
        _replacement = before
