"""No canary on any surface: every byte of every surface is searched, containers and columnar files decoded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import duckdb
import polars as pl
import pytest

from catalog import policy
from dags.verbs import publish_serving
from ingestion import leaks, naming
from ingestion.decoders.activity import xml
from ingestion.run import ingest
from lake import ledger, tables
from lake.errors import TiyuError
from modeling import artifacts
from protection import envelope, freetext, masking, redaction, tokens
from sharing import samples
from sharing.serving import changes, trace
from sharing.serving import policy as serving_policy
from tests import policies
from tests.policy.canary import beyond, lake, persons, plant, records, search
from tests.policy.canary.containers import CONTAINERS, SMUGGLERS, values_of

pytestmark = pytest.mark.policy

#: What a surface may show of a canary, by the policy's own treatments. Everything else is found only by a leak.
MAY_SHOW: dict[str, frozenset[str]] = {
    "quarantine": frozenset({"masked_name", "masked_phone", "masked_id_no"}),
    "catalogue_sample": frozenset({"masked_name", "masked_phone", "masked_id_no"}),
    "error_message": frozenset({f"masked_{kind}" for kind in ("id_no", "phone", "email", "plate_no")}),
}
#: Science staff study heart rates of persons whom they know by a token of their own, without place, name and exact time.
MAY_SHOW |= dict.fromkeys(("serving_file.science", "sql_lab.science"), frozenset({"heart_rate"}))
#: A coach knows the own squad by name and when a training began; Superset keeps nothing of what it answered him.
MAY_SHOW |= dict.fromkeys(("serving_file.coach", "cockpit.coach"), frozenset({"name", "masked_name", "moment"}))
#: The lake itself is no surface: tracks and instants are kept there as they came, persons as tokens, names masked.
LAKE = frozenset({"heart_rate", "home", "moment", "token_id_no", "token_phone", "token_athlete_no", "masked_name"})


PLACES = sorted({**lake.COLLECTORS, **beyond.STORES})
"""The surfaces of the policy, and what lies behind and before them."""


def test_the_suite_knows_every_surface_of_the_policy():
    surfaces = set(policy.current().surfaces)
    # scratch tables are searched with what lies behind the surfaces, because their file is of that kind
    assert {name.partition(".")[0] for name in lake.COLLECTORS} | set(beyond.STORES) & surfaces == surfaces
    assert set(MAY_SHOW) <= set(lake.COLLECTORS) | set(beyond.STORES)
    assert not set(beyond.STORES) & set(lake.COLLECTORS)


def test_the_canaries_are_in_every_source(ran, searched):
    """By the same search that finds none on the surfaces: what it cannot see in the sources it could not see there."""
    assert set(ran.planted) == set(lake.resources())
    for resource, files in ran.planted.items():
        found = search.Findings()
        for path in files:
            found.add(searched.file(path, path.relative_to(ran.city).as_posix()))
        wanted = records.PLANTED.get(resource) or persons.PLANTED[resource]
        assert wanted
        assert set(wanted) <= set(found.found), (resource, found.found)


@pytest.mark.parametrize(
    ("table", "item"),
    [
        ("ods_training__activity_sample", "heart_rate"),
        ("ods_training__rr_interval", "heart_rate"),
        ("ods_training__device_wellness", "heart_rate"),
        ("ods_training__swim_length", "moment"),
    ],
)
def test_the_tables_of_devices_hold_what_no_surface_may_show(ran, searched, table, item):
    from lake import tables

    assert item in searched.tree(Path(tables.path(table))).found


@pytest.mark.parametrize("surface", PLACES)
def test_no_canary_on_a_surface(examined, surface, record_property):
    found = examined[surface]
    record_property("examined", str(found))
    assert found.files, "the surface showed nothing at all"
    assert found.bytes > 500
    assert not found.except_for(MAY_SHOW.get(surface, ())), surface
    print(f"{surface}: {found}")


def test_no_canary_in_the_state_folder(ran, searched):
    """Lake, archive, ledger, spill folders: no raw identifier anywhere, and beyond the lake not even a track or a token."""
    inside = searched.tree(ran.home / "lake")
    assert not inside.except_for(LAKE | MAY_SHOW["quarantine"])
    assert set(inside.found) >= LAKE - {"masked_name"}, "the lake holds tracks and tokens, so the search must see them"
    sealed = searched.tree(ran.home / "archive")
    assert sealed.files >= 15
    # objects are encrypted; the list of a batch names them as the ledger does
    assert not sealed.except_for({"token_athlete_no"})
    served = searched.tree(ran.home / "serving", skip=lambda path: path.match("coach_*.duckdb"))
    assert not served.except_for(frozenset().union(*MAY_SHOW.values()) - {"name"}), "each file alone is a surface"
    apart = {"lake", "archive", "keys", "serving"}
    rest = searched.tree(ran.home, skip=lambda path: path.relative_to(ran.home).parts[0] in apart)
    assert rest.files > 20
    # the ledger names the objects of an athlete by the athlete's token
    assert not rest.except_for({"token_athlete_no", *MAY_SHOW["error_message"]})
    print(f"lake: {inside}\narchive: {sealed}\nserving: {served}\nrest: {rest}")


def test_a_name_stands_in_the_file_of_the_own_squad_only(ran, searched):
    """The one place where a name is written, which only its owner and the owner's group may open; no mask of it stands beside."""
    files = {path.stem: searched.file(path) for path in sorted((ran.home / "serving").glob("coach_*.duckdb"))}
    assert len(files) == 6
    assert {name for name, found in files.items() if "name" in found.found} == {"coach_SQ01"}
    assert "masked_name" not in files["coach_SQ01"].found
    assert {path.stat().st_mode & 0o777 for path in (ran.home / "serving").glob("coach_*.duckdb")} == {0o640}


