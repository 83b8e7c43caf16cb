"""What a contract may say about reading: one model per file format (read by `ingestion.decoders`)."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from catalog.contracts.strict import Strict


class PackedDecoder(Strict):
    """Formats that may come packed. `container`: what the objects are; `auto` takes both packed and plain ones.
    `entries`: regular expression for the names of the files to read inside (default: all)."""

    container: Literal["none", "gzip", "zip", "auto"] = "none"
    entries: str | None = None

    @field_validator("entries")
    @classmethod
    def _is_pattern(cls, pattern: str | None) -> str | None:
        return _pattern(pattern)


def _pattern(text: str | None) -> str | None:
    try:
        re.compile(text or "")
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return text


class HeaderDecoder(PackedDecoder):
    """Formats whose columns bear names. `headerAliases`: name as delivered → name in the contract (`physicalName`).
    `headerMatch: normalised` also takes names that differ in width of characters, white space or letter case only."""

    header_aliases: dict[str, str] = Field(default_factory=dict)
    header_match: Literal["exact", "normalised"] = "exact"


class CsvDecoder(HeaderDecoder):
    """Delimited text; see `ingestion.decoders.csv_rows` for what each setting does."""

    kind: Literal["csv"]
    encoding: Literal["utf-8", "gb18030", "utf-16", "utf-16-le", "utf-16-be", "windows-1252"] = "utf-8"
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    quote: Annotated[str, Field(max_length=1)] = '"'
    escape: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    header_row: Annotated[int, Field(ge=1)] | None = None
    unit_row: dict[str, str] = Field(default_factory=dict)
    skip_rows: Annotated[int, Field(ge=0)] = 0
    footer_rows: Annotated[int, Field(ge=0)] = 0
    footer_pattern: str | None = None
    skip_pattern: str | None = None
    ragged: Literal["issue", "pad"] = "issue"
    empty_object: Literal["refuse", "accept"] = "refuse"

    @field_validator("footer_pattern", "skip_pattern")
    @classmethod
    def _are_patterns(cls, pattern: str | None) -> str | None:
        return _pattern(pattern)


class NdjsonDecoder(PackedDecoder):
    kind: Literal["ndjson"]


class JsonItemsDecoder(PackedDecoder):
    kind: Literal["json_items"]
    items_path: str = "items"


class XlsxDecoder(HeaderDecoder):
    """Workbooks (.xlsx and .xls); see `ingestion.decoders.xlsx` for what each setting does."""

    kind: Literal["xlsx"]
    sheet: str | None = None
    sheets: str | None = None
    sheet_column: str | None = None
    range: Annotated[str, Field(pattern=r"^[A-Z]{1,3}[1-9][0-9]*(:[A-Z]{1,3}([1-9][0-9]*)?)?$")] | None = None
    table_start: str | None = None
    header_row: Annotated[int, Field(ge=1)] = 1
    header_rows: Annotated[int, Field(ge=1, le=5)] = 1
    header_separator: str = "_"
    unit_row: dict[str, str] = Field(default_factory=dict)
    skip_rows: Annotated[int, Field(ge=0)] = 0
    footer_rows: Annotated[int, Field(ge=0)] = 0
    footer_pattern: str | None = None
    skip_pattern: str | None = None
    durations: list[str] = Field(default_factory=list)

    @field_validator("sheets", "table_start", "footer_pattern", "skip_pattern")
    @classmethod
    def _are_patterns(cls, pattern: str | None) -> str | None:
        return _pattern(pattern)

    @model_validator(mode="after")
    def _one_place(self) -> XlsxDecoder:
        if self.sheet is not None and self.sheets is not None:
            raise ValueError("sheet and sheets exclude each other")
        if self.range is not None and self.table_start is not None:
            raise ValueError("range and tableStart exclude each other")
        return self


class XmlDecoder(PackedDecoder):
    """`recordPath`: names of the elements from the root to the record; `namespaces`: prefix → address."""

    kind: Literal["xml"]
    record_path: Annotated[str, Field(pattern=r"^(/([\w.-]+:)?[\w.-]+)+$")]
    namespaces: dict[str, str] = Field(default_factory=dict)


class ParquetDecoder(HeaderDecoder):
    kind: Literal["parquet"]


class ActivityDecoder(Strict):
    """FIT, TCX and GPX activity files. `pathFields` is a regular expression with named groups over the object's name."""

    kind: Literal["activity"]
    path_fields: str | None = None


Decoder = Annotated[
    CsvDecoder | NdjsonDecoder | JsonItemsDecoder | XlsxDecoder | XmlDecoder | ParquetDecoder | ActivityDecoder,
    Field(discriminator="kind"),
]
