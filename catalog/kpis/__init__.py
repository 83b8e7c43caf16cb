"""KPI definitions: one YAML file per KPI, read strictly.

`value = numerator ÷ denominator` (times 100 when the unit is %), or the numerator itself where there is no denominator.
A KPI with several populations has variants; each variant is published as its own row, so that two numbers with one
name can never be mixed up. Targets carry their document and period: a target whose period is over is shown as expired.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from catalog import units, yamlfile
from catalog.problems import DeclarationError

FOLDER = Path(__file__).resolve().parent


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Target(_Strict):
    """A target value. `scalable`: a count that a scaled-down demo city scales with it."""

    value: float
    document: str
    period: str
    end_date: date | None = None
    scalable: bool = False


class Variant(_Strict):
    """One population of a KPI; texts replace those of the KPI. `published` is the code of the officially published figure
    (`reference.official_figure`) that is shown beside it: another method, so beside and never on one axis."""

    code: str = Field(pattern=r"^[a-z_]*$")
    name: str
    definition: str
    numerator: str
    denominator: str | None = None
    unit: str | None = None
    target: Target | None = None
    published: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9_]*$")


class Kpi(_Strict):
    """Definition of a KPI. `sources` are the resources it rests on; `grain` is what one published row stands for."""

    code: str = Field(pattern=r"^[A-Z]-\d{2}$")
    name: str
    definition: str
    numerator: str | None = None
    denominator: str | None = None
    period_type: Literal["day", "month", "year"]
    grain: str
    unit: str
    better: Literal["higher", "lower", "neutral"]
    sources: list[str] = Field(min_length=1)
    target: Target | None = None
    provenance: str
    owner: str
    variants: list[Variant] = []

    def rows(self) -> list[Variant]:
        """The variants; a KPI without any is one variant with empty code and name."""
        if self.variants:
            return self.variants
        return [
            Variant(
                code="",
                name="",
                definition=self.definition,
                numerator=self.numerator or "",
                denominator=self.denominator,
                target=self.target,
            )
        ]


def check_kpi(content: Any, where: str) -> tuple[Kpi | None, list[str]]:
    """The KPI of one parsed file and its problems."""
    try:
        kpi = Kpi.model_validate(content)
    except ValidationError as error:
        return None, [f"{where}.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    problems = [] if where == f"{kpi.code}.yaml" else [f"{where}: file name must be {kpi.code}.yaml"]
    for unit in {kpi.unit, *(v.unit for v in kpi.variants if v.unit)}:
        if not units.is_known(unit):
            problems.append(f"{where}: unknown unit {unit}")
    if not kpi.variants and not kpi.numerator:
        problems.append(f"{where}: numerator is missing")
    if kpi.variants and kpi.target:
        problems.append(f"{where}: a target belongs to one variant, not to all")
    codes = [v.code for v in kpi.variants]
    if len(set(codes)) != len(codes):
        problems.append(f"{where}: variant code used twice")
    return kpi, problems


@lru_cache(maxsize=4)
def _load(key: tuple[tuple[str, int, int], ...]) -> dict[str, Kpi]:
    kpis: dict[str, Kpi] = {}
    problems: list[str] = []
    for file, _, _ in key:
        kpi, wrong = check_kpi(yamlfile.read(Path(file)), Path(file).name)
        problems += wrong
        if kpi:
            kpis[kpi.code] = kpi
    problems += _named_twice(kpis)
    if problems:
        raise DeclarationError(
            "TIYU-CAT-0009", "指标定义不合格，拒绝使用", "按列出的位置修改 catalog/kpis 下的文件", problems
        )
    return kpis


def _named_twice(kpis: dict[str, Kpi]) -> list[str]:
    """A published figure stands beside one population; beside two it would say that they count the same."""
    named = [variant.published for kpi in kpis.values() for variant in kpi.rows() if variant.published]
    return [f"published {name}: named by more than one variant" for name in sorted(set(named)) if named.count(name) > 1]


def load_all(folder: Path = FOLDER) -> dict[str, Kpi]:
    """All KPIs by code. Raises DeclarationError TIYU-CAT-0009."""
    return dict(_load(yamlfile.fingerprint(folder, "*.yaml")))
