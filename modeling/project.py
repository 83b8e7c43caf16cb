"""The dbt project as the planner and the store see it: where it is, what it declares, what each model reads."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lake import storage
from lake.errors import EXIT_CHECK_FAILED, EXIT_INTERNAL, TiyuError
from lake.settings import settings
from modeling.planner import ModelSpec

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

PROJECT = "tiyu"
LAYER_TAGS = {"dwd": ("dim", "dwd"), "dws": ("dws",), "ads": ("ads",)}
_RULE_USE = re.compile(r"rule_(?:value|text)\(\s*['\"]([^'\"]+)['\"]")


def project_dir() -> Path:
    """Folder of the dbt project."""
    return settings().repo_root / "dbt_project"


def state_dir() -> Path:
    """Where dbt keeps its parse cache, compiled SQL and log: under TIYU_HOME, never in the source tree."""
    return settings().home / "dbt"


@contextmanager
def quiet_dbt() -> Iterator[None]:
    """No telemetry, and no variable of the operator's shell that would change a build."""
    wanted = {"DO_NOT_TRACK": "1", "DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "DBT_USE_COLORS": "false"}
    before = {key: os.environ.get(key) for key in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def dbt_arguments(*command: str) -> list[str]:
    """A dbt command line with the project's fixed flags (offline, quiet, state under TIYU_HOME)."""
    state = state_dir()
    return [
        "--no-version-check",
        "--quiet",
        "--log-level",
        "none",
        "--log-level-file",
        "info",
        "--log-path",
        str(state / "logs"),
        *command,
        "--project-dir",
        str(project_dir()),
        "--profiles-dir",
        str(project_dir()),
        "--target-path",
        str(state / "target"),
    ]


def parse() -> Manifest:
    """Parse the project (cached by dbt) and return its manifest.

    Raises TIYU-DBT-0003 when the project does not parse, a TIYU-DISK code when what dbt writes beside it cannot be written.
    """
    from dbt.cli.main import dbtRunner
    from dbt.contracts.graph.manifest import Manifest

    state_dir().mkdir(parents=True, exist_ok=True)
    with quiet_dbt():
        result = dbtRunner().invoke(dbt_arguments("parse"))
    if not result.success or not isinstance(result.result, Manifest):
        if result.exception and (fault := storage.fault(result.exception)):
            raise fault  # a full disk is no fault of the project
        raise TiyuError(
            "TIYU-DBT-0003",
            "dbt 项目无法解析",
            "查看 dbt 日志，修正模型或 YAML 后重试",
            EXIT_INTERNAL,
            log=str(state_dir() / "logs" / "dbt.log"),
            error=str(result.exception).splitlines()[0] if result.exception else None,
        )
    return result.result


def _macros_of(manifest: Manifest, unique_ids: list[str], seen: set[str]) -> None:
    for unique_id in unique_ids:
        macro = manifest.macros.get(unique_id)
        if macro is None or macro.package_name != PROJECT or unique_id in seen:
            continue
        seen.add(unique_id)
        _macros_of(manifest, list(macro.depends_on.macros), seen)


def _definition(manifest: Manifest, node: Any, meta: dict[str, Any]) -> str:
    """Fingerprint of everything that decides a model's rows: SQL, the project's macros it uses, columns, reach.

    Descriptions and grades are left out: a better wording must not rebuild a table.
    """
    macros: set[str] = set()
    _macros_of(manifest, list(node.depends_on.macros), macros)
    parts = {
        "sql": node.raw_code,
        "macros": {name: manifest.macros[name].macro_sql for name in sorted(macros)},
        "columns": [(column.name, column.data_type) for column in node.columns.values()],
        "build": meta,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:32]


def specs(manifest: Manifest) -> dict[str, ModelSpec]:
    """Every model by name, inputs before the models that read them.

    Raises TIYU-DBT-0012 when a model has no columns declared: what is not declared could be neither stored nor graded.
    """
    nodes: dict[str, Any] = {node.unique_id: node for node in manifest.nodes.values() if node.resource_type == "model"}
    found: dict[str, ModelSpec] = {}

    def visit(unique_id: str) -> None:
        node = nodes[unique_id]
        if node.name in found:
            return
        if not node.columns:
            raise TiyuError(
                "TIYU-DBT-0012",
                "模型没有列说明，不能构建",
                "在模型旁的 _*.yml 中写模型的 name、description 和每一列的 data_type、description、meta（title、grade、pi_mark、unit）",
                EXIT_CHECK_FAILED,
                model=node.name,
                file=node.original_file_path,
            )
        inputs = []
        for parent in node.depends_on.nodes:
            if parent in nodes:
                visit(parent)
                inputs.append(nodes[parent].name)
            elif parent in manifest.sources:
                inputs.append(manifest.sources[parent].identifier)
        build = dict(node.config.meta.get("build") or {})
        found[node.name] = ModelSpec(
            name=node.name,
            layer=node.schema,
            strategy=build.get("strategy", "table"),
            column=build.get("column", "part_date"),
            keys=tuple(build.get("keys", ())),
            partition_by=tuple(build.get("partition_by", ())),
            lookback_days=build.get("lookback_days", 0),
            lookahead_days=build.get("lookahead_days", 0),
            unbounded=build.get("unbounded", False),
            clock=build.get("reads_clock", "none"),
            inputs=tuple(sorted(set(inputs))),
            definition=_definition(manifest, node, build),
            columns=tuple((column.name, column.data_type) for column in node.columns.values()),
        )

    for unique_id in sorted(nodes):
        visit(unique_id)
    return found


def sources(manifest: Manifest) -> dict[str, tuple[str, tuple[tuple[str, str], ...]]]:
    """Every declared source table: name → (schema, columns with DuckDB types).

    ODS and reference tables declare no columns here: their contract and catalog.publish are the only places that do.
    """
    from catalog import contracts, publish, schemas
    from lake.query import duckdb_type

    contract_columns: dict[str, tuple[tuple[str, str], ...]] = {}
    for contract in contracts.load_all("source").values():
        for obj in contract.objects:
            schema = schemas.ods_schema(obj)
            contract_columns[obj.table] = tuple((field.name, duckdb_type(field.type)) for field in schema)
    for table in publish.TABLES:
        contract_columns[table.name] = tuple((field.name, duckdb_type(field.type)) for field in table.schema)
    found = {}
    for source in manifest.sources.values():
        declared = tuple((column.name, column.data_type or "varchar") for column in source.columns.values())
        columns = declared or contract_columns.get(source.identifier, ())
        if not columns:
            raise TiyuError(
                "TIYU-DBT-0006",
                "来源表没有列定义",
                "为该表补充来源合同，或在 dbt 来源声明中写明列",
                EXIT_INTERNAL,
                table=source.identifier,
            )
        found[source.identifier] = (source.schema, columns)
    return found


def rules_used(manifest: Manifest) -> dict[str, set[str]]:
    """Rule identifiers that models take thresholds from: rule_id → models."""
    found: dict[str, set[str]] = {}
    for node in manifest.nodes.values():
        if node.resource_type == "model":
            for rule_id in _RULE_USE.findall(node.raw_code):
                found.setdefault(rule_id, set()).add(node.name)
    return found
