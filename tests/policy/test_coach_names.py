"""Names of the own squad: read again from the archive when the coach's file is cut, for nobody else, and never from a wrong place."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import polars as pl
import pytest
from typer.testing import CliRunner

from catalog import check, policy, publish
from catalog.policy import replaced
from cli import main
from ingestion import archive
from ingestion.originals import originals
from ingestion.run import ingest
from lake import ledger, tables
from lake.errors import TiyuError
from protection import keys, tokens
from sharing import serving
from sharing.serving.publish import publish_serving
from tests.policies import changed

pytestmark = pytest.mark.policy

HEADER = "名册日期,运动员编号,姓名,运动队,队内编号,主项,入队日期,离队日期"
#: (roster date, number, name, squad, number in the squad): nobody who exists.
WEEK = (
    ("SHA900901", "阙雀丝", "SQ01", 1),
    ("SHA900902", "阚黄鸟", "SQ01", 2),
    ("SHA900903", "雒联系", "SQ02", 1),
    ("SHA900904", "阚黄鸟", "SQ02", 2),  # two persons may have one name
)
NAMES = {number: name for number, name, *_ in WEEK}
TABLE = "ods_training__athlete"


def roster(folder: Path, day: str, people: tuple = WEEK) -> None:
    """A roster file, and its rows as the newest state of the model that the files are cut from."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{day},{number},{name},{squad},{no},跑步,2026-01-01," for number, name, squad, no in people]
    path = folder / f"运动员名册_{day.replace('-', '')}.csv"
    path.write_text("\n".join([HEADER, *rows]) + "\n", "utf-8")
    report = ingest("training.athlete", folder)
    assert report.accepted == len(people), report
    ledger.set_checked_version(TABLE, tables.version(TABLE), "test")
    stored = pl.scan_delta(tables.path(TABLE)).filter(pl.col("roster_date") == pl.lit(day).str.to_date()).collect()
    assert set(stored["athlete_name"]) <= {"阙**", "阚**", "雒**", "欧**"}
    members = stored.select(
        "athlete_token", "squad_code", pl.col("squad_code").alias("squad_name"), "member_no", "athlete_name", "sport_code",
        "joined_date", "left_date", pl.lit(True).alias("is_current"), "roster_date",
    )  # fmt: skip
    ledger.set_checked_version("dim_squad_member", tables.replace_table("dim_squad_member", members), "test")


@pytest.fixture(scope="module")
def first_week(tmp_path_factory):
    """A state folder that has taken one roster in; each test works on a copy."""
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        environment(patch, folder)
        keys.ensure()
        publish.publish_reference()
        roster(folder / "in", "2026-11-16")
    return folder


def environment(patch: pytest.MonkeyPatch, folder: Path) -> None:
    for name in ("LAKE_ROOT", "TIYU_LEDGER_URL"):
        patch.delenv(name, raising=False)
    patch.setenv("TIYU_HOME", str(folder / "home"))
    patch.setenv("TIYU_TODAY", "2026-11-20")
    patch.setenv("TIYU_AS_OF", "2026-11-20T12:00:00+08:00")


@pytest.fixture
def home(first_week, tmp_path, monkeypatch):
    for name in ("home", "in"):
        shutil.copytree(first_week / name, tmp_path / name)
    environment(monkeypatch, tmp_path)
    return tmp_path


def shown(code: str) -> dict[int, str]:
    """Number in the squad → name, as the coach's dashboard may read it."""
    con = serving.connect("coach", code, surface="cockpit")
    try:
        return dict(con.execute("SELECT member_no, athlete_name FROM dim_squad_member").fetchall())
    finally:
        con.close()


def cut(**options):
    return publish_serving(["coach"], recall=originals, **options).files


def test_a_coach_sees_the_own_squad_by_name(home):
    files = cut()
    assert {(file.recalled, file.unrecalled) for file in files} == {(4, 0)}
    assert shown("SQ01") == {1: "阙雀丝", 2: "阚黄鸟"}
    assert shown("SQ02") == {1: "雒联系", 2: "阚黄鸟"}
    with duckdb.connect(str(serving.file_of("coach", "SQ01")), read_only=True) as con:
        ((comment,),) = con.execute(
            "SELECT comment FROM duckdb_columns() WHERE column_name = 'athlete_name'"
        ).fetchall()
        treated = con.execute("SELECT treatment FROM catalog_columns WHERE column_name = 'athlete_name'").fetchall()
    assert "从归档读回" in comment
    assert "从归档读回" in treated[0][0]


