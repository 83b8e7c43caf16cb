"""What a dashboard is made of: datasets with columns and metrics, charts, pages. ``cockpit`` declares them with these words,
``assets`` turns them into Superset's bundle.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
NAMESPACE = uuid.UUID("6c1f5f0e-9a43-5b60-8d52-3d0c6a0b7e21")


def key_uuid(kind: str, key: str) -> str:
    """Stable uuid of one object; ``kind`` is database, dataset, chart, dashboard or query."""
    return str(uuid.uuid5(NAMESPACE, f"{kind}:{key}"))


@dataclass(frozen=True)
class Column:
    """One column of a dataset: ``type`` is the DuckDB type, ``title`` the Chinese name a screen shows."""

    name: str
    type: str
    title: str
    is_time: bool = False


@dataclass(frozen=True)
class Metric:
    """One named aggregate of a dataset, with its d3 number format."""

    name: str
    expression: str
    title: str
    format: str = ",d"


@dataclass(frozen=True)
class Dataset:
    """A table of the serving file, or (``sql`` true) the query ``queries/<key>.sql`` on it.

    ``reads`` names the serving tables it depends on; ``schema`` is the DuckDB schema of a plain table.
    """

    key: str
    title: str
    columns: tuple[Column, ...]
    metrics: tuple[Metric, ...] = ()
    table: str = ""
    schema: str = "ads"
    sql: bool = False
    time_column: str = ""

    @property
    def uuid(self) -> str:
        return key_uuid("dataset", self.key)

    def query(self) -> str | None:
        return (HERE / "queries" / f"{self.key}.sql").read_text("utf8").strip() if self.sql else None


@dataclass(frozen=True)
class Chart:
    """One chart: ``params`` are Superset's own; ``time_scoped``/``district_scoped`` say which filters reach it."""

    key: str
    title: str
    viz: str
    dataset: Dataset
    params: dict[str, Any] = field(default_factory=dict)
    description: str = ""
    time_scoped: bool = False
    district_scoped: bool = False

    @property
    def uuid(self) -> str:
        return key_uuid("chart", self.key)


@dataclass(frozen=True)
class Page:
    """One tab: rows of (chart, width of 12, height in 8-pixel units)."""

    key: str
    title: str
    rows: tuple[tuple[tuple[Chart, int, int], ...], ...]


@dataclass(frozen=True)
class Dashboard:
    """One dashboard. ``district_dataset`` gives the values of the district filter; None: no such filter."""

    slug: str
    title: str
    description: str
    pages: tuple[Page, ...]
    district_dataset: Dataset | None

    @property
    def uuid(self) -> str:
        return key_uuid("dashboard", self.slug)

    def charts(self) -> list[Chart]:
        """Charts in reading order, each once (a chart may stand on several pages)."""
        placed = (chart for page in self.pages for row in page.rows for chart, _, _ in row)
        return list({chart.key: chart for chart in placed}.values())


def template(name: str) -> str:
    """A Handlebars template on one line: Superset renders it as Markdown, where indentation would mean code."""
    text = (HERE / "templates" / f"{name}.hbs").read_text("utf8")
    return re.sub(r"\s*\n\s*", "", text.strip())
