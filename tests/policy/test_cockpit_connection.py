"""What a connection of Superset's SQL Lab must not be able to do with the serving file it has open."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import duckdb
import pytest

from catalog.policy import replaced
from dashboards import access
from sharing.serving import policy as serving_policy
from tests.policies import changed

pytestmark = pytest.mark.policy

REPO = Path(__file__).resolve().parents[2]
PYTHON = REPO / ".venv-cockpit" / "bin" / "python"


def notice(con, audience, digest=None):
    """What a serving file says about the policy it was cut under."""
    text = f"build.{access.policy_digest(audience) if digest is None else digest}"
    con.execute("CREATE OR REPLACE TABLE catalog_notice AS SELECT 1 AS position, '构建指纹' AS name, ? AS text", [text])


#: Runs in the cockpit's environment, the way Superset opens a database: mutator, engine without a pool, raw cursor.
ATTACK = """
import sys, sqlalchemy
from types import SimpleNamespace
from sqlalchemy.pool import NullPool
from dashboards import runtime
people = SimpleNamespace(find_user=lambda name: SimpleNamespace(is_active=True, roles=[SimpleNamespace(name=name)]))
uri, params = runtime.mutate_connection(sqlalchemy.engine.make_url("duckdb:///analyst"), {}, "analyst", people, None)
engine = sqlalchemy.create_engine(uri, poolclass=NullPool, **params)
held = engine.raw_connection()
for _ in range(2):  # the second connection shares the locked instance of the first
    connection = engine.raw_connection()
    cursor = connection.cursor()
    cursor.execute("SELECT sum(a) FROM numbers")
    assert cursor.fetchone() == (3,)
    for attack in sys.argv[1:]:
        try:
            cursor.execute(attack)
        except Exception:
            continue
        print("ALLOWED", attack)
print("tried", len(sys.argv) - 1)
"""


@pytest.mark.skipif(not PYTHON.exists(), reason="the cockpit's environment is not set up")
def test_sql_lab_cannot_write_or_read_beside_the_open_file(tmp_path):
    file = tmp_path / "analyst.duckdb"
    with duckdb.connect(str(file)) as con:
        con.execute("CREATE TABLE numbers AS SELECT range AS a FROM range(3)")
        notice(con, "analyst")
    attacks = [
        f"COPY (SELECT 1) TO '{file}.wal'",  # Superset does not count COPY as a mutation
        f"COPY (SELECT 1) TO '{file}'",
        f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
        f"SELECT count(*) FROM read_blob('{file}')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SET disabled_filesystems = ''",
        "SET lock_configuration = false",
        "SET memory_limit = '100GB'",
    ]
    result = subprocess.run(
        [str(PYTHON), "-c", ATTACK, *attacks],
        cwd=REPO,
        env={"TIYU_SERVING_ROOT": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split("\n")[:-1] == [f"tried {len(attacks)}"]
    assert [path.name for path in tmp_path.iterdir()] == ["analyst.duckdb"]


#: Opens each account's connection the way Superset does, and keeps a value in the cache for each account.
ROUTES = """
import json, pathlib, sys, flask, sqlalchemy
from types import SimpleNamespace as Made
from sqlalchemy.pool import NullPool
from dashboards import access, runtime
accounts = {f"u{code}": [f"district_leader_{code}"] for code in access.scopes("district")}
accounts |= {"second": ["district_leader_310104"], "boss": ["leader"], "nobody": [], "stranger": ["Public"],
             "trainer": ["coach_SQ01"], "gone": ["leader"], "both": ["district_leader_310101", "district_leader_310104"]}
def user(name):
    held = accounts.get(name)
    return None if held is None else Made(is_active=name != "gone", is_authenticated=True, roles=[Made(name=r) for r in held])
people = Made(find_user=user)
address = sqlalchemy.engine.make_url("duckdb:///cockpit")
routes = {}
for name in [*accounts, "unheard-of", None]:
    try:
        uri, params = runtime.mutate_connection(address, {}, name, people, None)
    except Exception as refused:
        routes[str(name)] = str(refused).split()[0]
        continue
    connection = sqlalchemy.create_engine(uri, poolclass=NullPool, **params).raw_connection()
    cursor = connection.cursor()
    cursor.execute("SELECT code FROM whose")
    routes[str(name)] = cursor.fetchone()[0]
cache = runtime.ServingCache(sys.argv[1], threshold=500, default_timeout=600)
app, met, shared = flask.Flask("t"), [], None
def acting(name, act):
    with app.test_request_context():
        flask.g.user = user(name)
        return act()
for name in accounts:
    own = acting(name, lambda: cache.get("chart"))
    if own is not None:
        met.append((name, own))
    acting(name, lambda: cache.set("chart", name))
