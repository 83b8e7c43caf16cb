"""The whole path on a city with canaries, and what every surface of the policy shows of it, written to one folder each."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.policy.canary import plant
from tests.policy.canary.persons import CONTACT, PERSONS, STRAY, VISITOR, Person


def resources() -> list[str]:
    """Every source, those that others refer to first."""
    from catalog import contracts

    left = {name: contract.root for name, contract in contracts.load_all("source").items()}
    ordered: list[str] = []
    while left:
        waiting = {root.table for root in left.values()}
        ready = sorted(
            name
            for name, root in left.items()
            if not waiting & {rule.params["table"] for rule in root.rules if rule.kind == "reference"}
        )
        assert ready, f"sources refer to each other: {sorted(left)}"
        ordered += ready
        for name in ready:
            del left[name]
    return ordered


PERSON_TABLES = (
    "ods_fitness__checkin",
    "ods_venue__booking",
    "ods_venue__register",
    "ods_event__filing",
    "ods_training__athlete",
    "ods_training__activity",
    "ods_training__activity_sample",
    "ods_training__rr_interval",
    "ods_training__swim_length",
    "ods_training__device_wellness",
)


@dataclass
class Ran:
    """A finished run: state folder, the folder of what the surfaces showed, the city it came from."""

    home: Path
    out: Path
    city: Path
    planted: dict[str, list[Path]]
    verbs: dict[str, dict[str, Any]] = field(default_factory=dict)
    layers: bool = False
    """Whether every model was built; the catalogue's pages are only then."""

    def folder(self, surface: str) -> Path:
        """Where a surface's output is collected."""
        path = self.out / surface
        path.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, surface: str, name: str, content: str | bytes) -> Path:
        """Keep something a surface showed."""
        path = self.folder(surface) / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))
        return path


def environment(patch: pytest.MonkeyPatch, home: Path) -> None:
    """A private state folder at the pinned business clock."""
    for name in ("LAKE_ROOT", "TIYU_LEDGER_URL", "TIYU_DEBUG"):
        patch.delenv(name, raising=False)
    patch.setenv("TIYU_HOME", str(home))
    patch.setenv("TIYU_TODAY", "2026-11-20")
    patch.setenv("TIYU_AS_OF", "2026-11-20T12:00:00+08:00")


