"""What a contract may say about reading: one model per file format (read by `ingestion.decoders`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from catalog.contracts.strict import Strict


class HeaderDecoder(Strict):
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


class NdjsonDecoder(Strict):
    kind: Literal["ndjson"]


class JsonItemsDecoder(Strict):
    kind: Literal["json_items"]
    items_path: str = "items"


class XlsxDecoder(Strict):
    kind: Literal["xlsx"]
    sheet: str
    header_row: Annotated[int, Field(ge=1)] = 1


class ParquetDecoder(HeaderDecoder):
    kind: Literal["parquet"]


class ActivityDecoder(Strict):
    """FIT, TCX and GPX activity files. `pathFields` is a regular expression with named groups over the object's name."""

    kind: Literal["activity"]
    path_fields: str | None = None


Decoder = Annotated[
    CsvDecoder | NdjsonDecoder | JsonItemsDecoder | XlsxDecoder | ParquetDecoder | ActivityDecoder,
    Field(discriminator="kind"),
]