kept = {name: acting(name, lambda: cache.get("chart")) for name in accounts}
stored = [path.read_bytes() for path in pathlib.Path(sys.argv[1]).iterdir()]
holds = {word: sum(word.encode() in content for content in stored) for word in ("trainer", "boss", "u310101")}
acting("boss", lambda: cache.delete("chart"))
left = [name for name in accounts if acting(name, lambda: cache.get("chart")) is not None]
print(json.dumps({"routes": routes, "met": met, "kept": kept, "left": left, "holds": holds}))
"""


@pytest.mark.skipif(not PYTHON.exists(), reason="the cockpit's environment is not set up")
def test_each_account_opens_its_own_file_and_meets_only_its_own_cache(tmp_path):
    serving = tmp_path / "serving"
    serving.mkdir()
    codes = list(access.scopes("district"))
    for file, code in {
        "cockpit": "310000",
        "coach_SQ01": "SQ01",
        **{f"district_{code}": code for code in codes},
    }.items():
        with duckdb.connect(str(serving / f"{file}.duckdb")) as con:
            con.execute("CREATE TABLE whose AS SELECT ? AS code", [code])
            notice(con, file.partition("_")[0])
    result = subprocess.run(
        [str(PYTHON), "-c", ROUTES, str(tmp_path / "cache")],
        cwd=REPO, env={"TIYU_SERVING_ROOT": str(serving), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(result.stdout)
    assert len(codes) == 16
    assert {name: code for name, code in found["routes"].items() if name.startswith("u3")} == {
        f"u{c}": c for c in codes
    }
    assert (found["routes"]["second"], found["routes"]["boss"], found["routes"]["trainer"]) == (
        "310104",
        "310000",
        "SQ01",
    )
    for refused in ("nobody", "stranger", "gone", "unheard-of", "None"):
        assert found["routes"][refused] == "TIYU-COCKPIT-0014", refused
    assert found["routes"]["both"] == "TIYU-COCKPIT-0015"
    # the second account of a district finds the first one's entry, the leader's second account the leader's; nobody else
    assert found["met"] == [["second", "u310104"], ["stranger", "nobody"], ["gone", "boss"], ["both", "stranger"]]
    assert {name: value for name, value in found["kept"].items() if name.startswith("u3") and name != "u310104"} == {
        f"u{code}": f"u{code}" for code in codes if code != "310104"
    }
    assert found["kept"]["trainer"] is None, "what shows names is not kept"
    assert found["holds"]["trainer"] == 0 < found["holds"]["u310101"]
    assert found["left"] == [], "who invalidates a figure is not who reads it"


#: Opens the leader's file again and again, as it is found each time, and looks whether a cached figure is met.
STALE = """
import sys, flask, sqlalchemy
from types import SimpleNamespace as Made
from dashboards import runtime
one = Made(is_active=True, is_authenticated=True, roles=[Made(name="leader")])
people = Made(find_user=lambda name: one)
cache = runtime.ServingCache(sys.argv[1], threshold=500, default_timeout=600)
app = flask.Flask("t")
for line in sys.stdin:
    try:
        runtime.mutate_connection(sqlalchemy.engine.make_url("duckdb:///cockpit"), {}, "boss", people, None)
        answer = "open"
    except Exception as refused:
        answer = str(refused)
    with app.test_request_context():
        flask.g.user = one
        met = cache.get("chart")
        cache.set("chart", "figure")
    print(answer.split()[0], met, flush=True)
"""


@pytest.mark.skipif(not PYTHON.exists(), reason="the cockpit's environment is not set up")
def test_a_file_cut_under_another_policy_is_not_opened(tmp_path):
    file = tmp_path / "cockpit.duckdb"

    def cut(audience=None, digest=None, *, bare=False):
        aside = tmp_path / "aside"
        with duckdb.connect(str(aside)) as con:
            con.execute("CREATE TABLE numbers AS SELECT 1 AS a")
            if not bare:
                notice(con, audience, digest)
        aside.replace(file)

    with subprocess.Popen(
        [str(PYTHON), "-c", STALE, str(tmp_path / "cache")], cwd=REPO, env={"TIYU_SERVING_ROOT": str(tmp_path), "PATH": "/usr/bin:/bin"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as cockpit:  # fmt: skip

        def ask():
            cockpit.stdin.write("now\n")
            cockpit.stdin.flush()
            return cockpit.stdout.readline().split()

        answers = {}
        cut("cockpit")
        answers["current"], answers["current again"] = ask(), ask()
        cut("cockpit", "0" * 64)
        answers["older policy"] = ask()
        cut("cockpit", "")
        answers["no policy named"] = ask()
        cut("analyst")
        answers["another audience's"] = ask()
        cut(bare=True)
        answers["says nothing"] = ask()
        file.write_bytes(b"not a database")
        answers["damaged"] = ask()
        cut("cockpit")
        answers["published again"] = ask()
        file.unlink()
        answers["not there"] = ask()
        cockpit.stdin.close()
    assert answers.pop("current") == ["open", "None"]
    assert answers.pop("current again") == ["open", "figure"]
    assert answers.pop("published again")[0] == "open"
    assert answers.pop("not there")[0] == "open", "opening it says so itself"
    assert {name: answer[0] for name, answer in answers.items()} == dict.fromkeys(answers, "TIYU-COCKPIT-0020")
    assert len(answers) == 5


def test_both_environments_read_the_same_policy():
    """What the publisher writes into a file is what Superset computes from the declaration, for every audience with a file."""
    served = serving_policy.served()
    assert len(served) >= 4
    assert {name: serving_policy.audience(name).digest() for name in served} == {
        name: access.policy_digest(name) for name in served
    }
    assert len({access.policy_digest(name) for name in served}) == len(served)


@pytest.mark.parametrize(
    ("edit", "moved"),
    [
        (("audiences.cockpit.grades.L2", "absent"), {"cockpit"}),
        (("surfaces.cockpit.limit", {"grades": {}, "marks": {}, "kinds": {}}), {"cockpit", "district", "coach"}),
        (("row_scopes.own_district.without", []), {"district"}),
        (("roles.leader.title", "领导"), set()),
    ],
)
def test_a_change_of_policy_makes_the_files_it_concerns_stale(edit, moved):
    before = {name: serving_policy.audience(name).digest() for name in serving_policy.served()}
    with replaced(changed(edit)):
        after = {name: serving_policy.audience(name).digest() for name in serving_policy.served()}
    assert {name for name in before if before[name] != after[name]} == moved