# ------------------------------------------------------------------ running verbs the way a task does
@contextlib.contextmanager
def task_log(path: Path) -> Iterator[None]:
    """Everything a task logs or prints goes into a file, at the level Airflow has."""
    with path.open("a", encoding="utf-8") as file:
        handler = logging.StreamHandler(file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        root = logging.getLogger()
        level = root.level
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        try:
            with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                yield
        finally:
            root.removeHandler(handler)
            root.setLevel(level)


def verb(ran: Ran, name: str, *, may_fail: bool = False, **arguments: Any) -> dict[str, Any]:
    """Run a verb as the child process of a task does; its log and its report (the XCom) are the surface `airflow_log`."""
    from dags import child
    from protection import redaction

    folder = ran.folder("airflow_log")
    number = len(ran.verbs)
    out = folder / f"{number:02d}-{name.replace(':', '.')}.json"
    started = time.process_time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(child, "die_with_parent", lambda: None)
        try:
            with task_log(folder / "task.log"):
                code = child.main([name, json.dumps(arguments, default=str), str(out)])
        finally:
            redaction.remove()
    answer = json.loads(out.read_text("utf-8"))
    ran.verbs[f"{number:02d} {name} {arguments.get('resource', '')}"] = {
        "code": code, "cpu": round(time.process_time() - started, 2), "error": answer.get("error"),
    }  # fmt: skip
    assert code == 0 or may_fail, f"{name} {arguments}: {answer}"
    return dict(answer)


def tiyu(ran: Ran, surface: str, name: str, *arguments: str) -> int:
    """One command as typed; everything it prints is kept for the surface."""
    from cli import main
    from protection import redaction

    text, code = io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tiyu", *arguments])
        patch.setattr(os, "umask", lambda mask: 0o022)
        try:
            with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
                main.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        finally:
            redaction.remove()
    ran.write(surface, f"{name}.txt", text.getvalue())
    return code


@contextlib.contextmanager
def connected(city: Path) -> Iterator[None]:
    """The city's REST systems on loopback, and where the platform finds them."""
    from simulation import api

    tokens = json.loads((city / "tokens.json").read_text("utf-8"))
    with api.start(city) as servers, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIYU_CONN_CITY_DROP", f"file://{city / 'drops'}")
        patch.setenv("TIYU_CONN_FLOW_BROKER", "mqtt://127.0.0.1:1")  # never asked: its messages are taken over already
        for name in ("venue", "fitness"):
            url = getattr(servers, f"{name}_url")
            patch.setenv(f"TIYU_CONN_{name.upper()}_API", url.replace("http://", f"http://:{tokens[name]}@"))
        yield


def run(folder: Path, *, layers: bool) -> Ran:
    """Plant, ingest, gate, build, serve, deliver, publish. `layers`: with every dbt model, else with those of check-ins only."""
    from catalog import contracts, publish
    from lake import ledger, properties, tables
    from protection import keys

    ran = Ran(Path(os.environ["TIYU_HOME"]), folder / "shown", plant.city(folder / "city"), {})
    ran.planted, ran.layers = plant.plant(ran.city), layers
    keys.ensure()
    properties.set("is_demo", "true")
    with connected(ran.city):
        for resource in resources():
            if contracts.load(resource).is_stream:
                for path in ran.planted[resource]:
                    received(resource, path)
                    _ingested(ran, resource)
            else:
                _ingested(ran, resource)
            for obj in contracts.load(resource).objects:  # what the gate says of a three-day city is not the question
                if (version := tables.version(obj.table)) is not None:
                    ledger.set_checked_version(obj.table, version, "canary")
    publish.publish_reference()
    verb(ran, "quality.gate:run_gate", may_fail=True, names=_gated())
    verb(ran, "quality.ops:publish_ops")
    if layers:
        for layer in ("dwd", "dws", "ads"):
            verb(ran, "modeling.run:build", layer=layer)
        for name in tables.all_tables():
            if name.startswith("ads_"):
                ledger.set_checked_version(name, tables.version(name), "canary")
    else:
        # without the dimensions a test of the model fails, which leaves more in the artifacts than a pass
        verb(ran, "modeling.run:build", may_fail=True, layer="dwd", select=["dwd_fitness__checkin"])
        _outputs_without_layers()
    verb(ran, "dags.verbs:publish_serving")
    verb(ran, "sharing.exchange.run:run_exchange")
    verb(ran, "sharing.open_data.build:build_open_data")
    return ran


def _ingested(ran: Ran, resource: str) -> None:
    for attempt in range(3):  # an identity number in a wrong field stops the batch, then its object is left out
        if "error" not in verb(ran, "ingestion.run:ingest", may_fail=attempt < 2, resource=resource):
            return


def received(resource: str, messages: Path) -> None:
    """Messages of a stream taken over from its broker: from here on they go the way of all sources."""
    from catalog import contracts
    from ingestion.connectors.mqtt import THROUGH
    from ingestion.spool import Spool
    from lake import ledger

    server = contracts.load(resource).server
    assert server
    spool = Spool(str(server.options["client_id"]))
    with spool.filling(int(ledger.get_watermark(resource).get(THROUGH, 0))):
        spool.append(messages.read_bytes().splitlines())


def _gated() -> list[str]:
    """Tables whose last rows the gate judges again: their checked version is put back, where there is an earlier one."""
    from lake import ledger, tables

    names = ["ods_fitness__checkin", "ods_venue__register", "ods_supervision__water_reading"]
    for name in names:
        if tables.version(name):
            ledger.set_checked_version(name, 0, "canary")
    return names


def _outputs_without_layers() -> None:
    """Tables the outputs read, written down, where the models that fill them did not run."""
    import polars as pl

    from lake import ledger, tables
    from tests.browser import sites_data

    sites_data.fill()
    for name in tables.all_tables():  # the district files are cut by a column that the pages do not read
        if name.startswith(("ads_cockpit__", "ads_supervision__")):
            frame = pl.scan_delta(tables.path(name)).collect()
            if "district_code" not in frame.columns:
                frame = frame.with_columns(pl.lit("310115").alias("district_code"))
                ledger.set_checked_version(name, tables.replace_table(name, frame), "canary")
    roster = pl.scan_delta(tables.path("ods_training__athlete")).collect()
    members = roster.select(
        "athlete_token", "squad_code", pl.col("squad_code").alias("squad_name"), "member_no", "athlete_name", "sport_code",
        "joined_date", "left_date", pl.lit(True).alias("is_current"), "roster_date",
    ).unique()  # fmt: skip
    ledger.set_checked_version("dim_squad_member", tables.replace_table("dim_squad_member", members), "canary")


# ------------------------------------------------------------------ what the surfaces show
def copy(ran: Ran, surface: str, *sources: Path) -> None:
    """Files that are the surface themselves."""
    for source in sources:
        target = ran.folder(surface) / source.name
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, target)


