"""What an entry of the catalogue holds: the 13 core elements of the 2017 guide and what Shanghai asks beside them.

The numbers in the comments are those of the guide's core metadata (政务信息资源核心元数据). Everything here is a plain
value: an entry may be incomplete or contradict itself, and `catalog.checks` says so.
"""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict

EntryKind = Literal["source", "reference", "platform", "table", "exchange", "open", "dashboard"]
BindingKind = Literal["connection", "table", "delivery", "dataset", "page"]

KIND_ZH: dict[str, str] = {
    "source": "来源资源",
    "reference": "参考数据",
    "platform": "平台运行数据",
    "table": "加工表",
    "exchange": "共享交换产品",
    "open": "开放数据集",
    "dashboard": "展示页面",
}
LAYER_ZH: dict[str, str] = {
    "ods": "贴源层", "dim": "维度层", "dwd": "明细层", "dws": "汇总层", "ads": "应用层", "ops": "运行层", "out": "输出",
}  # fmt: skip


class Fact(BaseModel):
    """Base of every part of an entry: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ClassLevel(Fact):
    """One level of the classification: 类, 项, 目 or 细目, with its digits."""

    level: Literal["类", "项", "目", "细目"]
    digits: str
    name: str


class ShareTerms(Fact):
    """9 共享类型、共享条件、共享方式; `basis`: the law or policy for data that is not shared."""

    type: str
    condition: str | None = None
    method: str | None = None
    basis: str | None = None


class OpenTerms(Fact):
    """10 是否向社会开放、开放条件, with the 开放范围 of Data Regulation art. 42; `basis`: why it is closed."""

    type: str
    scope: str | None = None
    condition: str | None = None
    basis: str | None = None


class EntryColumn(Fact):
    """8 信息项: one column. `letter` is the guide's data type letter; grade and mark are None when undeclared."""

    name: str
    title_zh: str
    description: str | None
    type: str | None
    letter: str | None
    unit: str | None = None
    code_list: str | None = None
    grade: str | None = None
    pi_mark: str | None = None
    identifier_kind: str | None = None


class EntryTable(Fact):
    """A stored table of an entry: `name` in the lake, `grain` what one row stands for, `key` what makes a row unique."""

    name: str
    title_zh: str
    grain: str
    columns: tuple[EntryColumn, ...]
    key: tuple[str, ...] = ()


class Binding(Fact):
    """目录挂接: the real thing an entry stands for.

    connection: where a source is fetched (`CITY_DROP:venue/entry/*/entry_*.ndjson`) · table: a table of the lake ·
    delivery: a regular delivery to the big-data center · dataset: a published open dataset · page: a dashboard.
    `on_demand`: a table that is written only when there is something to say; its absence is no dead binding.
    """

    kind: BindingKind
    target: str
    on_demand: bool = False


class Entry(Fact):
    """One entry. `id`: contract id of a source or output, table name otherwise, `dashboard.<exposure>` for a page.

    `upstream` and `downstream` are ids of entries, by tables; edges by column are a matter of lineage.
    `declared_in` is the file to edit, relative to the repository.
    """

    id: str
    kind: EntryKind
    layer: str
    domain: str
    classes: tuple[ClassLevel, ...]  # 1 信息资源分类
    title_zh: str  # 2 信息资源名称
    code: str | None  # 3 信息资源代码; None until one is assigned
    former_codes: tuple[str, ...]
    provider_name: str  # 4 信息资源提供方
    provider_uscc: str  # 5 信息资源提供方代码
    summary: str  # 6 信息资源摘要
    format_category: str  # 7 信息资源格式: 大类
    format_name: str  # 7 信息资源格式: 小类
    tables: tuple[EntryTable, ...]  # 8 信息项信息
    share: ShareTerms  # 9
    open: OpenTerms  # 10
    update_cycle: str  # 11 更新周期
    published_on: date | None  # 12 发布日期
    related: tuple[str, ...]  # 13 关联资源: ids of entries
    origin_zh: str  # 来源
    grade: str | None  # 安全等级: highest column; None when a column has none
    pi_mark: str | None
    owner_name: str  # responsible unit
    legal_basis: str
    retention: str
    crs: str | None
    keywords: tuple[str, ...]
    theme: str
    bindings: tuple[Binding, ...]
    upstream: tuple[str, ...]
    downstream: tuple[str, ...]
    version: str | None
    declared_in: str

    @property
    def columns(self) -> list[EntryColumn]:
        """The columns of all its tables."""
        return [column for table in self.tables for column in table.columns]

    @property
    def is_structured(self) -> bool:
        """Whether it has information items of its own (a page has none)."""
        return self.kind != "dashboard"

    @property
    def kind_zh(self) -> str:
        return KIND_ZH[self.kind]
