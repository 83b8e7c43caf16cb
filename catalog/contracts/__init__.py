"""Contracts: load and check the Open Data Contract Standard files below this folder.

    load("venue.booking").root.table        # "ods_venue__booking"
    load_all("source")                      # every source contract, by id

A file passes four checks before anything may use it: the schema of ODCS v3.2 on the raw YAML, no key that the ODCS
models would silently drop, the strict models of the `tiyu` properties, and the cross references inside the platform
(columns named by rules and keys, code lists, units, identifier kinds, grades).
"""

from __future__ import annotations

import importlib.resources
import json
import re
from collections import Counter
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema_rs import Draft201909Validator
from open_data_contract_standard.model import OpenDataContractStandard
from pydantic import BaseModel, ValidationError

from catalog import types, units, vocabularies, yamlfile
from catalog.contracts import batch_rules, consistency, nesting
from catalog.contracts.model import (
    CYCLE_HOURS,
    GRADES,
    PROTECTED_KINDS,
    Contract,
    Kind,
    ObjectSpec,
    PropertySpec,
    RuleSpec,
    ServerSpec,
    TiyuObject,
    TiyuProperty,
    TiyuRoot,
    TiyuServer,
)
from catalog.contracts.row_rules import DeclaredRule
from catalog.contracts.value_options import ValueOptions, merged
from catalog.problems import DeclarationError
from lake.errors import TiyuError

__all__ = [
    "CYCLE_HOURS",
    "UNSETTLED",
    "Contract",
    "ObjectSpec",
    "PropertySpec",
    "RuleSpec",
    "ServerSpec",
    "fetched",
    "load",
    "load_all",
    "read_contract",
    "tiyu_json_schema",
]

FOLDER = Path(__file__).resolve().parent
DOMAINS = ("venue", "event", "training", "fitness", "supervision", "reference")
UNSETTLED = "待确认"
"""What a drafted contract says where a person must decide."""
SEVERAL_ROOTS = frozenset(("activity",))
"""Decoders whose objects hold root records of several kinds (a device sends activities and wellness records alike)."""

TECHNICAL_COLUMNS = ("_batch_id", "_record_no", "_source_object", "_ingested_at", "part_date")
_NAME = re.compile(r"^[a-z][a-z0-9_]*$")


@cache
def _validator() -> Draft201909Validator:
    text = importlib.resources.files("open_data_contract_standard").joinpath("schema.json").read_text("utf-8")
    return Draft201909Validator(json.loads(text))


def _dropped(raw: Any, kept: Any, where: str) -> list[str]:
    """Keys of `raw` that the ODCS models dropped: typos inside nested objects that the schema lets pass."""
    if isinstance(raw, dict):
        if not isinstance(kept, dict):
            return [f"{where}: not understood"]
        found = [f"{where}.{key}: unknown key" for key in raw if key not in kept]
        for key in raw.keys() & kept.keys():
            found += _dropped(raw[key], kept[key], f"{where}.{key}")
        return found
    if isinstance(raw, list) and isinstance(kept, list):
        return [p for n, (a, b) in enumerate(zip(raw, kept, strict=False)) for p in _dropped(a, b, f"{where}[{n}]")]
    return []


def _tiyu(element: dict[str, Any], model: type[BaseModel], where: str, problems: list[str]) -> Any:
    """The one `tiyu` custom property of a level as a strict model; None (and a problem) when it is not acceptable."""
    properties = element.get("customProperties") or []
    names = [p.get("property") for p in properties]
    if names != ["tiyu"]:
        problems.append(f"{where}: exactly one custom property named tiyu is needed, found {names}")
        return None
    try:
        return model.model_validate(properties[0]["value"])
    except ValidationError as error:
        for item in error.errors():
            location = ".".join(str(part) for part in item["loc"])
            problems.append(f"{where}.tiyu.{location}: {item['msg']}")
        return None


def _not_json(value: Any, where: str) -> list[str]:
    """What YAML reads without quotes as something JSON has no word for (a date, a number as a key): the schema's terms
    end here."""
    if isinstance(value, dict):
        found = [f"{where}.{key}: a key must be text; put it in quotes" for key in value if not isinstance(key, str)]
        return found + [text for key, item in value.items() for text in _not_json(item, f"{where}.{key}")]
    if isinstance(value, list):
        return [text for n, item in enumerate(value) for text in _not_json(item, f"{where}[{n}]")]
    if value is None or isinstance(value, (str, bool, int, float)):
        return []
    return [f"{where}: {value} is read as a {type(value).__name__}; put it in quotes"]