def _with_purpose() -> dict[str, list[str]]:
    """Audience that may see training data of persons (L4) for a purpose → names of its serving files."""
    from catalog.policy import current
    from sharing.serving import policy

    declared = current()
    return {
        name: [who.file_of(code) for code in (who.scope.codes() if who.scope else [None])]
        for name in policy.served()
        if declared.audiences[name].purpose
        for who in [policy.audience(name)]
    }


def serving_files(ran: Ran) -> None:
    """Every byte of every file that is cut for an audience without a purpose of its own."""
    apart = {file for files in _with_purpose().values() for file in files}
    files = sorted((ran.home / "serving").glob("*.duckdb"))
    copy(ran, "serving_file", *(path for path in files if path.name not in apart))


def science_files(ran: Ran) -> None:
    """The file of science staff."""
    copy(ran, "serving_file.science", *(ran.home / "serving" / file for file in _with_purpose()["science"]))


def _all_rows(ran: Ran, surface: str, audience: str, scope: str | None = None) -> None:
    from sharing import serving

    con = serving.connect(audience, scope, surface=surface.partition(".")[0])
    try:
        names = con.execute("SELECT schema_name, table_name FROM duckdb_tables() WHERE NOT internal").fetchall()
        for schema, table in names:
            rows = con.execute(f'SELECT * FROM "{schema}"."{table}"').pl()
            ran.write(surface, f"{audience}{scope or ''}.{table}.csv", rows.write_csv())
    finally:
        con.close()


def cockpit(ran: Ran) -> None:
    """What the cockpit's connections can read, leader and three districts, and the answer of every query of its charts."""
    from catalog.policy import current
    from dashboards import model
    from sharing import serving

    _all_rows(ran, "cockpit", "cockpit")
    codes = list(current().row_scopes["own_district"].codes())
    for code in codes[:3]:
        _all_rows(ran, "cockpit", "district", code)
    con = serving.connect("cockpit", surface="cockpit")
    try:
        for path in sorted((Path(model.__file__).parent / "queries").glob("*.sql")):
            try:
                rows = con.execute(path.read_text("utf-8")).pl()
            except Exception as error:  # a table of a layer that was not built: the message is shown to the reader
                ran.write("cockpit", f"query.{path.stem}.error", str(error))
            else:
                ran.write("cockpit", f"query.{path.stem}.csv", rows.write_csv())
    finally:
        con.close()


def sql_lab(ran: Ran) -> None:
    """Every table of the analyst's connection, all columns and rows."""
    _all_rows(ran, "sql_lab", "analyst")


def coach_files(ran: Ran) -> None:
    """The files of all squads."""
    copy(ran, "serving_file.coach", *(ran.home / "serving" / file for file in _with_purpose()["coach"]))


