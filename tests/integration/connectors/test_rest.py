"""A real HTTP server on loopback that pages in every way, fails in every way, and checks the credential."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import logging
import re
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from ingestion import connectors
from ingestion.connectors.http_source import http_date
from ingestion.connectors.signature import hmac_sha256, signature_base, signed_headers
from lake.errors import TiyuError

pytestmark = pytest.mark.integration

TOKEN = "canary-token-7f3a"


class City:
    """10 items updated at seconds 0…9; ``updated_since`` is exclusive; the cursor is a position.

    ``script`` holds what the next requests meet instead: a status, or a function that gets the request handler.
    """

    def __init__(self):
        self.items = [{"id": number, "updated_at": f"2026-11-20T12:00:0{number}+08:00"} for number in range(10)]
        self.script: list = []
        self.requests: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.answer: bytes | None = None
        self.most = 1000
        self.before_page = lambda number: None
        self.verify = lambda handler: handler.headers.get("Authorization") == f"Bearer {TOKEN}"

    def page(self, query: dict[str, str]) -> tuple[bytes, dict[str, str]]:
        self.before_page(len(self.requests))
        if self.answer is not None:
            return self.answer, {}
        found = [item for item in self.items if item["updated_at"] > query.get("updated_since", "")]
        limit = min(int(query.get("limit", 1000)), self.most)
        start = int(query.get("cursor", query.get("offset", (int(query.get("page", 1)) - 1) * limit)))
        following = start + limit
        more = following < len(found)
        body = {
            "items": found[start:following],
            "next_cursor": str(following) if more else None,
            "next": f"/api/v1/bookings?cursor={following}&limit={limit}" if more else None,
            "high_water": self.items[-1]["updated_at"],
            "meta": {"total": len(found)},
        }
        link = f'<{body["next"]}>; rel="next", </api/v1/bookings>; rel="first"' if more else '</x>; rel="prev"'
        return json.dumps(body).encode(), {"Link": link, "X-Total-Count": str(len(found))}


@contextmanager
def serving(state):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            state.requests.append(query)
            state.headers.append(dict(self.headers.items()))
            state.paths.append(parts.path)
            met = state.script.pop(0) if state.script else 200
            if callable(met):
                return met(self)
            status = met if state.verify(self) else 401
            body, headers = state.page(query) if status == 200 else (b"{}", {})
            return self.give(status, body, headers)

        def give(self, status, body=b"{}", headers=(), length=None):
            self.send_response(status)
            for name, value in dict(headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.port = server.server_address[1]
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def city():
    with serving(City()) as state:
        yield state


def api(city, token=TOKEN, port=None, **options):
    return connectors.create(
        {"kind": "rest", "connection": "X", "path": "/api/v1/bookings", "limit": 4, "backoff_seconds": 0.01} | options,
        f"http://:{token}@127.0.0.1:{port or city.port}",
        lambda _: False,
    )


def pull(connector, state, max_bytes=1 << 30):
    objects = list(connector.fetch(state, max_bytes=max_bytes))
    ids = [item["id"] for found in objects for item in json.loads(found.open().read())["items"]]
    return objects, ids, connector.next_state()


def test_pages_then_nothing_then_only_what_is_new(city):
    objects, ids, state = pull(api(city), {})
    assert ids == list(range(10))
    assert len(objects) == 3
    assert len({item.name for item in objects}) == 3
    assert state == {"updated_since": "2026-11-20T12:00:09+08:00", "more": False}
    again, _, same = pull(api(city), state)
    assert (again, same) == ([], state)
    assert city.requests[-1]["updated_since"] == "2026-11-20T12:00:09+08:00"
    city.items.append({"id": 10, "updated_at": "2026-11-20T12:00:10+08:00"})
    _, ids, state = pull(api(city), state)
    assert ids == [10]
    assert state["updated_since"] == "2026-11-20T12:00:10+08:00"


def test_object_is_the_answer_byte_for_byte(city):
    city.answer = b'{ "items" : [ {"id": 1.50} ],"next_cursor":null, "high_water": "2026-11-20T00:00:00Z"}'
    (found,) = api(city).fetch({}, max_bytes=1)
    assert found.open().read() == city.answer


@pytest.mark.parametrize("paging", ["page", "offset", "cursor", "link"])
def test_batches_bounded_by_bytes_continue_where_they_ended(city, paging):
    state, seen, batches = {}, [], 0
    while True:
        _, ids, state = pull(api(city, paging=paging), state, max_bytes=1)
        seen += ids
        batches += 1
        if not state["more"]:
            break
    # without a total or a sign of the last page, only an empty page ends the reading
    assert (seen, batches) == (list(range(10)), 4 if paging in ("page", "offset") else 3)
    assert state == {"updated_since": "2026-11-20T12:00:09+08:00", "more": False}


def test_what_changes_while_paging_is_fetched_next_time(city):
    connector = api(city)
    pages = connector.fetch({}, max_bytes=1 << 30)
    next(pages)
    city.items.append({"id": 10, "updated_at": "2026-11-20T12:00:10+08:00"})
    list(pages)
    assert connector.next_state()["updated_since"] == "2026-11-20T12:00:09+08:00"


def test_retries_end_well_or_with_a_clear_error(city):
    city.script = [503, lambda to: to.give(200, b"{", length=1000), 429, 500]
    _, ids, _ = pull(api(city), {})
    assert ids == list(range(10))
    city.script = [503] * 50
    before = len(city.requests)
    with pytest.raises(TiyuError) as caught:
        pull(api(city, attempts=3), {})
    assert (caught.value.code, caught.value.exit_code) == ("TIYU-ING-0120", 3)
    assert len(city.requests) - before == 3


def test_nobody_listens(city):
    with pytest.raises(TiyuError) as caught:
        pull(api(city, port=9, attempts=2), {})
    assert caught.value.code == "TIYU-ING-0120"


@pytest.mark.parametrize("status", [401, 403])
def test_refused_token_is_named_once_and_never_shown(city, caplog, status):
    caplog.set_level(logging.DEBUG)
    secret = "wrong-canary-9c1d" if status == 401 else TOKEN
    city.script = [status]
    connector = api(city, token=secret)
    with pytest.raises(TiyuError, match="令牌") as caught:
        pull(connector, {})
    assert caught.value.code == "TIYU-ING-0121"
    assert len(city.requests) == 1
    shown = f"{caught.value} {caught.value!r} {caught.value.as_dict()} {caplog.text} {caught.value.__cause__}"
    assert secret not in shown


def test_token_is_in_no_log_of_a_good_run(city, caplog):
    caplog.set_level(logging.DEBUG)
    pull(api(city), {})
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    "answer",
    [b"<html>", b"[]", b'{"items":{}}', b'{"items":[],"next_cursor":["x"]}', b'{"items":[1],"high_water":5}'],
)
def test_answers_against_the_protocol(city, answer):
    city.answer = answer
    with pytest.raises(TiyuError) as caught:
        pull(api(city, attempts=2), {})
    assert caught.value.code == "TIYU-ING-0123"


def test_cursor_that_never_moves_ends_with_an_error(city):
    city.answer = b'{"items":[1],"next_cursor":"7","high_water":"x"}'
    with pytest.raises(TiyuError, match="游标"):
        pull(api(city), {})


def test_other_refusals_and_huge_pages(city):
    city.script = [404]
    with pytest.raises(TiyuError) as caught:
        pull(api(city), {})
    assert caught.value.code == "TIYU-ING-0122"
    with pytest.raises(TiyuError) as caught:
        pull(api(city, max_page_bytes=10), {})
    assert caught.value.code == "TIYU-ING-0124"


def test_state_is_not_to_be_had_before_the_end(city):
    connector = api(city)
    next(connector.fetch({}, max_bytes=1))
    with pytest.raises(RuntimeError):
        connector.next_state()


def test_the_former_name_of_the_kind_stays_good(city):
    assert pull(api(city, kind="rest_cursor"), {})[1] == list(range(10))


# ── paging ──


@pytest.mark.parametrize(
    "options",
    [
        {"paging": "page"},
        {"paging": "offset"},
        {"paging": "link"},
        {"paging": "link", "next_link_path": "next"},
        {"paging": "page", "total_path": "meta.total"},
        {"paging": "offset", "total_header": "X-Total-Count"},
        {"paging": "cursor", "total_path": "meta.total"},
        {"paging": "none", "limit": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("most", [4, 3], ids=["as asked", "fewer than asked"])
def test_every_way_of_paging_gives_every_row(city, options, most):
    city.most = 1000 if options["paging"] == "none" else most
    objects, ids, state = pull(api(city, **options), {})
    assert ids == list(range(10))
    assert len({item.name for item in objects}) == len(objects)
    assert state == {"updated_since": "2026-11-20T12:00:09+08:00", "more": False}
    if "total_path" in options or "total_header" in options:
        assert len(city.requests) == len(objects), "a total spares the empty page"


def test_top_level_list_without_a_watermark_is_read_whole_every_time(city):
    city.answer = b'[{"id": 1}]'
    options = {"paging": "none", "items_path": "", "since_param": None, "limit_param": None, "query": {"kind": "水质"}}
    (found,) = api(city, **options).fetch({}, max_bytes=1)
    assert found.open().read() == city.answer
    assert city.requests == [{"kind": "水质"}]


def test_an_interface_that_ignores_the_page_is_told_and_not_read_for_ever(city):
    city.answer = b'{"items":[1,2],"high_water":"x"}'
    with pytest.raises(TiyuError, match="不理会翻页参数"):
        pull(api(city, paging="page"), {})
    assert len(city.requests) == 2


def test_a_loop_of_links_ends_with_an_error(city):
    city.answer = b'{"items":[1],"next":"/api/v1/bookings?cursor=4","high_water":"x"}'
    with pytest.raises(TiyuError, match="死循环"):
        pull(api(city, paging="link", next_link_path="next"), {})


@pytest.mark.parametrize("options", [{"paging": "page"}, {"paging": "offset"}, {"paging": "cursor"}], ids=str)
def test_a_row_that_moves_to_a_page_already_read_is_not_lost(city, options):
    def change(number):
        if number == 2:  # rows 4…7 stand at 3…6 now
            del city.items[0]

    city.before_page = change
    _, ids, _ = pull(api(city, total_path="meta.total", **options), {})
    assert set(ids) == set(range(10)), "row 0 was read before it was deleted, row 4 after it moved"
    city.before_page = lambda number: None
    objects, _, _ = pull(api(city, total_path="meta.total", **options), {})
    assert not any("_r" in item.name for item in objects)


def test_totals_that_never_rest_end_with_an_error_and_the_next_run_begins_anew(city):
    def change(number):
        city.items.append({"id": 100 + number, "updated_at": f"2026-11-20T12:01:00.{number:06d}+08:00"})

    city.before_page = change
    states = [{}]

    def run():  # no matter where batches end
        while True:
            states.append(pull(api(city, paging="offset", total_path="meta.total"), states[-1], max_bytes=1)[2])

    with pytest.raises(TiyuError) as caught:
        run()
    assert (caught.value.code, caught.value.exit_code) == ("TIYU-ING-0127", 3)
    assert len(city.requests) < 20
    city.before_page = lambda number: None
    kept = {key: value for key, value in states[-1].items() if not key.startswith("_")}
    _, ids, _ = pull(api(city, paging="offset", total_path="meta.total"), kept)
    assert set(ids) >= set(range(10))


def test_a_total_that_is_not_the_number_of_rows_is_refused(city):
    city.answer = b'{"items":[],"meta":{"total":3},"high_water":"x"}'
    with pytest.raises(TiyuError) as caught:
        pull(api(city, paging="page", total_path="meta.total"), {})
    assert caught.value.code == "TIYU-ING-0127"
    with pytest.raises(TiyuError, match="没有总数"):
        pull(api(city, paging="page", total_path="meta.count"), {})


# ── watermark ──


def test_overlap_sets_the_watermark_back_and_late_rows_come(city):
    _, _, state = pull(api(city), {})
    city.items.insert(5, {"id": 55, "updated_at": "2026-11-20T12:00:08.500000+08:00"})
    assert pull(api(city), state)[1] == []
    _, ids, again = pull(api(city, overlap_seconds=2), state)
    assert ids == [55, 8, 9]
    assert again == state


@pytest.mark.parametrize(
    ("format", "mark", "sent"),
    [
        ("epoch", 1795147209, "1795147199"),
        ("epoch_ms", 1795147209500, "1795147199500"),
        ("iso", "2026-11-20T12:00:09Z", "2026-11-20T11:59:59+00:00"),
        ("date", "2026-11-20T00:00:05+08:00", "2026-11-19"),
    ],
)
def test_watermarks_are_written_as_the_interface_wants_them(city, format, mark, sent):
    city.answer = json.dumps({"items": [1], "high_water": mark}).encode()
    options = {"paging": "none", "since_format": format, "overlap_seconds": 10}
    _, _, state = pull_raw(api(city, **options), {})
    pull_raw(api(city, **options), state)
    assert city.requests[1]["updated_since"] == sent


def pull_raw(connector, state):
    objects = list(connector.fetch(state, max_bytes=1 << 30))
    return objects, None, connector.next_state()


def test_the_clock_of_the_source_can_be_the_watermark(city):
    _, _, state = pull(api(city, high_water_from="date_header"), {})
    assert abs(datetime.fromisoformat(state["updated_since"]) - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_backfill_starts_before_the_first_moment(city):
    state = connectors.of_kind("rest").state_since(datetime.fromisoformat("2026-11-20T12:00:05+08:00"))
    assert pull(api(city), state)[1] == [5, 6, 7, 8, 9]
    city.answer = b'{"items": []}'
    for format in ("epoch", "epoch_ms"):
        pull(api(city, since_format=format), state)
    assert [query["updated_since"] for query in city.requests[-2:]] == ["1795147204", "1795147204999"]


def test_a_watermark_that_is_no_time_cannot_be_set_back(city):
    with pytest.raises(TiyuError, match="overlapSeconds"):
        pull(api(city, overlap_seconds=5), {"updated_since": "v17"})


# ── failures ──


@pytest.mark.parametrize(
    "cut",
    [
        lambda to: to.give(200, b'{"items":[', length=5000),
        lambda to: to.give(200, b'{"items":[{"id":1},{"i'),
        lambda to: to.give(
            200, gzip.compress(json.dumps({"items": [*range(99)]}).encode())[:-30], {"Content-Encoding": "gzip"}
        ),
        lambda to: to.give(200, b"\x00garbage", {"Content-Encoding": "gzip"}),
        lambda to: setattr(to, "close_connection", True),
        lambda to: (time.sleep(0.35), setattr(to, "close_connection", True)),
    ],
    ids=["length", "json", "gzip", "no gzip", "nothing", "timeout"],
)
def test_answers_that_end_too_early_are_asked_for_again(city, cut):
    city.script = [200, cut, cut]
    _, ids, _ = pull(api(city, timeout_seconds=0.25), {})
    assert ids == list(range(10))
    assert len(city.requests) == 5


def test_an_answer_that_trickles_is_given_up(city):
    def trickle(to):
        to.send_response(200)
        to.send_header("Content-Length", "100000")
        to.end_headers()
        try:
            for _ in range(40):
                to.wfile.write(b" ")
                to.wfile.flush()
                time.sleep(0.02)
        except OSError:
            pass

    city.script = [trickle, trickle]
    with pytest.raises(TiyuError) as caught:
        pull(api(city, attempts=2, answer_seconds=0.1), {})
    assert (caught.value.code, caught.value.context["reason"]) == ("TIYU-ING-0120", "Timeout")


def test_a_body_that_never_ends_is_bounded(city):
    sent = []

    def endless(to):
        to.send_response(200)
        to.send_header("Content-Length", str(10 << 30))
        to.end_headers()
        try:
            while True:
                sent.append(to.wfile.write(b" " * (1 << 16)))
        except OSError:
            to.close_connection = True

    city.script = [endless]
    with pytest.raises(TiyuError) as caught:
        pull(api(city, max_page_bytes=1 << 20), {})
    assert caught.value.code == "TIYU-ING-0124"
    assert sum(sent) < 64 << 20


def test_retry_after_is_kept_in_seconds_and_as_a_date(city, monkeypatch):
    waits = []
    monkeypatch.setattr("ingestion.connectors.http_source.time.sleep", waits.append)
    served = datetime(2020, 1, 1, tzinfo=UTC)  # the source's clock is years behind ours: its own date counts

    def throttled(to):
        to.send_response_only(429)
        to.send_header("Date", format_datetime(served, usegmt=True))
        to.send_header("Retry-After", format_datetime(served + timedelta(seconds=9), usegmt=True))
        to.send_header("Content-Length", "0")
        to.end_headers()

    city.script = [lambda to: to.give(429, headers={"Retry-After": "7"}), throttled, 503]
    assert pull(api(city), {})[1] == list(range(10))
    assert waits[:2] == [7.0, 9.0]
    assert 0.0 < waits[2] < 1.0


def test_pauses_grow_have_jitter_and_a_cap(city, monkeypatch):
    waits = []
    monkeypatch.setattr("ingestion.connectors.http_source.time.sleep", waits.append)
    city.script = [500] * 12
    with pytest.raises(TiyuError):
        pull(api(city, attempts=12, backoff_seconds=1), {})
    assert len(waits) == 11
    assert waits[0] <= 1.5
    assert 15 <= max(waits) <= 45
    assert len({round(wait, 6) for wait in waits}) == 11


def test_a_source_that_wants_peace_for_an_hour_is_left_alone(city):
    city.script = [lambda to: to.give(429, headers={"Retry-After": "3600"})]
    with pytest.raises(TiyuError) as caught:
        pull(api(city), {})
    assert (caught.value.code, caught.value.context["seconds"]) == ("TIYU-ING-0126", 3600)
    assert len(city.requests) == 1


@pytest.mark.parametrize("text", [None, "", "soon", "Wed, 99 Foo 2026 00:00:00 GMT"])
def test_what_is_no_date_of_http_is_none(text):
    assert http_date(text) is None


# ── credentials ──


def test_redirects_stay_with_the_source(city, caplog):
    caplog.set_level(logging.DEBUG)
    with serving(City()) as thief:
        goal = f"http://127.0.0.1:{thief.port}/api/v1/bookings?key=canary-goal"
        city.script = [lambda to: to.give(302, headers={"Location": goal})]
        with pytest.raises(TiyuError) as caught:
            pull(api(city), {})
        assert caught.value.code == "TIYU-ING-0125"
        assert thief.requests == []
        shown = f"{caught.value!r} {caught.value.as_dict()} {caplog.text}"
        assert TOKEN not in shown
        assert "canary-goal" not in shown
        city.answer = json.dumps({"items": [1], "next": goal}).encode()
        with pytest.raises(TiyuError) as caught:
            pull(api(city, paging="link", next_link_path="next"), {})
        assert (caught.value.code, thief.requests) == ("TIYU-ING-0125", [])
        with pytest.raises(TiyuError) as caught:  # nor from a watermark that somebody altered
            pull(api(city, paging="link"), {"cursor": goal, "paging": "link"})
        assert (caught.value.code, thief.requests) == ("TIYU-ING-0125", [])


def test_a_redirect_within_the_source_is_followed_but_not_for_ever(city):
    city.script = [lambda to: to.give(307, headers={"Location": f"http://user:pw@127.0.0.1:{city.port}/moved?limit=9"})]
    assert pull(api(city), {})[1][:4] == [0, 1, 2, 3]
    assert city.paths[1] == "/moved"
    assert city.headers[1]["Authorization"] == f"Bearer {TOKEN}"
    city.script = [lambda to: to.give(302, headers={"Location": "/round"})] * 20
    with pytest.raises(TiyuError, match="没有尽头"):
        pull(api(city), {})


def verify_signature(handler, seen, secret="s3cret-canary"):
    """What a source does: rebuild the base from what arrived, compare, refuse old times and known nonces."""
    found = re.fullmatch(
        r'tiyu=\(([^)]*)\)(;created=(\d+);nonce="(\w+)";alg="hmac-sha256";keyid="k 1")',
        handler.headers["Signature-Input"],
    )
    parts = urlsplit(handler.path)
    body = b""
    values = {
        "@method": handler.command,
        "@authority": handler.headers["Host"],
        "@path": parts.path,
        "@query": f"?{parts.query}",
        "content-digest": handler.headers["Content-Digest"],
    }
    lines = [f"{name}: {values[name.strip(chr(34))]}" for name in found[1].split()]
    base = "\n".join([*lines, f'"@signature-params": ({found[1]}){found[2]}'])
    expected = base64.b64encode(hmac.new(secret.encode(), base.encode(), hashlib.sha256).digest()).decode()
    fresh = found[4] not in seen and abs(int(found[3]) - time.time()) < 60
    seen.add(found[4])
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    return (
        fresh
        and handler.headers["Content-Digest"] == f"sha-256=:{digest}:"
        and handler.headers["Signature"] == f"tiyu=:{expected}:"
    )


def signed(city, secret="s3cret-canary"):
    return connectors.create(
        {
            "kind": "rest",
            "path": "/api/v1/bookings",
            "auth": "signed",
            "limit": 4,
            "backoff_seconds": 0.01,
            "query": {"名": "a b&c=d"},
        },
        f"http://k%201:{secret}@127.0.0.1:{city.port}",
        lambda _: False,
    )


def test_signed_requests_are_believed_once_each(city, caplog):
    caplog.set_level(logging.DEBUG)
    nonces = set()
    city.verify = lambda handler: verify_signature(handler, nonces)
    city.script = [200, 503, 500]
    assert pull(signed(city), {})[1] == list(range(10))
    assert len(nonces) == 5
    sent = {headers["Signature-Input"] for headers in city.headers}
    assert len(sent) == len(city.requests) == 5, "every attempt has a nonce of its own"
    assert all("Authorization" not in headers and "s3cret" not in str(headers) for headers in city.headers)
    assert "s3cret" not in caplog.text
    with pytest.raises(TiyuError) as caught:
        pull(signed(city, "other"), {})
    assert caught.value.code == "TIYU-ING-0121"


def test_an_altered_request_is_not_believed(city):
    class Altered:
        command, path = "GET", "/api/v1/bookings?limit=5"
        headers = {"Host": "city.example", **signed_headers("GET", "http://city.example/api/v1/bookings?limit=4", b"", key_id="k 1", secret="s3cret-canary")}  # noqa: RUF012 # fmt: skip

    assert not verify_signature(Altered, set())
    Altered.path = "/api/v1/bookings?limit=4"
    assert verify_signature(Altered, set())


def test_the_example_of_rfc_9421_is_met():
    """RFC 9421, appendix B.2.5 (key ``test-shared-secret`` of B.1.5)."""
    key = base64.b64decode("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==")
    covered = [
        ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
        ("@authority", "example.com"),
        ("content-type", "application/json"),
    ]
    base = signature_base(covered, ';created=1618884473;keyid="test-shared-secret"')
    assert hmac_sha256(key, base) == ":pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:"


@pytest.mark.parametrize(("auth", "uri"), [("bearer", "http://h"), ("signed", "http://:s@h"), ("signed", "http://k@h")])
def test_a_connection_without_its_credential_is_refused(auth, uri):
    with pytest.raises(TiyuError) as caught:
        list(
            connectors.create({"kind": "rest", "path": "/x", "auth": auth}, uri, lambda _: False).fetch({}, max_bytes=1)
        )
    assert caught.value.code == "TIYU-ING-0104"


def test_without_credentials_none_is_sent(city):
    city.verify = lambda handler: "Authorization" not in handler.headers
    assert pull(api(city, auth="none"), {})[1] == list(range(10))


@pytest.mark.parametrize(
    "options", [{"paging": "pages"}, {"auth": "basic"}, {"since_format": "rfc"}, {"path": "x"}, {"limit": True}]
)
def test_wrong_options_are_refused(city, options):
    with pytest.raises(TiyuError) as caught:
        api(city, **options)
    assert caught.value.code == "TIYU-ING-0102"
