"""Strict models of the `tiyu` custom properties and the contract objects the platform works with.

An Open Data Contract Standard (ODCS) file carries one custom property named ``tiyu`` per level (root, server, object,
property). Every model here refuses unknown keys, because a typo in a declaration ("clasification") must stop the line
instead of silently dropping a protection. The JSON Schema of the four models is published as
``catalog/contracts/tiyu.schema.json``.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from catalog.contracts import pointer
from catalog.contracts.batch_rules import Batch, BatchRuleSpec
from catalog.contracts.behaviour import Correction, Dedup, Deletes, Drift, Late, Rename
from catalog.contracts.connector_options import Connector
from catalog.contracts.decoder_options import Decoder
from catalog.contracts.row_rules import DeclaredRule, Severity
from catalog.contracts.strict import Strict
from catalog.contracts.value_options import ColumnValues, ValueOptions

Grade = Literal["L1", "L2", "L3", "L4"]
PiMark = Literal["N", "P", "S"]
Kind = Literal["source", "exchange", "open"]
IdentifierKind = Literal["name", "phone", "id_no", "athlete_no", "uscc"]
Cycle = Literal["realtime", "hourly", "daily", "weekly", "monthly", "quarterly", "yearly"]

GRADES: tuple[str, ...] = ("L1", "L2", "L3", "L4")
PROTECTED_KINDS: frozenset[str] = frozenset({"name", "phone", "id_no", "athlete_no"})
"""Identifier kinds of natural persons; `uscc` identifies an organisation and stays in plain text."""

CYCLE_HOURS: dict[str, int] = {
    "realtime": 1,
    "hourly": 1,
    "daily": 24,
    "weekly": 24 * 7,
    "monthly": 24 * 31,
    "quarterly": 24 * 92,
    "yearly": 24 * 366,
}


class TiyuServer(Strict):
    """Server level: how objects are fetched (connector) and read (decoder), and how values are written (values)."""

    connector: Connector
    decoder: Decoder
    values: ValueOptions | None = None


OF_LISTS = ("from_parent", "item_number")
"""Derived columns of rows that are elements of a list inside a record."""
Pointer = Annotated[str, Field(pattern=r"^(/([^~/]|~[01])*)*$")]
"""A JSON Pointer (RFC 6901): ``/laps/0/name``; ``~1`` stands for a slash, ``~0`` for a tilde; empty is the whole."""


# ------------------------------------------------------------------ property, object, root
class Derive(Strict):
    """A column computed at ingestion from other columns of the same row; `inputs` are ODS or raw column names.

    Three have none. `delivered_on`: the Shanghai date on which the record's batch came in, for sources whose records bear
    no date. In an object with `items` only: `from_parent`, what the column of the same name holds in the record that the
    list stands in, and `item_number`, the place in the list, from 1.
    """

    function: Literal["point_in_district", "birth_year", "is_minor", "delivered_on", "from_parent", "item_number"]
    inputs: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _has_inputs(self) -> Derive:
        if (self.function in ("delivered_on", *OF_LISTS)) == bool(self.inputs):
            raise ValueError("a derived column needs inputs; delivered_on, from_parent and item_number take none")
        return self


class TiyuProperty(Strict):
    """Property level: protection and meaning beside `classification`.

    piMark: N no personal data, P personal, S sensitive personal. identifierKind: what identifier the raw value is.
    mask: masking applied to a raw value that is kept masked. identifierTypeColumn: column telling the document type of
    an `id_no`. unit, codeList: names in the vocabularies. derive: computed column. read: how the source writes values.
    path: where inside a JSON record (or an element of its list) the value stands, instead of a member called physicalName.
    """

    pi_mark: PiMark
    identifier_kind: IdentifierKind | None = None
    identifier_type_column: str | None = None
    mask: Literal["name", "phone", "id_no"] | None = None
    unit: str | None = None
    code_list: str | None = None
    derive: Derive | None = None
    read: ColumnValues | None = None
    path: Pointer | None = None


class Parent(Strict):
    """The parent object of a child table and the columns that join them; the child inherits the parent's part_date."""

    object: str
    key: list[str] = Field(min_length=1)


