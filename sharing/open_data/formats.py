"""Write one version of a dataset: data in five formats, metadata in three, checksums in two.

Equal content gives equal bytes: no writer is allowed to put the time of writing into a file.
"""

from __future__ import annotations

import datetime as dt
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import xlsxwriter

from catalog import geo, policy, vocabularies
from lake.properties import DEMO_BANNER
from protection import freetext
from sharing import files
from sharing.open_data import completeness
from sharing.open_data.config import DatasetSpec
from sharing.outputs import Column

NOTE_COLUMN = Column(
    "data_note",
    "数据说明",
    "VARCHAR",
    "L1",
    "N",
    description=f"演示环境固定填写“{DEMO_BANNER}”；正式数据没有这一列",
)
#: A spreadsheet program may run a text cell that begins with one of these as a formula.
_FORMULA = r"^[=+\-@\t\r\n＝＋－＠]"
_FRICTIONLESS = {
    "VARCHAR": "string",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "TIMESTAMPTZ": "datetime",
    "TIMESTAMP": "datetime",
    "DOUBLE": "number",
    "FLOAT": "number",
    "BIGINT": "integer",
    "INTEGER": "integer",
    "SMALLINT": "integer",
}
_TYPE_ZH = {
    "string": "文本",
    "boolean": "是否",
    "date": "日期",
    "datetime": "时间",
    "number": "数值",
    "integer": "整数",
}
KNOWN_CRS = ("CGCS2000", "WGS-84", "GCJ-02", "BD-09")
MEDIA_TYPES = {
    "csv": "text/csv",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
    "geojson": "application/geo+json",
}
FORMAT_ZH = {
    "csv": "表格软件可直接打开",
    "xlsx": "Excel 工作簿，含数据字典",
    "json": "记录数组，供程序读取",
    "parquet": "列式文件，供数据分析",
    "geojson": "点位，可直接在地图软件中打开",
}


def field_type(column: Column) -> str:
    """Frictionless type of a contract column."""
    kind = column.type.upper()
    return "number" if kind.startswith("DECIMAL") else _FRICTIONLESS[kind]


def public_columns(spec: DatasetSpec, banner: str) -> tuple[Column, ...]:
    """The contract's columns; in a demo one more that marks every row, wherever the file ends up."""
    return (*spec.columns, NOTE_COLUMN) if banner else spec.columns


def public_frame(spec: DatasetSpec, frame: pl.DataFrame, banner: str) -> pl.DataFrame:
    """Exactly the public columns, ordered by key; instants are written with Shanghai's clock and offset.

    An identifier that stands in a text is taken out as the policy says for the public.
    """
    result = frame.select(column.name for column in spec.columns).sort(list(spec.key))
    texts = [name for name, kind in result.schema.items() if kind == pl.String and name not in spec.key]
    result = result.with_columns(freetext.cleaned(result[name], *policy.CHANNELS["open"]) for name in texts)
    result = result.with_columns(pl.col(name).dt.convert_time_zone("Asia/Shanghai") for name in _instants(result))
    return result.with_columns(pl.lit(banner).alias(NOTE_COLUMN.name)) if banner else result


def _instants(frame: pl.DataFrame) -> list[str]:
    """Columns that hold a moment with a time zone."""
    return [name for name, kind in frame.schema.items() if isinstance(kind, pl.Datetime) and kind.time_zone]


def json_bytes(frame: pl.DataFrame) -> bytes:
    """A JSON array with one record a line; also the canonical form that versions are fingerprinted by."""
    lines = frame.write_ndjson().rstrip("\n").split("\n") if frame.height else []
    return ("[\n" + ",\n".join(lines) + "\n]\n").encode()


def csv_bytes(frame: pl.DataFrame) -> bytes:
    """RFC 4180 with a UTF-8 byte order mark, without which Chinese Excel shows the text garbled.

    A text cell that a spreadsheet would run as a formula gets a leading apostrophe (only here; the other formats hold the
    value unchanged). Numbers are never touched.
    """
    return _neutral(frame).write_csv(include_bom=True, line_terminator="\r\n").encode()


def _neutral(frame: pl.DataFrame) -> pl.DataFrame:
    texts = [name for name, kind in frame.schema.items() if kind == pl.String]
    return frame.with_columns(
        pl.when(pl.col(name).str.contains(_FORMULA))
        .then(pl.lit("'") + pl.col(name))
        .otherwise(pl.col(name))
        .alias(name)
        for name in texts
    )


