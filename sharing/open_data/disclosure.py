"""What must be true before a dataset leaves: grades, and for aggregates k-anonymity without totals beside gaps."""

from __future__ import annotations

import polars as pl

from lake.errors import TiyuError
from sharing import outputs
from sharing.open_data.config import DatasetSpec

TOTAL_CODES = ("310000",)
SUPPRESSED = "is_suppressed"


def check_grades(spec: DatasetSpec) -> int:
    """Refuse columns that the policy does not give to the public as they are; returns the number examined.

    Raises TIYU-OPEN-0002. The stricter of what the contract and the lake table say of a column counts.
    """
    refused = outputs.refused(spec.table, spec.columns, "open")
    if refused or not spec.columns:
        raise TiyuError(
            "TIYU-OPEN-0002",
            "展示策略不允许开放这些字段，拒绝发布",
            "从开放契约中移除该字段，或先脱敏降级并重新定级",
            dataset=spec.name,
            columns=refused or "契约没有字段",
        )
    return len(spec.columns)


def check_aggregate(spec: DatasetSpec, frame: pl.DataFrame) -> int:
    """Check an aggregated dataset before projection to its public columns; returns the number of cells examined.

    Rules (reference §2.6, DESIGN): a shown cell rests on at least k distinct tokens; a suppressed cell shows nothing;
    no total stands beside suppressed cells, because subtraction would bring them back.
    Raises TIYU-OPEN-0003. A dataset without ``k`` in its contract is not an aggregate: 0 cells, nothing to check.
    """
    if spec.k is None:
        return 0
    count_column = spec.count_column or "person_count"
    missing = [name for name in (SUPPRESSED, count_column) if name not in frame.columns]
    if missing:
        raise TiyuError(
            "TIYU-OPEN-0003",
            "缺少判断抑制所需的字段，拒绝发布",
            "让 ADS 模型给出 is_suppressed 与不同人数",
            dataset=spec.name,
            columns=missing,
        )
    public = {column.name for column in spec.columns}
    measures = [
        name
        for name, kind in frame.schema.items()
        if kind.is_numeric() and name not in spec.key and (name in public or name == count_column)
    ]
    suppressed = pl.col(SUPPRESSED).fill_null(True)
    below = frame.filter(~suppressed & (pl.col(count_column).fill_null(0) < spec.k)).height
    leaking = frame.filter(suppressed & pl.any_horizontal(pl.col(name).is_not_null() for name in measures)).height
    unmarked = frame.filter(pl.col(SUPPRESSED).is_null()).height
    totals = 0
    if "district_code" in frame.columns:
        totals = frame.filter(pl.col("district_code").is_null() | pl.col("district_code").is_in(TOTAL_CODES)).height
    if below or leaking or totals or unmarked:
        raise TiyuError(
            "TIYU-OPEN-0003",
            "存在小于 k 的单元格、未清空的抑制单元格或合计行，拒绝发布",
            "修正 ADS 模型的抑制规则后重跑",
            dataset=spec.name,
            k=spec.k,
            below_k=below or None,
            values_in_suppressed=leaking or None,
            totals=totals or None,
            unmarked=unmarked or None,
        )
    return frame.height