def test_a_name_is_in_no_other_file_of_the_state_folder(home):
    """Every byte: the archive is encrypted, the lake masked, the files of other squads and audiences without it."""
    cut()
    publish_serving(["analyst", "science", "cockpit", "district"])
    words = [name.encode() for name in NAMES.values()]
    holding, examined = set(), 0
    for path in (home / "home").rglob("*"):
        if path.is_file():
            examined += 1
            content = path.read_bytes()
            holding |= {path.name for word in words if word in content}
    assert examined > 40
    assert holding == {"coach_SQ01.duckdb", "coach_SQ02.duckdb"}
    for code in ("SQ01", "SQ02"):
        path = serving.file_of("coach", code)
        assert path.stat().st_mode & 0o777 == 0o640
        foreign = {number for number, _, squad, _ in WEEK if squad != code} & {"SHA900901", "SHA900903"}
        assert not [number for number in foreign if NAMES[number].encode() in path.read_bytes()]


def test_a_member_who_left_leaves_no_byte(home):
    cut()
    roster(home / "in", "2026-11-19", (*WEEK[1:3], ("SHA900905", "欧阳新", "SQ01", 9)))
    files = {file.scope: file for file in cut()}
    assert files["SQ01"].rebuilt
    assert shown("SQ01") == {2: "阚黄鸟", 9: "欧阳新"}
    assert "阙雀丝".encode() not in serving.file_of("coach", "SQ01").read_bytes()


def test_the_newest_name_counts(home):
    """Also where a mask cannot tell the old name from the new."""
    roster(home / "in", "2026-11-19", (("SHA900901", "阙新名", "SQ01", 1),))
    cut()
    assert shown("SQ01") == {1: "阙新名"}


def test_a_lost_object_shows_the_mask_and_is_tried_again(home):
    sha = ledger.objects_of("training.athlete")[0]["sha256"]
    (kept,) = [path for path in (home / "home" / "archive").rglob(f"*{sha}*") if path.is_file()]
    aside = home / "aside"
    shutil.move(kept, aside)
    with pytest.raises(TiyuError) as lost:
        archive.read_object("training.athlete", sha)
    assert lost.value.code in archive.DAMAGED
    assert {(file.recalled, file.unrecalled) for file in cut()} == {(0, 4)}
    assert shown("SQ01") == {1: "阙**", 2: "阚**"}
    shutil.move(aside, kept)
    assert {(file.recalled, file.unrecalled, file.changed) for file in cut() if file.scope in ("SQ01", "SQ02")} == {
        (4, 0, True)
    }
    assert shown("SQ01") == {1: "阙雀丝", 2: "阚黄鸟"}
    assert not any(file.changed for file in cut())


@pytest.mark.parametrize("how", ["other person", "other family name"])
def test_a_record_that_reads_otherwise_names_nobody(home, how, monkeypatch):
    """The reader counts differently than it did: rows are told by person and mask, not by their number alone."""
    from ingestion import decoders

    real = decoders.decode_many

    def shifted(*given, **more):
        for chunk in real(*given, **more):
            frame = pl.DataFrame(chunk.tables[TABLE])
            if how == "other person":
                frame = frame.with_columns(pl.col("姓名", "运动员编号").shift(1, fill_value="SHA900999"))
            else:
                frame = frame.with_columns(pl.format("路{}", pl.col("姓名").str.slice(1)).alias("姓名"))
            chunk.tables[TABLE] = frame.to_arrow()
            yield chunk

    monkeypatch.setattr(decoders, "decode_many", shifted)
    assert {(file.recalled, file.unrecalled) for file in cut()} == {(0, 4)}
    assert shown("SQ01") == {1: "阙**", 2: "阚**"}


def test_a_correction_of_the_contract_holds_for_the_name_too(home, monkeypatch):
    """What is read again is what was judged, and not what was written."""
    from catalog import contracts
    from catalog.contracts.behaviour import Correction
    from ingestion import sources

    contract = contracts.load("training.athlete")
    mended = Correction.model_validate({
        "id": "misspelt", "column": "athlete_name", "where": "member_no = 1 and squad_code = 'SQ01'", "from": "阙雀丝",
        "to": "阙雀斯", "reason": "misspelt by the team", "approvedBy": "训练处", "expires": "2027-01-01",
    })  # fmt: skip
    root = contract.root.model_copy(update={"corrections": (mended,)})
    others = [obj for obj in contract.objects if not obj.is_root]
    corrected = contract.model_copy(update={"objects": [root, *others]})
    monkeypatch.setattr(sources, "contract_of", lambda resource: corrected)
    found = originals("training.athlete", "athlete_name", "athlete_token", [tokens.token("athlete_no", "SHA900901")])
    assert found["value"].to_list() == ["阙雀斯"]


