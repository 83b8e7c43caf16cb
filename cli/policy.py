"""`tiyu policy`: who may see what, where and why; and the proof that the policy holds together."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.output import AsJson, emit, print_table


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="Who may see what, where and why: prove, show, explain.", no_args_is_help=True)
    group.command("check")(check)
    group.command("show")(show)
    group.command("explain")(explain)
    app.add_typer(group, name="policy")


def check(as_json: AsJson = False) -> None:
    """Prove the policy over every grade, mark, identifier kind, audience, surface and subset of roles."""
    from catalog.policy import exhaustion

    proof = exhaustion.prove()
    counts = "、".join(f"{exhaustion.WORDS[name]} {count:,}" for name, count in proof.examined.items())
    emit(
        proof.as_dict(),
        as_json,
        table=[
            {"性质": exhaustion.PROPERTY_ZH[code], "比较": made, "违反": _broken(proof, code)}
            for code, made in proof.properties.items()
        ],
        title="展示策略穷举检查",
        note=f"检查了 {counts}，用时 {proof.seconds} 秒；"
        + ("全部成立" if proof.ok else f"{len(proof.violations)} 条性质不成立"),
    )
    if not as_json and proof.violations:
        print_table([{"性质": v.title_zh, "反例": v.example_zh} for v in proof.violations], "反例")
    if not proof.ok:
        raise typer.Exit(1)


def _broken(proof: Any, code: str) -> int:
    return sum(violation.count for violation in proof.violations if violation.code == code)


def show(
    audience: Annotated[
        str | None, typer.Argument(help="One audience or role, e.g. analyst, coach; all of them when left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show roles and audiences; for one of them, what it sees of each grade and identifier kind on each surface."""
    from catalog import policy

    declared = policy.current()
    if audience is None:
        rows = [_role_row(declared, name) for name in declared.roles]
        emit(rows, as_json, table=rows, title="角色、受众与展示面")
        return
    name = _audience(audience)
    who = declared.audiences[name]
    rows = [_matrix_row(declared, name, label, facet) for label, facet in _facets(declared)]
    scope = declared.row_scopes[who.rows].title
    note = f"行范围：{scope}" + (f"；目的：{who.purpose}" if who.purpose else "") + f"；依据：{who.basis}"
    emit({"audience": name, "title": who.title, "rows": who.rows, "basis": who.basis, "matrix": rows}, as_json, table=rows,
         title=f"{who.title}（{name}）", note=note)  # fmt: skip


def _role_row(declared: Any, name: str) -> dict[str, Any]:
    role = declared.roles[name]
    who = declared.audiences[role.audience]
    surfaces = [place.title.split("（")[0] for place in declared.surfaces.values() if role.audience in place.audiences]
    grades = [grade for grade, treatment in who.grades.items() if treatment != "absent"]
    return {
        "角色": role.title,
        "代码": name,
        "受众": role.audience,
        "最高级别": max(grades, default="无"),
        "行范围": declared.row_scopes[who.rows].title.split("（")[0],
        "展示面": "、".join(surfaces) or "无（不看数据）",
        "不得兼任": "是" if role.alone or role.kind == "admin" else "",
    }


def _facets(declared: Any) -> list[tuple[str, Any]]:
    """One line for each grade without an identifier, then one for each identifier kind at L3 and personal mark."""
    from catalog.policy import Facet

    plain = [
        (f"{grade} {mark}", Facet(grade, mark, None))
        for grade, mark in (("L1", "N"), ("L2", "N"), ("L3", "P"), ("L4", "S"))
    ]
    kinds = [
        (kind.title, Facet("L3" if kind.personal else "L1", "P" if kind.personal else "N", name))
        for name, kind in declared.kinds.items()
    ]
    return [*plain, *kinds]


def _matrix_row(declared: Any, audience: str, label: str, facet: Any) -> dict[str, Any]:
    from catalog import policy

    row: dict[str, Any] = {"数据": label}
    for name, place in declared.surfaces.items():
        if audience in place.audiences:
            row[place.title.split("（")[0]] = _answer(declared, policy.decide(audience, name, facet), facet.kind)
    return row


def _answer(declared: Any, decision: Any, kind: str | None) -> str:
    from catalog.policy.declaration import TREATMENT_ZH

    text = TREATMENT_ZH[decision.treatment]
    if decision.treatment != "masked":
        return text
    return f"{text}（{declared.kinds[kind].example if kind in declared.kinds else '***'}）"


def _audience(name: str) -> str:
    """The audience of a role's or an audience's name."""
    from catalog import policy
    from lake.errors import EXIT_USAGE, TiyuError

    declared = policy.current()
    if name in declared.audiences:
        return name
    if name in declared.roles:
        return declared.roles[name].audience
    raise TiyuError(
        "TIYU-POL-0004",
        "没有这个受众或角色",
        f"可用：{'、'.join([*declared.audiences, *declared.roles])}",
        EXIT_USAGE,
        name=name,
    )


def explain(
    column: Annotated[str, typer.Argument(help="table.column, e.g. dwd_fitness__checkin.person_token.")],
    who: Annotated[str, typer.Option("--who", help="Audience or role, e.g. analyst, leader, coach.")] = "analyst",
    surface: Annotated[
        str | None, typer.Option(help="One surface, e.g. sql_lab; every surface of the audience when left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what somebody sees of a column on a surface, and which rules make it so."""
    from catalog import policy
    from catalog.policy import explain as explaining

    audience = _audience(who)
    declared = policy.current()
    found = explaining.explain(column, audience, surface)
    if as_json:
        emit([answer.as_dict() for answer in found], True)
        return
    about = found[0].column
    emit(
        None,
        False,
        note=f"{about.table}.{about.name}　{about.title_zh}；{explaining.facet_zh(found[0].facet)}；受众：{declared.audiences[audience].title}",
    )
    print_table(
        [
            {
                "展示面": declared.surfaces[answer.surface].title,
                "看到": _answer(declared, answer.decision, answer.facet.kind),
                "因为": "；".join(dict.fromkeys(step.text_zh for step in answer.decision.why)),
                "依据": "；".join(dict.fromkeys(step.basis for step in answer.decision.why)),
            }
            for answer in found
        ]
    )
    emit(None, False, note="\n".join(dict.fromkeys(text for answer in found for text in answer.notes_zh)))
