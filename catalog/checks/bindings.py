"""目录挂接: an entry is bound to something real, and nothing real is without an entry.

Without a lake bindings are judged against the declarations (a model has SQL, an output has an exposure that reads its
table, a page reads tables that exist). With one they are judged against what is really there: tables are stored and have
exactly the columns that are described, and the probes of the rooms above look at serving files, the outbox, published
versions, pages and sources.
"""

from __future__ import annotations

from catalog.checks.base import Check, Context, Findings
from catalog.entries import Binding, Entry
from lake import tables

_DESCRIBE = (
    "在模型旁的 _*.yml 中写 name、description 和每一列的 data_type、description、meta（title、grade、pi_mark、unit），"
    "再运行 tiyu catalog assign"
)


def _dead(context: Context, entry: Entry, binding: Binding) -> str | None:
    """Why a binding leads nowhere; None when it is alive."""
    project = context.project
    match binding.kind:
        case "table":
            if entry.kind == "table":
                known = project.tables.get(binding.target)
                return None if known and known.sql else "没有这张表的模型文件"
            return None if binding.target in context.tables else "没有任何声明说明这张表"
        case "page":
            missing = sorted(set(project.exposures[binding.target].depends_on) - set(context.tables))
            return f"页面所读的表不存在：{'、'.join(missing)}" if missing else None
        case "delivery" | "dataset":
            read = {table for exposure in project.exposures.values() for table in exposure.depends_on}
            outs = [b.target for b in entry.bindings if b.kind == "table"]
            return None if set(outs) <= read else "没有登记读取这张表的交付或发布（exposures.yml）"
        case "connection":
            connection, _, what = binding.target.partition(":")
            return None if connection and what else "没有接入地址"


def run(context: Context, found: Findings) -> None:
    """Bound entries over all entries; what is stored or declared without an entry."""
    stored = _stored(context, found) if context.lake else None
    for entry in context.entries.values():
        reasons = [(b, why) for b in entry.bindings if (why := _dead(context, entry, b))]
        if stored is not None:
            reasons += [
                (b, "湖仓里没有这张表")
                for b in entry.bindings
                if b.kind == "table" and not b.on_demand and b.target not in stored
            ]
        if context.lake:
            reasons += _probed(context, entry, {b for b, _ in reasons}, found)
        found.count("bindings", len(entry.bindings))
        found.count("bound", bool(entry.bindings) and not reasons)
        if not entry.bindings:
            found.add("unbound", entry.id, "条目没有挂接任何表、文件或接口")
        for binding, why in reasons:
            found.add("dead_binding", f"{entry.id}→{binding.target}", f"挂接失效：{why}")
    for name, path in context.project.undescribed.items():
        found.add("uncatalogued", name, f"模型没有目录说明（{path.name}）：{_DESCRIBE}")
    described = set(context.tables)
    for name, table in context.project.tables.items():
        if table.is_source and name not in described:
            found.add("uncatalogued", name, "dbt 声明的来源表没有契约或参考表说明")
        for needed in sorted(table.depends_on - described):
            found.add("dead_reference", f"{name}→{needed}", "模型读取的表没有目录说明")
    for exposure in context.project.exposures.values():
        if exposure.type != "dashboard":
            for needed in sorted(set(exposure.depends_on) - described):
                found.add("dead_reference", f"{exposure.name}→{needed}", "登记的使用方读取的表没有目录说明")


_SEEN = {
    "table": "服务文件中的表", "delivery": "交付目录", "dataset": "开放版本目录", "page": "展示页面", "connection": "接入点",
}  # fmt: skip


def _probed(context: Context, entry: Entry, dead: set[Binding], found: Findings) -> list[tuple[Binding, str]]:
    """Bindings whose real thing is not there; those that are dead by declaration are not looked for."""
    reasons = []
    for binding in entry.bindings:
        probe = context.probes.get(binding.kind)
        if probe is None or binding in dead:
            continue
        seen = probe(entry, binding)
        found.count(f"seen_{binding.kind}", seen.examined)
        if seen.dead is not None:
            reasons.append((binding, seen.dead))
        elif not seen.examined and binding.kind != "table":
            found.count("unseen", 1)
    return reasons


def _stored(context: Context, found: Findings) -> set[str]:
    """Names of the tables in the lake, each compared with what is described."""
    names = tables.all_tables()
    for name in names:
        stored = [field.name for field in tables.open_table(name).schema().fields]
        described = context.tables.get(name)
        found.count("stored_tables", 1)
        found.count("stored_columns", len(stored))
        if described is None:
            found.add("uncatalogued", name, "湖仓里的表没有目录条目")
            continue
        for column in stored:
            if column not in described:
                found.add("undescribed", f"{name}.{column}", "湖仓里的列没有目录说明")
        for column in described:
            if column not in stored:
                found.add("dead_column", f"{name}.{column}", "目录说明的列在湖仓里不存在")
    if not names:
        found.add("nothing_examined", "stored_tables", "湖仓里没有任何表，检查本身不算通过")
    return set(names)


CHECK = Check(
    "bindings",
    "目录挂接",
    run,
    counts={"bindings": "挂接", "bound": "已挂接条目"},
    may_be_none={
        "stored_tables": "湖仓表",
        "stored_columns": "湖仓列",
        **{f"seen_{kind}": word for kind, word in _SEEN.items()},
        "unseen": "无从核对的挂接",
    },
)
