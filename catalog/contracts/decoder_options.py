"""What a contract may say about reading: one model per file format (read by `ingestion.decoders`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from catalog.contracts.strict import Strict


class CsvDecoder(Strict):
    kind: Literal["csv"]
    encoding: Literal["utf-8", "gb18030"] = "utf-8"
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","


class NdjsonDecoder(Strict):
    kind: Literal["ndjson"]


class JsonItemsDecoder(Strict):
    kind: Literal["json_items"]
    items_path: str = "items"


class XlsxDecoder(Strict):
    kind: Literal["xlsx"]
    sheet: str
    header_row: Annotated[int, Field(ge=1)] = 1


class ParquetDecoder(Strict):
    kind: Literal["parquet"]


class ActivityDecoder(Strict):
    """FIT, TCX and GPX activity files. `pathFields` is a regular expression with named groups over the object's name."""

    kind: Literal["activity"]
    path_fields: str | None = None


Decoder = Annotated[
    CsvDecoder | NdjsonDecoder | JsonItemsDecoder | XlsxDecoder | ParquetDecoder | ActivityDecoder,
    Field(discriminator="kind"),
]
