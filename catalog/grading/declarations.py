"""The declared weights, thresholds and overrides that grading goes by: grading.yaml, overrides.yaml, the rules table."""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from catalog import rules_table, yamlfile
from catalog.contracts.model import GRADES
from catalog.problems import DeclarationError

FOLDER = Path(__file__).resolve().parent
Degree = Literal["none", "general", "serious", "extreme"]
DEGREES: tuple[Degree, ...] = ("none", "general", "serious", "extreme")
DataClass = Literal["general", "important", "core"]
Object = Literal["national_security", "economy", "social_order", "public_interest", "organisation", "person"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Item(_Strict):
    """How sensitive one kind of item is. context `person`: only in tables whose rows speak of a person."""

    item: str
    title: str
    object: Object
    degree: Degree
    mark: Literal["N", "P", "S"]
    context: Literal["any", "person"]
    reason: str


class Measure(_Strict):
    steps: int = Field(ge=0, le=1)
    title: str


class Grading(_Strict):
    """grading.yaml."""

    version: str
    author: str
    decision_table: dict[Object, dict[Degree, DataClass]]
    levels: dict[Degree, Literal["L1", "L2", "L3", "L4"]]
    class_title: dict[DataClass, str]
    measures: dict[str, Measure]
    items: list[Item]

    @model_validator(mode="after")
    def _complete(self) -> Grading:
        for name, row in self.decision_table.items():
            if set(row) != set(DEGREES):
                raise ValueError(f"decision_table.{name} must say all of {', '.join(DEGREES)}")
        if len(self.decision_table) != 6 or set(self.levels) != set(DEGREES):
            raise ValueError("decision_table needs six objects and levels four degrees")
        levels = [self.levels[degree] for degree in DEGREES]
        if levels != sorted(levels):
            raise ValueError("a higher degree of harm must not have a lower level")
        if set(self.measures) != {"token", "masked"}:
            raise ValueError("measures are token and masked")
        seen = [item.item for item in self.items]
        if len(seen) != len(set(seen)):
            raise ValueError("an item is listed twice")
        return self

    def item(self, code: str) -> Item:
        """Raises KeyError for a kind of item that has no weight."""
        for found in self.items:
            if found.item == code:
                return found
        raise KeyError(code)


class Override(_Strict):
    """A declared level that stands although the rules suggest more."""

    column: str = Field(pattern=r"^[a-z][a-z0-9_]*\.[a-z_][a-z0-9_]*$")
    item: str
    level: Literal["L1", "L2", "L3", "L4"]
    reason: str = Field(min_length=6)
    approver: str = Field(min_length=2)
    approved: date
    expires: date

    @model_validator(mode="after")
    def _ends(self) -> Override:
        if self.expires <= self.approved:
            raise ValueError("an override must expire after it was approved")
        return self


def _read(path: Path, model: Any) -> Any:
    try:
        return model.model_validate(yamlfile.read(path))
    except ValidationError as error:
        problems = [f"{path.name}.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise DeclarationError(
            "TIYU-GRD-0002", "分级规则声明不合格，拒绝使用", "按列出的位置修改 catalog/grading 下的文件", problems
        ) from error


class _Overrides(_Strict):
    overrides: list[Override]


@lru_cache(maxsize=8)
def _load(key: tuple[tuple[str, int, int], ...]) -> Grading:
    return _read(Path(key[0][0]), Grading)


@lru_cache(maxsize=8)
def _load_overrides(key: tuple[tuple[str, int, int], ...]) -> tuple[Override, ...]:
    return tuple(_read(Path(key[0][0]), _Overrides).overrides)


def load(folder: Path = FOLDER) -> Grading:
    """The weights. Raises DeclarationError TIYU-GRD-0002."""
    return _load(yamlfile.fingerprint(folder, "grading.yaml"))


def overrides(folder: Path = FOLDER) -> tuple[Override, ...]:
    """Accepted exceptions. Raises DeclarationError TIYU-GRD-0002."""
    return _load_overrides(yamlfile.fingerprint(folder, "overrides.yaml"))


def threshold(rule_id: str) -> float:
    """Value of a grading threshold in the rules table (`grading.*`, unit as in the row). Raises KeyError."""
    value = rules_table.get(rule_id).value_min
    if value is None:
        raise KeyError(rule_id)
    return value


def highest(*levels: str | None) -> str:
    """The highest level named; an unknown or missing one counts as L4."""
    return max((level if level in GRADES else "L4" for level in levels), default="L4")