def test_a_name_is_found_where_the_row_scope_fails(spare, searched):
    opened = ("row_scopes.own_squad.tables.dim_squad_member", {"all": True, "reason": "test"})

    def named(*edits) -> set[str]:
        with policy.replaced(policies.changed(*edits)):
            publish_serving(["coach"], full=True)
        return {p.stem for p in (spare.home / "serving").glob("coach_*.duckdb") if "name" in searched.file(p).found}

    assert named() == {"coach_SQ01"}
    assert len(named(opened)) == 6
    assert named(("audiences.coach.kinds.name", "masked"), ("audiences.coach.originals", {})) == set()


def test_what_was_examined_is_reported(examined, capsys):
    total = search.Findings()
    places = PLACES if examined.ran.layers else sorted(lake.COLLECTORS)
    for surface in places:
        total.add(examined[surface])
    assert total.files > 60
    assert total.bytes > 1_000_000
    assert set(total.decoded) >= {"gzip", "zip", "parquet column", "duckdb column", "json field", "markup tag"}
    with capsys.disabled():
        for surface in places:
            print(f"\n{surface}: {examined[surface]}", end="")
        behind = len(places) - len(lake.COLLECTORS)
        print(f"\ncanary suite: {len(lake.COLLECTORS)} surfaces and {behind} places behind and before them, {total}")


# ------------------------------------------------------------------ the search itself
@pytest.mark.parametrize("kind", sorted(CONTAINERS))
def test_every_container_is_opened(tmp_path, kind):
    """Each item of a person, in each kind of file a surface may hold: found, and found in no file without it."""
    seek = search.Search(persons.needles())
    path = tmp_path / "file"
    CONTAINERS[kind](path, {"nothing": ["12345678901", "张三", "121.4737"]})
    assert not seek.file(path).found
    for item in persons.ITEMS:
        path.unlink(missing_ok=True)
        CONTAINERS[kind](path, {"column": values_of(persons.STRAY, item)})
        found = seek.file(path)
        assert set(found.found) == {item}, (kind, item, found.found)
        assert found.bytes > 0


@pytest.mark.parametrize("surface", PLACES)
def test_a_canary_smuggled_into_a_surface_is_found(ran, searched, surface, tmp_path):
    """Every kind of file that a surface consists of is rebuilt with one more value in it, and then it is found."""
    if surface in beyond.STORES and not ran.layers:
        pytest.skip("looked at by make test-canary")
    tried = 0
    for kind, sample in search.samples_by_kind(ran.folder(surface)).items():
        path = tmp_path / kind
        SMUGGLERS[kind](sample, path, persons.STRAY.phone)
        found = searched.file(path)
        assert "phone" in found.found, f"{surface}: {kind} {sample.name}"
        tried += 1
    assert tried