@lru_cache(maxsize=256)
def _standard(text: str) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """The parsed file and where it departs from ODCS v3.2; None instead of the file when its shape cannot be trusted.

    Cached by content, on which alone the result depends.
    """
    raw = yamlfile.loads(text)
    if found := _not_json(raw, "contract"):
        return None, tuple(found)
    errors = sorted(_validator().iter_errors(raw), key=lambda e: [str(p) for p in e.instance_path])
    if errors:
        return None, tuple(f"{'.'.join(map(str, e.instance_path)) or 'contract'}: {e.message[:200]}" for e in errors)
    kept = OpenDataContractStandard.model_validate(raw).model_dump(by_alias=True, exclude_unset=True)
    return raw, tuple(_dropped(raw, kept, "contract"))


def read_contract(path: Path, *, text: str | None = None, anywhere: bool = False) -> Contract:
    """Read and check one contract file; `text` replaces the file's content (used by editors and tests). `anywhere`: the
    file is a draft, whose name and folder say nothing yet.

    Raises DeclarationError TIYU-CAT-0001 with every problem found.
    """
    try:
        raw, found = _standard(path.read_text(encoding="utf-8") if text is None else text)
    except yaml.YAMLError as error:
        raise _refused(path, [f"YAML: {error}"]) from None
    if raw is None:
        raise _refused(path, list(found))
    problems = list(found)
    contract = _build(path, raw, problems, anywhere=anywhere)
    if problems or contract is None:
        raise _refused(path, problems)
    return contract


def _refused(path: Path, problems: list[str]) -> DeclarationError:
    return DeclarationError(
        "TIYU-CAT-0001",
        "数据契约不合格，拒绝使用",
        "按列出的位置修改契约文件后再运行 tiyu catalog check",
        problems,
        file=path.name,
    )


def _build(path: Path, raw: dict[str, Any], problems: list[str], *, anywhere: bool = False) -> Contract | None:
    root: TiyuRoot | None = _tiyu(raw, TiyuRoot, "contract", problems)
    contract_id, domain = raw["id"], raw.get("domain")
    parts = contract_id.split(".")
    if len(parts) != 2 or not all(_NAME.match(p) for p in parts):
        problems.append("contract.id: must be <domain>.<noun> in lower case")
        return None
    if root and root.kind == "source" and (parts[0] != domain or domain not in DOMAINS):
        problems.append(f"contract.domain: must be one of {DOMAINS} and begin the id")
    placed = path.name == f"{parts[1]}.odcs.yaml" and not (
        root and root.kind == "source" and path.parent.name != parts[0]
    )
    if not placed and not anywhere:
        problems.append(f"contract.id: file must be {parts[0]}/{parts[1]}.odcs.yaml")
    for key in ("name", "status", "description", "team", "schema"):
        if not raw.get(key):
            problems.append(f"contract.{key}: missing")
    if raw.get("apiVersion") != "v3.2.0":
        problems.append("contract.apiVersion: must be v3.2.0")

    server = None
    values: ValueOptions | None = None
    servers = raw.get("servers") or []
    if root and root.kind == "source":
        if len(servers) != 1 or servers[0].get("type") != "custom":
            problems.append("contract.servers: a source needs exactly one server of type custom")
        else:
            tiyu_server: TiyuServer | None = _tiyu(servers[0], TiyuServer, "contract.servers[0]", problems)
            if tiyu_server:
                values = tiyu_server.values
                server = ServerSpec(
                    connector=tiyu_server.connector.kind,
                    decoder=tiyu_server.decoder.kind,
                    connection=tiyu_server.connector.connection,
                    options=tiyu_server.connector.model_dump(exclude={"kind", "connection"}),
                    decoder_options=tiyu_server.decoder.model_dump(exclude={"kind"}),
                )
    objects = [o for item in raw.get("schema") or [] if (o := _object(item, parts, root, values, problems)) is not None]
    if problems or root is None:
        return None
    roots = [o for o in objects if o.is_root]
    if not roots or (len(roots) > 1 and not (server and server.decoder in SEVERAL_ROOTS)):
        problems.append("contract.schema: exactly one root object is needed")
        return None
    if root.kind == "source" and roots[0].name != parts[1]:
        problems.append(f"contract.schema: the root object must be named {parts[1]}")
    by_table = {o.table: o for o in objects}
    for item in objects:
        if item.parent and (item.parent not in by_table or set(item.parent_key) - set(by_table[item.parent].by_name)):
            problems.append(f"contract.schema.{item.name}: parent {item.parent} or its key does not exist")
    if len(objects) > 1 and (
        roots[0].deletes.by != "none" or (roots[0].dedup_rule and roots[0].dedup_rule.on_changed == "newest")
    ):
        problems.append("contract.schema: onChanged newest and deletes are for contracts without child objects")
    if roots[0].renames and server and server.decoder == "activity":
        problems.append("contract.schema: renames are for formats with named columns")
    problems += [f"contract.schema.{text}" for text in nesting.problems_of(objects, server)]
    uses = Counter(rule.rule_id for o in objects for rule in o.rules)
    for rule_id in (name for name, count in uses.items() if count > 1):
        problems.append(f"rule {rule_id}: the id is used twice; give one of them an id")
    cycle = next(c for c in vocabularies.load("update_cycle") if c["code"] == root.update_cycle.cycle)
    description = raw["description"]
    return Contract(
        id=contract_id,
        version=raw["version"],
        kind=root.kind,
        title=raw["name"],
        description=description.get("purpose", ""),
        domain=raw.get("domain") or parts[0],
        objects=objects,
        server=server,
        share=root.share,
        open=root.open,
        update_cycle=root.update_cycle.cycle,
        update_cycle_zh=cycle["name"],
        grace_hours=root.update_cycle.grace_hours,
        due_time=root.update_cycle.due_time,
        legal_basis=root.legal_basis,
        retention=root.retention,
        crs=root.crs,
        owner_name=raw["team"].get("name", "") if isinstance(raw["team"], dict) else "",
        output=root.output,
        sla={s["property"]: s.get("value") for s in raw.get("slaProperties") or []},
        raw=raw,
        path=path,
    )


