"""What a contract may declare as a row rule: one model per kind."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from catalog.contracts.strict import Strict

Severity = Literal["quarantine", "warn"]


class RuleBase(Strict):
    """What every declared row rule has.

    id: last part of the rule id; default is ``{column}.{kind}``. when: SQL condition that limits the rule to some rows
    (other rows are fine). severity ``quarantine`` refuses the row, ``warn`` only counts it.
    """

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.]*$")] | None = None
    severity: Severity = "quarantine"
    message_zh: str
    when: str | None = None


class NotNullRule(RuleBase):
    kind: Literal["not_null"]
    column: str


class RangeRule(RuleBase):
    kind: Literal["range"]
    column: str
    min: float | None = None
    max: float | None = None
    min_exclusive: bool = False
    max_exclusive: bool = False

    @model_validator(mode="after")
    def _has_a_bound(self) -> RangeRule:
        if self.min is None and self.max is None:
            raise ValueError("a range needs min or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("range min is above max")
        return self


class InListRule(RuleBase):
    kind: Literal["in_list"]
    column: str
    code_list: str | None = None
    values: list[str] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> InListRule:
        if (self.code_list is None) == (not self.values):
            raise ValueError("in_list needs exactly one of codeList and values")
        return self


class PatternRule(RuleBase):
    kind: Literal["pattern"]
    column: str
    pattern: str


class CompareRule(RuleBase):
    kind: Literal["compare"]
    left: str
    op: Literal["<", "<=", "=", "!=", ">=", ">"]
    right: str


class ReferenceRule(RuleBase):
    kind: Literal["reference"]
    column: str
    table: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    target_column: str | None = None


class CheckDigitRule(RuleBase):
    kind: Literal["check_digit"]
    column: str
    standard: Literal["GB11643", "GB32100"]


class PhoneRule(RuleBase):
    kind: Literal["phone"]
    column: str


class ExpressionRule(RuleBase):
    kind: Literal["expression"]
    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.]*$")]
    sql: str
    columns: list[str] = Field(min_length=1)


DeclaredRule = Annotated[
    NotNullRule
    | RangeRule
    | InListRule
    | PatternRule
    | CompareRule
    | ReferenceRule
    | CheckDigitRule
    | PhoneRule
    | ExpressionRule,
    Field(discriminator="kind"),
]