def neutralised_count(frame: pl.DataFrame) -> int:
    """How many text cells of the CSV got a leading apostrophe."""
    texts = [name for name, kind in frame.schema.items() if kind == pl.String]
    return sum(int(frame[name].str.contains(_FORMULA).sum() or 0) for name in texts)


def code_values(column: Column) -> str:
    """``code=name`` of the column's code list, or an empty string."""
    if not column.code_list:
        return ""
    return "；".join(f"{row['code']}={row['name']}" for row in vocabularies.load(column.code_list))


def unit_name(code: str | None) -> str:
    """Chinese name of a unit; a code that is not in the vocabulary stays as it is."""
    return {row["code"]: row["name"] for row in vocabularies.load("unit")}.get(code or "", code or "")


def dictionary(columns: tuple[Column, ...]) -> pl.DataFrame:
    """The data dictionary, one row a column, in Chinese."""
    return pl.DataFrame(
        [
            {
                "字段": c.name,
                "中文名": c.title_zh,
                "类型": _TYPE_ZH[field_type(c)],
                "单位": unit_name(c.unit),
                "可为空": "否" if c.required else "是",
                "含义": c.description or c.title_zh,
                "代码": code_values(c),
            }
            for c in columns
        ]
    )


def xlsx_bytes(
    spec: DatasetSpec, frame: pl.DataFrame, columns: tuple[Column, ...], notes: list[tuple[str, str]]
) -> bytes:
    """A workbook with sheets 数据, 数据字典 and 说明; text is always stored as text, never as a formula.

    A spreadsheet knows no time zones: moments stand there as the local time of Shanghai.
    """
    frame = frame.with_columns(
        pl.col(name).dt.convert_time_zone("Asia/Shanghai").dt.replace_time_zone(None) for name in _instants(frame)
    )
    buffer = io.BytesIO()
    workbook = xlsxwriter.Workbook(
        buffer,
        {
            "in_memory": True,
            "strings_to_formulas": False,
            "strings_to_urls": False,
            "default_date_format": "yyyy-mm-dd",
        },
    )
    created = dt.datetime(2000, 1, 1)  # noqa: DTZ001 (the library wants it naive; fixed, so that bytes are equal)
    workbook.set_properties({"title": spec.title_zh, "author": spec.publisher["name"], "created": created})
    options: dict[str, Any] = {
        "workbook": workbook,
        "table_style": None,
        "autofit": True,
        "header_format": {"bold": True, "bg_color": "#E3EEF0"},
        "dtype_formats": {pl.Datetime: "yyyy-mm-dd hh:mm:ss"},
    }
    frame.write_excel(worksheet="数据", freeze_panes=(1, 0), **options)
    dictionary(columns).write_excel(worksheet="数据字典", freeze_panes=(1, 0), **options)
    pl.DataFrame(notes, schema=["项目", "内容"], orient="row").write_excel(worksheet="说明", **options)
    workbook.close()
    return buffer.getvalue()


def parquet_bytes(spec: DatasetSpec, frame: pl.DataFrame, columns: tuple[Column, ...], banner: str) -> bytes:
    """Parquet with Chinese field metadata."""
    table = frame.to_arrow()
    by_name = {column.name: column for column in columns}
    schema = pa.schema(
        [
            pa.field(
                f.name,
                pa.string() if pa.types.is_large_string(f.type) or pa.types.is_string_view(f.type) else f.type,
                metadata={"title": by_name[f.name].title_zh, "unit": by_name[f.name].unit or ""},
            )
            for f in table.schema
        ],
        metadata={"title": spec.title_zh, "banner": banner, "contract": f"{spec.contract_id}@{spec.contract_version}"},
    )
    buffer = io.BytesIO()
    pq.write_table(table.cast(schema), buffer, compression="zstd")
    return buffer.getvalue()