def test_what_cannot_be_opened_is_no_clean_file(tmp_path):
    for data in (
        search.ZSTD + b"abc",
        b"PK\x03\x04broken",
        b"\x1f\x8bbroken",
        b"PAR1broken",
        b"SQLite format 3\x00broken",
    ):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(search.Unreadable):
            search.Search(persons.needles()).tree(tmp_path)


# ------------------------------------------------------------------ one protection switched off
@pytest.fixture
def spare(ran, tmp_path, monkeypatch):
    """A copy of the state folder for a run that leaks."""
    home = tmp_path / "home"
    shutil.copytree(ran.home, home, symlinks=True)
    monkeypatch.setenv("TIYU_HOME", str(home))
    return lake.Ran(home, tmp_path / "shown", ran.city, ran.planted)


def identity(mask: str, patch: pytest.MonkeyPatch) -> None:
    """A mask that shows everything."""
    patch.setitem(masking.MASKS, mask, (masking.Form(r"(?s)^(.*)$", "{1}"),))


def value_for(mask: str) -> tuple[str, str]:
    """A canary's value that a mask is made for, and the item by which it is recognised."""
    who = persons.VISITOR
    return {
        "name": (who.name, "name"),
        "id_no": (who.id_no, "id_no"),
        "phone": (who.phone, "phone"),
        "email": (who.email, "email"),
        "tail4": (who.bank_card, "bank_card"),
        "tail2": (who.athlete_no, "athlete_no"),
        "plate_no": (who.plate_no, "plate_no"),
        "grid": (f"{who.home[0]:.6f}", "home"),
        "hour": (f"{who.at:%Y-%m-%d %H:%M:%S}", "moment"),
        "hide": (who.athlete_no, "athlete_no"),
        "address": (f"上海市徐汇区天平路街道{who.name}宅", "name"),
        "birth_band": ("1990-03-07", "birth_date"),
        "age_band": ("1993", "birth_year"),
    }[mask]


@pytest.mark.parametrize("mask", sorted({kind.mask for kind in policy.load().kinds.values()} | set(masking.MASKS)))
@pytest.mark.parametrize("engine", ["text", "frame", "sql"])
def test_each_mask_hides_its_canary_and_the_search_sees_when_it_does_not(mask, engine, monkeypatch, tmp_path):
    value, item = value_for(mask)
    seek = search.Search(persons.needles({value: item}))

    def shown() -> search.Findings:
        frame = pl.DataFrame({"v": [value]})
        if engine == "text":
            frame = pl.DataFrame({"v": [masking.mask_text(mask, value)]})
        elif engine == "frame":
            frame = frame.select(masking.masked(mask, pl.col("v")))
        else:
            with duckdb.connect() as con:
                frame = con.execute(f"SELECT {masking.masked_sql(mask, 'v')} AS v FROM frame").pl()
        frame.write_parquet(tmp_path / "shown.parquet")
        return seek.file(tmp_path / "shown.parquet")

    assert not {item} & set(shown().found)
    identity(mask, monkeypatch)
    assert item in shown().found


FILES = {
    # one protection of a file taken away → table, what must be found then
    "identity number: token": ({"audiences.analyst.kinds.id_no": "plain"}, "ods_fitness__checkin", "token_id_no"),
    "phone: token": ({"audiences.analyst.kinds.phone": "plain"}, "ods_fitness__checkin", "token_phone"),
    "athlete number: token": ({"audiences.analyst.kinds.athlete_no": "plain"}, "ods_training__activity", "token_athlete_no"),
    "time of a person: hour": ({"audiences.analyst.kinds.person_time": "plain"}, "ods_fitness__checkin", "moment"),
    "grade L4: absent": ({"audiences.analyst.grades.L4": "plain"}, "ods_training__activity_sample", "heart_rate"),
    "coordinate: absent": (
        {"audiences.analyst.grades.L4": "plain", "audiences.analyst.kinds.coordinate": "plain"},
        "ods_training__activity_sample",
        "home",
    ),
    "contact: column exception": ({"audiences.analyst.columns": []}, "ods_venue__register", "contact"),
    "name: absent": ({"audiences.analyst.kinds.name": "masked"}, "ods_event__filing", "masked_name"),
    "science, athlete number: token": ({"audiences.science.kinds.athlete_no": "plain"}, "ods_training__activity", "token_athlete_no"),
    "science, time of a person: hour": ({"audiences.science.kinds.person_time": "plain"}, "ods_training__activity", "moment"),
    "coach, athlete number: token": ({"audiences.coach.kinds.person_token": "plain"}, "dim_squad_member", "token_athlete_no"),
    "science, coordinate: absent": ({"audiences.science.kinds.coordinate": "plain"}, "ods_training__activity_sample", "home"),
}  # fmt: skip


