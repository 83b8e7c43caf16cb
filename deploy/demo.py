"""The demonstration: start the simulated city, Airflow, the cockpit and the pages; run the real DAGs; show every door.

``python -m deploy.demo [--size small] [--headless]`` (``make demo``). It only starts processes and triggers DAGs; everything that
happens to the data happens in the DAGs. Stops with Ctrl-C, and then nothing it started is left (see ``deploy.processes``).

Exit codes: 0 ok · 1 a DAG or a door failed · 2 wrong use (another demo runs on this state folder, other city in it) · 130 interrupted
while starting.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.table import Table

from catalog import contracts
from dashboards import district_map
from deploy import airflow, doors, state, summary
from deploy.display import Display
from deploy.measure import MemorySampler
from deploy.processes import Child, Processes, free_port, mark_of, sweep
from lake.errors import TiyuError

ROOT = Path(__file__).resolve().parent.parent
COCKPIT_PYTHON = ROOT / ".venv-cockpit" / "bin" / "python"
COCKPIT_TEMPLATE = ROOT / "build" / "templates" / "superset.db"
DBT_TEMPLATE = ROOT / "build" / "templates" / "partial_parse.msgpack"
INGEST_LIMIT_S = {"tiny": 3600, "small": 3600, "city": 7200}
"""How long the ingests may take together, and the layers after them; the DAGs' own time limits are per task."""
ANSWER_S = 30.0
"""How long the demo waits for the center before it reads what answers there are."""
FIRST = "ingest_venue_register"
"""What other sources refer to is loaded before them."""
LARGE = ("venue.booking", "venue.entry", "fitness.checkin", "supervision.water_reading", "training.activity")
"""Sources whose data is worth tasks of their own. All others are some thousand rows at most and come in one run of the DAG
``catch_up``: two tasks each would take longer than everything else together."""


