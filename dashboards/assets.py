"""Build the Superset asset bundle from the declarations in ``cockpit`` (datasets, charts, pages) and the files beside
it: ``queries/*.sql`` (virtual datasets), ``templates/*.hbs`` (cards), ``cockpit.css``.

The bundle is a mapping of archive path → text, in the layout Superset's assets import reads. It is deterministic:
the same code gives the same bytes, and every object's uuid is derived from its key, so an import updates in place.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from dashboards import access
from dashboards.coach import COACH
from dashboards.cockpit import COCKPIT, DISTRICT
from dashboards.model import HERE, Chart, Dashboard, Dataset, key_uuid

SAVED_QUERIES = HERE.parent / "sharing" / "serving" / "saved_queries"
VERSION = "1.0.0"
LEGACY_VIZ = frozenset({"country_map"})
"""Chart types that still use Superset's old data endpoint and therefore take no query context."""


COCKPIT_DATABASE_UUID = key_uuid("database", "cockpit")
WINDOW_UUIDS = {audience: key_uuid("database", audience) for audience in access.WINDOWS}
ANALYST_DATABASE_UUID = WINDOW_UUIDS["analyst"]


def _columns_of(params: dict[str, Any]) -> list[str]:
    """Plain columns a chart groups by or shows, in order, without repetition."""
    found: list[str] = []
    for name in ("all_columns", "groupby", "entity", "series"):
        value = params.get(name)
        found += value if isinstance(value, list) else [value] if value else []
    return list(dict.fromkeys(found))


def _metrics_of(params: dict[str, Any]) -> list[Any]:
    found = list(params.get("metrics") or [])
    if params.get("metric"):
        found.append(params["metric"])
    return found


def chart_columns(chart: Chart) -> set[str]:
    """Every dataset column the chart names: shown, grouped, filtered, ordered or used in its template."""
    params = chart.params
    names = set(_columns_of(params))
    names |= {str(params[name]) for name in ("x_axis", "granularity_sqla") if params.get(name)}
    names |= {item["subject"] for item in params.get("adhoc_filters", []) if item["expressionType"] == "SIMPLE"}
    names |= {json.loads(item)[0] for item in params.get("order_by_cols", [])}
    return names


def chart_metrics(chart: Chart) -> set[str]:
    """Every named metric the chart uses."""
    wanted = [*_metrics_of(chart.params), chart.params.get("x_axis_sort"), chart.params.get("timeseries_limit_metric")]
    defined = {metric.name for metric in chart.dataset.metrics}
    axis = {chart.params.get("x_axis")}
    return {name for name in wanted if isinstance(name, str) and (name in defined or name not in axis)}


def query_context(chart: Chart) -> dict[str, Any] | None:
    """What the chart's data request would be, stored so that the REST API can answer without a browser."""
    params = chart.params
    if chart.viz in LEGACY_VIZ:
        return None
    raw = params.get("query_mode") == "raw"
    columns: list[Any] = list(_columns_of(params))
    filters = [
        {"col": item["subject"], "op": item["operator"], "val": item["comparator"]}
        for item in params.get("adhoc_filters", [])
        if item["expressionType"] == "SIMPLE"
    ]
    axis = params.get("x_axis")
    if axis:
        grain = params.get("time_grain_sqla")
        base: Any = axis
        if grain:
            base = {"timeGrain": grain, "columnType": "BASE_AXIS", "sqlExpression": axis, "label": axis,
                    "expressionType": "SQL"}  # fmt: skip
        columns = [base, *[name for name in columns if name != axis]]
    metrics = None if raw else _metrics_of(params)
    orderby: list[Any] = [json.loads(item) for item in params.get("order_by_cols", [])]
    if not raw and metrics and not axis:
        orderby = [[params.get("timeseries_limit_metric") or metrics[0], not params.get("order_desc", True)]]
    query = {
        "filters": filters,
        "extras": {"having": "", "where": ""},
        "columns": columns,
        **({} if raw else {"metrics": metrics}),
        "orderby": orderby,
        "row_limit": int(params.get("row_limit") or 1000),
        "time_range": "No filter",
        "annotation_layers": [],
        "applied_time_extras": {},
        "order_desc": bool(params.get("order_desc", True)),
        "url_params": {},
        "custom_params": {},
        "custom_form_data": {},
    }
    return {
        "datasource": {"id": 0, "type": "table"},
        "force": False,
        "queries": [query],
        "form_data": {**params, "viz_type": chart.viz},
        "result_format": "json",
        "result_type": "full",
    }