def _object(
    item: dict[str, Any],
    parts: list[str],
    root: TiyuRoot | None,
    values: ValueOptions | None,
    problems: list[str],
) -> ObjectSpec | None:
    name = item["name"]
    where = f"contract.schema.{name}"
    tiyu: TiyuObject | None = _tiyu(item, TiyuObject, where, problems)
    for key in ("businessName", "description", "dataGranularityDescription"):
        if not item.get(key):
            problems.append(f"{where}.{key}: missing")
    if not _NAME.match(name):
        problems.append(f"{where}: name must be lower case")
    properties = [
        p for q in item.get("properties") or [] if (p := _property(q, where, root, values, problems)) is not None
    ]
    names = [p.name for p in properties]
    for column in {n for n in names if names.count(n) > 1}:
        problems.append(f"{where}.{column}: column is declared twice")
    if tiyu is None or root is None or not properties:
        if not properties:
            problems.append(f"{where}: no columns")
        return None
    if root.kind == "source" and not (tiyu.dedup_rule and (tiyu.part_date or tiyu.parent)):
        problems.append(f"{where}.tiyu: an object of a source needs dedup and either partDate or parent")
    table = root.output.table if root.output else f"ods_{parts[0]}__{name}"
    by_name = {p.name: p for p in properties}
    prefix = table.removeprefix("ods_").replace("__", ".") if root.kind == "source" else ".".join(parts)
    readable = (
        set(by_name) | {p.raw_name for p in properties} | {f"raw__{p.source_name}" for p in properties if p.protection}
    )
    told_apart_by = tiyu.dedup_rule.key if tiyu.dedup_rule else []
    for column in [
        *told_apart_by,
        *([tiyu.part_date] if tiyu.part_date else []),
        *(tiyu.parent.key if tiyu.parent else []),
    ]:
        if column not in by_name:
            problems.append(f"{where}: column {column} (key or date) does not exist")
    if tiyu.part_date and tiyu.part_date in by_name and by_name[tiyu.part_date].type not in ("DATE", "TIMESTAMPTZ"):
        problems.append(f"{where}: partDate column must be DATE or TIMESTAMPTZ")
    for prop in properties:
        if prop.derive and (missing := set(prop.derive.inputs) - readable):
            problems.append(f"{where}.{prop.name}: derive reads unknown columns {sorted(missing)}")
        if prop.identifier_type_column and prop.identifier_type_column not in by_name:
            problems.append(f"{where}.{prop.name}: identifierTypeColumn does not exist")
    rules = [*_automatic_rules(properties, parts, table, prefix)]
    for rule in tiyu.rules:
        spec = _declared_rule(rule, by_name, parts, table, prefix)
        if missing := set(spec.columns) - readable:
            problems.append(f"{where}: rule {spec.rule_id} reads unknown columns {sorted(missing)}")
        code_list = spec.params.get("code_list")
        if code_list and not vocabularies.exists(code_list):
            problems.append(f"{where}: rule {spec.rule_id} names unknown code list {code_list}")
        rules.append(spec)
    problems += [f"{where}.tiyu.{text}" for text in consistency.problems_of(tiyu, properties, prefix)]
    return ObjectSpec(
        name=name,
        table=table,
        title_zh=item.get("businessName", ""),
        description=item.get("description", ""),
        grain=item.get("dataGranularityDescription", ""),
        properties=properties,
        part_date=tiyu.part_date,
        dedup=told_apart_by,
        dedup_rule=tiyu.dedup_rule,
        delivery=tiyu.delivery,
        deletes=tiyu.deletes,
        rules=rules,
        is_root=tiyu.parent is None,
        parent=f"ods_{parts[0]}__{tiyu.parent.object}" if tiyu.parent else None,
        parent_key=tiyu.parent.key if tiyu.parent else [],
        items=tiyu.items,
        late=tiyu.late,
        drift=tiyu.drift,
        renames=tiyu.renames,
        corrections=tiyu.corrections,
        batch_rules=[batch_rules.spec(rule, prefix) for rule in tiyu.batch.rules],
        manifest_pattern=tiyu.batch.manifest.pattern if tiyu.batch.manifest else None,
    )