def geojson_bytes(spec: DatasetSpec, frame: pl.DataFrame, banner: str) -> tuple[bytes, int]:
    """RFC 7946 points in WGS-84, and how many records have no usable position (geometry null)."""
    assert spec.geo is not None
    lng, lat, crs = (spec.geo[name] for name in ("lng", "lat", "crs"))
    systems = frame[crs].fill_null("").to_numpy().astype(object)
    x, y = geo.to_wgs84(
        frame[lng].cast(pl.Float64).fill_null(float("nan")).to_numpy().copy(),
        frame[lat].cast(pl.Float64).fill_null(float("nan")).to_numpy().copy(),
        systems,
    )
    unknown = ~np.isin(systems.astype(str), KNOWN_CRS)  # an unknown system gets no position, never a guessed one
    x, y = np.where(unknown, np.nan, x), np.where(unknown, np.nan, y)
    place = pl.DataFrame({"x": np.round(x, 6), "y": np.round(y, 6)})
    properties = [name for name in frame.columns if name not in (lng, lat, crs)]
    features = frame.select(
        pl.lit("Feature").alias("type"),
        pl.struct(properties).struct.json_encode().alias("properties"),
    ).with_columns(place)
    lines = features.select(
        pl.when(pl.col("x").is_nan() | pl.col("y").is_nan())
        .then(pl.lit('{"type":"Feature","geometry":null,"properties":') + pl.col("properties") + "}")
        .otherwise(
            pl.lit('{"type":"Feature","geometry":{"type":"Point","coordinates":[')
            + pl.col("x").cast(pl.String)
            + ","
            + pl.col("y").cast(pl.String)
            + pl.lit(']},"properties":')
            + pl.col("properties")
            + "}"
        )
    ).to_series()
    head: dict[str, Any] = {"type": "FeatureCollection", "name": spec.name, "title": spec.title_zh}
    if banner:
        head["banner"] = banner
    start = json.dumps(head, ensure_ascii=False)[:-1]
    text = start + ', "features": [\n' + ",\n".join(lines.to_list()) + "\n]}\n"
    return text.encode(), int(np.isnan(x).sum())


def datapackage(
    spec: DatasetSpec, columns: tuple[Column, ...], version: dict[str, Any], sizes: dict[str, tuple[int, str]]
) -> dict[str, Any]:
    """Frictionless Data Package v1: the CSV as tabular resource with schema, the other formats as plain resources."""
    fields = []
    for column in columns:
        field: dict[str, Any] = {
            "name": column.name,
            "type": field_type(column),
            "title": column.title_zh,
            "description": column.description or column.title_zh,
        }
        if column.required:
            field["constraints"] = {"required": True}
        if column.unit:
            field["unit"] = column.unit
        fields.append(field)
    resources: list[dict[str, Any]] = []
    for kind, name in version["formats"].items():
        size, sha256 = sizes[name]
        resource: dict[str, Any] = {
            "name": f"{spec.name}-{kind}".replace("_", "-"),
            "path": name,
            "format": kind,
            "mediatype": MEDIA_TYPES[kind],
            "bytes": size,
            "hash": f"sha256:{sha256}",
        }
        if kind == "csv":
            resource |= {
                "profile": "tabular-data-resource",
                "encoding": "utf-8",
                "dialect": {
                    "delimiter": ",",
                    "lineTerminator": "\r\n",
                    "quoteChar": '"',
                    "doubleQuote": True,
                    "header": True,
                },
                "schema": {"fields": fields, "missingValues": [""], "primaryKey": list(spec.key)},
            }
        resources.append(resource)
    return {
        "profile": "data-package",
        "name": spec.name.replace("_", "-"),
        "id": f"{spec.name}@{version['version']}",
        "title": spec.title_zh,
        "description": _description(spec, version),
        "version": version["version"],
        "created": version["published_at"],
        "keywords": list(spec.keywords),
        "licenses": [{"name": spec.licence.id, "path": "LICENSE.txt", "title": spec.licence.title}],
        "sources": [{"title": spec.publisher["name"]}],
        "contributors": [{"title": spec.publisher["name"], "role": "publisher"}],
        "homepage_notice": spec.canonical["notice"],
        "resources": resources,
    }


def _description(spec: DatasetSpec, version: dict[str, Any]) -> str:
    return " ".join(filter(None, [version["banner"], completeness.note(version["missing_sources"]), spec.description]))


