"""Every how-to page is carried out, step by step, in a copy of the repository with a filled lake."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import city as city_module
import pages

pytestmark = pytest.mark.integration

EVERY = sorted(path for path in pages.FOLDER.glob("*.md") if path.name != "README.md")
#: Carried out by `make test`; all of them by `make test-how-to` (TIYU_HOW_TO=all), because each takes half a minute.
SAMPLE = {"new_source_in_15_minutes.md"}
PAGES = [path for path in EVERY if path.name in SAMPLE or os.environ.get("TIYU_HOW_TO") == "all"]
#: Begin without any state, as a newcomer does.
WITHOUT_STATE = {"new_source_in_15_minutes.md"}
#: A declaration takes at most three files; this one is code.
CODE = {"add_connector.md"}


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """The home of a tiny city brought to checked ADS tables and serving files, built once for all pages."""
    folder = tmp_path_factory.mktemp("filled")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LAKE_ROOT", "TIYU_LEDGER_URL"):
            patch.delenv(name, raising=False)
        patch.setenv("TIYU_HOME", str(folder / "var"))
        patch.setenv("TIYU_TODAY", "2026-11-20")
        patch.setenv("TIYU_AS_OF", "2026-11-20T12:00:00+08:00")
        from catalog import contracts
        from catalog.publish import publish_reference
        from dags.verbs import publish_serving
        from ingestion.run import ingest
        from lake import tables
        from modeling.run import LAYERS, build
        from protection import keys
        from quality.gate import run_gate
        from quality.ops import publish_ops

        keys.ensure()
        city = city_module.generate(folder / "city")
        with city_module.connected(city, patch):
            for resource in city_module.RESOURCES:
                ingest(resource)
                run_gate([obj.table for obj in contracts.load(resource).objects])
        publish_reference()
        publish_ops()
        for layer in LAYERS:
            build(layer)
        run_gate([name for name in tables.all_tables() if tables.layer_of(name) == "ads"])
        publish_serving()
    return folder / "var"


@pytest.fixture
def workshop(path, request, tmp_path):
    home = None if path.name in WITHOUT_STATE else request.getfixturevalue("filled")
    return pages.Workshop(tmp_path, home)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_page_does_what_it_says(path, workshop):
    page = pages.read(path)
    touched = workshop.carry_out(page)
    assert sorted(set(touched)) == sorted(page.touched), "the list of files touched is not true"
    assert len(page.touched) <= 3 or path.name in CODE
    assert any(block.kind == "expect" for block in page.blocks)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_without_its_changes_the_page_fails(path, workshop):
    page = pages.read(path)
    if not page.touched:
        pytest.skip("an operation, no declaration")
    with pytest.raises(pages.Refused):
        workshop.carry_out(page, changes=False)


def test_all_pages_are_listed():
    index = (pages.FOLDER / "README.md").read_text("utf-8")
    named = {
        "add_source", "add_kpi", "add_alert_rule", "add_chart", "add_open_dataset", "change_grade", "rename_column",
        "add_connector", "replay_quarantine", "restore_backup",
    }  # fmt: skip
    assert named <= {path.stem for path in EVERY}
    assert [path.name for path in EVERY if f"({path.name})" not in index] == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nothing to do", "proves nothing"),
        ("```bash run\nfalse\n```\n", "exit code 1, expected 0"),
        ("```bash run\necho 甲\n```\n\n```text expect\n乙\n```\n", "not in the output: 乙"),
        ("```yaml file README.md\nx\n```\n", "is there already"),
        ("```diff patch\n--- a/LICENSE\n+++ b/LICENSE\n@@ @@\n-no such line\n+x\n```\n", "stand 0 times"),
        ("```diff patch\n--- a/no_such_file\n+++ b/no_such_file\n@@ @@\n-x\n```\n", "no file no_such_file"),
    ],
)
def test_a_step_that_fails_is_told(text, told, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "ROOT", pages.FOLDER.parent)  # a small copy is enough here
    (tmp_path / "home").mkdir()
    shop = pages.Workshop(tmp_path / "shop", tmp_path / "home")
    for name in ("README.md", "LICENSE"):
        (shop.repo / name).write_text("x\n")
    with pytest.raises(pages.Refused, match=told):
        shop.carry_out(pages.parse("page.md", text))