def _property(
    item: dict[str, Any], where: str, root: TiyuRoot | None, values: ValueOptions | None, problems: list[str]
) -> PropertySpec | None:
    name = item.get("name", "")
    where = f"{where}.{name}"
    before = len(problems)
    tiyu: TiyuProperty | None = _tiyu(item, TiyuProperty, where, problems)
    for key in ("name", "businessName", "description", "physicalType"):
        if not item.get(key):
            problems.append(f"{where}.{key}: missing")
    grade: Any = item.get("classification")
    if grade not in GRADES:
        problems.append(f"{where}.classification: column is not graded (L1…L4), found {grade!r}")
    if name and (not _NAME.match(name) or name.startswith("raw__")):
        problems.append(f"{where}: column name is not allowed")
    if root and root.kind == "source" and name in TECHNICAL_COLUMNS:
        problems.append(f"{where}: the name belongs to the platform's technical columns")
    if item.get("physicalType") and not types.is_known(item["physicalType"]):
        problems.append(f"{where}.physicalType: unknown type {item['physicalType']}")
    if tiyu is None or len(problems) > before:
        return None
    if tiyu.code_list and not vocabularies.exists(tiyu.code_list):
        problems.append(f"{where}: unknown code list {tiyu.code_list}")
    if tiyu.unit and not units.is_known(tiyu.unit):
        problems.append(f"{where}: unknown unit {tiyu.unit}")
    if root and root.kind == "source" and not item.get("physicalName") and tiyu.derive is None:
        problems.append(f"{where}: a source column needs physicalName or derive")
    if tiyu.identifier_kind in PROTECTED_KINDS:
        if tiyu.pi_mark == "N":
            problems.append(f"{where}: personal data needs piMark P or S")
        if grade < "L3":
            problems.append(f"{where}: an identifier of a person is L3 or higher, found {grade}")
        if root and root.kind == "source" and name.endswith("_token") == (tiyu.mask is not None):
            problems.append(f"{where}: an identifier is either a token (name ends with _token) or has a mask")
    elif tiyu.mask:
        problems.append(f"{where}: mask without identifierKind")
    problems += [f"{where}.read.{problem}" for problem in _values_do_not_fit(tiyu, item["physicalType"])]
    return PropertySpec(
        name=name,
        source_name=item.get("physicalName"),
        title_zh=item["businessName"],
        description=item["description"],
        type=item["physicalType"],
        grade=grade,
        pi_mark=tiyu.pi_mark,
        identifier_kind=tiyu.identifier_kind,
        identifier_type_column=tiyu.identifier_type_column,
        mask=tiyu.mask,
        unit=tiyu.unit,
        code_list=tiyu.code_list,
        required=bool(item.get("required", False)),
        derive=tiyu.derive,
        read=merged(values, tiyu.read),
        path=tiyu.path,
    )


