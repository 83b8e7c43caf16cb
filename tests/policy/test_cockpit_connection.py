"""What a connection of Superset's SQL Lab must not be able to do with the serving file it has open."""

from __future__ import annotations

import subprocess
from pathlib import Path

import duckdb
import pytest

pytestmark = pytest.mark.policy

REPO = Path(__file__).resolve().parents[2]
PYTHON = REPO / ".venv-cockpit" / "bin" / "python"

#: Runs in the cockpit's environment, the way Superset opens a database: mutator, engine without a pool, raw cursor.
ATTACK = """
import sys, sqlalchemy
from sqlalchemy.pool import NullPool
from dashboards import runtime
uri, params = runtime.mutate_connection(sqlalchemy.engine.make_url("duckdb:///analyst"), {}, "analyst", None, None)
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
