"""`tiyu grade`: suggest grades, grade what the lake holds, and read the history of decisions."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.output import AsJson, emit

_SCOPES = {"field": "字段", "table": "表", "resource": "资源"}


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="How sensitive each field, table and resource is, and why.", no_args_is_help=True)

    @group.command("suggest")
    def suggest(
        name: Annotated[
            list[str], typer.Argument(help="Column names or Chinese titles, for example idCardNo 联系电话.")
        ],
        as_json: AsJson = False,
    ) -> None:
        """Say what a column of this name would hold and how it would be graded, before a contract is written."""
        from catalog.detectors import names
        from catalog.grading import declarations

        grading = declarations.load()
        rows = []
        for text in name:
            for hit in names.detect(text):
                item = grading.item(hit.kind)
                level = grading.levels[item.degree]
                rows.append(
                    {"名称": text, "识别为": item.title, "依据": hit.evidence, "建议级别": level, "标识": item.mark, "理由": item.reason}
                )  # fmt: skip
        silent = [text for text in name if not names.detect(text)]
        emit(
            rows, as_json, table=rows, title="分级建议", note=f"没有识别出敏感项：{'、'.join(silent)}" if silent else ""
        )

    @group.command("run")
    def run(
        scan: Annotated[bool, typer.Option("--scan", help="Also look at the content of the source tables.")] = False,
        as_json: AsJson = False,
    ) -> None:
        """Grade every field, table and resource by what the lake holds now; exit code 1 when one is declared too low."""
        from quality import grades

        report = grades.run(scan=scan)
        table = [
            {"列": row["column"], "声明": row["declared"], "建议": row["suggested"], "规则": row["rule"], "依据": row["evidence"]}
            for row in report.low
        ]  # fmt: skip
        counts = report.examined
        emit(
            report.to_dict(), as_json, table=table or None, title="声明低于建议的列",
            note=f"检查了字段 {counts['fields']}、表 {counts['tables']}（计人 {counts['tables_counted']}）、资源 {counts['resources']}；"
            f"新记录决定 {len(report.decisions)} 条，升级 {'、'.join(report.raised) or '无'}",
        )  # fmt: skip
        if not report.ok:
            raise typer.Exit(1)

    @group.command("history")
    def history(
        subject: Annotated[
            str | None, typer.Argument(help="table.column, a table or a resource; default: tables and resources.")
        ] = None,
        as_json: AsJson = False,
    ) -> None:
        """Decisions about a subject in the order they were taken: level, rules, evidence, author and time."""
        from lake import ledger
        from lake.clock import SHANGHAI
        from lake.errors import EXIT_USAGE, TiyuError

        found = ledger.grade_decisions(subject)
        if subject is None:
            found = [row for row in found if row["scope"] != "field"]
        if not found:
            raise TiyuError(
                "TIYU-GRD-0003",
                "没有该对象的分级决定",
                "检查名称；尚未定级时先运行 tiyu grade run",
                EXIT_USAGE,
                subject=subject,
            )
        table = [
            {
                "范围": _SCOPES[row["scope"]],
                "对象": row["subject"],
                "级别": row["level"],
                "原级别": row["previous_level"] or "",
                "标识": row["mark"],
                "规则": row["rules"],
                "依据": row["evidence"],
                "决定者": row["author"],
                "时间": f"{row['decided_at'].astimezone(SHANGHAI):%Y-%m-%d %H:%M}",
            }
            for row in found
        ]
        emit(found, as_json, table=table, title="分级决定（时间为上海时间）")

    @group.command("certify")
    def certify(as_json: AsJson = False) -> None:
        """Compute the certificate of every breaker from the data that readers see; exit code 1 when one is invalid."""
        from dataclasses import asdict

        from modeling import certify as certificates

        found = certificates.certify_all()
        words = {"valid": "有效", "invalid": "无效", "empty": "尚无可见的组"}

        def percent(value: float | None) -> str:
            return "" if value is None else f"{value:.1%}"

        rows = [
            {
                "列": f"{c.table}.{c.column}",
                "措施": c.kind,
                "结果": words[c.status],
                "组数": c.evidence.groups,
                "最小组": c.evidence.smallest_group,
                "最大份额": percent(c.evidence.top1_share),
                "前二份额": percent(c.evidence.top2_share),
                "批准": c.approver,
                "到期": str(c.expires),
                "原因": "；".join(c.problems),
            }
            for c in found
        ]
        bad = sum(c.status == "invalid" for c in found)
        note = f"计算了 {len(found)} 份证书；{'没有问题' if not bad else f'{bad} 份无效'}"
        emit([asdict(c) for c in found], as_json, table=rows, title="降级措施证书", note=note)
        if bad:
            raise typer.Exit(1)

    app.add_typer(group, name="grade")