def _values_do_not_fit(tiyu: TiyuProperty, kind: str) -> list[str]:
    """What a column's `read` says that its type or its unit has no use for."""
    read = tiyu.read
    if read is None:
        return []
    dates, numbers = (
        kind in ("DATE", "TIMESTAMPTZ"),
        kind in ("BIGINT", "INTEGER", "DOUBLE") or kind.startswith("DECIMAL"),
    )
    used = {
        "dateFormats": (read.date_formats, dates),
        "timeZone": (read.time_zone, kind == "TIMESTAMPTZ"),
        "decimalMark": (read.decimal_mark, numbers),
        "thousands": (read.thousands, numbers),
        "suffix": (read.suffix, numbers),
        "sourceUnit": (read.source_unit, numbers),
        "trueTokens": (read.true_tokens, kind == "BOOLEAN"),
    }
    found = [
        f"{name}: a column of type {kind} has no use for it"
        for name, (value, fits) in used.items()
        if value and not fits
    ]
    if read.source_unit and not found:
        found += _unit_does_not_fit(read.source_unit, tiyu.unit, kind)
    return found


def _unit_does_not_fit(source: str, target: str | None, kind: str) -> list[str]:
    if target is None:
        return ["sourceUnit: the column has no unit to convert to"]
    if not units.is_known(source) or not units.is_known(target):
        return [f"sourceUnit: unknown unit {source}"]
    step = units.conversion(source, target)
    if step is None:
        return [f"sourceUnit: {source} cannot be converted to {target}"]
    if kind != "DOUBLE" and any(units.as_decimal(part) is None for part in step):
        return [f"sourceUnit: {source} to {target} has no exact decimal factor, so the column must be a DOUBLE"]
    return []


def _automatic_rules(properties: list[PropertySpec], parts: list[str], table: str, prefix: str) -> list[RuleSpec]:
    """Rules that follow from the declaration itself: required, code list, identifier."""
    contract_id = ".".join(parts)
    rules: list[RuleSpec] = []

    def add(prop: PropertySpec, kind: str, message: str, column: str, suffix: str | None = None, **more: Any) -> None:
        severity = more.pop("severity", "quarantine")
        rules.append(
            RuleSpec(
                rule_id=f"{prefix}.{prop.name}.{suffix or kind}",
                contract_id=contract_id,
                table=table,
                kind=kind,
                severity=severity,
                message_zh=message,
                columns=[column, *more.pop("also", [])],
                required=prop.required,
                auto=True,
                needs_raw=column.startswith("raw__"),
                **more,
            )
        )

    for prop in properties:
        if prop.derive and prop.derive.function == "from_parent":
            continue  # the record that it is taken from is judged by these
        title, column = prop.title_zh, prop.raw_name
        if prop.required and prop.derive is None:
            add(prop, "not_null", f"{title}不能为空", column)
        if prop.code_list and prop.type == "VARCHAR":
            add(prop, "in_list", f"{title}不在代码表内", prop.name, params={"code_list": prop.code_list})
        match prop.identifier_kind:
            case "phone":
                add(prop, "phone", f"{title}不是有效的手机号码", column)
            case "uscc":
                add(prop, "check_digit", f"{title}校验位不符", column, params={"standard": "GB32100"})
            case "athlete_no":
                add(prop, "pattern", f"{title}格式不符", column, params={"pattern": r"^SHA\d{6}$"})
            case "name":
                add(
                    prop,
                    "pattern",
                    f"{title}长度不在 2–30 字之间",
                    column,
                    params={"pattern": r"^.{2,30}$"},
                    severity="warn",
                )
            case "id_no":
                kind_column = prop.identifier_type_column
                when = f"\"{kind_column}\" = 'resident_id'" if kind_column else None
                also = [kind_column] if kind_column else []
                add(
                    prop,
                    "check_digit",
                    f"{title}不是有效的居民身份证号码",
                    column,
                    params={"standard": "GB11643"},
                    when=when,
                    also=also,
                )
                if kind_column:
                    add(
                        prop,
                        "pattern",
                        f"{title}格式不符",
                        column,
                        suffix="format",
                        params={"pattern": r"^[A-Za-z0-9]{5,20}$"},
                        when=f"\"{kind_column}\" <> 'resident_id'",
                        also=also,
                    )
    return rules