def _database(key: str, name: str, uuid_: str, in_sql_lab: bool) -> dict[str, Any]:
    return {
        "database_name": name,
        # A name, not a path: dashboards.runtime.mutate_connection opens the locked-down serving file of that name.
        "sqlalchemy_uri": f"duckdb:///{key}",
        "expose_in_sqllab": in_sql_lab,
        "allow_ctas": False,
        "allow_cvas": False,
        "allow_dml": False,
        "allow_csv_upload": False,
        "allow_run_async": False,
        "cache_timeout": 3600,
        "extra": {"allows_virtual_table_explore": in_sql_lab, "cost_estimate_enabled": False},
        "uuid": uuid_,
        "version": VERSION,
    }


def _dataset(dataset: Dataset) -> dict[str, Any]:
    return {
        "table_name": dataset.table or dataset.key,
        "main_dttm_col": dataset.time_column or None,
        "description": dataset.title,
        "schema": dataset.schema,
        "sql": dataset.query(),
        # Without it Superset re-writes the SQL from "generic" to DuckDB and may change it.
        **({"source_db_engine": "duckdb"} if dataset.sql else {}),
        "filter_select_enabled": True,
        "always_filter_main_dttm": False,
        "normalize_columns": False,
        "is_managed_externally": True,
        "uuid": dataset.uuid,
        "database_uuid": COCKPIT_DATABASE_UUID,
        "metrics": [
            {"metric_name": m.name, "verbose_name": m.title, "expression": m.expression, "d3format": m.format,
             "metric_type": None}
            for m in dataset.metrics
        ],
        "columns": [
            {"column_name": c.name, "verbose_name": c.title, "type": c.type, "is_dttm": c.is_time, "is_active": True,
             "groupby": True, "filterable": True}
            for c in dataset.columns
        ],
        "version": VERSION,
    }  # fmt: skip


def _chart(chart: Chart) -> dict[str, Any]:
    context = query_context(chart)
    return {
        "slice_name": chart.title,
        "description": chart.description or None,
        "viz_type": chart.viz,
        "params": {"viz_type": chart.viz, **chart.params},
        "query_context": None if context is None else json.dumps(context, ensure_ascii=False, sort_keys=True),
        "cache_timeout": None,
        "is_managed_externally": True,
        "uuid": chart.uuid,
        "dataset_uuid": chart.dataset.uuid,
        "version": VERSION,
    }