def coach_cockpit(ran: Ran) -> None:
    """What the coach's dashboard can read, of the squad that has a canary and of another."""
    for code in ("SQ01", "SQ02"):
        _all_rows(ran, "cockpit.coach", "coach", code)


def science_lab(ran: Ran) -> None:
    """The same of science staff's connection."""
    _all_rows(ran, "sql_lab.science", "science")


def cli_sql(ran: Ran) -> None:
    """`tiyu sql` and `tiyu describe`, on the screen, as JSON and as files."""
    folder = ran.folder("cli_sql")
    for table in PERSON_TABLES[:4]:
        tiyu(ran, "cli_sql", f"sql-{table}", "sql", f"SELECT * FROM {table}", "--json", "--limit", "5000")
    for ending in ("csv", "xlsx", "parquet"):
        target = folder / f"samples.{ending}"
        tiyu(ran, "cli_sql", f"sql-{ending}", "sql", "SELECT * FROM ods_training__activity_sample", "-o", str(target))
        assert target.is_file()
    tiyu(ran, "cli_sql", "describe", "describe", "ods_fitness__checkin")


def cli_diff(ran: Ran) -> None:
    """`tiyu diff` of tables whose rows just came."""
    from lake import ledger, tables

    for table in ("ods_fitness__checkin", "ods_venue__register", "ods_event__filing"):
        version = tables.version(table)
        assert version
        ledger.set_checked_version(table, 0, "canary")
        ledger.set_checked_version(table, version, "canary")
        tiyu(ran, "cli_diff", table, "diff", table, "--since", "0", "--json", "--limit", "500")


def cli_trace(ran: Ran) -> None:
    """`tiyu trace` down to the source objects, whose names carry the canaries."""
    tiyu(ran, "cli_trace", "D-02", "trace", "D-02", "--json")
    from lake import ledger
    from sharing.serving import trace

    names = [row["name"] for batch in ledger.batches() for row in ledger.objects(batch["batch_id"])]
    assert names
    ran.write("cli_trace", "objects.txt", "\n".join(trace.protected(name) for name in names))


def exchange(ran: Ran) -> None:
    """Everything below the outbox."""
    copy(ran, "exchange", ran.home / "exchange")


def open_data(ran: Ran) -> None:
    """Packages and pages of the portal."""
    copy(ran, "open_data", ran.home / "open")


def catalogue_sample(ran: Ran) -> None:
    """Sample values of every table with persons, and the pages of the catalogue where they are built."""
    from sharing import samples

    for table in PERSON_TABLES:
        ran.write("catalogue_sample", f"{table}.json", json.dumps(samples.masked_samples(table), ensure_ascii=False))
    if ran.layers:
        from sharing.sites import catalogue

        catalogue.build()
        copy(ran, "catalogue_sample", ran.home / "site")


def quality_result(ran: Ran) -> None:
    """Result tables, alerts of the gate, whatever Great Expectations left behind."""
    for path in sorted((ran.home / "lake" / "ops").glob("ops_quality__*")):
        copy(ran, "quality_result", path)
    if (ran.home / "tmp").is_dir():
        copy(ran, "quality_result", ran.home / "tmp")


def quarantine(ran: Ran) -> None:
    """What `tiyu quarantine list` prints of every refused record; the table behind it is part of the lake."""
    tiyu(ran, "quarantine", "list", "quarantine", "list", "--rows", "100000", "--json")
    tiyu(ran, "quarantine", "screen", "quarantine", "list", "--rows", "500")


def dbt_artifact(ran: Ran) -> None:
    """dbt's state: manifest, compiled code, run results, log; a failed model whose engine quotes a person's values."""
    from modeling import artifacts, project

    folder = ran.folder("dbt_artifact")
    copy(ran, "dbt_artifact", project.state_dir())
    failed = folder / "failed" / "target"
    failed.mkdir(parents=True, exist_ok=True)
    message = "Runtime Error in model dwd_x\n" + "".join(
        f"  Conversion Error: Could not convert string '{value}' to INT32\n"
        for person in PERSONS
        for value in (person.id_no, person.phone, person.name)
    )
    (failed / artifacts.RESULTS).write_text(json.dumps({"results": [{"message": message, "status": "error"}]}), "utf-8")
    artifacts.clean(folder / "failed")
    ran.write("dbt_artifact", "log-line.txt", artifacts.cleaned(message))