def test_nobody_is_asked_for_who_is_not_in_the_rows(home):
    asked = []

    def counting(source, column, by, persons):
        asked.append((source, column, by, sorted(persons)))
        return originals(source, column, by, persons)

    publish_serving(["coach"], recall=counting)
    assert asked == [
        ("training.athlete", "athlete_name", "athlete_token", sorted(tokens.token("athlete_no", n) for n in NAMES))
    ]
    assert originals("training.athlete", "athlete_name", "athlete_token", []).is_empty()
    unknown = [tokens.token("athlete_no", "SHA900999")]
    assert originals("training.athlete", "athlete_name", "athlete_token", unknown).is_empty()


def test_the_policy_switches_the_names_off(home):
    cut()
    with replaced(changed(("audiences.coach.kinds.name", "masked"), ("audiences.coach.originals", {}))):
        publish_serving(["coach"])
        assert shown("SQ01") == {1: "阙**", 2: "阚**"}
    with replaced(
        changed(("audiences.coach.columns", [{"column": "athlete_name", "treatment": "masked", "reason": "test"}]))
    ):
        publish_serving(["coach"])
        assert shown("SQ01") == {1: "阙**", 2: "阚**"}


def test_without_a_reader_the_file_is_refused_and_the_old_one_stays(home):
    cut()
    with pytest.raises(TiyuError) as caught:
        publish_serving(["coach"], full=True)
    assert caught.value.code == "TIYU-SRV-0008"
    assert shown("SQ01")[1] == "阙雀丝"


@pytest.mark.parametrize(
    ("source", "column", "by", "code"),
    [
        ("training.athlete", "squad_code", "athlete_token", "TIYU-ING-0050"),
        ("training.athlete", "athlete_name", "squad_code", "TIYU-ING-0050"),
        ("training.athlete", "nothing", "athlete_token", "TIYU-ING-0050"),
        ("training.nobody", "athlete_name", "athlete_token", "TIYU-ING-0001"),
    ],
)
def test_only_a_masked_column_of_a_person_can_be_asked_for(home, source, column, by, code):
    with pytest.raises(TiyuError) as caught:
        originals(source, column, by, ["x"])
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (("audiences.coach.originals", {}), "从哪里读回"),
        (("audiences.analyst.kinds.name", "plain"), "从哪里读回"),
        (("audiences.coach.kinds.name", "masked"), "须是湖中遮蔽"),
        (("audiences.coach.named", False), "须写 named"),
        (("audiences.coach.rows", "all"), "须写 named"),
        (("kinds.name.stored", "value"), "须是湖中遮蔽"),
    ],
)
def test_the_policy_refuses_a_name_from_nowhere(edit, words):
    with pytest.raises(ValueError, match=words):
        changed(edit)


def test_a_table_that_does_not_say_whose_name_it_is_is_refused(home):
    bare = pl.scan_delta(tables.path("dim_squad_member")).drop("athlete_token").collect()
    ledger.set_checked_version("dim_squad_member", tables.replace_table("dim_squad_member", bare), "test")
    with pytest.raises(TiyuError) as caught:
        cut()
    assert caught.value.code == "TIYU-SRV-0005"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("source", "training.nobody", "athlete_name"),
        ("column", "squad_code", "squad_code"),
        ("column", "nothing", "nothing"),
        ("by", "squad_code", "squad_code"),
        ("by", "nothing", "nothing"),
    ],
)
def test_the_catalogue_check_follows_the_policy_to_the_contract(field, value, words):
    assert check.run(only=["policy"]).examined["policy_originals"] == 1
    with replaced(changed((f"audiences.coach.originals.name.{field}", value))):
        problems = check.run(only=["policy"]).problems
    assert {problem.code for problem in problems} == {"policy_original"}
    assert any(words in problem.message_zh for problem in problems)


def test_the_command_says_how_many_names_could_not_be_read(home):
    (sealed,) = (home / "home" / "archive").rglob(f"{ledger.objects_of('training.athlete')[0]['sha256']}*")
    sealed.unlink()
    answer = CliRunner().invoke(main.build_app(), ["serve"])
    assert answer.exit_code == 0, answer.output
    assert "4 个姓名未能从归档读回" in answer.output


def test_every_audience_but_the_coach_is_asked_without_names():
    declared = policy.current()
    assert [name for name, who in declared.audiences.items() if who.originals] == ["coach"]
