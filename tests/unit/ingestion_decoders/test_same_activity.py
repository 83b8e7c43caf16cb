"""Which records are one activity, and that the order in which they come does not matter."""

from __future__ import annotations

import functools
import random

import numpy as np
import polars as pl
import pytest

from catalog import contracts
from ingestion import decoders, same_activity
from tests.unit.ingestion_decoders import tracks

ROOT = "ods_training__activity"
START = 1_788_000_300
AT = ["_source_object", "_record_no"]


@functools.cache
def obj():
    return contracts.load("training.activity").root


def records(files: dict[str, bytes], athlete: str | None = "t1") -> pl.DataFrame:
    """Root records of some files, as they are before they are compared with what is stored."""
    objects = [(name, f"SHA000001/{name}", content) for name, content in files.items()]
    found = [chunk.tables[ROOT] for chunk in decoders.decode_many({"kind": "activity"}, objects, None)]
    return pl.concat([pl.DataFrame(table) for table in found]).with_columns(
        athlete_token=pl.lit(athlete, pl.String), part_date=pl.col("local_date")
    )


class Store:
    """A root table in memory, fed batch by batch."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.rows: pl.DataFrame | None = None
        self.decoded = self.duplicate = self.replaced = 0
        patch.setattr(same_activity, "_register_stored", self._register)

    def _register(self, con, _obj) -> bool:
        if self.rows is not None:
            con.register("stored", self.rows.to_arrow())
        return self.rows is not None

    def take(self, batch: str, rows: pl.DataFrame) -> None:
        kept = same_activity.deduplicate(rows, obj(), batch)
        self.decoded += rows.height
        self.duplicate += kept.duplicates.height
        new = kept.unique.with_columns(_batch_id=pl.lit(batch))
        if self.rows is not None:
            self.replaced += kept.replaced.height
            gone = kept.replaced.select(
                pl.col(name).alias(f"_{name}") for name in ("batch_id", "source_object", "record_no")
            )
            assert set(kept.replaced["by_batch_id"]) <= {batch}
            self.rows = pl.concat([self.rows.join(gone, on=["_batch_id", *AT], how="anti"), new])
        else:
            self.rows = new
        assert self.decoded == self.rows.height + self.duplicate + self.replaced, "every record has one fate"

    @property
    def held(self) -> list[str]:
        return sorted(self.rows["activity_id"].to_list()) if self.rows is not None else []


@functools.cache
def family() -> pl.DataFrame:
    """Two sessions of one day in eight files each, by one athlete."""
    morning = tracks.variants(START)
    evening = {f"2-{name}": content for name, content in tracks.variants(START + 2 * 86_400 + 100, seed=8).items()}
    return records(morning | evening)


def test_the_richest_of_each_family_stays(monkeypatch):
    store = Store(monkeypatch)
    store.take("b1", family())
    assert store.rows["file_format"].to_list() == ["fit", "fit"]
    assert store.rows["is_partial"].to_list() == [False, False]
    assert {name.removeprefix("2-") for name in store.rows["_source_object"]} <= {
        "watch.fit", "watch.fit.gz", "shifted.fit",
    }  # fmt: skip


@functools.cache
def held_by_one_batch() -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        whole = Store(patch)
        whole.take("all", family())
        return whole.held


@pytest.mark.parametrize("seed", range(6))
def test_any_order_and_any_batches_give_the_same_table(seed):
    """Permutations and cuts into two to five batches, by seed."""
    rng = random.Random(seed)
    batches = 2 + seed % 4
    with pytest.MonkeyPatch.context() as patch:
        order = list(range(family().height))
        rng.shuffle(order)
        cuts = sorted(rng.sample(range(1, len(order)), batches - 1))
        store = Store(patch)
        for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(order)], strict=True)):
            store.take(f"b{number}", family()[order[start:end]])
        assert store.held == held_by_one_batch()


@pytest.mark.parametrize(
    ("name", "content", "athlete"),
    [
        ("another session of the same length", lambda: tracks.fit(tracks.track(START + 3600, seed=9)), "t1"),
        ("the same clock, another athlete", lambda: tracks.fit(tracks.track(START, seed=9)), "t2"),
        ("another session a minute later", lambda: tracks.fit(tracks.track(START + 60, seed=9)), "t1"),
        ("a clock that is wrong by seven minutes", lambda: tracks.fit(tracks.track(START + 420)), "t1"),
        ("another sport at the time", lambda: tracks.fit(tracks.track(START + 20, 320, "swimming")), "t1"),
    ],
)
def test_what_is_another_activity_stays_another(monkeypatch, name, content, athlete):
    store = Store(monkeypatch)
    store.take("b1", records({"watch.fit": tracks.fit(tracks.track(START))}))
    store.take("b2", records({"other.fit": content()}, athlete))
    assert len(store.held) == 2, name


def test_files_without_an_athlete_are_known_by_their_samples_only(monkeypatch):
    files = tracks.variants(START)
    store = Store(monkeypatch)
    store.take("b1", records({name: files[name] for name in ("watch.tcx", "watch.gpx", "shifted.fit")}, None))
    assert store.rows["file_format"].to_list() == ["fit"]
    store.take("b2", records({"other.fit": tracks.variants(START, seed=9)["watch.fit"]}, None))
    assert len(store.held) == 2, "two unknown persons may start in one second"
    store.take("b3", records({"watch.gpx": files["watch.gpx"]}, "t1"))
    assert sorted(store.rows["athlete_token"].to_list(), key=str) == [None, "t1"], (
        "whose it is counts more than its channels"
    )


def test_a_route_of_the_same_shape_on_another_day_is_another(monkeypatch):
    store = Store(monkeypatch)
    store.take("b1", records({"a.fit": tracks.variants(START)["watch.fit"]}))
    store.take("b2", records({"b.fit": tracks.variants(START + 86_400)["watch.fit"]}))
    assert len(store.held) == 2, "a clock is wrong by fourteen hours at most"


def test_many_records_of_one_athlete_are_compared_quickly(monkeypatch):
    """Buckets of time: no record meets all others."""
    count = 4000
    one = records({"a.fit": tracks.variants(START)["watch.fit"]})
    many = pl.concat([one] * count).with_columns(
        activity_id=pl.Series([f"a{n}" for n in range(count)]),
        _source_object=pl.Series([f"o{n}" for n in range(count)]),
        heart_fingerprint=pl.Series([f"h{n}" for n in range(count)]),
        time_fingerprint=pl.lit(None, pl.String),
        started_at=pl.col("started_at") + pl.duration(seconds=pl.Series(np.arange(count) * 3600)),
    )
    kept = same_activity.deduplicate(many, obj(), "b")
    assert kept.unique.height == count
