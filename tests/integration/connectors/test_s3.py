"""A real S3 server (SeaweedFS): listings of several pages, uploads that are not finished, replaced and vanished objects."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import obstore
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import seaweed

from ingestion import archive, connectors
from ingestion.connectors import s3
from ingestion.connectors.base import ObjectChanged
from lake.errors import TiyuError

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def doors():
    with seaweed.running() as found:
        yield found


@pytest.fixture(scope="module")
def port(doors):
    return doors[0]


@pytest.fixture
def bucket(port):
    """An empty bucket `incoming`."""
    store = seaweed.store(port, "incoming")
    with suppress(Exception):
        for page in obstore.list(store, chunk_size=1000):
            obstore.delete(store, [meta["path"] for meta in page])
    return store


def place(port, seen=(), secret=seaweed.SECRET, **options):
    return connectors.create(
        {"kind": "s3", "connection": "X", "bucket": "incoming", "prefix": "venue", "pattern": "**/*.csv", **options},
        f"s3+http://{seaweed.KEY}:{secret}@127.0.0.1:{port}",
        lambda signature: signature in seen,
    )


def pull(connector, max_bytes=1 << 40):
    objects = list(connector.fetch({}, max_bytes=max_bytes))
    return objects, connector.next_state()


def read(found) -> bytes:
    with found.open() as stream:
        return stream.read()


def test_listing_of_many_pages_in_order_of_names(port, bucket, monkeypatch):
    monkeypatch.setattr(s3, "_LISTED_AT_ONCE", 4)
    for number in reversed(range(11)):
        obstore.put(bucket, f"venue/{number % 2}/x_{number:02d}.csv", b"%d" % number)
    for other in (
        "venue/readme.txt",
        "venuex/a.csv",
        "other/a.csv",
        "venue/.hidden.csv",
        "venue/.d/a.csv",
        "venue/a.csv.part",
    ):
        obstore.put(bucket, other, b"-")
    objects, state = pull(place(port))
    assert [found.name for found in objects] == sorted(f"{number % 2}/x_{number:02d}.csv" for number in range(11))
    assert [int(read(found)) for found in objects] == [0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9]
    assert (objects[0].media_type, objects[0].size, state) == ("text/csv", 1, {"more": False})
    assert [found.name for found in pull(place(port, pattern="1/*.csv"))[0]] == [
        f"1/x_{n:02d}.csv" for n in (1, 3, 5, 7, 9)
    ]


def test_batches_bounded_by_bytes_and_by_number(port, bucket, monkeypatch):
    for number in range(5):
        obstore.put(bucket, f"venue/{number}.csv", b"x" * 10)
    objects, state = pull(place(port), max_bytes=25)
    assert ([found.name for found in objects], state["more"]) == (["0.csv", "1.csv"], True)
    monkeypatch.setattr("ingestion.connectors.files.BATCH_FILES", 3)
    objects, state = pull(place(port))
    assert ([found.name for found in objects], state["more"]) == (["0.csv", "1.csv", "2.csv"], True)
    seen = {found.signature for found in objects}
    objects, state = pull(place(port, seen))
    assert ([found.name for found in objects], state["more"]) == (["3.csv", "4.csv"], False)


def test_an_upload_that_is_not_finished_is_not_there(port, bucket):
    parts = 6 << 20
    writer = obstore.open_writer(bucket, "venue/big.csv", buffer_size=5 << 20)
    writer.write(b"x" * parts)  # more than the first part: the server has begun to receive
    writer.flush()
    assert pull(place(port))[0] == []
    writer.write(b"y" * parts)
    writer.close()
    (found,) = pull(place(port))[0]
    content = read(found)
    assert (len(content), content[:1], content[-1:]) == (2 * parts, b"x", b"y")


def test_replaced_content_under_the_same_name_is_fetched_again(port, bucket):
    obstore.put(bucket, "venue/a.csv", b"one")
    (first,) = pull(place(port))[0]
    assert pull(place(port, {first.signature}))[0] == []
    obstore.put(bucket, "venue/a.csv", b"two")  # the same length
    (second,) = pull(place(port, {first.signature}))[0]
    assert (first.name, read(second)) == (second.name, b"two")


def test_a_renamed_object_is_known_by_its_content(port, bucket, home):
    obstore.put(bucket, "venue/a.csv", b"same bytes")
    (first,) = pull(place(port))[0]
    with first.open() as stream:
        stored = archive.store("venue.register", stream)
    obstore.copy(bucket, "venue/a.csv", "venue/b.csv")
    obstore.delete(bucket, "venue/a.csv")
    (renamed,) = pull(place(port, {first.signature}))[0]
    with renamed.open() as stream:
        again = archive.store("venue.register", stream)
    assert (renamed.name, again.sha256, again.was_present) == ("b.csv", stored.sha256, True)


@pytest.mark.parametrize("change", ["deleted", "replaced"])
def test_what_goes_or_changes_after_the_listing_waits(port, bucket, change):
    for name in ("a", "b"):
        obstore.put(bucket, f"venue/{name}.csv", b"old")
    reading = place(port).fetch({}, max_bytes=1 << 40)
    first = next(reading)
    if change == "deleted":
        obstore.delete(bucket, "venue/a.csv")
    else:
        obstore.put(bucket, "venue/a.csv", b"new")
    with pytest.raises(ObjectChanged) as caught:
        first.open()
    assert caught.value.code == "TIYU-ING-0112"
    (second,) = reading
    assert read(second) == b"old"


def test_the_run_leaves_out_what_vanished_and_takes_the_rest(port, bucket, home, monkeypatch):
    from catalog import contracts
    from ingestion import run

    for name in ("a", "b"):
        obstore.put(bucket, f"venue/{name}.csv", name.encode())
    reading = place(port).fetch({}, max_bytes=1 << 40)

    def vanishing():
        for number, found in enumerate(reading):
            if number == 0:
                obstore.delete(bucket, "venue/a.csv")
            yield found

    report = run.IngestReport("venue.register", "r_1")
    (_, objects), signatures = run._archive(contracts.load("venue.register"), report, vanishing(), None)
    assert [item["name"] for item in objects] == ["b.csv"]
    assert (report.received_objects, report.postponed_objects, len(signatures)) == (1, 1, 1)


def test_hostile_names_are_written_down_harmless(port, bucket):
    for name in ("中文.csv", "x..%2f..%2fetc.csv", "q'; drop table x;--.csv", "\u202egnp.csv"):
        obstore.put(bucket, f"venue/{name}", b"x")
    names = [found.name for found in pull(place(port))[0]]
    assert names == sorted(["中文.csv", "x..%2f..%2fetc.csv", "q'; drop table x;--.csv", "\\u202egnp.csv"])


def test_a_name_with_a_line_feed_is_told(doors, bucket):
    for name in ("a%0AINFO forged.csv", "b.csv"):
        httpx.post(
            f"http://127.0.0.1:{doors[1]}/buckets/incoming/venue/{name}", files={"file": b"x"}
        ).raise_for_status()
    with pytest.raises(TiyuError) as caught:  # the client cannot name it, so nobody could read it
        pull(place(doors[0]))
    assert (caught.value.code, caught.value.exit_code) == ("TIYU-ING-0142", 3)
    httpx.delete(f"http://127.0.0.1:{doors[1]}/buckets/incoming/venue/a%0AINFO forged.csv").raise_for_status()
    assert [found.name for found in pull(place(doors[0]))[0]] == ["b.csv"]


def test_an_object_that_is_too_large_is_told_behind_all_others(port, bucket):
    obstore.put(bucket, "venue/a_huge.csv", b"x" * 100)
    obstore.put(bucket, "venue/b.csv", b"x")
    objects, state = pull(place(port, max_object_bytes=50))
    assert ([found.name for found in objects], state["more"]) == (["b.csv"], True)
    with pytest.raises(TiyuError) as caught:
        pull(place(port, {objects[0].signature}, max_object_bytes=50))
    assert (caught.value.code, caught.value.context["object"]) == ("TIYU-ING-0113", "a_huge.csv")


def test_refusals_are_coded_and_keep_the_secret(port, bucket, caplog):
    caplog.set_level(logging.DEBUG)
    for connector, code in (
        (place(port, secret="wrong-canary-2"), "TIYU-ING-0141"),
        (place(port, bucket="nowhere"), "TIYU-ING-0140"),
        (place(seaweed.ports(1)[0], secret="wrong-canary-2"), "TIYU-ING-0140"),
    ):
        with pytest.raises(TiyuError) as caught:
            pull(connector)
        assert (caught.value.code, caught.value.exit_code) == (code, 3)
        assert "canary" not in f"{caught.value!r} {caught.value.as_dict()} {caught.value.__cause__} {caplog.text}"


@pytest.mark.parametrize(
    ("options", "uri"),
    [
        ({}, "s3+http://k:s@h"),
        ({"bucket": "b", "prefix": "../x"}, "s3+http://k:s@h"),
        ({"bucket": "b"}, "http://k:s@h"),
        ({"bucket": "b"}, None),
    ],
)
def test_wrong_options_are_refused(options, uri):
    with pytest.raises(TiyuError) as caught:
        connectors.create({"kind": "s3", **options}, uri, lambda _: False)
    assert caught.value.code == "TIYU-ING-0102"
