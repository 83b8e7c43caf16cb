"""``tiyu stream``: take messages over from a broker for as long as the process runs, and bring them into the lake every few seconds.

Order of durable steps: message into the spool (sealed, on disk) → acknowledged to the broker → archive, ODS and ledger by the same
ingest as every other source, then its quality gate. A message that was not acknowledged is delivered again by the broker, one that
was is in the spool: a kill at any instant costs duplicates, which the contract's key removes, and never a message.

A subscription is a persistent session (QoS 1): while no process runs the broker keeps the messages. One thread of the client
library reads the network, one thread a subscription spools and acknowledges, the calling thread commits.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from catalog import contracts
from catalog.contracts import Contract
from ingestion import connectors
from ingestion.connectors.mqtt import THROUGH
from ingestion.run import ingest
from ingestion.spool import FULL, Spool
from lake import ledger
from lake.clock import utc_now
from lake.errors import EXIT_UNAVAILABLE, EXIT_USAGE, TiyuError
from quality.gate import run_gate

COMMIT_S = 10.0
"""Longest time a message waits in the spool before its ingest begins (design §8)."""
FLUSH_COUNT = 20
FLUSH_S = 0.2
"""A segment is closed at 20 messages (the window that brokers commonly leave unacknowledged) or after 0.2 s."""
MAX_SPOOL_BYTES = 1 << 30
"""Above this no message is taken over, and so none acknowledged: the broker keeps what comes."""
RETRY_S = 30.0
_KEEPALIVE_S = 30
_REFUSED = "TIYU-STR-0003"

Say = Callable[[str], None]


@dataclass
class Taken:
    """What one subscription did: messages and segments spooled, batches brought in, and why it waits (None: it does not)."""

    resource: str
    messages: int = 0
    segments: int = 0
    batches: int = 0
    accepted: int = 0
    quarantined: int = 0
    duplicate: int = 0
    connects: int = 0
    problem: str | None = None


@dataclass
class _Message:
    mid: int
    qos: int
    connection: int
    line: bytes = field(repr=False)


def line_of(topic: str, payload: bytes, topic_field: str | None) -> bytes:
    """A message as one line: the payload as it came, line breaks (white space in JSON) as blanks, and where the contract names a
    member for the topic, that member in front. What is no JSON object stays as it is: the decoder refuses it, with its place."""
    line = payload.replace(b"\r", b" ").replace(b"\n", b" ").strip(b" \t")
    if topic_field and line.startswith(b"{"):
        head = json.dumps({topic_field: topic}, ensure_ascii=False).encode()
        rest = line[1:].lstrip(b" \t")
        return head[:-1] + (b"}" if rest == b"}" else b", " + rest)
    return line


class Subscription:
    """One contract's session with its broker: received, spooled, acknowledged."""

    def __init__(self, contract: Contract, uri: str):
        assert contract.server is not None
        self.contract = contract
        self.taken = Taken(contract.id)
        self.spool = Spool(contract.server.options["client_id"])
        self.fatal: TiyuError | None = None
        self._topics = list(contract.server.options["topics"])
        self._topic_field = contract.server.options.get("topic_field")
        self._connection = connectors.parse_connection(uri)
        self._incoming: queue.Queue[_Message] = queue.Queue(maxsize=10_000)
        self._generation = 0
        self._stop = threading.Event()
        self._client = self._new_client(contract.server.options["client_id"])
        self._thread = threading.Thread(target=self._spooling, name=f"spool {contract.id}", daemon=True)

    def _new_client(self, client_id: str) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=False,
            protocol=mqtt.MQTTv311,
            manual_ack=True,
        )
        if self._connection.user or self._connection.secret:
            client.username_pw_set(self._connection.user, self._connection.secret or None)
        if self._connection.scheme == "mqtts":
            client.tls_set()
        client.reconnect_delay_set(min_delay=1, max_delay=60)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        return client

    # ---- called by the client library's thread
    def _on_connect(self, client: mqtt.Client, _userdata: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            if reason.getName() in ("Bad user name or password", "Not authorized", "Client identifier not valid"):
                self.fatal = TiyuError(
                    _REFUSED,
                    "消息服务拒绝了连接",
                    "核对 TIYU_CONN_ 中的账号与口令，以及该账号对契约中主题的订阅权限",
                    EXIT_UNAVAILABLE,
                    resource=self.contract.id,
                    reason=reason.getName(),
                )
            return
        # numbers of messages belong to a connection: one of an earlier connection may stand for another message now
        self._generation += 1
        self.taken.connects += 1
        client.subscribe([(topic, 1) for topic in self._topics])

    def _on_message(self, _client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        line = line_of(message.topic, bytes(message.payload), self._topic_field)
        self._incoming.put(_Message(message.mid, message.qos, self._generation, line))

    # ---- the spooling thread
    def _spooling(self) -> None:
        waiting: list[_Message] = []
        while True:
            while self._spool_is_full() and not self._stop.is_set():
                self._stop.wait(1.0)
            deadline = time.monotonic() + (FLUSH_S if waiting else 1.0)
            while len(waiting) < FLUSH_COUNT and (left := deadline - time.monotonic()) > 0:
                try:
                    waiting.append(self._incoming.get(timeout=min(left, 0.5)))
                except queue.Empty:
                    if self._stop.is_set():
                        break
                    continue
                if len(waiting) == 1:
                    deadline = time.monotonic() + FLUSH_S
            if waiting and self._flush(waiting):
                waiting = []
            elif self._stop.is_set():
                return  # nothing waits, or what waits cannot be kept: it is not acknowledged, the broker has it

    def _flush(self, messages: list[_Message]) -> bool:
        try:
            self.spool.append([message.line for message in messages])
        except (TiyuError, OSError) as error:
            self.taken.problem = error.code if isinstance(error, TiyuError) else type(error).__name__
            self._stop.wait(1.0)
            return False
        self.taken.messages += len(messages)
        self.taken.segments += 1
        for message in messages:
            if message.connection == self._generation:
                self._client.ack(message.mid, message.qos)
        return True

    def _spool_is_full(self) -> bool:
        full = sum(segment.size for segment in self.spool.segments()) > MAX_SPOOL_BYTES
        if full:
            self.taken.problem = FULL
        elif self.taken.problem == FULL:
            self.taken.problem = None
        return full

    # ---- the calling thread
    def start(self) -> None:
        """Begin to receive; a broker that cannot be reached is tried again for as long as the process runs."""
        self._client.connect_async(self._connection.host, self._connection.port or 0, keepalive=_KEEPALIVE_S)
        self._client.loop_start()
        self._thread.start()

    def stop(self) -> None:
        """Stop receiving; what was received is spooled and acknowledged first."""
        self._stop.set()
        self._thread.join(timeout=30)
        with contextlib.suppress(Exception):  # the session stays with the broker whether or not it hears the goodbye
            self._client.disconnect()
        self._client.loop_stop()

    def is_connected(self) -> bool:
        """Whether the broker answers now."""
        return bool(self._client.is_connected())

    def commit(self) -> None:
        """Bring what waits in the spool into the lake and through its quality gate."""
        through = int(ledger.get_watermark(self.contract.id).get(THROUGH, 0))
        if not self.spool.segments(through):
            return
        report = ingest(self.contract.id)
        self.taken.batches += len(report.batches)
        self.taken.accepted += report.accepted
        self.taken.quarantined += report.quarantined
        self.taken.duplicate += report.duplicate
        run_gate([item.table for item in self.contract.objects])

    def note(self) -> None:
        """Leave the state of the subscription for ``--status``."""
        self.spool.note(
            resource=self.contract.id,
            connected=self.is_connected(),
            connects=self.taken.connects,
            messages=self.taken.messages,
            batches=self.taken.batches,
            accepted=self.taken.accepted,
            quarantined=self.taken.quarantined,
            duplicate=self.taken.duplicate,
            problem=self.taken.problem,
            noted_at=utc_now().isoformat(),
        )


def streamed() -> list[Contract]:
    """The sources that are streams."""
    return [contract for contract in contracts.load_all("source").values() if contract.is_stream]


def run(
    resources: Sequence[str] = (),
    *,
    commit_s: float = COMMIT_S,
    stop: threading.Event | None = None,
    say: Say | None = None,
) -> list[Taken]:
    """Receive until ``stop`` is set; returns what was taken, after a last commit.

    resources: sources whose connector is ``mqtt`` (default: every one whose ``TIYU_CONN_`` variable is set). commit_s: seconds
    between commits. say: gets a Chinese line when something happened.
    Errors: TIYU-ING-0103 no connection · TIYU-STR-0001 another process receives it · 0003 the broker refuses the account ·
    0004 no such stream. What a commit raises is said, left as an alert by the verb that raised it, and tried again.
    """
    stop = stop or threading.Event()
    say = say or (lambda _: None)
    chosen = _chosen(resources)
    with contextlib.ExitStack() as held:
        subscriptions = []
        for contract in chosen:
            assert contract.server is not None
            item = Subscription(contract, connectors.uri_from_environment(contract.server.connection))
            held.enter_context(item.spool.filling(int(ledger.get_watermark(contract.id).get(THROUGH, 0))))
            subscriptions.append(item)
        for item in subscriptions:
            item.start()
            held.callback(item.note)
            held.callback(item.stop)
        retry_at = dict.fromkeys((contract.id for contract in chosen), 0.0)
        following = time.monotonic() + commit_s
        while not stop.wait(max(0.0, following - time.monotonic())):
            following = max(following + commit_s, time.monotonic())
            for item in subscriptions:
                if item.fatal:
                    raise item.fatal
                if time.monotonic() >= retry_at[item.contract.id] and not _commit(item, say):
                    retry_at[item.contract.id] = time.monotonic() + RETRY_S
                item.note()
        for item in subscriptions:
            item.stop()
            _commit(item, say)
    return [item.taken for item in subscriptions]


def _commit(item: Subscription, say: Say) -> bool:
    before = (item.taken.accepted, item.taken.quarantined, item.taken.duplicate)
    try:
        item.commit()
    except TiyuError as error:
        item.taken.problem = error.code
        say(f"{item.contract.id}：{error.code} {error.message_zh}；消息留在接收缓存，稍后再试")
        return False
    item.taken.problem = None if item.taken.problem != FULL else FULL
    gained = [
        now - then
        for now, then in zip((item.taken.accepted, item.taken.quarantined, item.taken.duplicate), before, strict=True)
    ]
    if any(gained):
        say(f"{item.contract.id}：入库 {gained[0]:,}，隔离 {gained[1]:,}，重复 {gained[2]:,}")
    return True


def _chosen(resources: Sequence[str]) -> list[Contract]:
    known = {contract.id: contract for contract in streamed()}
    if unknown := sorted(set(resources) - set(known)):
        raise TiyuError(
            "TIYU-STR-0004",
            "没有这个消息流来源",
            f"消息流来源：{'、'.join(sorted(known)) or '无（契约的 connector 为 mqtt）'}",
            EXIT_USAGE,
            resource="、".join(unknown),
        )
    if resources:
        return [known[name] for name in dict.fromkeys(resources)]
    ready = []
    for contract in known.values():
        assert contract.server is not None
        with contextlib.suppress(TiyuError):
            connectors.uri_from_environment(contract.server.connection)
            ready.append(contract)
    if not ready:
        raise TiyuError(
            "TIYU-STR-0004",
            "没有可接收的消息流来源",
            "设置契约所指连接的 TIYU_CONN_ 变量（mqtt://账号:口令@主机:端口），或写明来源名",
            EXIT_USAGE,
        )
    return ready


def status() -> list[dict[str, object]]:
    """One row a stream: whether a process receives it, what waits in the spool, and what that process left last."""
    rows: list[dict[str, object]] = []
    for contract in streamed():
        assert contract.server is not None
        spool = Spool(contract.server.options["client_id"])
        waiting = spool.segments(int(ledger.get_watermark(contract.id).get(THROUGH, 0)))
        rows.append(
            {
                **spool.noted(),
                "resource": contract.id,
                "running": spool.is_filling(),
                "waiting_segments": len(waiting),
                "waiting_bytes": sum(segment.size for segment in waiting),
            }
        )
    return rows
