"""Certificates of breakers: computed from what the lake holds, stored in the ledger, checked against what is shown.

A certificate belongs to one version of the table that shows the column. A build computes those of the tables it wrote
before the version may be seen: more rows, another certificate. `catalog.breakers` says what is asked and what is good
enough; here the question is put to the data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import duckdb

from catalog import breakers
from catalog.breakers import Breaker, Certificate, Evidence
from catalog.breakers.certificate import floor_problems
from catalog.breakers.structure import Refused
from catalog.lineage import Origin
from lake import clock, ledger, query
from lake.errors import TiyuError
from modeling import literals, run, store
from modeling.session import Session
from quality import certificates


def fingerprint(sql: str, breaker: Breaker, grade: str) -> str:
    """Of everything that a certificate rests on beside the data: the SQL, then declaration and limits."""
    return f"{hashlib.sha256(sql.encode()).hexdigest()[:16]}.{breakers.terms(breaker, grade)}"


def _connection(session: Session) -> duckdb.DuckDBPyConnection:
    """The lake as the models of this invocation see it: every source and model at its visible version."""
    con = query.connect()
    specs = {name: (spec.layer, spec.columns) for name, spec in session.specs.items()}
    for name, (layer, declared) in {**session.sources, **specs}.items():
        con.execute(f"create schema if not exists {query.quote_name(layer)}")
        store.register_table(con, layer, name, session.visible(name), declared)
    return con


def examine(
    con: duckdb.DuckDBPyConnection, session: Session, origin: Origin, breaker: Breaker, sql: str, grade: str, mark: str
) -> Certificate:
    """Put the question of one breaker to the data and judge the answer."""
    problems = floor_problems(breaker, grade, mark)
    evidence, status = Evidence(0), "invalid"
    text = literals.render(
        sql, window=None, business_date=session.business_date, as_of=session.as_of, versions=session.input_versions
    )
    try:
        cursor = con.execute(breakers.evidence_sql(text, origin.column, breaker))
        row = cursor.fetchone()
        assert row is not None  # an aggregate without GROUP BY has one row
        evidence = Evidence.of(dict(zip([item[0] for item in cursor.description], row, strict=True)))
        status, found = breakers.judge(breaker, evidence, breakers.limits(grade), session.business_date)
        problems += found
    except Refused as error:
        problems.append(str(error))
    except duckdb.Error as error:  # the message may quote a value of the data: its type is enough
        problems.append(f"证据查询无法执行（{type(error).__name__}）")
    inputs = {name: session.visible(name) for name in session.specs[origin.table].inputs}
    return Certificate(
        origin.table, origin.column, breaker.kind, "invalid" if problems else status, evidence, tuple(problems),
        breaker.approver, breaker.expires, fingerprint(sql, breaker, grade), inputs,
    )  # fmt: skip


def _row(certificate: Certificate, version: int, run_id: str) -> dict[str, Any]:
    evidence = asdict(certificate.evidence)
    return {
        "table_name": certificate.table,
        "column_name": certificate.column,
        "version": version,
        "kind": certificate.kind,
        "status": certificate.status,
        "group_count": evidence.pop("groups"),
        **evidence,
        "problems": json.dumps(certificate.problems, ensure_ascii=False),
        "approver": certificate.approver,
        "expires": certificate.expires,
        "fingerprint": certificate.fingerprint,
        "inputs": json.dumps(dict(certificate.inputs)),
        "computed_at": clock.utc_now(),
        "run_id": run_id,
    }


def certify(session: Session, compiled: Mapping[str, str], tables: Iterable[str] | None = None) -> list[Certificate]:
    """Compute and store the certificates of these tables' breakers (default: all) at the version the session sees.

    A table that has nothing to see yet gets none. compiled: SQL of the models, placeholders in it.
    """
    declared, _ = breakers.load()
    wanted = set(compiled) if tables is None else set(tables)
    todo = {
        origin: breaker
        for origin, breaker in declared.items()
        if origin.table in wanted & set(session.specs) and session.visible(origin.table) is not None
    }
    if not todo:
        return []
    grades = certificates.grades()
    found = []
    con = _connection(session)
    try:
        for origin, breaker in todo.items():
            found.append(examine(con, session, origin, breaker, compiled[origin.table], *grades[origin]))
    finally:
        con.close()
    ledger.record_certificates(
        _row(certificate, int(session.visible(certificate.table) or 0), session.run_id) for certificate in found
    )
    return found


def certify_all() -> list[Certificate]:
    """Compile the project and compute the certificate of every breaker at the version that readers see."""
    session, compiled = run.compiled()
    return certify(session, compiled)


def require(found: Iterable[Certificate], layer: str) -> None:
    """Raises TIYU-DBT-0011 when a certificate is invalid: what it should make harmless must not be seen."""
    bad = [certificate for certificate in found if certificate.status == "invalid"]
    if bad:
        raise TiyuError(
            "TIYU-DBT-0011",
            "降级措施的证书无效，已检版本未移动",
            "按原因修正模型、隐匿小组、提高该列级别或重新批准后重跑",
            layer=layer,
            column=f"{bad[0].table}.{bad[0].column}",
            problems="；".join(bad[0].problems),
            others=[f"{c.table}.{c.column}" for c in bad[1:]] or None,
        )


def stored_problems(compiled: Mapping[str, str]) -> tuple[int, list[tuple[str, str]]]:
    """Are the stored certificates those of what readers see now? (how many were examined, (column, problem) of each).

    Only tables with a checked version count: nothing is shown of the others.
    """
    declared, _ = breakers.load()
    grades = certificates.grades()
    examined, problems = 0, []
    for origin, breaker in declared.items():
        version = ledger.checked_version(origin.table)
        if version is None or origin.table not in compiled:
            continue
        examined += 1
        text = certificates.problem(origin, breaker, version, grades[origin][0])
        row = certificates.of_version(origin.table, origin.column, version)
        if (
            text is None
            and row
            and row["fingerprint"] != fingerprint(compiled[origin.table], breaker, grades[origin][0])
        ):
            text = "模型已改动，证书没有重新计算"
        if text is not None:
            problems.append((str(origin), f"{text}；运行 tiyu grade certify"))
    return examined, problems