def _declared_rule(
    rule: DeclaredRule, by_name: dict[str, PropertySpec], parts: list[str], table: str, prefix: str
) -> RuleSpec:
    params = rule.model_dump(
        exclude={"id", "kind", "severity", "message_zh", "when", "column", "columns"}, exclude_none=True
    )
    if rule.kind == "compare":
        columns = [rule.left, rule.right]
        default_id = f"{rule.left}.compare"
    elif rule.kind == "expression":
        columns = list(rule.columns)
        default_id = rule.id
    else:
        prop = by_name.get(rule.column)
        columns = [prop.raw_name if prop and rule.kind in ("check_digit", "phone", "pattern") else rule.column]
        default_id = f"{rule.column}.{rule.kind}"
    return RuleSpec(
        rule_id=f"{prefix}.{rule.id or default_id}",
        contract_id=".".join(parts),
        table=table,
        kind=rule.kind,
        severity=rule.severity,
        message_zh=rule.message_zh,
        columns=columns,
        params=params,
        when=rule.when,
        needs_raw=any(c.startswith("raw__") for c in columns),
    )


@lru_cache(maxsize=8)
def _load(key: tuple[tuple[str, int, int], ...]) -> dict[str, Contract]:
    contracts: dict[str, Contract] = {}
    for file, _, _ in key:
        contract = read_contract(Path(file))
        if contract.id in contracts:
            raise _refused(Path(file), [f"contract id {contract.id} is used twice"])
        contracts[contract.id] = contract
    return contracts


def files(folder: Path = FOLDER) -> list[Path]:
    """Every contract file below `folder`, sorted."""
    return sorted(folder.rglob("*.odcs.yaml"))


def load_all(kind: Kind | None = None, *, folder: Path = FOLDER) -> dict[str, Contract]:
    """All contracts by id (source contracts, and outputs under `exchange.<noun>` / `open.<noun>`), checked.

    Raises DeclarationError TIYU-CAT-0001 for the first contract that is not acceptable.
    """
    contracts = _load(yamlfile.fingerprint(folder, "*.odcs.yaml"))
    return {name: c for name, c in sorted(contracts.items()) if kind is None or c.kind == kind}


def fetched(*, folder: Path = FOLDER) -> dict[str, Contract]:
    """The source contracts that a schedule fetches, by id: all but the streams, which `tiyu stream` receives all the time."""
    return {name: contract for name, contract in load_all("source", folder=folder).items() if not contract.is_stream}


def load(contract_id: str, *, folder: Path = FOLDER) -> Contract:
    """One contract by id. Raises TiyuError TIYU-CAT-0002 when there is none of that name."""
    contracts = load_all(folder=folder)
    if contract_id not in contracts:
        raise TiyuError(
            "TIYU-CAT-0002", "没有这个数据资源", f"可用的资源：{'、'.join(contracts)}", 2, resource=contract_id
        )
    return contracts[contract_id]


def tiyu_json_schema() -> dict[str, Any]:
    """JSON Schema of the four `tiyu` property values, as published in tiyu.schema.json."""
    from pydantic.json_schema import models_json_schema

    levels: dict[str, type[BaseModel]] = {
        "root": TiyuRoot,
        "server": TiyuServer,
        "object": TiyuObject,
        "property": TiyuProperty,
    }
    _, definitions = models_json_schema(
        [(model, "validation") for model in levels.values()], ref_template="#/$defs/{model}"
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tiyu custom properties of an Open Data Contract Standard v3.2 file",
        "description": "One custom property named tiyu per level; the value must match the definition of that level.",
        "type": "object",
        "properties": {level: {"$ref": f"#/$defs/{model.__name__}"} for level, model in levels.items()},
        "$defs": definitions["$defs"],
    }
