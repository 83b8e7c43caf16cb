"""Canaries in every record-keeping source, by its contract: who is a person there, what is free text, what makes a row refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from catalog import contracts
from catalog.contracts import ObjectSpec
from simulation.city import build_city
from simulation.records.all import FEEDS
from simulation.records.feed import Feed
from simulation.records.write import encode
from simulation.sizes import LAST_DATE, SIZES
from tests.policy.canary.persons import DAY, STRAY, VISITOR, Person

OF_KIND = {"id_no": "id_no", "phone": "phone", "name": "name", "athlete_no": "athlete_no"}


def _root(feed: Feed) -> ObjectSpec:
    return contracts.load(feed.resource).root


def _own_fields(obj: ObjectSpec, who: Person) -> dict[str, str]:
    """The person in the columns that identify persons, with the kind of document that goes with the number."""
    found = {}
    for prop in obj.properties:
        if prop.identifier_kind in OF_KIND and prop.source_name:
            found[prop.source_name] = getattr(who, OF_KIND[prop.identifier_kind])
            kind = obj.by_name.get(prop.identifier_type_column or "")
            if kind is not None and kind.source_name:
                found[kind.source_name] = "resident_id"
    return found


def _free_texts(feed: Feed, obj: ObjectSpec) -> dict[str, str]:
    """The stray person's name and phone, in turn, in every text that is neither key nor code."""
    names = [
        p.source_name
        for p in obj.properties
        if p.type == "VARCHAR" and p.source_name and not p.identifier_kind and not p.code_list and p.name not in obj.dedup
    ]  # fmt: skip
    return {name: (STRAY.phone, STRAY.name)[number % 2] for number, name in enumerate(names) if name != feed.key}


def _slip(feed: Feed) -> dict[str, Any]:
    """What makes a row of a source refused: a slip with a text in it where there is one, for the stray person to stand in."""
    slips = [{k: v for k, v in slip.items() if k != feed.key} for slip in feed.slips.values() if slip]
    slips = [slip for slip in slips if slip]
    return next((slip for slip in slips if any(isinstance(value, str) for value in slip.values())), slips[0])


def _rows(feed: Feed, sample: dict[str, Any]) -> list[dict[str, Any]]:
    """An accepted row where the source knows persons; a refused row with the stray person wherever there is room."""
    obj = _root(feed)
    rows = []
    if own := _own_fields(obj, VISITOR):
        rows.append({**sample, **own, feed.key: own.get(feed.key, f"{sample[feed.key]}977")})
    wrong = {name: STRAY.phone if isinstance(value, str) else value for name, value in _slip(feed).items()}
    rows.append(
        {**sample, **_own_fields(obj, STRAY), **_free_texts(feed, obj), **wrong, feed.key: f"{sample[feed.key]}978"}
    )
    return rows


def planted(feed: Feed) -> tuple[str, ...]:
    """What is planted in a source: the stray person's phone at least where the refused value stands."""
    obj = _root(feed)
    items = {OF_KIND[p.identifier_kind] for p in obj.properties if p.identifier_kind in OF_KIND}
    words = {
        **_free_texts(feed, obj),
        **{k: v for k, v in _slip(feed).items() if isinstance(v, str)},
    }
    if any(words):
        items.add("phone")
    return tuple(sorted(items))


PLANTED = {feed.resource: planted(feed) for feed in FEEDS}


def plant(folder: Path) -> dict[str, list[Path]]:
    """Put the canaries into every record-keeping source of a city; returns source → the files they are in."""
    return {feed.resource: [_plant(feed, folder)] for feed in FEEDS}


def _sample(feed: Feed, folder: Path) -> dict[str, Any]:
    """A true row of a source; from a city of more days where this one has none yet."""
    written = sorted((folder / "truth" / "records" / feed.resource).glob("*.ndjson"))
    if written:
        return dict(json.loads(written[-1].read_text("utf-8").splitlines()[-1]))
    seed = json.loads((folder / "world.json").read_text("utf-8"))["seed"]
    return dict(feed.rows(build_city(SIZES["tiny"], seed), LAST_DATE, None)[-1])


def _plant(feed: Feed, folder: Path) -> Path:
    rows = _rows(feed, _sample(feed, folder))
    if feed.form.kind != "api":
        path = folder / "drops" / feed.folder / f"{feed.form.stem}_{DAY:%Y%m%d}_补.{feed.form.extension}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(feed.form, feed.columns, rows, DAY))
        return path
    path = sorted((folder / "api").glob(f"{feed.form.api}-*.parquet"))[-1]
    frame = pl.read_parquet(path)
    latest = frame["updated_ts"].max()
    more = [{"updated_ts": latest, "id": str(r[feed.key]), "body": json.dumps(r, ensure_ascii=False)} for r in rows]
    pl.concat([frame, pl.DataFrame(more, schema=frame.schema)]).write_parquet(path, compression="zstd")
    return path
