"""What a contract may say about fetching: one model per kind of source system (read by `ingestion.connectors`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from catalog.contracts.strict import Strict


class FileDropConnector(Strict):
    """Files laid into a folder: `pattern` is a glob relative to the connection's folder."""

    kind: Literal["file_drop"]
    connection: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
    pattern: str


class RestCursorConnector(Strict):
    """A paged JSON interface with a cursor and a high-water mark; `sinceParam` is exclusive."""

    kind: Literal["rest_cursor"]
    connection: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
    path: Annotated[str, Field(pattern=r"^/")]
    since_param: str = "updated_since"
    cursor_param: str = "cursor"
    limit_param: str = "limit"
    limit: Annotated[int, Field(gt=0, le=100_000)] = 1000
    items_path: str = "items"
    next_cursor_path: str = "next_cursor"
    high_water_path: str = "high_water"


class MqttConnector(Strict):
    """Messages of a broker, received by `tiyu stream`; one message is one record.

    clientId: name of the persistent session, unique at the broker, and of the spool. topics: filters (`+`, `#`). topicField:
    member that gets the topic of a message, where the payload does not hold it.
    """

    kind: Literal["mqtt"]
    connection: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
    client_id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{2,40}$")]
    topics: Annotated[list[str], Field(min_length=1)]
    topic_field: str | None = None


Connector = Annotated[FileDropConnector | MqttConnector | RestCursorConnector, Field(discriminator="kind")]
