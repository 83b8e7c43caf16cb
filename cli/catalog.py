"""`tiyu catalog`: check the declarations, publish them into the lake, write the data dictionary."""

from __future__ import annotations

import typer

from cli.output import AsJson, emit


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="What data exists, what it means and how sensitive it is.", no_args_is_help=True)

    @group.command("check")
    def check(as_json: AsJson = False) -> None:
        """Check contracts, columns, rules and outputs; exit code 1 when anything is wrong or nothing was examined."""
        from catalog import check as catalog_check

        report = catalog_check.run()
        titles = {"pass": "通过", "fail": "不通过", "error": "出错"}
        examined = "、".join(f"{report.words[name]} {count}" for name, count in report.examined.items())
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
            note=f"检查了 {examined}；{'没有问题' if report.ok else f'发现 {len(report.problems)} 个问题'}",
        )
        if not report.ok:
            raise typer.Exit(1)

    @group.command("publish")
    def publish(as_json: AsJson = False) -> None:
        """Write the reference tables whose content changed into the lake."""
        from catalog.publish import publish_reference

        written = publish_reference()
        emit({"written": written}, as_json, note=f"已发布：{'、'.join(written)}" if written else "参考数据没有变化")

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

    @group.command("list")
    def list_resources(as_json: AsJson = False) -> None:
        """List the catalogued resources and outputs."""
        from catalog import contracts

        rows = [
            {"资源": c.id, "名称": c.title, "更新周期": c.update_cycle_zh, "级别": c.grade, "责任处室": c.owner_name}
            for c in contracts.load_all().values()
        ]
        emit(rows, as_json, table=rows, title="数据资源")

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