class DemoError(RuntimeError):
    """The demo cannot go on; the message is for the person at the console (Chinese)."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass
class Demo:
    """One run of the demonstration on one state folder."""

    home: Path
    size: str
    seed: int
    headless: bool
    port_base: int
    parallelism: int = 2
    display: Display = field(default_factory=Display)
    processes: Processes = field(init=False)
    secrets: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    client: airflow.Client | None = None
    cockpit: Child | None = None
    owner: bool = False
    stopping: bool = False
    ready_s: float = 0.0
    results: list[doors.Door] = field(default_factory=list)
    day: int | None = None
    unexpected: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.processes = Processes(self.home, self.home / "demo" / "log")

    # -------------------------------------------------------------- start
    def claim(self) -> Any:
        """Take the state folder for us alone, and end whatever a killed demo left running."""
        folder = self.home / "demo"
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DemoError(
                f"已有一个演示在使用 {self.home}。请先在它的窗口按 Ctrl-C，或换一个 TIYU_HOME。", 2
            ) from None
        state.forget_up(self.home)
        killed = sweep(mark_of(self.home))
        if self.running_file.exists():
            interrupted = TiyuError(
                "TIYU-DEMO-0001",
                "上次演示被强行中断，现从中断处续作，已完成的部分不会重做",
                "无需处理；若要从头开始，先按 Ctrl-C，再运行 make clean",
                left_processes=killed,
            )
            self.display.console.print(str(interrupted), style="yellow", markup=False, soft_wrap=True)
        self.running_file.touch()
        self.owner = True
        self.processes.start_guardian()
        return lock

    @property
    def running_file(self) -> Path:
        """There while a demo runs on the state folder; found at a start, it says that the last one was killed."""
        return self.home / "demo" / "running"

    def attach(self) -> bool:
        """Use the services of the demo that is up on this folder; False when none is."""
        ports = state.up(self.home)
        if ports is None:
            return False
        with (self.home / "demo" / "lock").open("a+") as lock:
            try:  # a demo that was killed left its ports behind, but not its lock
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return False
            except OSError:
                pass
        self.use_ports(ports)
        self.env = self.environment()
        self.client = airflow.Client(self.urls["airflow"], self.secrets["airflow_admin"])
        return True

    def use_ports(self, ports: Mapping[str, int]) -> None:
        """Addresses and secrets of the services."""
        names = ("site", "airflow", "cockpit", "venue", "fitness")
        self.urls = {name: f"http://127.0.0.1:{ports[name]}" for name in names}
        self.secrets = state.load_secrets(self.home)

    def ports(self) -> dict[str, int]:
        """Free loopback ports; the preferred ones are stable so that bookmarks keep working."""
        taken: set[int] = set()
        names = ("site", "airflow", "cockpit", "venue", "fitness", "worker_log", "trigger_log", "scheduler_health")
        return {name: free_port(self.port_base + offset, taken) for offset, name in enumerate(names)}

    def environment(self) -> dict[str, str]:
        """Environment of every process of the platform: state folder, manual schedules, no telemetry."""
        variables = {
            "TIYU_HOME": str(self.home),
            "TIYU_SCHEDULE": "manual",
            "TIYU_TASK_RETRY_S": "2",
            "TIYU_TASK_RETRIES": "1",
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            "DO_NOT_TRACK": "1",
            "GX_ANALYTICS_ENABLED": "false",
            "PATH": f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
        }
        # The business clock is the state folder's (deploy.prepare), so that running services follow when it moves on.
        for name in ("LAKE_ROOT", "TIYU_LEDGER_URL", "TIYU_TODAY", "TIYU_AS_OF"):
            os.environ.pop(name, None)
        return self.processes.environment(variables)

    def child(self, *arguments: str, python: str | Path = sys.executable, env: Mapping[str, str] | None = None) -> str:
        """Run a short command to its end; returns its standard output, raises DemoError with the reason."""
        command = [str(python), *arguments]
        result = subprocess.run(command, cwd=ROOT, env={**self.env, **(env or {})}, capture_output=True, text=True)
        if result.returncode:
            raise DemoError(
                f"{' '.join(arguments[:4])} 失败（{result.returncode}）：{(result.stderr or result.stdout)[-1500:]}"
            )
        return result.stdout

    def wait_for(self, title: str, ready: Callable[[], bool], seconds: float) -> None:
        """Poll until ``ready``; stop early when a process of ours has ended."""
        deadline = time.monotonic() + seconds
        while not ready():
            self.processes.check()
            if time.monotonic() > deadline:
                raise DemoError(f"{title} 在 {seconds:.0f} 秒内没有就绪，日志在 {self.processes.log_folder}")
            time.sleep(0.2)

    # -------------------------------------------------------------- the city
    @property
    def city(self) -> Path:
        """Folder of the simulated city."""
        return self.home / "city"

    def generate_city(self) -> Child | None:
        """Generate the city on the first run; an existing one is used unchanged."""
        world = self.city / "world.json"
        if world.is_file():
            known = json.loads(world.read_text(encoding="utf-8"))
            if (known["size"], int(known["seed"])) != (self.size, self.seed):
                raise DemoError(
                    f"{self.home} 里已有另一座城市（{known['size']}，种子 {known['seed']}）。请换一个 TIYU_HOME，或先 make clean。",
                    2,
                )
            return None
        partial = self.home / "city.partial"
        shutil.rmtree(partial, ignore_errors=True)
        arguments = ["generate", "--size", self.size, "--seed", str(self.seed), "--out", str(partial)]
        return self.processes.spawn(
            "generate", [sys.executable, "-m", "simulation", *arguments], env=self.env, cwd=ROOT
        )

    def present(self) -> dict[str, Any]:
        """Where the city's present stands and what happens there (see ``simulation.advance.today``)."""
        from simulation.advance import today

        return today(self.city)

    def advance_city(self, *arguments: str) -> dict[str, Any]:
        """Let days happen in the city, and set the business clock to its present."""
        self.child("-m", "simulation", "advance", "--dir", str(self.city), *arguments)
        self.set_clock()
        return self.present()

    def set_clock(self) -> None:
        """The platform's business clock stands where the city's present does."""
        world = json.loads((self.city / "world.json").read_text(encoding="utf-8"))
        self.child("-m", "deploy.prepare", "--scale", str(world["demo_scale"]), "--as-of", self.present()["as_of"])

    def finish_city(self, child: Child | None) -> dict[str, Any]:
        """Wait for the generator; the folder gets its name only when it is complete."""
        if child is not None:
            while (code := child.process.poll()) is None:
                time.sleep(0.1)
            self.processes.children.remove(child)
            if code:
                raise DemoError(f"模拟城市生成失败：{child.tail()}")
            (self.home / "city.partial").replace(self.city)
        return dict(json.loads((self.city / "world.json").read_text(encoding="utf-8")))

    def start_sources(self, ports: Mapping[str, int]) -> None:
        """The REST source systems."""
        command = [sys.executable, "-m", "simulation", "serve", "--dir", str(self.city)]
        command += ["--port-venue", str(ports["venue"]), "--port-fitness", str(ports["fitness"])]
        self.processes.spawn("city", command, env=self.env, cwd=ROOT)

    def start_center(self) -> None:
        """The city big-data center: takes what appears in the outbox and answers into the inbox."""
        exchange = self.home / "exchange"
        command = [sys.executable, "-m", "simulation.center", "--outbox", str(exchange / "outbox"), "--interval", "1"]
        command += ["--inbox", str(exchange / "inbox"), "--state", str(self.home / "center")]
        self.processes.spawn("center", [*command, "--world", str(self.city)], env=self.env, cwd=ROOT)

    def deliveries_sent(self) -> set[str]:
        """Batches in the outbox."""
        names = [path.parent.name.split("_") for path in (self.home / "exchange").glob("outbox/*/*/*.ok")]
        return {f"{code}_{day}_{batch}" for _, code, _, day, batch in names}

    def unanswered(self) -> set[str]:
        """Batches in the outbox that the center has not answered yet."""
        answers = (self.home / "exchange").glob("inbox/*.receipt.json")
        return self.deliveries_sent() - {path.name.removesuffix(".receipt.json") for path in answers}

    def settle_exchange(self) -> None:
        """Let the center answer, read its answers, and again after what was turned down has been sent again."""
        for _round in range(3):
            deadline = time.monotonic() + ANSWER_S
            while self.unanswered() and time.monotonic() < deadline:
                self.processes.check()
                time.sleep(0.2)
            sent = self.deliveries_sent()
            self.run_dags(["exchange_answers"], 300)
            if self.deliveries_sent() == sent:  # nothing had to be sent again
                return

    def connections(self, ports: Mapping[str, int], world: Mapping[str, Any]) -> dict[str, str]:
        """Source credentials as URIs, by connection name."""
        tokens = _tokens(self.city, world)
        return {
            "city_drop": f"file://{self.city / 'drops'}",
            "venue_api": f"http://:{tokens['venue']}@127.0.0.1:{ports['venue']}",
            "fitness_api": f"http://:{tokens['fitness']}@127.0.0.1:{ports['fitness']}",
        }

    # -------------------------------------------------------------- services
    def seed_dbt(self) -> None:
        """Give dbt the parse made at set-up, on the first run of a state folder."""
        target = self.home / "dbt" / "target" / "partial_parse.msgpack"
        if DBT_TEMPLATE.is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_suffix(".new")
            shutil.copyfile(DBT_TEMPLATE, partial)
            partial.replace(target)

    def start_airflow(self, ports: Mapping[str, int]) -> airflow.Client:
        """Start Airflow's services (they come up while the city is generated)."""
        airflow.prepare(self.home, self.secrets["airflow_admin"])
        numbers = airflow.Ports(ports["airflow"], ports["worker_log"], ports["trigger_log"], ports["scheduler_health"])
        settings = airflow.environment(self.home, numbers, self.secrets, self.parallelism)
        airflow.start(self.processes, {**self.env, **settings})
        self.client = airflow.Client(self.urls["airflow"], self.secrets["airflow_admin"])
        return self.client

    def cockpit_environment(self) -> dict[str, str]:
        """Environment of Superset."""
        return {
            "SUPERSET_SECRET_KEY": self.secrets["superset_key"],
            "TIYU_COCKPIT_HOME": str(self.home / "cockpit"),
            "TIYU_SERVING_ROOT": str(self.home / "serving"),
            **{
                f"TIYU_COCKPIT_{user.upper()}_PASSWORD": self.secrets[f"cockpit_{user}"]
                for user in state.COCKPIT_ACCOUNTS
            },
        }

    def start_cockpit(self, ports: Mapping[str, int]) -> Child:
        """Start Superset from its template, with the drawing of the districts that its map shows."""
        command = [str(COCKPIT_PYTHON), "-m", "dashboards.bootstrap", "start-from-template"]
        command += ["--template", str(COCKPIT_TEMPLATE), "--port", str(ports["cockpit"])]
        (self.home / "cockpit").mkdir(parents=True, exist_ok=True)
        district_map.write(self.home / "cockpit" / "districts.geojson")
        self.cockpit = self.processes.spawn(
            "cockpit", command, env={**self.env, **self.cockpit_environment()}, cwd=ROOT
        )
        return self.cockpit

    def start_site(self, ports: Mapping[str, int]) -> None:
        """Static server of the start page and the portal preview."""
        command = [sys.executable, "-m", "sharing.sites.serve", "--port", str(ports["site"])]
        self.processes.spawn("site", command, env=self.env, cwd=ROOT)

    # -------------------------------------------------------------- the DAGs
    def run_dags(
        self,
        dag_ids: list[str],
        timeout_s: float,
        *,
        stop_at_failure: bool = True,
        conf: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> list[str]:
        """Trigger some DAGs together and wait for all; each is a line of the time table. Returns those that failed.

        ``conf``: parameters by DAG.
        """
        assert self.client is not None
        client, steps, runs = self.client, {}, {}
        for dag_id in dag_ids:
            steps[dag_id] = self.display.begin(f"DAG {dag_id}")
            runs[dag_id] = client.trigger(dag_id, (conf or {}).get(dag_id))

        def ended(dag_id: str, run_state: str, seconds: float) -> None:
            del seconds
            note = self.describe(dag_id, runs[dag_id]) if run_state == "success" else ""
            self.display.end(steps.pop(dag_id), note, ok=run_state == "success")

        try:
            return client.wait(
                runs, timeout_s=timeout_s, alive=self.processes.check, on_change=ended, stop_at_failure=stop_at_failure
            )
        finally:
            for step in steps.values():
                self.display.end(step, ok=False)

    def describe(self, dag_id: str, run_id: str) -> str:
        """One phrase about what a DAG did, from what its tasks returned."""
        assert self.client is not None
        if not dag_id.startswith("ingest_") and dag_id != "catch_up":
            return ""
        report = self.client.report(dag_id, run_id, "ingest")
        if not isinstance(report, dict):
            return ""
        if report.get("status") == "nothing_new":
            return "没有新数据"
        names = {
            "received_objects": "对象",
            "decoded": "收到",
            "accepted": "接收",
            "quarantined": "隔离",
            "duplicate": "重复",
        }
        return "，".join(f"{label} {report[key]:,}" for key, label in names.items() if isinstance(report.get(key), int))

    # -------------------------------------------------------------- the whole way
    def start(self) -> bool:
        """Everything up to the start page; True when every door answered with data."""
        display = self.display
        ports = self.ports()
        self.use_ports(ports)
        self.env = self.environment()

        self.seed_dbt()
        generator = self.generate_city()
        city_step = display.begin("模拟城市" + ("（首次生成）" if generator else "（已有，不变）"))
        airflow_step = display.begin("Airflow 启动")
        client = self.start_airflow(ports)
        world = self.finish_city(generator)
        self.start_sources(ports)
        display.end(city_step, f"{self.size}，种子 {self.seed}，截至 {self.present()['today']}")
        with display.step("密钥、演示标记与业务时钟"):
            begins_later = self.begins_later()
            if begins_later and self.present()["number"] < begins_later - 1:
                self.advance_city(
                    "--to", str(begins_later - 1), "--uninterrupted"
                )  # history, handed over the day before
            else:
                self.set_clock()
        self.start_center()
        expected = self.expected_dags()
        self.wait_for("Airflow", client.healthy, 300)
        self.wait_for("DAG 解析", lambda: expected <= client.dag_ids(), 60)
        client.ensure_pools(_pools())
        client.ensure_connections(self.connections(ports, world))
        display.end(airflow_step, self.urls["airflow"])
        self.wait_for("源系统", lambda: all(_answers(self.urls[name]) for name in ("venue", "fitness")), 30)

        self.ingest()
        if begins_later and self.present()["number"] < begins_later:
            self.let_a_day_happen()
            self.ingest()
        # The layers run one after another and leave a core free: the moment to start the cockpit.
        cockpit_step = display.begin("驾驶舱启动")
        self.start_cockpit(ports)
        self.start_site(ports)
        self.build_and_share()
        self.wait_for("驾驶舱", lambda: _answers(self.urls["cockpit"] + "/login/"), 180)
        display.end(cockpit_step, self.urls["cockpit"])
        with display.step("起始页") as step:
            self.build_start_page()
            step.note = self.urls["site"] + "/"
        self.ready_s = time.monotonic() - display.started
        self.results = self.check_doors()
        state.note_day(self.home, self.present()["number"])
        state.note_up(self.home, ports)
        return all(door.ok for door in self.results) and not self.unexpected

    def begins_later(self) -> int:
        """The day a new demo begins at, 0 for the first; refuses to jump with one that has begun."""
        done = state.day_done(self.home)
        if self.day is None or self.day == done:
            return 0
        if done is not None:
            raise DemoError(
                f"{self.home} 里的演示已在第 {done} 天；用 make demo-tomorrow 前进一天，或先 make clean。", 2
            )
        return self.day

    def let_a_day_happen(self) -> None:
        """The city moves on to its next noon."""
        with self.display.step("城市过了一天") as step:
            present = self.advance_city()
            step.title, step.note = f"城市到了第 {present['number']} 天", f"业务日期 {present['today']}"

    def ingest(self) -> None:
        """Ingest every source. One that cannot be had does not stop the day of the others."""
        limit = INGEST_LIMIT_S[self.size]
        large = [dag_of(resource) for resource in LARGE]
        small = [name for name in contracts.fetched() if dag_of(name) not in (FIRST, *large)]
        failed = self.run_dags([FIRST], limit, stop_at_failure=False)
        # catch_up takes longest and keeps one core, the large ones share the other
        failed += self.run_dags(
            ["catch_up", *sorted(large)], limit, stop_at_failure=False, conf={"catch_up": {"resources": small}}
        )
        down = str(self.present()["down"]).replace(".", "_")
        self.unexpected += [name for name in failed if name != f"ingest_{down}"]

    def build_and_share(self) -> None:
        """The layers, then everything that is made from them, then the center's answers."""
        limit = INGEST_LIMIT_S[self.size]
        self.run_dags(["layers"], limit)
        self.run_dags(["serve", "exchange", "open_data"], limit)
        self.settle_exchange()

    def expected_dags(self) -> set[str]:
        """DAG ids that the demo needs: one per source that a schedule fetches, and six more."""
        names = {dag_of(resource) for resource in contracts.fetched()}
        return names | {"catch_up", "layers", "serve", "exchange", "exchange_answers", "open_data"}

    def endpoints(self) -> dict[str, Any]:
        """What the start page shows: addresses and the accounts of the demo."""
        return {
            "cockpit": self.urls["cockpit"],
            "airflow": self.urls["airflow"],
            "site": self.urls["site"],
            "open": self.urls["site"] + "/open/",
            "accounts": [
                {"door": "驾驶舱（领导）", "user": "leader", "password": self.secrets["cockpit_leader"]},
                {
                    "door": "驾驶舱（徐汇区领导）",
                    "user": "leader_xuhui",
                    "password": self.secrets["cockpit_leader_xuhui"],
                },
                {
                    "door": "本队训练（中长跑队教练）",
                    "user": "coach_sq01",
                    "password": self.secrets["cockpit_coach_sq01"],
                },
                {"door": "SQL 查询（分析师）", "user": "analyst", "password": self.secrets["cockpit_analyst"]},
                {"door": "SQL 查询（科研人员）", "user": "science", "password": self.secrets["cockpit_science"]},
                *(
                    {"door": door, "user": user, "password": self.secrets[f"cockpit_{user}"]}
                    for user, door in doors.DATALESS.items()
                ),
                {"door": "Airflow", "user": "admin", "password": self.secrets["airflow_admin"]},
            ],
        }

    def build_start_page(self) -> None:
        """The start page is built by the sharing room, in a process of its own; the accounts travel in a private file."""
        path = self.home / "demo" / "endpoints.json"
        state.write_private(path, json.dumps(self.endpoints(), ensure_ascii=False))
        self.child("-m", "sharing.sites.start_page", str(path))

    def check_doors(self) -> list[doors.Door]:
        """Ask every door for data, and show the answers."""
        checks: list[tuple[str, Callable[[], doors.Door]]] = [
            ("驾驶舱（领导）", lambda: doors.cockpit(self.urls["cockpit"], self.secrets["cockpit_leader"])),
            ("驾驶舱地图", lambda: doors.district_outlines(self.urls["cockpit"])),
            (
                "驾驶舱数字核对",
                lambda: doors.figures(self.urls["cockpit"], self.secrets["cockpit_leader"], self.env),
            ),
            (
                "驾驶舱（徐汇区领导）",
                lambda: doors.district(
                    self.urls["cockpit"], "leader_xuhui", self.secrets["cockpit_leader_xuhui"], "310104"
                ),
            ),
            (
                "本队训练（中长跑队教练）",
                lambda: doors.coach(self.urls["cockpit"], "coach_sq01", self.secrets["cockpit_coach_sq01"], "SQ01"),
            ),
            ("SQL 查询（分析师）", lambda: doors.analyst(self.urls["cockpit"], self.secrets["cockpit_analyst"])),
            ("SQL 查询（科研人员）", lambda: doors.science(self.urls["cockpit"], self.secrets["cockpit_science"])),
            (
                "三员与编目员（不见数据）",
                lambda: doors.dataless(
                    self.urls["cockpit"], {user: self.secrets[f"cockpit_{user}"] for user in state.COCKPIT_ACCOUNTS}
                ),
            ),
            ("数据交换（市大数据中心）", lambda: doors.exchange(self.env)),
            ("开放数据（公众）", lambda: doors.open_data(self.urls["site"])),
        ]
        results = []
        for title, check in checks:
            step = self.display.begin(f"检查 {title}")
            door = doors.safely(title, check)
            self.display.end(step, door.note, ok=door.ok)
            results.append(door)
        return results

    def show_summary(self, memory: MemorySampler) -> None:
        """Time table and memory; of a demo that stays up, addresses and accounts."""
        console = self.display.console
        console.print(self.display.timetable())
        console.print(
            f"到起始页 {self.ready_s:.0f} 秒；全部进程内存峰值 {memory.peak / 2**30:.2f} GiB（PSS，{memory.samples} 次采样）",
            soft_wrap=True,
        )
        if self.headless:  # nothing stays up that an address or a password would open
            return
        table = Table(title="演示数据，非真实统计", title_justify="left", show_edge=False)
        for column in ("入口", "地址", "账号", "口令（仅演示）"):
            table.add_column(column, overflow="fold")
        where = {"Airflow": self.urls["airflow"]}
        table.add_row("起始页", self.urls["site"] + "/", "", "")
        for account in self.endpoints()["accounts"]:
            table.add_row(
                account["door"], where.get(account["door"], self.urls["cockpit"]), account["user"], account["password"]
            )
        console.print(table)

    def measured(self, memory: MemorySampler) -> dict[str, Any]:
        """What this run took, for ``demo/summary.json``; processor time is known only when every process has ended."""
        return {
            "size": self.size,
            "seed": self.seed,
            "ok": bool(self.results) and all(door.ok for door in self.results),
            "start_page_s": round(self.ready_s, 1),
            "seconds": round(time.monotonic() - self.display.started, 1),
            "peak_bytes": memory.peak,
            "peak_at_s": round(memory.peak_at - self.display.started, 1),
            "memory_samples": memory.samples,
            "steps": summary.steps_of(self.display.steps, self.display.started),
            "tables": json.loads(self.child("-m", "deploy.summary")),
            "folders": {name: summary.folder_bytes(self.home / name) for name in summary.FOLDERS},
        }

    def report_closed_doors(self) -> None:
        """Name every door that did not answer as it should, and every source that failed without a reason of its own."""
        problems = [f"没有正常应答：{door.title}：{door.note}" for door in self.results if not door.ok]
        problems += [f"任务失败：{name}，原因见 Airflow 任务日志" for name in self.unexpected]
        for problem in problems:
            self.display.console.print(problem, style="red", markup=False, soft_wrap=True)

    def stay(self) -> None:
        """Stay up until somebody stops us or a service ends."""
        url = self.urls["site"] + "/"
        if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
            webbrowser.open(url)
        self.display.say(f"起始页：{url}    按 Ctrl-C 结束演示")
        while True:
            self.processes.check()
            time.sleep(1.0)

    def stop(self) -> None:
        """Stop everything and make sure that nothing is left."""
        if self.stopping:
            return
        self.stopping = True
        self.display.close()
        if self.owner:
            state.forget_up(self.home)
        if self.client is not None:
            self.client.close()
        killed = self.processes.stop()
        if self.owner:
            self.running_file.unlink(missing_ok=True)
            self.display.say("演示已结束，没有留下任何进程" + (f"（{killed} 个需要强制结束）" if killed else ""))


def dag_of(resource: str) -> str:
    """The ingest DAG of a source (``dags.wiring``)."""
    return "ingest_" + resource.replace(".", "_")


def _pools() -> dict[str, str]:
    """Pools as the DAGs declare them, asked in a child: this process need not import Airflow."""
    result = subprocess.run([sys.executable, "-m", "dags.pools"], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name: item["description"] for name, item in json.loads(result.stdout).items()}


def _tokens(city: Path, world: Mapping[str, Any]) -> dict[str, str]:
    """Bearer tokens of the simulated source systems."""
    named = world.get("tokens_file") or world.get("tokens") or "tokens.json"
    if isinstance(named, dict):
        return {key: str(value) for key, value in named.items()}
    return {
        key: str(value) for key, value in json.loads((city / Path(str(named)).name).read_text(encoding="utf-8")).items()
    }


def _answers(url: str) -> bool:
    """True when a server answers there at all below 500."""
    try:
        return httpx.get(url, timeout=5.0, trust_env=False).status_code < 500
    except httpx.HTTPError:
        return False


class _Interrupted(BaseException):
    """SIGINT or SIGTERM arrived."""


def _interrupt(number: int, frame: Any) -> None:
    del number, frame
    # one is enough: a second Ctrl-C must not disturb the orderly end
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Interrupted


def _run(demo: Demo) -> bool:
    """What ``make demo`` does between claiming the folder and staying up."""
    return demo.start()


def main(
    arguments: list[str] | None = None,
    run: Callable[[Demo], bool] = _run,
    attached: Callable[[Demo], bool] | None = None,
) -> int:
    """Entry point of ``make demo``. ``attached``: what to do, and end, when a demo is up on this folder already."""
    os.umask(0o027)  # what the demo writes is for this account and its group
    parser = argparse.ArgumentParser(description="Run the Tiyu Lakehouse on a simulated city.")
    parser.add_argument("--size", default="small", choices=["tiny", "small", "city"])
    parser.add_argument("--seed", type=int, default=20260101)
    parser.add_argument(
        "--headless", action="store_true", help="check every door, then exit 0, or non-zero with the reason"
    )
    parser.add_argument("--home", type=Path, default=Path(os.environ.get("TIYU_HOME") or ROOT / "var"))
    parser.add_argument("--port-base", type=int, default=int(os.environ.get("TIYU_DEMO_PORT", "8600")))
    parser.add_argument("--parallelism", type=int, default=2, help="tasks at the same time (default 2)")
    parser.add_argument("--day", type=int, help="day a new demo begins at (0 is the first)")
    options = parser.parse_args(arguments)
    demo = Demo(
        options.home.absolute(), options.size, options.seed, options.headless, options.port_base, options.parallelism,
        day=options.day,
    )  # fmt: skip
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    memory = MemorySampler(demo.processes.mark)
    measured: dict[str, Any] = {"load_start": os.getloadavg()[0]}
    code = 0
    try:
        if attached is not None and demo.attach():
            ok = attached(demo)
            demo.display.close()
            demo.display.console.print(demo.display.timetable())
            demo.report_closed_doors()
            return 0 if ok else 1
        _lock = demo.claim()  # held until this process ends
        memory.start()
        ok = run(demo)
        demo.display.close()
        memory.sample()
        demo.show_summary(memory)
        measured |= demo.measured(memory)
        if not ok:
            code = 1
            demo.report_closed_doors()
        if not demo.headless:
            demo.stay()
    except _Interrupted:
        code = 0 if demo.owner and demo.client is not None and not demo.headless else 130
    except DemoError as error:
        demo.display.close()
        demo.display.say(f"[red]演示无法继续：[/red]{error}")
        code = error.exit_code
    except (RuntimeError, OSError, httpx.HTTPError) as error:
        demo.display.close()
        demo.display.console.print(f"演示失败：{error}", style="red", markup=False, soft_wrap=True)
        demo.display.say(f"日志：{demo.processes.log_folder}；同一命令再运行一次，会把没做完的接着做完")
        code = 1
    finally:
        if demo.owner:
            memory.stop()
        demo.stop()
        if "tables" in measured:
            measured |= {"load_end": os.getloadavg()[0], "cpu_s": summary.cpu_seconds()}
            summary.write(demo.home, measured)
    return code


if __name__ == "__main__":
    sys.exit(main())
