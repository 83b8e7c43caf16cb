"""What is published: open contracts joined with the publication settings of ``datasets.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lake.errors import EXIT_USAGE, TiyuError
from sharing import outputs
from sharing.outputs import Column

_FILE = Path(__file__).with_name("datasets.yaml")


@dataclass(frozen=True)
class Licence:
    """The licence a dataset is published under; ``confirmed`` is False until the bureau decided."""

    id: str
    title: str
    text: str
    confirmed: bool


@dataclass(frozen=True)
class DatasetSpec:
    """One open dataset: everything needed to publish it, nothing read from the data."""

    name: str
    title_zh: str
    description: str
    limitations: str
    contract_id: str
    contract_version: str
    table: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    k: int | None
    count_column: str | None
    licence: Licence
    open_type_zh: str
    open_condition: str | None
    update_cycle_zh: str
    legal_basis: str
    keywords: tuple[str, ...]
    theme: str
    grain: str
    geo: dict[str, str] | None
    chart: dict[str, Any]
    preview_rows: int
    publisher: dict[str, str]
    canonical: dict[str, str]

    @property
    def schema_version(self) -> str:
        """Version of the columns published."""
        return outputs.schema_version(self.contract_version, self.columns)


OPEN_TYPES_ZH = {"unconditional": "无条件开放", "conditional": "有条件开放", "closed": "非开放"}


def raw_config() -> dict[str, Any]:
    """The parsed ``datasets.yaml``."""
    return yaml.safe_load(_FILE.read_text(encoding="utf-8"))


def load() -> list[DatasetSpec]:
    """All open datasets, in the order of ``datasets.yaml``.

    Raises TIYU-OPEN-0001 when contracts and settings do not pair up or a contract is not open.
    """
    from catalog.contracts import load_all

    config = raw_config()
    by_table = {contract.output.table: contract for contract in load_all("open").values() if contract.output}
    configured = config["datasets"]
    closed = [contract.id for contract in by_table.values() if contract.open.type == "closed"]
    if set(by_table) != set(configured) or closed:
        raise TiyuError(
            "TIYU-OPEN-0001",
            "开放契约与发布配置不一一对应，或契约不允许开放",
            "在 sharing/open_data/datasets.yaml 与开放契约中补齐同名数据表；非开放数据不得配置发布",
            EXIT_USAGE,
            only_contract=sorted(set(by_table) - set(configured)) or None,
            only_config=sorted(set(configured) - set(by_table)) or None,
            closed=closed or None,
        )
    return [_spec(by_table[table], options, config) for table, options in configured.items()]


def _spec(contract: Any, options: dict[str, Any], config: dict[str, Any]) -> DatasetSpec:
    output = contract.output
    default = config["licence"]
    licence = Licence(default["id"], default["title"], default["text"], confirmed=False)
    if output.licence and output.licence not in (default["title"], default["id"]):
        confirmed = "待确认" not in output.licence
        licence = Licence(
            "as-stated" if confirmed else default["id"],
            output.licence,
            output.licence if confirmed else default["text"],
            confirmed,
        )
    return DatasetSpec(
        name=options["name"],
        title_zh=contract.title,
        description=contract.description,
        limitations=(contract.raw.get("description") or {}).get("limitations") or "",
        contract_id=contract.id,
        contract_version=contract.version,
        table=output.table,
        key=tuple(output.key),
        columns=outputs.columns_of(contract),
        k=output.k,
        count_column=options.get("distinct_count") or output.count_column,
        licence=licence,
        open_type_zh=OPEN_TYPES_ZH[contract.open.type],
        open_condition=contract.open.condition,
        update_cycle_zh=contract.update_cycle_zh,
        legal_basis=contract.legal_basis,
        keywords=tuple(output.keywords),
        theme=output.theme or "文化体育",
        grain=contract.root.grain,
        geo=options.get("geo"),
        chart=options["chart"],
        preview_rows=int(config["preview_rows"]),
        publisher=config["publisher"],
        canonical=config["canonical"],
    )
