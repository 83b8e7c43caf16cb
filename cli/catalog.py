"""`tiyu catalog`: check the declarations, publish them into the lake, write the data dictionary."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import AsJson, emit

Lake = Annotated[
    bool,
    typer.Option(
        "--lake", help="Judge bindings and columns against what is really there: tables, files, pages, sources."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="What data exists, what it means and how sensitive it is.", no_args_is_help=True)

    @group.command("check")
    def check(lake: Lake = False, as_json: AsJson = False) -> None:
        """Check everything that is declared; exit code 1 when anything is wrong or a check examined nothing.

        With --lake the real thing behind every binding is looked at: stored tables, serving files, the newest delivery and
        open version, the cockpit's page, and the sources whose TIYU_CONN_ variables are set.
        """
        from catalog import check as catalog_check
        from ingestion import bindings as sources
        from ingestion import drift_check
        from modeling import propagation_check
        from sharing.bindings import Surfaces

        surfaces = Surfaces()
        probes = {
            "connection": sources.connection, "table": surfaces.table, "delivery": surfaces.delivery,
            "dataset": surfaces.dataset, "page": surfaces.page,
        }  # fmt: skip
        report = catalog_check.run(lake=lake, more=[propagation_check.check(), drift_check.check()], probes=probes)
        titles = {"pass": "通过", "fail": "不通过", "error": "出错"}
        examined = "、".join(f"{report.words[name]} {count}" for name, count in report.examined.items())
        bound = f"目录挂接 {report.examined.get('bound', 0)}/{report.examined.get('entries', 0)}"
        if not as_json:
            emit(None, False, title="编目检查", table=[
                {
                    "检查": found.title_zh,
                    "检查了": "、".join(f"{found.words[name]} {count}" for name, count in found.examined.items()),
                    "结果": titles[found.outcome],
                    "问题": len(found.problems),
                }
                for found in report.checks
            ])  # fmt: skip
        emit(
            report.as_dict(),
            as_json,
            table=[{"问题": p.code, "位置": p.where, "说明": p.message_zh} for p in report.problems]
            if report.problems
            else None,
            title="编目检查发现的问题",
            note=f"检查了 {examined}。{bound}{'（对照湖仓）' if lake else '（对照声明；加 --lake 对照湖仓）'}；{'没有问题' if report.ok else f'发现 {len(report.problems)} 个问题'}",
        )
        if not report.ok:
            raise typer.Exit(1)

    @group.command("publish")
    def publish(as_json: AsJson = False) -> None:
        """Write the reference tables whose content changed into the lake, and changed meanings into table schemas."""
        from catalog import mirror
        from catalog.publish import publish_reference

        written, reworded = publish_reference(), mirror.refresh()
        told = [f"已发布：{'、'.join(written)}"] if written else ["参考数据没有变化"]
        told += [f"已更新列说明：{table} {count} 列" for table, count in reworded.items()]
        emit({"written": written, "reworded": reworded}, as_json, note="\n".join(told))

    @group.command("site")
    def site(as_json: AsJson = False) -> None:
        """Write the catalogue site with the newest freshness, row counts and quality history."""
        from lake.settings import settings
        from sharing.sites import catalogue

        counts = catalogue.build()
        page = settings().site_root / catalogue.FOLDER / "index.html"
        emit(
            {**counts, "page": str(page)}, as_json,
            note=f"条目 {counts['entries']}、信息项 {counts['columns']}、可见的表 {counts['tables_visible']}；"
            f"更新文件 {counts['changed']} 个；{page}",
        )  # fmt: skip

    @group.command("build")
    def build(as_json: AsJson = False) -> None:
        """Publish the reference tables and write the data dictionary under the installation's home."""
        from catalog import dictionary
        from catalog.publish import publish_reference

        written = publish_reference()
        files = [str(path) for path in dictionary.build()]
        emit(
            {"written": written, "files": files}, as_json, note="\n".join([*(f"已发布：{t}" for t in written), *files])
        )

    @group.command("export")
    def export(
        folder: Annotated[
            Path | None, typer.Option("--to", help="Folder to write to; default: catalog/export at home.")
        ] = None,
        as_json: AsJson = False,
    ) -> None:
        """Write the catalogue for others: government workbook (XLSX), DCAT-AP 3, ODCS, Frictionless."""
        from catalog import exports
        from lake import clock
        from lake.settings import settings

        files = exports.write(folder or settings().home / "catalog" / "export", issued=clock.today())
        shown = [path for path in files if path.parent.name != "odcs"]
        note = "\n".join([*map(str, shown), f"{files[-1].parent}（{len(files) - len(shown)} 个契约）"])
        emit({"files": [str(path) for path in files]}, as_json, note=note)

    @group.command("list")
    def list_entries(as_json: AsJson = False) -> None:
        """List every entry: sources, tables, outputs and pages."""
        from catalog import entries, vocabularies

        rows = [
            {
                "条目": entry.id,
                "名称": entry.title_zh,
                "种类": entry.kind_zh,
                "资源代码": entry.code,
                "更新周期": vocabularies.name_of("update_cycle", entry.update_cycle),
                "级别": entry.grade,
                "共享": vocabularies.name_of("share_type", entry.share.type),
                "开放": vocabularies.name_of("open_type", entry.open.type),
                "责任处室": entry.owner_name,
            }
            for entry in entries.load_all().values()
        ]
        emit(rows, as_json, table=rows, title="数据资源目录")

    @group.command("show")
    def show(
        entry_id: Annotated[
            str, typer.Argument(help="Entry or table: dwd_venue__visit, venue.booking, open.daily_visits.")
        ],
        as_json: AsJson = False,
    ) -> None:
        """Show one entry: the 13 core elements, terms, bindings, where it comes from and who uses it."""
        from catalog import entries
        from catalog.entries import sheet

        entry = entries.load(entry_id)
        emit(
            entry.model_dump(mode="json"),
            as_json,
            table=[{"元素": name, "内容": text} for name, text in sheet.lines(entry)],
            title=f"{entry.id}　{entry.title_zh}",
        )
        if not as_json and entry.columns:
            emit(None, False, table=sheet.columns(entry), title="信息项")

    @group.command("assign")
    def assign(as_json: AsJson = False) -> None:
        """Give a resource code to every entry that has none, by appending to the register."""
        from catalog import entries
        from catalog.entries import codes
        from lake import clock

        missing = [(entry.id, entry.domain) for entry in entries.load_all().values() if entry.code is None]
        done = codes.assign(missing, clock.today())
        rows = [{"条目": entry, "资源代码": code} for entry, code in done.codes.items()]
        emit(
            done.codes,
            as_json,
            table=rows or None,
            title="新编的资源代码",
            note="" if rows else "每个条目都已有资源代码",
        )

    @group.command("duplicates")
    def duplicates(as_json: AsJson = False) -> None:
        """List the items that several sources collect, with the declared reason (Data Regulation art. 30)."""
        from catalog import contracts
        from catalog.entries import collection, declared

        reasons = {reason.item: reason.reason_zh for reason in declared.collection().reasons}
        rows = [
            {
                "数据项": item.name,
                "个人信息": "是" if item.personal else "",
                "采集处": "、".join(f"{column.source}.{column.name}" for column in item.columns),
                "理由": reasons.get(item.name, "没有说明"),
            }
            for item in collection.items(contracts.load_all("source").values()).values()
            if len(item.sources) > 1
        ]
        emit(rows, as_json, table=rows, title="多个来源采集的数据项")

    @group.command("schema")
    def schema(as_json: AsJson = False) -> None:
        """Rewrite the published JSON Schema of the `tiyu` contract properties."""
        import json

        from catalog import contracts

        path = contracts.FOLDER / "tiyu.schema.json"
        text = json.dumps(contracts.tiyu_json_schema(), ensure_ascii=False, indent=2) + "\n"
        path.write_text(text, encoding="utf-8")
        emit({"file": str(path)}, as_json, note=str(path))

    app.add_typer(group, name="catalog")
