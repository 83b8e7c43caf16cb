"""Records that all have the header's fields are cut by one reader alone: the same comes out as where each field is counted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ingestion import decoders
from ingestion.decoders import csv_rows
from tests.unit.ingestion_decoders.contracts import contract

WHAT = contract("编号", "名称", "值")
_CELL = st.sampled_from(["", "1", "2.5", "馆", " ", "a b", "x\r", '"q"', '"a,b"', '"', "1\n", "\ufeff"])
_LINE = st.one_of(
    st.lists(_CELL, min_size=3, max_size=3),
    st.lists(_CELL, min_size=3, max_size=3),
    st.lists(_CELL, min_size=0, max_size=5),
).map(",".join)


def decoded(objects: list[bytes], options: dict[str, Any]) -> tuple[list[Any], int]:
    """All that comes out of a chunk, and how often records were found to be alike."""
    alike: list[bool] = []
    real = csv_rows._parse_alike
    with pytest.MonkeyPatch.context() as patch:

        def noted(*given: Any) -> Any:
            found = real(*given)
            alike.append(found is not None)
            return found

        patch.setattr(csv_rows, "_parse_alike", noted)
        told = everything(objects, options)
        patch.setattr(csv_rows, "_parse_alike", lambda *given: None)
        counted = everything(objects, options)
    assert told == counted
    return told, sum(alike)


def everything(objects: list[bytes], options: dict[str, Any]) -> list[Any]:
    items = [(f"{number:064x}", f"f{number}", content) for number, content in enumerate(objects)]
    numbers = {"值": "DOUBLE"}
    out: list[Any] = []
    for found in decoders.decode_many({"kind": "csv", **options}, items, WHAT, numbers=numbers):
        (table,) = found.tables.values()
        out.append([tuple(map(str, row.values())) for row in table.to_pylist()])
        out.append([vars(issue) for issue in found.issues])
        out.append({sha: (error.code, str(error)) for sha, error in found.refusals.items()})
        out.append(found.root_counts)
    return out


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.lists(st.lists(_LINE, max_size=5), min_size=1, max_size=3),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "gb18030"]),
    ragged=st.sampled_from(["issue", "pad"]),
    header=st.sampled_from(["编号,名称,值", "值,编号,名称", "编号,名称,值,", "编号,名称"]),
)
@example(files=[["1,馆,2.5", "1,馆", "1,馆,2,3"]], end="\n", encoding="utf-8", ragged="issue", header="编号,名称,值")
@example(files=[["1,馆,2.5"], ["", "3,馆,x"]], end="\n", encoding="utf-8", ragged="issue", header="编号,名称,值")
@example(files=[["1,馆,2,x", "1,馆,2,"]], end="\n", encoding="utf-8", ragged="issue", header="编号,名称,值,")
def test_any_records(files, end, encoding, ragged, header):
    objects = [end.join([header, *lines, ""]).encode(encoding) for lines in files]
    decoded(objects, {"encoding": encoding, "ragged": ragged})


def test_plain_records_are_alike_and_others_are_not():
    plain = "编号,名称,值\n" + "1,馆,2.5\n" * 50
    assert decoded([plain.encode()], {})[1] == 1
    assert decoded([plain.encode(), plain.encode()], {})[1] == 1
    assert decoded([plain.encode("gb18030")], {"encoding": "gb18030"})[1] == 1
    (rows, *_), _ = decoded([plain.encode()], {})
    assert len(rows) == 50
    for odd in ("1,馆\n", "1,馆,2,3\n", '1,"馆",2\n', "1,馆,2\r3\n"):
        assert decoded([(plain + odd).encode()], {})[1] == 0, odd
    assert decoded([plain.encode() + b"1,\xff,2\n"], {})[1] == 0
    assert decoded([plain.encode(), plain.replace("编号,名称", "名称,编号").encode()], {})[1] == 0