def airflow_log(ran: Ran) -> None:
    """Collected while the verbs ran (see `verb`); besides, a verb that is called with a person's number and fails."""
    verb(ran, "ingestion.run:ingest", may_fail=True, resource=VISITOR.phone)
    verb(ran, "sharing.serving.trace:trace", may_fail=True, kpi=STRAY.id_no)


def error_message(ran: Ran) -> None:
    """The ledger with its runs, batches and alerts; commands whose arguments name a person and are wrong."""
    from lake import ledger
    from lake.errors import TiyuError
    from protection import redaction

    kept = {"runs": ledger.runs(), "alerts": ledger.alerts(), "batches": ledger.batches()}
    ran.write("error_message", "ledger.json", json.dumps(kept, ensure_ascii=False, default=str))
    with redaction.guarding("error_message"):
        for number, person in enumerate(PERSONS):
            values = {kind: getattr(person, kind) for kind in ("id_no", "phone", "email", "bank_card", "plate_no")}
            error = TiyuError("TIYU-TST-0001", f"不是数字：{values}", f"token {token_of(person)}", values=values)
            ran.write(
                "error_message", f"raised-{number}.txt", f"{error}\n{json.dumps(error.as_dict(), ensure_ascii=False)}"
            )
    for number, arguments in enumerate(
        (
            ("trace", VISITOR.id_no),
            ("sql", f"SELECT CAST('{VISITOR.id_no} {VISITOR.phone}' AS INTEGER)"),
            ("sql", f"SELECT {STRAY.id_no[:17]}X FROM nowhere_{STRAY.phone}"),
            ("diff", f"ods_{STRAY.phone}", "--since", "0"),
            ("describe", f"t {VISITOR.phone}"),
            ("ingest", STRAY.id_no),
            ("exchange", "run", "--date", VISITOR.phone),
        )
    ):
        assert tiyu(ran, "error_message", f"command-{number}", *arguments) != 0, arguments


#: Surface of the policy → what writes down all that it shows; an audience that may see more there stands apart, after a dot.
COLLECTORS: dict[str, Callable[[Ran], None]] = {
    "serving_file": serving_files,
    "serving_file.science": science_files,
    "serving_file.coach": coach_files,
    "cockpit": cockpit,
    "cockpit.coach": coach_cockpit,
    "sql_lab": sql_lab,
    "sql_lab.science": science_lab,
    "cli_sql": cli_sql,
    "cli_diff": cli_diff,
    "cli_trace": cli_trace,
    "exchange": exchange,
    "open_data": open_data,
    "catalogue_sample": catalogue_sample,
    "quality_result": quality_result,
    "quarantine": quarantine,
    "dbt_artifact": dbt_artifact,
    "airflow_log": airflow_log,
    "error_message": error_message,
}


def collect(ran: Ran) -> None:
    """Let every surface show what it shows."""
    for collector in COLLECTORS.values():
        collector(ran)


def token_of(person: Person) -> str:
    """What stands for the person's phone in the lake."""
    from protection import tokens

    return str(tokens.token("phone", person.phone))


def tokens_of_canaries() -> dict[str, str]:
    """Token → item: what stands for a canary in the lake, and what stands for the contact in the analyst's file."""
    from protection import tokens

    found: dict[str, str] = {}
    for person in PERSONS:
        for kind in ("id_no", "phone", "athlete_no"):
            stored = tokens.token(kind, getattr(person, kind))
            assert stored
            found[stored] = f"token_{kind}"
            if person is CONTACT:
                served = tokens.token("token", stored, purpose="analyst")
                assert served
                found[served] = "contact"
    return found