def _position(dashboard: Dashboard, numbers: dict[str, int]) -> dict[str, Any]:
    tabs = "TABS-cockpit"
    position: dict[str, Any] = {
        "DASHBOARD_VERSION_KEY": "v2",
        "ROOT_ID": {"id": "ROOT_ID", "type": "ROOT", "children": ["GRID_ID"]},
        "GRID_ID": {"id": "GRID_ID", "type": "GRID", "children": [], "parents": ["ROOT_ID"]},
        "HEADER_ID": {"id": "HEADER_ID", "type": "HEADER", "meta": {"text": dashboard.title}},
    }
    # With tabs at the top, Superset expects ROOT → TABS and an empty grid.
    position["ROOT_ID"]["children"] = [tabs]
    position[tabs] = {"id": tabs, "type": "TABS", "children": [], "meta": {}, "parents": ["ROOT_ID"]}
    for page in dashboard.pages:
        tab = f"TAB-{page.key}"
        position[tabs]["children"].append(tab)
        position[tab] = {"id": tab, "type": "TAB", "children": [], "parents": ["ROOT_ID", tabs],
                         "meta": {"text": page.title, "defaultText": page.title, "placeholder": page.title}}  # fmt: skip
        for index, row in enumerate(page.rows):
            row_id = f"ROW-{page.key}-{index}"
            position[tab]["children"].append(row_id)
            position[row_id] = {"id": row_id, "type": "ROW", "children": [], "parents": ["ROOT_ID", tabs, tab],
                                "meta": {"background": "BACKGROUND_TRANSPARENT"}}  # fmt: skip
            for chart, width, height in row:
                chart_id = f"CHART-{page.key}-{chart.key}"
                position[row_id]["children"].append(chart_id)
                position[chart_id] = {
                    "id": chart_id, "type": "CHART", "children": [], "parents": ["ROOT_ID", tabs, tab, row_id],
                    "meta": {"uuid": chart.uuid, "chartId": numbers[chart.key], "sliceName": chart.title,
                             "width": width, "height": height},
                }  # fmt: skip
    return position


def _dashboard(dashboard: Dashboard) -> dict[str, Any]:
    charts = dashboard.charts()
    # Numbers are local to the bundle; the import rewrites them to the database's ids wherever they are referred to.
    numbers = {chart.key: index for index, chart in enumerate(charts, start=1)}
    not_time = [numbers[chart.key] for chart in charts if not chart.time_scoped]
    not_district = [numbers[chart.key] for chart in charts if not chart.district_scoped]

    def native(key: str, name: str, kind: str, targets: list[Any], excluded: list[int], controls: dict[str, Any],
               description: str) -> dict[str, Any]:  # fmt: skip
        return {
            "id": f"NATIVE_FILTER-{key}", "name": name, "filterType": kind, "type": "NATIVE_FILTER",
            "targets": targets, "description": description, "cascadeParentIds": [], "controlValues": controls,
            "scope": {"rootPath": ["ROOT_ID"], "excluded": excluded},
            "defaultDataMask": {"extraFormData": {}, "filterState": {}, "ownState": {}},
        }  # fmt: skip

    select = {"multiSelect": True, "enableEmptyFilter": False, "inverseSelection": False, "searchAllOptions": False,
              "creatable": False, "sortAscending": True}  # fmt: skip
    filters = [
        native(
            "time",
            "时间范围",
            "filter_time",
            [{}],
            not_time,
            {},
            "只作用于趋势、排行与地图；核心指标与预警始终是最新状态",
        ),
    ]
    if dashboard.district_dataset is not None:
        target = [{"column": {"name": "district_name"}, "datasetUuid": dashboard.district_dataset.uuid}]
        about = "可多选；核心指标始终为全市口径"
        filters.append(native("district", "行政区", "filter_select", target, not_district, select, about))
    metadata = {
        # A cross filter keeps the clicked value on the server: no name may stay there.
        "cross_filters_enabled": not any(
            access.is_named(audience) for audience, slug in access.HOMES.items() if slug == dashboard.slug
        ),
        "filter_bar_orientation": "HORIZONTAL",
        "refresh_frequency": 0,
        "timed_refresh_immune_slices": [],
        "expanded_slices": {},
        "label_colors": {},
        "shared_label_colors": [],
        # No dashboard colour scheme here: it would turn the district map from graded to categorical.
        "global_chart_configuration": {
            "scope": {"rootPath": ["ROOT_ID"], "excluded": not_district}, "chartsInScope": [],
        },
        "chart_configuration": {},
        "native_filter_configuration": filters,
    }  # fmt: skip
    return {
        "dashboard_title": dashboard.title,
        "description": dashboard.description,
        "css": (HERE / "cockpit.css").read_text("utf8"),
        "slug": dashboard.slug,
        "published": True,
        "is_managed_externally": True,
        "uuid": dashboard.uuid,
        "position": _position(dashboard, numbers),
        "metadata": metadata,
        "version": VERSION,
    }


