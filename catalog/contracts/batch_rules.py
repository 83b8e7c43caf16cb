"""What a contract may declare as a batch rule: one model per kind. A batch rule judges a delivery before any of it is stored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from catalog.contracts.behaviour import RuleName
from catalog.contracts.strict import Strict

Share = Annotated[float, Field(ge=0, le=1)]


class BatchRuleBase(Strict):
    """What every batch rule has.

    id: last part of the rule id ``{table}.batch.{id}``, the kind when left out. severity ``stop`` holds the batch: none
    of it is stored until a person replays it by name; ``warn`` lets it in and opens an alert.
    """

    id: RuleName | None = None
    severity: Literal["stop", "warn"] = "stop"
    message_zh: str


class RowsRule(BatchRuleBase):
    """Records delivered: of the whole batch, or of each object (`per: object`)."""

    kind: Literal["rows"]
    per: Literal["batch", "object"] = "batch"
    min: Annotated[int, Field(ge=0)] | None = None
    max: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _bounds(self) -> RowsRule:
        if self.min is None and self.max is None:
            raise ValueError("rows needs min or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is above max")
        return self


class RefusedShareRule(BatchRuleBase):
    """Share of the delivered records that row rules or the decoder refused."""

    kind: Literal["refused_share"]
    max: Share


class RequiredValuesRule(BatchRuleBase):
    """Every listed value occurs in `column` of the accepted rows: the districts, the venues, the days of a delivery."""

    kind: Literal["required_values"]
    column: str
    code_list: str | None = None
    values: list[str] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> RequiredValuesRule:
        if (self.code_list is None) == (not self.values):
            raise ValueError("required_values needs exactly one of codeList and values")
        return self


class ContinuityRule(BatchRuleBase):
    """`column` (a date, or a whole number) runs without a gap over the accepted rows, within each group of `by`.

    after ``stored``: also from what is stored to the batch, as far back as `lookbackDays` of business dates.
    maxMissing: values that may be missing in all.
    """

    kind: Literal["continuity"]
    column: str
    by: list[str] = Field(default_factory=list)
    after: Literal["batch", "stored"] = "batch"
    lookback_days: Annotated[int, Field(ge=1, le=400)] = 31
    max_missing: Annotated[int, Field(ge=0)] = 0


class TotalRule(BatchRuleBase):
    """What the source says it sent equals what arrived, object by object.

    of: ``rows``, or a numeric column whose sum is meant. declaredIn: ``column`` (every row of an object repeats the total,
    or its last one bears it) or ``manifest`` (an object of the same batch, see `Manifest`).
    """

    kind: Literal["total"]
    of: str = "rows"
    declared_in: Literal["column", "manifest"]
    column: str | None = None
    tolerance: Annotated[float, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _place(self) -> TotalRule:
        if (self.declared_in == "column") != (self.column is not None):
            raise ValueError("column belongs to a total declared in a column, and only there")
        return self


class FreshnessRule(BatchRuleBase):
    """The newest accepted row is at most `maxAgeHours` older than the arrival of the batch. A date counts to its end."""

    kind: Literal["freshness"]
    column: str
    max_age_hours: Annotated[float, Field(gt=0)]


class PreviousRule(BatchRuleBase):
    """Records per object differ from the previous batch by at most `share` of it, up or down."""

    kind: Literal["previous"]
    share: Annotated[float, Field(gt=0)]


BatchRule = Annotated[
    RowsRule | RefusedShareRule | RequiredValuesRule | ContinuityRule | TotalRule | FreshnessRule | PreviousRule,
    Field(discriminator="kind"),
]


class Manifest(Strict):
    """A control object of a delivery: JSON that names objects with their totals; it holds no records.

    pattern: regular expression over the object's name. The content is ``{"objects": [{"name": "a.csv", "rows": 3,
    "totals": {"amount": 12.5}}]}``, or one such entry alone.
    """

    pattern: str


class Batch(Strict):
    """Object level `batch`: rules about a delivery, and where it declares its totals."""

    rules: list[BatchRule] = Field(default_factory=list)
    manifest: Manifest | None = None

    @model_validator(mode="after")
    def _manifest(self) -> Batch:
        wanted = any(isinstance(rule, TotalRule) and rule.declared_in == "manifest" for rule in self.rules)
        if wanted != (self.manifest is not None):
            raise ValueError("a manifest belongs to a total declared in one")
        return self


class BatchRuleSpec(BaseModel):
    """One batch rule with its stable id, as the rest of the platform sees it; `params` are those of its kind."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule_id: str
    kind: str
    severity: Literal["stop", "warn"]
    message_zh: str
    params: dict[str, Any]


def spec(rule: BatchRule, prefix: str) -> BatchRuleSpec:
    """The specification of a declared rule; `prefix` is that of the table's rules."""
    params = rule.model_dump(exclude={"id", "kind", "severity", "message_zh"}, exclude_none=True)
    return BatchRuleSpec(
        rule_id=f"{prefix}.batch.{rule.id or rule.kind}",
        kind=rule.kind,
        severity=rule.severity,
        message_zh=rule.message_zh,
        params=params,
    )


def columns(rule: BatchRuleSpec) -> list[str]:
    """The columns a rule reads."""
    of = rule.params.get("of")
    named = [rule.params.get("column"), *rule.params.get("by", []), None if of == "rows" else of]
    return [name for name in named if name]