def dcat(spec: DatasetSpec, version: dict[str, Any], sizes: dict[str, tuple[int, str]]) -> dict[str, Any]:
    """DCAT 2 as JSON-LD. Addresses are relative to the document, so a mirrored copy describes itself."""
    return {
        "@context": {
            "dcat": "http://www.w3.org/ns/dcat#",
            "dct": "http://purl.org/dc/terms/",
            "foaf": "http://xmlns.com/foaf/0.1/",
            "spdx": "http://spdx.org/rdf/terms#",
            "xsd": "http://www.w3.org/2001/XMLSchema#",
            "adms": "http://www.w3.org/ns/adms#",
        },
        "@id": "./",
        "@type": "dcat:Dataset",
        "dct:identifier": f"{spec.name}@{version['version']}",
        "dct:title": {"@language": "zh", "@value": spec.title_zh},
        "dct:description": {"@language": "zh", "@value": _description(spec, version)},
        "dct:publisher": {"@type": "foaf:Organization", "foaf:name": spec.publisher["name"]},
        "dct:license": {"@id": "LICENSE.txt"},
        "dct:accessRights": spec.open_type_zh,
        "dct:accrualPeriodicity": spec.update_cycle_zh,
        "dct:issued": {"@type": "xsd:dateTime", "@value": version["published_at"]},
        "dct:language": "zh-CN",
        "dct:spatial": "上海市",
        "dcat:keyword": list(spec.keywords),
        "dcat:theme": spec.theme,
        "adms:versionNotes": spec.canonical["notice"],
        "dcat:landingPage": {"@id": "../"},
        "dcat:version": version["version"],
        "dcat:distribution": [
            {
                "@id": name,
                "@type": "dcat:Distribution",
                "dct:title": name,
                "dcat:downloadURL": {"@id": name},
                "dcat:mediaType": MEDIA_TYPES[kind],
                "dcat:byteSize": sizes[name][0],
                "dct:license": {"@id": "LICENSE.txt"},
                "spdx:checksum": {
                    "@type": "spdx:Checksum",
                    "spdx:algorithm": {"@id": "spdx:checksumAlgorithm_sha256"},
                    "spdx:checksumValue": sizes[name][1],
                },
            }
            for kind, name in version["formats"].items()
        ],
    }


def pretty(data: Any) -> bytes:
    """JSON for people and programs: UTF-8, indented, final newline."""
    return (json.dumps(data, ensure_ascii=False, indent=2) + "\n").encode()


def write_version(
    spec: DatasetSpec, frame: pl.DataFrame, folder: Path, version: dict[str, Any], changelog: str
) -> dict[str, Any]:
    """Write all files of one version into an empty folder and return its completed ``version.json``.

    ``version`` holds version, published_at, data_date, banner, missing_sources, row_count, fingerprint, changes.
    """
    folder.mkdir(parents=True)
    banner = version["banner"]
    columns = public_columns(spec, banner)
    notes = [
        *([("重要提示", banner)] if banner else []),
        ("数据集", spec.title_zh),
        ("说明", spec.description),
        ("版本", version["version"]),
        ("数据截至", version["data_date"]),
        *([("数据缺口", completeness.note(version["missing_sources"]))] if version["missing_sources"] else []),
        ("许可", spec.licence.title),
        ("正式开放", spec.canonical["notice"]),
        ("纠错", f"{spec.publisher['contact_text']}：{spec.publisher['contact']}"),
    ]
    data = {
        "csv": csv_bytes(frame),
        "xlsx": xlsx_bytes(spec, frame, columns, notes),
        "json": json_bytes(frame),
        "parquet": parquet_bytes(spec, frame, columns, banner),
    }
    version = {**version, "csv_neutralised_cells": neutralised_count(frame)}
    if spec.geo:
        data["geojson"], version["records_without_position"] = geojson_bytes(spec, frame, banner)
    version["formats"] = {kind: f"{spec.name}.{kind}" for kind in data}
    for kind, content in data.items():
        (folder / f"{spec.name}.{kind}").write_bytes(content)
    sizes = {path.name: (path.stat().st_size, files.sha256_file(path)) for path in sorted(folder.iterdir())}
    version["files"] = {
        name: {"bytes": size, "sha256": sha256, "sm3": files.sm3_file(folder / name)}
        for name, (size, sha256) in sizes.items()
    }
    (folder / "dictionary.csv").write_bytes(csv_bytes(dictionary(columns)))
    (folder / "datapackage.json").write_bytes(pretty(datapackage(spec, columns, version, sizes)))
    (folder / "dcat.jsonld").write_bytes(pretty(dcat(spec, version, sizes)))
    (folder / "LICENSE.txt").write_text(
        "\n".join(
            [
                *([f"【{banner}】", ""] if banner else []),
                f"{spec.title_zh}　许可：{spec.licence.title}",
                "",
                spec.licence.text,
                spec.canonical["notice"],
                "",
            ]
        ),
        encoding="utf-8",
    )
    (folder / "CHANGELOG.md").write_text(changelog, encoding="utf-8")
    (folder / "version.json").write_bytes(pretty(version))
    listed = sorted(path for path in folder.iterdir())
    (folder / "checksums.sm3").write_text(
        "".join(f"{files.sm3_file(path)} *{path.name}\n" for path in listed), encoding="utf-8"
    )
    (folder / "checksums.sha256").write_text(
        "".join(f"{files.sha256_file(path)}  {path.name}\n" for path in listed), encoding="utf-8"
    )
    return version