class TiyuObject(Strict):
    """Object level. partDate: the column whose Shanghai calendar date is `part_date`; child objects name a parent instead.

    dedup: columns that make a row unique, alone or with what a repeated key means (`Dedup`). Both are required on objects
    of a source (checked by the loader). items: the rows are the elements of a list inside the parent's JSON record, at this
    pointer; a record is refused as a whole when one of its elements is. delivery: ``incremental`` (what is new or changed) or ``snapshot`` (each object is
    the whole register). The other keys are described where they are declared: `behaviour`, `batch_rules`, `row_rules`.
    """

    part_date: str | None = None
    dedup: list[str] | Dedup = Field(default_factory=list)
    delivery: Literal["incremental", "snapshot"] = "incremental"
    deletes: Deletes = Deletes(by="none")
    late: Late | None = None
    drift: Drift = Drift()
    renames: list[Rename] = Field(default_factory=list)
    corrections: list[Correction] = Field(default_factory=list)
    rules: list[DeclaredRule] = Field(default_factory=list)
    batch: Batch = Batch()
    parent: Parent | None = None
    items: Pointer | None = None

    @model_validator(mode="after")
    def _one_date(self) -> TiyuObject:
        if self.part_date is not None and self.parent is not None:
            raise ValueError("a child record inherits part_date; partDate belongs to the root record")
        if self.deletes.by == "absence" and self.delivery != "snapshot":
            raise ValueError(
                "only a snapshot tells by absence what is gone: deletes by absence needs delivery snapshot"
            )
        return self

    @property
    def dedup_rule(self) -> Dedup | None:
        """The deduplication rule; a bare list of columns is a rule with the defaults. None when nothing is declared."""
        if isinstance(self.dedup, Dedup):
            return self.dedup
        return Dedup(key=self.dedup) if self.dedup else None


class Share(Strict):
    """Sharing between departments: unconditional, conditional (state the condition) or denied (state the basis)."""

    type: Literal["unconditional", "conditional", "denied"]
    condition: str | None = None
    method: str | None = None
    basis: str | None = None

    @model_validator(mode="after")
    def _text(self) -> Share:
        if self.type == "conditional" and not self.condition:
            raise ValueError("conditional sharing needs condition")
        if self.type == "denied" and not self.basis:
            raise ValueError("denied sharing needs basis")
        return self


class Open(Strict):
    """Opening to society: unconditional, conditional or closed, with scope and condition as the open list demands."""

    type: Literal["unconditional", "conditional", "closed"]
    scope: str | None = None
    condition: str | None = None
    basis: str | None = None

    @model_validator(mode="after")
    def _text(self) -> Open:
        if self.type == "conditional" and not self.condition:
            raise ValueError("conditional opening needs condition")
        if self.type == "closed" and not self.basis:
            raise ValueError("closed needs basis")
        return self


class UpdateCycle(Strict):
    """How often data is promised. Late only after cycle + graceHours; dueTime is the Shanghai time of day due."""

    cycle: Cycle
    grace_hours: Annotated[int, Field(ge=0)] = 0
    due_time: Annotated[str, Field(pattern=r"^[0-2]\d:[0-5]\d$")] | None = None


class OutputSpec(Strict):
    """Delivery of an output contract: source table, mode, key and the disclosure rule that applies."""

    table: Annotated[str, Field(pattern=r"^ads_[a-z_]+$")]
    mode: Literal["full", "incremental"]
    key: list[str] = Field(min_length=1)
    increment_column: str | None = None
    aggregate: bool = False
    k: Annotated[int, Field(ge=1)] | None = None
    count_column: str | None = None
    licence: str | None = None
    receiver: str | None = None
    keywords: list[str] = Field(default_factory=list)
    theme: str | None = None
    canonical_place: str | None = None

    @model_validator(mode="after")
    def _increment(self) -> OutputSpec:
        if (self.mode == "incremental") != bool(self.increment_column):
            raise ValueError("incrementColumn belongs to mode incremental, and only there")
        return self


class TiyuRoot(Strict):
    """Root level: what kind of contract it is and the catalogue facts that the law asks for."""

    kind: Kind
    share: Share
    open: Open
    update_cycle: UpdateCycle
    legal_basis: str
    retention: str
    crs: str | None = None
    output: OutputSpec | None = None

    @model_validator(mode="after")
    def _output(self) -> TiyuRoot:
        if (self.kind == "source") == (self.output is not None):
            raise ValueError("output belongs to exchange and open contracts, and only there")
        return self


# ------------------------------------------------------------------ what the rest of the platform uses
class Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RuleSpec(Spec):
    """One row rule with its stable id.

    `columns` are the names the rule reads, as in the ODS or, for checks of raw identifiers, `raw__<source name>`.
    `auto` marks rules derived from the contract. `needs_raw` marks rules that only the ingest can evaluate.
    """

    rule_id: str
    contract_id: str
    table: str
    kind: str
    severity: Severity
    message_zh: str
    columns: list[str]
    params: dict[str, Any] = {}
    when: str | None = None
    required: bool = False
    auto: bool = False
    needs_raw: bool = False