@pytest.mark.parametrize("protection", sorted(FILES))
def test_a_file_leaks_without_one_protection(spare, searched, protection):
    edits, table, item = FILES[protection]
    audience = next(iter(edits)).split(".")[1]
    narrow = (f"audiences.{audience}.tables", [table])
    allowed = MAY_SHOW.get(f"serving_file.{audience}", frozenset())

    def cut(*changes) -> set[str]:
        with policy.replaced(policies.changed(narrow, *changes)):
            publish_serving([audience], full=True)
        found = search.Findings()
        for path in (spare.home / "serving").glob(f"{audience}*.duckdb"):
            found.add(searched.file(path))
        assert found.files
        return set(found.except_for(allowed))

    assert not cut()
    layers = list(edits.items())
    for number in range(len(layers) if len(layers) > 1 else 0):  # where two layers protect it, each alone suffices
        assert item not in cut(*layers[:number], *layers[number + 1 :])
    assert item in cut(*layers)


SAMPLES = {
    "phone": ("ods_fitness__checkin", "phone", "token_phone"),
    "identity number": ("ods_fitness__checkin", "id_no", "token_id_no"),
    "time of a person": ("ods_fitness__checkin", "person_time", "moment"),
}


@pytest.mark.parametrize("kind", sorted(SAMPLES))
def test_catalogue_samples_leak_without_their_masks(searched, ran, kind):
    table, name, item = SAMPLES[kind]

    def shown(*edits) -> search.Findings:
        with policy.replaced(policies.changed(*edits)):
            text = json.dumps(samples.masked_samples(table, limit=10_000), ensure_ascii=False)
        return searched.blob(text.encode(), "samples.json")

    assert item not in shown().found
    loose = (
        ("surfaces.catalogue_sample.limit", "audience"),
        ("audiences.catalogue.grades.L3", "plain"),
        (f"audiences.catalogue.kinds.{name}", "plain"),
    )
    assert item not in shown(*loose[:2]).found, "the kind alone protects"
    assert item in shown(*loose).found


ERRORS = [kind for kind, *_ in redaction.PATTERNS]


@pytest.mark.parametrize("kind", sorted(ERRORS))
def test_error_messages_leak_without_one_of_the_patterns(ran, searched, monkeypatch, kind):
    """Each kind that the redaction knows is recognised by a pattern of its own."""
    who = persons.CONTACT
    secret = "canary-password"
    values = {
        "credential": f"https://user:{secret}@host/x",
        "person_token": lake.token_of(who),
        **{name: getattr(who, name) for name in ("id_no", "bank_card", "phone", "email", "plate_no")},
    }
    seek = search.Search(persons.needles({**lake.tokens_of_canaries(), secret: "credential"}))
    item = {"person_token": "token_phone"}.get(kind, kind)

    def shown() -> search.Findings:
        with redaction.guarding("error_message"):
            error = TiyuError("TIYU-TST-0001", f"值 {values[kind]} 不对", "改", value=values[kind])
            return seek.blob(f"{error} {json.dumps(error.as_dict(), ensure_ascii=False)}".encode(), "error")

    assert item not in shown().found
    monkeypatch.setattr(redaction, "PATTERNS", tuple(entry for entry in redaction.PATTERNS if entry[0] != kind))
    assert item in shown().found


def test_task_logs_leak_without_the_redaction(spare, searched, monkeypatch):
    monkeypatch.setattr(redaction, "install", lambda *surface: None)
    lake.airflow_log(spare)
    assert {"phone", "id_no"} <= set(searched.tree(spare.folder("airflow_log")).found)


