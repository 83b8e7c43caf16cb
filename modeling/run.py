"""Build one layer: plan, run dbt once, and let the layer be seen when every test of it passed."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from lake import clock, ledger, steps, storage, tables
from lake.errors import EXIT_INTERNAL, EXIT_USAGE, TiyuError
from modeling import artifacts, project, session

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

Layer = Literal["dwd", "dws", "ads"]
LAYERS: tuple[Layer, ...] = ("dwd", "dws", "ads")


@dataclass(frozen=True)
class ModelResult:
    """What happened to one model: action full | windows | none, the ranges computed, rows written, version now."""

    model: str
    action: str
    reason: str
    ranges: list[str]
    rows: int
    version: int | None
    seconds: float


@dataclass
class BuildReport:
    """Outcome of one layer build. ``checked`` lists the tables whose checked version moved."""

    run_id: str
    layer: str
    models: list[ModelResult] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    tests_examined: int = 0
    tests_passed: int = 0
    tests_warned: int = 0
    checked: dict[str, int] = field(default_factory=dict)
    certificates: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


def _release() -> None:
    """Drop the in-memory DuckDB of the last invocation: the next one must register the lake afresh."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    environment = DuckDBConnectionManager._ENV
    DuckDBConnectionManager.close_all_connections()
    if environment is not None:
        environment.close()


def _check_rules(manifest: Manifest) -> None:
    """Every threshold a model asks for must be a row of the rules table; a missing one would silently be null."""
    version = ledger.checked_version("ods_reference__rule")
    if version is None:
        raise TiyuError(
            "TIYU-DBT-0008",
            "参考数据尚未发布",
            "先发布参考数据：tiyu catalog publish（汇聚任务会自动发布）",
            table="ods_reference__rule",
        )
    from lake import query

    con = query.connect()
    try:
        known = {
            row[0]
            for row in con.execute(f"select rule_id from {query.scan_sql('ods_reference__rule', version)}").fetchall()
        }
    finally:
        con.close()
    missing = {rule: models for rule, models in project.rules_used(manifest).items() if rule not in known}
    if missing:
        raise TiyuError(
            "TIYU-DBT-0004",
            "模型用到的规则在规则表中不存在",
            "在 catalog/rules 中补充该规则后重新发布参考数据",
            rules=sorted(missing),
            models=sorted(set().union(*missing.values())),
        )


def _dirty(run: session.Session, candidates: Iterable[str]) -> list[str]:
    """Models with something to do, in build order: planned, downstream of a planned one, or not yet checked."""
    for name in candidates:
        spec = run.specs[name]
        if any(parent in run.selected for parent in spec.inputs):
            run.selected.add(name)
            continue
        if run.plan(name).action != "none" or tables.version(name) != run.checked(name):
            run.selected.add(name)
    return [name for name in candidates if name in run.selected]


def _new_session(manifest: Manifest, full_refresh: bool) -> session.Session:
    return session.Session(
        run_id=f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}",
        business_date=clock.today(),
        as_of=clock.as_of(),
        specs=project.specs(manifest),
        sources=project.sources(manifest),
        full_refresh=full_refresh,
    )


def _invoke(run: session.Session, manifest: Manifest, arguments: list[str]) -> Any:
    from dbt.cli.main import dbtRunner

    _release()
    try:
        with session.active(run), project.quiet_dbt():
            return dbtRunner(manifest=manifest, callbacks=[artifacts.guard_logs]).invoke(
                project.dbt_arguments(*arguments)
            )
    finally:
        _release()
        artifacts.clean(project.state_dir())


def _first_line(text: str | None) -> str:
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return " ".join(lines[:3])[:400]


def _raise_disk(outcome: Any) -> None:
    """Raise the disk's own coded error when that is why dbt failed: no model is wrong then."""
    results = list(outcome.result.results) if outcome.result is not None else []
    for text in (*(r.message for r in results if str(r.status) == "error"), str(outcome.exception or "")):
        if found := storage.from_text(text):
            raise found


def _raise_failures(outcome: Any, layer: str) -> None:
    """Turn dbt's results into one coded error; the first failure is named, the others are listed."""
    _raise_disk(outcome)
    results = list(outcome.result.results) if outcome.result is not None else []
    log = str(project.state_dir() / "logs" / "dbt.log")
    broken = [r for r in results if r.node.resource_type == "model" and str(r.status) == "error"]
    if broken:
        first = broken[0]
        raise TiyuError(
            "TIYU-DBT-0001",
            "模型构建失败，已检版本未移动",
            "按日志修正模型或数据后重跑，已完成的模型不会重算",
            EXIT_INTERNAL,
            layer=layer,
            model=first.node.name,
            error=_first_line(first.message),
            others=[r.node.name for r in broken[1:]] or None,
            log=log,
        )
    failed = [r for r in results if r.node.resource_type == "test" and str(r.status) in ("fail", "error")]
    if failed:
        first = failed[0]
        crashed = str(first.status) == "error"
        raise TiyuError(
            "TIYU-DBT-0009" if crashed else "TIYU-DBT-0002",
            "模型检验无法执行，已检版本未移动" if crashed else "模型检验未通过，已检版本未移动",
            "下游仍看到上一个已检版本；查清出错的行，修正来源或模型后重跑",
            layer=layer,
            model=_model_of(first.node),
            test=first.node.name,
            failing_rows=None if crashed else first.failures,
            error=_first_line(first.message) if crashed else None,
            others=[r.node.name for r in failed[1:]] or None,
        )
    if not outcome.success:
        raise TiyuError(
            "TIYU-DBT-0001", "模型构建失败，已检版本未移动", "查看 dbt 日志", EXIT_INTERNAL, layer=layer,
            error=_first_line(str(outcome.exception)), log=log,
        )  # fmt: skip