def dashboards() -> tuple[Dashboard, ...]:
    """The declared dashboards."""
    return (COCKPIT, DISTRICT, COACH)


def datasets(of: Sequence[Dashboard] | None = None) -> list[Dataset]:
    """Datasets in use, each once, by key."""
    found: dict[str, Dataset] = {}
    for dashboard in of if of is not None else dashboards():
        if dashboard.district_dataset is not None:
            found[dashboard.district_dataset.key] = dashboard.district_dataset
        for chart in dashboard.charts():
            found[chart.dataset.key] = chart.dataset
    return [found[key] for key in sorted(found)]


def dashboard_uuids() -> list[str]:
    return [dashboard.uuid for dashboard in dashboards()]


def scoped_dataset_uuids(column: str = "district_code") -> list[str]:
    """Datasets whose rows carry the code of a scope: Superset's row filters, the second line, stand on these."""
    return [d.uuid for d in datasets() if column in {each.name for each in d.columns}]


def saved_queries(audience: str = "analyst") -> Iterator[dict[str, str]]:
    """Saved queries of an audience that asks in SQL Lab: uuid, label, description, schema, sql.

    The analyst's are the files of ``sharing/serving/saved_queries`` that ``tiyu sql`` offers too, others have a folder
    of their name there. The first comment lines name the query (标题) and the question it answers (问题).
    """
    for path in sorted((SAVED_QUERIES if audience == "analyst" else SAVED_QUERIES / audience).glob("*.sql")):
        text = path.read_text("utf8")
        title, question = (re.search(rf"^--\s*{name}[：:]\s*(.+)$", text, re.MULTILINE) for name in ("标题", "问题"))
        yield {
            "uuid": key_uuid("query", path.stem),
            "label": title.group(1).strip() if title else path.stem,
            "description": question.group(1).strip() if question else "",
            "schema": "ads" if audience == "analyst" else "dws",
            "sql": text.strip() + "\n",
        }


def _dump(value: Any) -> str:
    return yaml.safe_dump(value, allow_unicode=True, sort_keys=False, width=1000)


def build(of: Sequence[Dashboard] | None = None) -> dict[str, str]:
    """The bundle: archive path → text. ``of`` replaces the declared dashboards (tests)."""
    chosen = tuple(of) if of is not None else dashboards()
    files: dict[str, str] = {
        "metadata.yaml": _dump({"version": VERSION, "type": "assets", "timestamp": "2026-01-01T00:00:00+00:00"}),
        "databases/cockpit.yaml": _dump(_database("cockpit", "驾驶舱数据", COCKPIT_DATABASE_UUID, False)),
    }
    for audience, name in access.WINDOWS.items():
        files[f"databases/{audience}.yaml"] = _dump(_database(audience, name, WINDOW_UUIDS[audience], True))
    for dataset in datasets(chosen):
        files[f"datasets/cockpit/{dataset.key}.yaml"] = _dump(_dataset(dataset))
    for dashboard in chosen:
        for chart in dashboard.charts():
            files[f"charts/{chart.key}.yaml"] = _dump(_chart(chart))
        files[f"dashboards/{dashboard.slug}.yaml"] = _dump(_dashboard(dashboard))
    return files


def archive(bundle: dict[str, str]) -> bytes:
    """The bundle as the zip file Superset's REST import takes; same bundle, same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as container:
        for name in sorted(bundle):
            entry = zipfile.ZipInfo(f"assets/{name}", date_time=(2026, 1, 1, 0, 0, 0))
            container.writestr(entry, bundle[name])
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m dashboards.assets", description="Write the asset bundle to a folder"
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    for name, text in build().items():
        path = options.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf8")


if __name__ == "__main__":
    main()