def test_commands_leak_without_the_redaction(spare, searched, monkeypatch):
    monkeypatch.setattr(redaction, "install", lambda *surface: None)
    lake.tiyu(spare, "error_message", "diff", "diff", f"ods_{persons.STRAY.phone}", "--since", "0")
    assert "phone" in searched.tree(spare.folder("error_message")).found


def test_dbt_artifacts_leak_without_being_cleaned(spare, searched, monkeypatch):
    monkeypatch.setattr(artifacts, "clean", lambda state: 0)
    monkeypatch.setattr(artifacts, "cleaned", lambda text: text)
    lake.dbt_artifact(spare)
    assert {"id_no", "phone", "name"} <= set(searched.tree(spare.folder("dbt_artifact")).found)


def test_a_trace_leaks_without_its_redaction(spare, searched, monkeypatch):
    monkeypatch.setattr(trace, "protected", lambda name: name)
    lake.cli_trace(spare)
    assert "token_athlete_no" in searched.tree(spare.folder("cli_trace")).found


def test_a_difference_leaks_when_it_shows_every_column(spare, searched, monkeypatch):
    monkeypatch.setattr(serving_policy, "decide", lambda who, column, *, person_level: "plain")
    monkeypatch.setattr(changes, "may_show", lambda column, *, person_level: True)
    lake.cli_diff(spare)
    assert {"token_phone", "masked_name"} <= set(searched.tree(spare.folder("cli_diff")).found)


# ------------------------------------------------------------------ behind and before the surfaces
@pytest.fixture
def whole(ran):
    """The run, where every model was built and every program started."""
    if not ran.layers:
        pytest.skip("looked at by make test-canary")
    return ran


def test_superset_leaks_when_the_file_does(whole, searched):
    """With a file cut without tokens the same search finds them in what SQL Lab answers."""
    assert "token_id_no" in searched.tree(whole.folder(beyond.LEAKING)).found


def test_what_supersets_caches_hold_is_seen(whole):
    """A figure of the charts lies readable in the caches: what is searched there is data, not bytes nobody can open."""
    district = search.Search(persons.Needles({"徐汇区".encode(): "district"}, ()))
    places = district.tree(whole.folder("superset")).found["district"]
    assert sum("cache/data" in place for place in places) >= 3, places


def test_airflow_leaks_without_its_protections(whole, spare, searched):
    """Digests in names of objects, and the guard of everything logged: without them the number in a file's name is there."""
    beyond.fetched(spare, "unguarded", "without-names", "without-redaction")
    assert "phone" in searched.tree(spare.folder("unguarded")).found


def test_scratch_tables_leak_without_the_look_at_uploads(whole, spare, searched, monkeypatch):
    from sharing.serving import scratch

    monkeypatch.setattr(scratch, "_refuse_personal", lambda frame, file: None)
    upload = spare.out.parent / "persons.csv"
    upload.write_text(f"venue_id,note\nV310104-001,{persons.STRAY.phone} {persons.STRAY.id_no}\n", "utf-8")
    assert lake.tiyu(spare, "scratch", "upload", "scratch", "upload", str(upload), "--account", "canary_analyst") == 0
    assert {"phone", "id_no"} <= set(searched.tree(spare.home / "scratch").found)


def test_a_page_is_searched_as_it_is_drawn(whole, searched, tmp_path):
    """What a script puts together is in the document, though not in the file."""
    from playwright.sync_api import sync_playwright

    phone = persons.STRAY.phone
    page_file = tmp_path / "index.html"
    page_file.write_text(
        f"<p>x</p><script>document.querySelector('p').textContent = '{phone[:5]}' + '{phone[5:]}'</script>"
    )
    assert not searched.file(page_file).found
    out = lake.Ran(whole.home, tmp_path / "shown", whole.city, {})
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=beyond.CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(page_file.as_uri())
        beyond.drawn(out, "made", page)
        browser.close()
    assert "phone" in searched.tree(out.folder("page")).found


# ------------------------------------------------------------------ the way in
def _no_tokens(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tokens, "tokenise", lambda kind, values, purpose="token": values)


