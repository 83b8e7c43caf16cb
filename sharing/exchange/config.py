"""What is delivered: exchange contracts joined with the delivery settings of ``deliveries.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import yaml
from stdnum.cn import uscc as gb32100

from lake.clock import SHANGHAI
from lake.errors import EXIT_USAGE, TiyuError
from lake.settings import settings
from sharing import outputs
from sharing.outputs import Column

_FILE = Path(__file__).with_name("deliveries.yaml")
NULL_TOKEN = r"\N"
DELIMITER = ","
SYSTEM_COLUMNS = ("_op", "_src_pk", "_src_update_time", "_batch_id")


@dataclass(frozen=True)
class Provider:
    """Who delivers. ``uscc`` is a valid GB 32100 code."""

    uscc: str
    name: str
    operator: str
    is_synthetic: bool


@dataclass(frozen=True)
class DeliverySpec:
    """One regular delivery: everything needed to build it, nothing read from the data."""

    resource: str
    title_zh: str
    contract_id: str
    contract_version: str
    table: str
    mode: str  # F full | I incremental
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    resource_code: str
    control_sums: tuple[str, ...]
    update_time: str | None
    complete_days: str | None
    cycle_zh: str
    due_time: time
    rows_per_part: int
    provider: Provider

    @property
    def grade(self) -> str:
        """Highest grade of the columns delivered."""
        return max(column.grade for column in self.columns)

    @property
    def schema_version(self) -> str:
        """Version of the columns delivered; another one means the receiver must load anew."""
        return outputs.schema_version(self.contract_version, self.columns)

    def batch_id(self, business_date: date, sequence: int) -> str:
        """Stable id of one delivery; the value of ``_batch_id`` in every row."""
        return f"{self.resource_code.replace('/', '-')}_{business_date:%Y%m%d}_{sequence:04d}"

    def stem(self, business_date: date, sequence: int) -> str:
        """File name without the part: ``{uscc}_{code}_{F|I}_{yyyymmdd}_{batch}`` (reference §3.3)."""
        code = self.resource_code.replace("/", "-")
        return f"{self.provider.uscc}_{code}_{self.mode}_{business_date:%Y%m%d}_{sequence:04d}"

    def due_at(self, business_date: date) -> datetime:
        """Due instant: the day after the business date at the contract's due time, Shanghai."""
        return datetime.combine(business_date + timedelta(days=1), self.due_time, tzinfo=SHANGHAI)


def raw_config() -> dict[str, Any]:
    """The parsed ``deliveries.yaml``."""
    return yaml.safe_load(_FILE.read_text(encoding="utf-8"))


def provider() -> Provider:
    """The provider as the catalogue declares it, ``TIYU_EXCHANGE_USCC`` first.

    Raises TIYU-EXC-0001 when the code fails its GB 32100 check.
    """
    from catalog.entries import declared

    who = declared.provider()
    if not uscc_valid(who.uscc):
        raise TiyuError(
            "TIYU-EXC-0001",
            "提供方统一社会信用代码校验不通过",
            "改正 TIYU_EXCHANGE_USCC（18 位，GB 32100）",
            EXIT_USAGE,
            uscc=who.uscc,
        )
    return Provider(who.uscc, who.name, raw_config()["operator"], who.uscc_is_synthetic)


def uscc_valid(code: str) -> bool:
    """GB 32100-2015: alphabet, length and check character."""
    return code == code.upper() and bool(gb32100.is_valid(code))


def manifest_schema_path() -> Path:
    """The published JSON Schema of a manifest; the code validates with the very file the receiver gets."""
    return settings().repo_root / "docs" / "interface_spec" / "manifest.schema.json"


def load() -> list[DeliverySpec]:
    """All deliveries, by resource name.

    Raises TIYU-EXC-0002 when an exchange contract has no delivery settings, or settings have no contract: nothing is
    silently left undelivered.
    """
    from catalog.contracts import load_all

    config = raw_config()
    by_table = {contract.output.table: contract for contract in load_all("exchange").values() if contract.output}
    configured = config["deliveries"]
    if set(by_table) != set(configured):
        raise TiyuError(
            "TIYU-EXC-0002",
            "交换契约与交付配置不一一对应",
            "在 sharing/exchange/deliveries.yaml 与交换契约中补齐同名数据表",
            EXIT_USAGE,
            only_contract=sorted(set(by_table) - set(configured)) or None,
            only_config=sorted(set(configured) - set(by_table)) or None,
        )
    who = provider()
    specs = [_spec(by_table[table], options, config, who) for table, options in configured.items()]
    return sorted(specs, key=lambda spec: spec.resource)


def _spec(contract: Any, options: dict[str, Any], config: dict[str, Any], who: Provider) -> DeliverySpec:
    columns = outputs.columns_of(contract)
    names = {column.name for column in columns}
    update_time = options.get("update_time")
    return DeliverySpec(
        resource=options["resource"],
        title_zh=contract.title,
        contract_id=contract.id,
        contract_version=contract.version,
        table=contract.output.table,
        mode="F" if contract.output.mode == "full" else "I",
        key=tuple(contract.output.key),
        columns=columns,
        resource_code=_resource_code(contract.id),
        control_sums=tuple(name for name in options.get("control_sums", ()) if name in names),
        update_time=update_time if update_time in names else None,
        complete_days=options.get("complete_days"),
        cycle_zh=contract.update_cycle_zh,
        due_time=time.fromisoformat(contract.due_time or "08:00"),
        rows_per_part=int(config["rows_per_part"]),
        provider=who,
    )


def _resource_code(contract_id: str) -> str:
    """The catalogue's code of what is delivered; without one nothing may leave (TIYU-EXC-0022)."""
    from catalog.entries import codes

    code = codes.of(contract_id)
    if code is None:
        raise TiyuError(
            "TIYU-EXC-0022",
            "交付的资源还没有目录代码",
            "运行 tiyu catalog assign 后再交付",
            EXIT_USAGE,
            contract=contract_id,
        )
    return code


def find(resource: str) -> DeliverySpec:
    """The delivery of one resource; raises TIYU-EXC-0003 for a name that is not delivered."""
    for spec in load():
        if spec.resource == resource:
            return spec
    raise TiyuError(
        "TIYU-EXC-0003", "没有这个交换资源", "用 tiyu exchange status 查看资源名", EXIT_USAGE, resource=resource
    )
