"""The portal preview: an index, a page per dataset, a page per version, tested code samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from lake import properties
from lake.settings import settings
from sharing import files
from sharing.open_data import charts, completeness, formats
from sharing.open_data import versions as published
from sharing.open_data.config import DatasetSpec
from sharing.sites import theme

_SAMPLES = Path(__file__).with_name("samples")


def sample(spec: DatasetSpec, name: str) -> str:
    """A code sample with the dataset's name filled in."""
    return (_SAMPLES / name).read_text(encoding="utf-8").replace("{{dataset}}", spec.name)


def write_version_page(spec: DatasetSpec, version: dict[str, Any], folder: Path) -> None:
    """The page inside an immutable version folder; written once, with the version."""
    rows = [
        {"name": path.name, "size": theme.size(path.stat().st_size), "sm3": files.sm3_file(path)}
        for path in sorted(folder.iterdir())
        if path.name != "index.html"
    ]
    page = theme.render(
        "open_version.html",
        depth=2,
        home_depth=3,
        here="open",
        banner=version["banner"],
        title=f"{spec.title_zh} {version['version']}",
        spec=spec,
        version=version,
        gap=completeness.note(version["missing_sources"]),
        files=rows,
        canonical=spec.canonical,
    )
    (folder / "index.html").write_bytes(page)


def render_portal(datasets: list[tuple[DatasetSpec, pl.DataFrame, list[dict[str, Any]]]]) -> int:
    """Write index, dataset pages, samples and the DCAT catalogue; returns how many files changed.

    datasets: each dataset with its public rows and its published versions, oldest first.
    """
    root = settings().open_root
    banner = properties.demo_banner()
    written = theme.write_static(root)
    specs = [spec for spec, _, _ in datasets]
    listed = []
    for spec, frame, versions in datasets:
        listed.append({"spec": spec, "versions": versions, "newest": versions[-1]})
        written += _dataset_page(spec, frame, versions, banner, root / spec.name)
    index = theme.render(
        "open_index.html",
        depth=0,
        home_depth=1,
        here="open",
        banner=banner,
        title="公共数据开放（预览）",
        datasets=listed,
        canonical=specs[0].canonical,
        publisher=specs[0].publisher,
    )
    written += files.write_if_changed(root / "index.html", index)
    written += files.write_if_changed(root / "catalog.jsonld", formats.pretty(_catalog(specs, banner)))
    return written


def _dataset_page(
    spec: DatasetSpec, frame: pl.DataFrame, versions: list[dict[str, Any]], banner: str, folder: Path
) -> int:
    newest = versions[-1]
    columns = formats.public_columns(spec, banner)
    newest_first = frame.schema[spec.key[0]] == pl.Date
    shown = frame.sort(spec.key, descending=[newest_first, *[False] * (len(spec.key) - 1)])
    preview = shown.head(spec.preview_rows).to_dicts()
    dictionary = formats.dictionary(columns).to_dicts()
    listed = [
        {
            "kind": kind,
            "name": name,
            "size": theme.size(newest["files"][name]["bytes"]),
            "note": formats.FORMAT_ZH[kind],
        }
        for kind, name in newest["formats"].items()
    ]
    page = theme.render(
        "open_dataset.html",
        depth=1,
        home_depth=2,
        here="open",
        banner=banner,
        title=spec.title_zh,
        description=spec.description,
        spec=spec,
        newest=newest,
        gap=completeness.note(newest["missing_sources"]),
        canonical=spec.canonical,
        publisher=spec.publisher,
        files=listed,
        versions=[
            {**v, "changes_zh": published.describe_changes(v), "gap": completeness.note(v["missing_sources"])}
            for v in reversed(versions)
        ],
        newest_first=newest_first,
        preview=preview,
        preview_columns=theme.columns({c.name: c.title_zh for c in columns}, preview),
        dictionary=dictionary,
        dictionary_columns=theme.columns({name: name for name in dictionary[0]}, dictionary),
        chart=charts.render(spec, frame),
        sample_python=sample(spec, "sample.py"),
        sample_javascript=sample(spec, "sample.mjs"),
    )
    return sum(
        (
            files.write_if_changed(folder / "index.html", page),
            files.write_if_changed(folder / "sample.py", sample(spec, "sample.py").encode()),
            files.write_if_changed(folder / "sample.mjs", sample(spec, "sample.mjs").encode()),
            files.write_if_changed(folder / "versions.json", formats.pretty(versions)),
        )
    )


def _catalog(specs: list[DatasetSpec], banner: str) -> dict[str, Any]:
    return {
        "@context": {
            "dcat": "http://www.w3.org/ns/dcat#",
            "dct": "http://purl.org/dc/terms/",
            "foaf": "http://xmlns.com/foaf/0.1/",
        },
        "@id": "./",
        "@type": "dcat:Catalog",
        "dct:title": {"@language": "zh", "@value": "上海体育公共数据开放（预览）"},
        "dct:description": {
            "@language": "zh",
            "@value": " ".join(filter(None, [banner, specs[0].canonical["notice"]])),
        },
        "dct:publisher": {"@type": "foaf:Organization", "foaf:name": specs[0].publisher["name"]},
        "dcat:dataset": [
            {
                "@id": f"{spec.name}/latest/",
                "@type": "dcat:Dataset",
                "dct:title": {"@language": "zh", "@value": spec.title_zh},
            }
            for spec in specs
        ],
    }
