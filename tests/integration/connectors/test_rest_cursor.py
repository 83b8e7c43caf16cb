"""A real HTTP server on loopback that pages by cursor, fails at times, and checks the token."""

from __future__ import annotations

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from ingestion import connectors
from lake.errors import TiyuError

pytestmark = pytest.mark.integration

TOKEN = "canary-token-7f3a"


class City:
    """10 items updated at seconds 0…9; ``updated_since`` is exclusive; the cursor is a position."""

    def __init__(self):
        self.items = [{"id": number, "updated_at": f"2026-11-20T12:00:0{number}+08:00"} for number in range(10)]
        self.failures: list[int] = []
        self.requests: list[dict[str, str]] = []
        self.answer: bytes | None = None

    def page(self, query: dict[str, str]) -> bytes:
        if self.answer is not None:
            return self.answer
        found = [item for item in self.items if item["updated_at"] > query.get("updated_since", "")]
        start, limit = int(query.get("cursor", 0)), int(query["limit"])
        following = start + limit
        return json.dumps({
            "items": found[start:following],
            "next_cursor": str(following) if following < len(found) else None,
            "high_water": self.items[-1]["updated_at"],
        }).encode()  # fmt: skip


@pytest.fixture
def city():
    state = City()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            state.requests.append(query)
            status = state.failures.pop(0) if state.failures else 200
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                status = 401
            if status == -1:  # break the line in mid-answer
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
                self.close_connection = True
                return
            body = state.page(query) if status == 200 else b"{}"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.port = server.server_address[1]
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def api(city, token=TOKEN, port=None, **options):
    return connectors.create(
        {"kind": "rest_cursor", "connection": "X", "path": "/api/v1/bookings", "limit": 4, "backoff_seconds": 0.01}
        | options,
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


def test_batches_bounded_by_bytes_continue_where_they_ended(city):
    state, seen, batches = {}, [], 0
    while True:
        _, ids, state = pull(api(city), state, max_bytes=1)
        seen += ids
        batches += 1
        if not state["more"]:
            break
    assert (seen, batches) == (list(range(10)), 3)
    assert state == {"updated_since": "2026-11-20T12:00:09+08:00", "more": False}


def test_what_changes_while_paging_is_fetched_next_time(city):
    connector = api(city)
    pages = connector.fetch({}, max_bytes=1 << 30)
    next(pages)
    city.items.append({"id": 10, "updated_at": "2026-11-20T12:00:10+08:00"})
    list(pages)
    assert connector.next_state()["updated_since"] == "2026-11-20T12:00:09+08:00"


def test_retries_end_well_or_with_a_clear_error(city):
    city.failures = [503, -1, 429, 500]
    _, ids, _ = pull(api(city), {})
    assert ids == list(range(10))
    city.failures = [503] * 50
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
    city.failures = [status]
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
        pull(api(city), {})
    assert caught.value.code == "TIYU-ING-0123"


def test_cursor_that_never_moves_ends_with_an_error(city):
    city.answer = b'{"items":[1],"next_cursor":"7","high_water":"x"}'
    with pytest.raises(TiyuError, match="游标"):
        pull(api(city), {})


def test_other_refusals_and_huge_pages(city):
    city.failures = [404]
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