def _no_number_search(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(masking, "has_personal_number", lambda column: pl.lit(False))


def _no_name_search(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(freetext, "without_name_sql", lambda expression, names: expression)
    patch.setattr(freetext, "without_names", lambda texts, names: texts)


def _no_seal(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(envelope, "seal", lambda source, target, cipher=None: shutil.copyfileobj(source, target))
    patch.setattr(envelope, "open_sealed", lambda source, name="": source)


def _no_cleaning(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(freetext, "cleaned", lambda texts, audience, surface: texts)


def _no_look(patch: pytest.MonkeyPatch) -> None:
    for name in ("look", "look_at"):  # row by row in DuckDB, and column by column
        patch.setattr(leaks, name, lambda *values: leaks.Found())


def _no_hiding(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(freetext, "hidden", lambda texts: texts)


#: What is switched off on the way in → source delivered again, how it is switched off, what is then found where.
DOORS: dict[str, tuple[str, Callable[[pytest.MonkeyPatch], None], str, set[str]]] = {
    "tokens": ("fitness.checkin", _no_tokens, "lake", {"id_no", "phone"}),
    "name mask": ("event.filing", lambda patch: identity("name", patch), "lake", {"name"}),
    "phone mask in the quarantine": ("fitness.checkin", lambda patch: identity("phone", patch), "lake", {"phone"}),
    "identity number mask in the quarantine": ("fitness.checkin", lambda patch: identity("id_no", patch), "lake", {"id_no"}),
    "names of objects": (
        "training.activity",
        lambda patch: patch.setattr(naming, "protect_name", lambda contract, name: name),
        "ledger.db",
        {"athlete_no", "phone"},
    ),
    "names of devices": ("training.activity", lambda patch: patch.setattr(xml, "_product", lambda text: text), "lake", {"name"}),
    "numbers in free texts": (
        "event.filing",
        _no_hiding,
        "lake",
        {"phone"},
    ),
    "names in free texts": ("event.filing", _no_name_search, "lake", {"name"}),
    "keys that name a person": (
        "fitness.checkin",
        lambda patch: patch.setattr(freetext, "no_contact_sql", lambda expression: "true"),
        "lake",
        {"phone"},
    ),
    "the seal of the archive": ("training.activity", _no_seal, "archive", {"heart_rate", "home", "name"}),
}  # fmt: skip


#: Guarded twice, each guard alone being enough: source, the two guards, what is found in the lake when both are off.
TWICE: dict[str, tuple[str, tuple[Callable[[pytest.MonkeyPatch], None], ...], set[str]]] = {
    "numbers in wrong fields of the quarantine": ("fitness.checkin", (_no_number_search, _no_cleaning), {"phone"}),
    "identity numbers in free fields": ("venue.entry", (_no_look, _no_hiding), {"id_no"}),
}


def second_delivery(spare: lake.Ran, resource: str, folder: Path) -> Callable[[], None]:
    """Prepares a further delivery; what is returned takes it in."""
    if resource != "fitness.checkin":
        plant.second(spare.city, resource, folder / "drop")
        return lambda: ingest(resource, folder / "drop") and None
    city = folder / "city"
    shutil.copytree(spare.city, city)
    plant.more_checkins(city / "api")

    def fetch() -> None:
        with lake.connected(city):
            ingest(resource)

    return fetch


@pytest.mark.parametrize("door", sorted(DOORS))
def test_the_way_in_leaks_without_one_protection(spare, searched, tmp_path, monkeypatch, door):
    resource, switch, where, items = DOORS[door]
    deliver = second_delivery(spare, resource, tmp_path)
    before = {path for path in spare.home.rglob("*") if path.is_file() and path.suffix != ".db"}
    switch(monkeypatch)
    deliver()
    if where == "ledger.db":  # its newest rows are not in the file yet
        names = [row["name"] for batch in ledger.batches() for row in ledger.objects(batch["batch_id"])]
        found = searched.file(spare.write("ledger", "names.txt", "\n".join(names)))
    else:
        found = searched.tree(spare.home / where, skip=lambda path: path in before)
    assert found.files
    assert items <= set(found.found), (door, found.found)


@pytest.mark.parametrize("off", [(0,), (1,), (0, 1)], ids=["first", "second", "both"])
@pytest.mark.parametrize("door", sorted(TWICE))
def test_what_is_guarded_twice_leaks_only_without_both_guards(spare, searched, tmp_path, monkeypatch, door, off):
    resource, guards, items = TWICE[door]
    deliver = second_delivery(spare, resource, tmp_path)
    before = {path for path in spare.home.rglob("*") if path.is_file() and path.suffix != ".db"}
    for number in off:
        guards[number](monkeypatch)
    with suppress(TiyuError):  # the first guard of the free fields stops the batch
        deliver()
    found = searched.tree(spare.home / "lake", skip=lambda path: path in before)
    if len(off) == len(guards):
        assert items <= set(found.found), (door, found.found)
    else:
        assert not items & set(found.found), (door, found.found)


@pytest.mark.parametrize("resource", sorted({source for source, *_ in (*DOORS.values(), *TWICE.values())}))
def test_the_same_deliveries_leak_nothing_while_all_is_on(spare, searched, tmp_path, resource):
    """The other side of the tests above: it is the switch that makes the leak."""
    deliver = second_delivery(spare, resource, tmp_path)
    before = {path for path in spare.home.rglob("*") if path.is_file() and path.suffix != ".db"}
    with suppress(TiyuError):  # an identity number in a free field stops the batch
        deliver()
    found = searched.tree(spare.home, skip=lambda path: path in before or "keys" in path.parts)
    assert found.files
    assert not found.except_for(LAKE | MAY_SHOW["quarantine"])


# ------------------------------------------------------------------ free texts on the way out
def poisoned(table: str, column: str, number: int) -> None:
    """A phone written into the texts of a checked table, as a lake may hold it that was filled before the door was guarded."""
    frame = pl.scan_delta(tables.path(table), version=ledger.checked_version(table)).collect()
    frame = frame.with_columns(pl.lit(f"{number} 号 {persons.STRAY.phone}").alias(column))
    ledger.set_checked_version(table, tables.replace_table(table, frame), "canary")


def _served(audience: str) -> Callable[[lake.Ran], Path]:
    def show(ran: lake.Ran) -> Path:
        publish_serving([audience])
        return ran.home / "serving"

    return show


def _delivered(ran: lake.Ran) -> Path:
    lake.verb(ran, "sharing.exchange.run:run_exchange", sequence=len(ran.verbs) + 2)  # a correction of the same day
    return ran.home / "exchange"


def _opened(ran: lake.Ran) -> Path:
    lake.verb(ran, "sharing.open_data.build:build_open_data")
    return ran.home / "open"


def _sampled(ran: lake.Ran) -> Path:
    return ran.write("samples", "register.json", json.dumps(samples.masked_samples("ods_venue__register")))


def _differing(ran: lake.Ran) -> Path:
    lake.tiyu(ran, "diff", "diff", "diff", "ods_venue__register", "--since", "0", "--json", "--limit", "500")
    return ran.folder("diff")


#: Surface → a table it reads and a free text there, what makes the surface show it and says where.
FREE_TEXTS: dict[str, tuple[str, str, Callable[[lake.Ran], Path]]] = {
    "exchange": ("ads_exchange__venue_register", "venue_name", _delivered),
    "open_data": ("ads_open__venue_directory", "venue_name", _opened),
    "cockpit": ("ads_cockpit__headline", "sentence", _served("cockpit")),
    "cockpit of a district": ("ads_cockpit__headline", "sentence", _served("district")),
    "sql_lab": ("ods_venue__register", "venue_name", _served("analyst")),
    "catalogue_sample": ("ods_venue__register", "venue_name", _sampled),
    "cli_diff": ("ods_venue__register", "venue_name", _differing),
}


@pytest.mark.parametrize("surface", sorted(FREE_TEXTS))
def test_a_number_in_a_free_text_leaks_without_the_look_on_the_way_out(spare, searched, monkeypatch, surface):
    table, column, show = FREE_TEXTS[surface]
    poisoned(table, column, 1)
    before = {path for path in spare.home.rglob("*") if path.is_file()}
    shown = searched.tree(show(spare), skip=lambda path: path in before and path.suffix != ".duckdb")
    assert shown.files
    assert "phone" not in shown.found
    monkeypatch.setattr(freetext, "cleaned", lambda texts, audience, surface: texts)
    poisoned(table, column, 2)
    assert "phone" in searched.tree(show(spare)).found
