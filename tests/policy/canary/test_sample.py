"""The whole path in small, part of `make test`: one source with canaries comes in, one serving file is cut, every byte of both
is searched, and each protection on the way is switched off once. The whole city is searched by `make test-canary`."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from catalog import policy, publish
from lake import ledger, properties, tables
from protection import freetext, keys, masking
from simulation.people import uscc
from simulation.sources import FILE_HEADER
from tests import policies
from tests.policy.canary import lake, persons, records, search
from tests.policy.canary.persons import CONTACT, DAY, STRAY, VISITOR

pytestmark = pytest.mark.policy

TABLE = "ods_venue__register"
GOOD = dict(
    zip(
        FILE_HEADER,
        [f"{DAY}", "V310104-901", "试验馆", "体育馆", "国有", uscc(1, "12"), "310104", "天平路街道", "试验路 1 号", "121.4440", "31.1990", "WGS84",
         "是", "06:00", "22:00", CONTACT.name, CONTACT.phone, "V310104-901-U01", "一号厅", "场地", "羽毛球", "800", "120", "是", "", ""],
        strict=False,
    )
)  # fmt: skip


def deliver(folder: Path, name: str) -> None:
    """A register of three units: the contact's own fields, what no contract expects in free texts, and a row that is refused."""
    rows = [
        {
            **GOOD,
            "地址": f"试验路 1 号，{CONTACT.name}收，{CONTACT.phone}",
            "单元名称": f"{VISITOR.email} {VISITOR.bank_card}",
        },
        {**GOOD, "单元编码": "V310104-901-U02", "街镇": f"{CONTACT.name}所在街道", "联系人": VISITOR.name},
        {
            **GOOD,
            "单元编码": "V310104-901-U03",
            "面积": "约八百",
            "街镇": f"{STRAY.name} {STRAY.phone}",
            "联系人": STRAY.name,
        },
    ]
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerows(
        [FILE_HEADER, *([row.get(n, "") for n in FILE_HEADER] for row in rows)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"场馆登记_{name}.csv").write_bytes(out.getvalue().encode("gb18030"))


def path(drop: Path, *loosened: tuple[str, object]) -> None:
    """In through the door, past the gate, out into the analyst's file."""
    from dags.verbs import publish_serving
    from ingestion.run import ingest

    report = ingest("venue.register", drop)
    assert (report.accepted, report.quarantined) == (2, 1), report
    ledger.set_checked_version(TABLE, tables.version(TABLE), "canary")
    with policy.replaced(policies.changed(("audiences.analyst.tables", [TABLE]), *loosened)):
        publish_serving(["analyst"], full=True)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Iterator[Path]:
    """An empty state folder."""
    lake.environment(monkeypatch, tmp_path / "home")
    keys.ensure()
    properties.set("is_demo", "true")
    publish.publish_reference()
    deliver(tmp_path / "drop", "1")
    return tmp_path / "home"


def searched(home: Path) -> dict[str, search.Findings]:
    """What was found in the lake and in the file."""
    seek = search.Search(persons.needles(lake.tokens_of_canaries()))
    return {"lake": seek.tree(home / "lake"), "file": seek.file(home / "serving" / "analyst.duckdb")}


STORED = frozenset({"token_phone", "masked_name", "masked_phone"})
"""What the lake may hold of a contact: a token, 雒**, and in the preview of a refused row what operations may see."""


def test_a_source_with_canaries_comes_in_and_none_goes_out(home, tmp_path, capsys):
    path(tmp_path / "drop")
    found = searched(home)
    assert "name" in search.Search(persons.needles()).tree(tmp_path / "drop").found, "they are in the source"
    assert not found["lake"].except_for(STORED)
    assert not found["file"].found
    assert found["lake"].files >= 4
    assert found["file"].bytes > 5_000
    with capsys.disabled():
        print(f"\ncanary sample: {' · '.join(f'{place}: {what}' for place, what in found.items())}")


def _off(name: str, value: object) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(freetext, name, value)


#: What is switched off → how, which entries of the policy are loosened, where what is found then.
SWITCHES: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], tuple[tuple[str, object], ...], str, str]] = {
    "numbers in free texts": (_off("hidden", lambda texts: texts), (), "lake", "bank_card"),
    "the mask of names": (
        lambda patch: patch.setitem(masking.MASKS, "name", (masking.Form(r"(?s)^(.*)$", "{1}"),)), (), "lake", "name",
    ),
    "the stored token is replaced": (
        lambda patch: None,
        (("audiences.analyst.columns", []), ("audiences.analyst.kinds.phone", "plain")),
        "file",
        "token_phone",
    ),
    "the contact's token is absent": (lambda patch: None, (("audiences.analyst.columns", []),), "file", "contact"),
}  # fmt: skip


@pytest.mark.parametrize("switch", sorted(SWITCHES))
def test_with_one_protection_off_the_search_finds_it(home, tmp_path, monkeypatch, switch):
    off, loosened, where, item = SWITCHES[switch]
    off(monkeypatch)
    path(tmp_path / "drop", *loosened)
    assert item in searched(home)[where].found


def test_every_source_of_the_catalogue_has_canaries():
    """A new source without canaries fails here: it needs its place in `plant.plant` and in `persons.PLANTED`."""
    planted = {**persons.PLANTED, **records.PLANTED}
    assert set(planted) == set(lake.resources()), "plant canaries in every source"
    assert all(planted.values())
