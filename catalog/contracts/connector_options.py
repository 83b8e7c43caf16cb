"""What a contract may say about fetching: one model per kind of source system (read by `ingestion.connectors`)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from catalog.contracts.strict import Strict

ConnectionName = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
"""`TIYU_CONN_<NAME>` holds the address and the credential; neither stands in a contract."""


MaxObjectBytes = Annotated[int, Field(gt=0)]


class FileDropConnector(Strict):
    """Files laid into a folder: `pattern` is a glob relative to the connection's folder. maxObjectBytes: of one file; a larger one
    is told and left where it is."""

    kind: Literal["file_drop"]
    connection: ConnectionName
    pattern: str
    max_object_bytes: MaxObjectBytes = 2 << 30


class RestConnector(Strict):
    """A paged JSON interface; `sinceParam` is exclusive. `rest_cursor` is the former name of the kind.

    paging: `page` number, `offset` rows, `cursor` of the last answer, `link` to the next page, or `none`. auth: `bearer` token,
    `signed` requests (RFC 9421, hmac-sha256), or `none`. Parameters that the interface does not have are null; `sinceParam:
    null` reads everything every time. Paths are dotted names in the answer; an empty `itemsPath` is the answer itself.
    nextLinkPath: where the next address stands, if not in the Link header. totalPath, totalHeader: the number of rows of the
    query; pages are read again when it changes on the way. highWaterFrom: `body` (highWaterPath) or the source's clock
    (`date_header`). overlapSeconds: by which the watermark is set back, for rows that become visible late; rows read twice are
    duplicates. query: fixed parameters, never a credential.
    """

    kind: Literal["rest", "rest_cursor"]
    connection: ConnectionName
    path: Annotated[str, Field(pattern=r"^/")]
    paging: Literal["none", "page", "offset", "cursor", "link"] = "cursor"
    auth: Literal["none", "bearer", "signed"] = "bearer"
    query: Annotated[dict[str, str], Field(default_factory=dict)]
    since_param: str | None = "updated_since"
    since_format: Literal["iso", "date", "epoch", "epoch_ms"] = "iso"
    overlap_seconds: Annotated[int, Field(ge=0, le=31_622_400)] = 0
    high_water_from: Literal["body", "date_header"] = "body"
    high_water_path: str = "high_water"
    cursor_param: str = "cursor"
    page_param: str = "page"
    first_page: Annotated[int, Field(ge=0, le=1)] = 1
    offset_param: str = "offset"
    limit_param: str | None = "limit"
    limit: Annotated[int, Field(gt=0, le=100_000)] = 1000
    items_path: str = "items"
    next_cursor_path: str = "next_cursor"
    next_link_path: str | None = None
    total_path: str | None = None
    total_header: str | None = None
    max_restarts: Annotated[int, Field(ge=0, le=20)] = 3

    @model_validator(mode="after")
    def _watermark(self) -> Self:
        if self.since_param is None and self.overlap_seconds:
            raise ValueError("overlapSeconds needs sinceParam")
        if self.since_format == "date" and self.since_param and self.overlap_seconds < 86_400:
            raise ValueError(
                "sinceFormat date needs overlapSeconds of a day (86400) at least: a day is never over when it is read"
            )
        return self


class DatabaseConnector(Strict):
    """A table or view of a PostgreSQL database, fetched as Parquet (decoder `parquet`).

    key: columns that tell rows apart, never NULL. watermark: column of the last change; without one the whole table is read every
    time. overlap: by which the watermark is set back, for transactions that commit late: seconds of a time, units of a number.
    deletes: `column`, the row says so itself in deletedColumn (object: `deletes: {by: column}`), or `compare`: all keys are
    compared with the last fetch, and those gone arrive as an object of their own (`deletes: {by: tombstone, pattern: _deleted_}`).
    columns: `contract` reads the columns of the contract only, `all` whatever the table has.
    """

    kind: Literal["database"]
    connection: ConnectionName
    schema_name: Annotated[str, Field(alias="schema", min_length=1, max_length=63)] = "public"
    table: Annotated[str, Field(min_length=1, max_length=63)]
    key: Annotated[list[str], Field(min_length=1)]
    watermark: str | None = None
    overlap: Annotated[int, Field(ge=0)] = 0
    page_rows: Annotated[int, Field(ge=100, le=1_000_000)] = 50_000
    deletes: Literal["none", "column", "compare"] = "none"
    deleted_column: str | None = None
    columns: Literal["contract", "all"] = "contract"

    @model_validator(mode="after")
    def _parts(self) -> Self:
        if self.overlap and self.watermark is None:
            raise ValueError("overlap needs watermark")
        if (self.deletes == "column") != (self.deleted_column is not None):
            raise ValueError("deletedColumn belongs to deletes by column, and only there")
        if self.deletes == "column" and self.watermark is None:
            raise ValueError("deletes by column needs a watermark: the row that says it is deleted was changed by that")
        return self


class MqttConnector(Strict):
    """Messages of a broker, received by `tiyu stream`; one message is one record.

    clientId: name of the persistent session, unique at the broker, and of the spool. topics: filters (`+`, `#`). topicField:
    member that gets the topic of a message, where the payload does not hold it.
    """

    kind: Literal["mqtt"]
    connection: ConnectionName
    client_id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{2,40}$")]
    topics: Annotated[list[str], Field(min_length=1)]
    topic_field: str | None = None


class S3Connector(Strict):
    """Objects of a bucket: `pattern` is a glob relative to `prefix`. Endpoint, key and secret are the connection's."""

    kind: Literal["s3"]
    connection: ConnectionName
    bucket: Annotated[str, Field(min_length=3, max_length=63)]
    prefix: str = "."
    pattern: str = "**/*"
    max_object_bytes: MaxObjectBytes = 2 << 30


class SftpConnector(Strict):
    """Files of an SFTP server: `pattern` is a glob relative to `path` below the connection's folder. The connection names the
    account and the host key that was agreed. settleSeconds: how long a file must stay unchanged."""

    kind: Literal["sftp"]
    connection: ConnectionName
    path: str = "."
    pattern: str = "**/*"
    settle_seconds: Annotated[int, Field(ge=1, le=600)] = 5
    max_object_bytes: MaxObjectBytes = 2 << 30


Connector = Annotated[
    DatabaseConnector | FileDropConnector | MqttConnector | RestConnector | S3Connector | SftpConnector,
    Field(discriminator="kind"),
]