def _model_of(node: Any) -> str | None:
    attached = getattr(node, "attached_node", None)
    parents = [attached] if attached else [p for p in node.depends_on.nodes if p.startswith("model.")]
    return ", ".join(parent.split(".")[-1] for parent in parents) or None


@storage.coded()
@steps.step(None)
def build(layer: Layer, full_refresh: bool = False, select: Iterable[str] | None = None) -> BuildReport:
    """Build the models of a layer that have something to do, test them, and on success let them be seen.

    layer: ``dwd`` (with the dimensions), ``dws`` or ``ads``. full_refresh: compute everything again. select: only these
    models. The checked versions of DIM, DWD and DWS tables move together after every test passed; ADS tables wait for
    their quality gate.

    Raises TiyuError TIYU-DBT-0001 (a model failed), -0002 (a test failed: model, test, failing rows), -0003 (project
    does not parse), -0004/-0008 (a rule or the reference data is missing), -0009 (a test crashed), -0010 (unknown layer
    or model), -0011 (a breaker's certificate is invalid).
    """
    started = time.monotonic()
    if layer not in project.LAYER_TAGS:
        raise TiyuError("TIYU-DBT-0010", "没有这个分层", "分层只能是 dwd、dws、ads", EXIT_USAGE, layer=layer)
    manifest = project.parse()
    _check_rules(manifest)
    run = _new_session(manifest, full_refresh)
    report = BuildReport(run_id=run.run_id, layer=layer)
    candidates = [name for name, spec in run.specs.items() if spec.layer in project.LAYER_TAGS[layer]]
    if select is not None:
        unknown = sorted(set(select) - set(candidates))
        if unknown:
            raise TiyuError(
                "TIYU-DBT-0010", "该分层没有这些模型", "用 tiyu build --help 查看分层", EXIT_USAGE, models=unknown
            )
        candidates = [name for name in candidates if name in set(select)]
    todo = _dirty(run, candidates)
    report.skipped = [name for name in candidates if name not in run.selected]
    if todo:
        outcome = _invoke(run, manifest, ["build", "--exclude-resource-type", "unit_test", "--select", *todo])
        _raise_failures(outcome, layer)
        tests = [r for r in outcome.result.results if r.node.resource_type == "test"]
        report.tests_examined = len(tests)
        report.tests_passed = sum(str(r.status) == "pass" for r in tests)
        report.tests_warned = sum(str(r.status) == "warn" for r in tests)
        times = {r.node.name: r.execution_time for r in outcome.result.results}
        for name in todo:
            plan = run.plans[name]
            report.models.append(
                ModelResult(
                    model=name,
                    action=plan.action,
                    reason=plan.reason,
                    ranges=[f"{r.start}..{r.end}" for r in plan.ranges],
                    rows=run.rows.get(name, 0),
                    version=tables.version(name),
                    seconds=round(times.get(name, 0.0), 3),
                )
            )
        from modeling import certify, lineage

        compiled_now = {
            r.node.name: r.node.compiled_code for r in outcome.result.results if r.node.resource_type == "model"
        }
        lineage.remember(run, compiled_now, manifest)
        found = certify.certify(run, compiled_now, todo)
        report.certificates = {f"{c.table}.{c.column}": c.status for c in found}
        certify.require(found, layer)
        if layer != "ads":
            for name in todo:
                version = tables.version(name)
                if version is not None and version != run.checked(name):
                    ledger.set_checked_version(name, version, run.run_id)
                    report.checked[name] = version
    report.seconds = round(time.monotonic() - started, 2)
    return report


def compiled() -> tuple[session.Session, dict[str, str]]:
    """The compiled SQL of every model (placeholders in place of windows and clock), without building anything.

    Raises TIYU-DBT-0003 when a model does not compile.
    """
    manifest = project.parse()
    run = _new_session(manifest, False)
    outcome = _invoke(run, manifest, ["compile", "--indirect-selection", "empty", "--select", *run.specs])
    if not outcome.success:
        _raise_disk(outcome)
        raise TiyuError(
            "TIYU-DBT-0003", "模型无法编译", "查看 dbt 日志", EXIT_INTERNAL, error=_first_line(str(outcome.exception)),
            log=str(project.state_dir() / "logs" / "dbt.log"),
        )  # fmt: skip
    return run, {
        result.node.name: result.node.compiled_code
        for result in outcome.result.results
        if result.node.resource_type == "model"
    }


def unit_tests(select: str | None = None) -> BuildReport:
    """Run the dbt unit tests (formulas on written-down rows; the lake's content does not matter).

    Raises TIYU-DBT-0002 naming the first test that failed.
    """
    started = time.monotonic()
    manifest = project.parse()
    run = _new_session(manifest, False)
    report = BuildReport(run_id=run.run_id, layer="unit")
    outcome = _invoke(
        run, manifest, ["test", "--select", *([f"test_type:unit,{select}"] if select else ["test_type:unit"])]
    )
    results = list(outcome.result.results) if outcome.result is not None else []
    failed = [r for r in results if str(r.status) != "pass"]
    if failed or not outcome.success:
        first = failed[0] if failed else None
        raise TiyuError(
            "TIYU-DBT-0002", "模型单元测试未通过", "比较期望行与实际行", test=first.node.name if first else None,
            error=(first.message if first else str(outcome.exception)), others=[r.node.name for r in failed[1:]] or None,
        )  # fmt: skip
    report.tests_examined = report.tests_passed = len(results)
    report.seconds = round(time.monotonic() - started, 2)
    return report