class PropertySpec(Spec):
    """One column of a contract object, as the rest of the platform sees it: grade L1…L4, pi_mark N/P/S."""

    name: str
    source_name: str | None
    title_zh: str
    description: str
    type: str
    grade: Grade
    pi_mark: PiMark
    identifier_kind: IdentifierKind | None = None
    identifier_type_column: str | None = None
    mask: str | None = None
    unit: str | None = None
    code_list: str | None = None
    required: bool = False
    derive: Derive | None = None
    read: ColumnValues = ColumnValues()
    path: str | None = None

    @property
    def protection(self) -> Literal["token", "mask"] | None:
        """How the raw identifier is turned into what may be stored: token, mask, or None when stored as it is."""
        if self.identifier_kind not in PROTECTED_KINDS:
            return None
        return "mask" if self.mask else "token"

    @property
    def raw_name(self) -> str:
        """In-memory column with the raw value: `raw__<source name>` when protected, else the ODS column itself."""
        return f"raw__{self.source_name}" if self.protection else self.name


class ObjectSpec(Spec):
    """One table of a contract. For sources `table` is the ODS table, for outputs the ADS table it is read from."""

    name: str
    table: str
    title_zh: str
    description: str
    grain: str
    properties: list[PropertySpec]
    part_date: str | None
    dedup: list[str]
    rules: list[RuleSpec]
    is_root: bool
    parent: str | None = None
    parent_key: list[str] = []
    items: str | None = None
    dedup_rule: Dedup | None = None
    delivery: Literal["incremental", "snapshot"] = "incremental"
    deletes: Deletes = Deletes(by="none")
    late: Late | None = None
    drift: Drift = Drift()
    renames: list[Rename] = []
    corrections: list[Correction] = []
    batch_rules: list[BatchRuleSpec] = []
    manifest_pattern: str | None = None

    @property
    def rule_prefix(self) -> str:
        """Prefix of the rule ids of this table: `venue.booking`, for child tables `training.activity_session`."""
        return self.table.removeprefix("ods_").replace("__", ".")

    @property
    def late_rule_id(self) -> str:
        """Rule id under which rows are refused that come later than the contract allows."""
        return f"{self.rule_prefix}.late.refused"

    def type_rule_id(self, column: str) -> str:
        """Rule id of the type check, which the ingest performs with try_cast."""
        return f"{self.rule_prefix}.{column}.type"

    @cached_property
    def by_name(self) -> dict[str, PropertySpec]:
        return {p.name: p for p in self.properties}

    @property
    def source_columns(self) -> list[str]:
        """Source columns expected in an object, in contract order and without repetition."""
        return list(dict.fromkeys(p.source_name for p in self.properties if p.source_name))


class ServerSpec(Spec):
    """Where a source comes from; `options` are the connector's, `decoder_options` the decoder's, in snake_case."""

    connector: str
    decoder: str
    connection: str
    options: dict[str, Any]
    decoder_options: dict[str, Any]


class Contract(Spec):
    """A source or output contract, checked against ODCS v3.2 and the strict `tiyu` models."""

    id: str
    version: str
    kind: Kind
    title: str
    description: str
    domain: str
    objects: list[ObjectSpec]
    server: ServerSpec | None
    share: Share
    open: Open
    update_cycle: Cycle
    update_cycle_zh: str
    grace_hours: int
    due_time: str | None
    legal_basis: str
    retention: str
    crs: str | None
    owner_name: str
    output: OutputSpec | None
    sla: dict[str, Any]
    raw: dict[str, Any]
    path: Path

    @property
    def root(self) -> ObjectSpec:
        """The object whose records are counted in the ledger; the first of them where there are several (`roots`)."""
        return next(o for o in self.objects if o.is_root)

    @property
    def is_stream(self) -> bool:
        """Whether `tiyu stream` receives the source all the time, instead of a schedule fetching it."""
        return self.server is not None and self.server.connector == "mqtt"

    @property
    def roots(self) -> list[ObjectSpec]:
        """All objects with records of their own: what is received is accounted for by all of them together."""
        return [o for o in self.objects if o.is_root]

    @property
    def lists(self) -> list[ObjectSpec]:
        """The objects whose rows are elements of lists inside the records of the root."""
        return [o for o in self.objects if o.items is not None]

    @property
    def members(self) -> list[str]:
        """Names of what the source delivers side by side in a record, in contract order: its columns, or the members of a
        JSON object; one from whose inside columns or lists are taken counts once."""
        names = [pointer.first(p.path) if p.path else p.source_name for p in self.root.properties if p.source_name]
        return list(dict.fromkeys([*map(str, names), *(pointer.first(str(o.items)) for o in self.lists)]))

    @property
    def cycle_hours(self) -> int:
        return CYCLE_HOURS[self.update_cycle]

    @property
    def grade(self) -> str:
        """Highest column grade of the contract; `L1` when it has no columns is impossible (a contract has columns)."""
        return max(p.grade for o in self.objects for p in o.properties)

    def object(self, table: str) -> ObjectSpec:
        """The object stored in `table`. Raises KeyError when the contract has none."""
        for item in self.objects:
            if item.table == table or item.name == table:
                return item
        raise KeyError(table)
