"""What a contract may say about the values of a source: how its texts are to be understood (`ingestion.conversion`).

Said once for a source (`values` beside connector and decoder), and where a column differs, in the column (`read`).
"""

from __future__ import annotations

import re
import zoneinfo
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from catalog.contracts.strict import Strict

DEFAULT_ZONE = "Asia/Shanghai"
NUMBERED_FORMATS = ("epoch_s", "epoch_ms", "excel_serial")
"""Instants written as one number: seconds or milliseconds since 1970-01-01 UTC, days since 1899-12-30."""
_DIRECTIVES = frozenset("YymdHIMSfpbBj%")


class ValueOptions(Strict):
    """nullTokens: texts that mean "no value" (an empty text always does). dateFormats: how dates and times are written,
    in place of the usual spellings: `strptime` directives without zone, or epoch_s, epoch_ms, excel_serial.
    timeZone: of times without an offset. decimalMark, thousands: as numbers are written. suffix: text that may stand
    behind a number ("%", "分"). trueTokens, falseTokens: in place of the usual spellings, letter case does not matter.
    """

    null_tokens: list[str] | None = None
    date_formats: Annotated[list[str], Field(min_length=1)] | None = None
    time_zone: str | None = None
    decimal_mark: Literal[".", ","] | None = None
    thousands: Literal[",", ".", " ", "'"] | None = None
    suffix: Annotated[str, Field(min_length=1)] | None = None
    true_tokens: Annotated[list[str], Field(min_length=1)] | None = None
    false_tokens: Annotated[list[str], Field(min_length=1)] | None = None

    @field_validator("date_formats")
    @classmethod
    def _formats(cls, formats: list[str] | None) -> list[str] | None:
        shapes: dict[str, str] = {}
        for item in formats or []:
            if item in NUMBERED_FORMATS:
                continue
            unknown = set(re.findall(r"%(.)", item)) - _DIRECTIVES
            if unknown or "%" not in item:
                raise ValueError(f"dateFormats: {item} is not understood")
            shape = re.sub(r"%.", "#", item)
            if shape in shapes:  # 03/04/2026 would be two different days
                raise ValueError(f"dateFormats: {shapes[shape]} and {item} read the same text differently")
            shapes[shape] = item
        if sum(item in NUMBERED_FORMATS for item in formats or []) > 1:
            raise ValueError("dateFormats: only one of them may be a plain number")
        return formats

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, zone: str | None) -> str | None:
        if zone is not None and zone not in zoneinfo.available_timezones():
            raise ValueError(f"timeZone: {zone} is not an IANA time zone")
        return zone

    @model_validator(mode="after")
    def _distinct(self) -> ValueOptions:
        if self.thousands is not None and self.thousands == (self.decimal_mark or "."):
            raise ValueError("thousands and decimalMark are the same character")
        both = {t.lower() for t in self.true_tokens or []} & {t.lower() for t in self.false_tokens or []}
        if both or (self.true_tokens is None) != (self.false_tokens is None):
            raise ValueError("trueTokens and falseTokens belong together and must differ")
        return self


class ColumnValues(ValueOptions):
    """The same for one column, and its unit: sourceUnit is what the source counts in; values are converted to `unit`."""

    source_unit: str | None = None


def merged(source: ValueOptions | None, column: ColumnValues | None) -> ColumnValues:
    """What holds for a column: its own settings, then the source's."""
    settings = dict(source) if source else {}
    settings |= {name: value for name, value in (column or ColumnValues()) if value is not None}
    return ColumnValues.model_construct(**{name: settings.get(name) for name in ColumnValues.model_fields})
