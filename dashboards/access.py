"""Which serving file an account reads: its roles make exactly one audience and scope, or it reads nothing.

Needs neither Superset nor the pipeline's environment: the policy is read as the YAML it is. A Superset role is a role
of the policy; where the role's audience has scopes there is one Superset role for each, `district_leader_310104`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

REPO = Path(__file__).resolve().parent.parent
POLICY = REPO / "catalog" / "policy" / "policy.yaml"

ADMIN = "Admin"
"""Superset's own role that may do everything in Superset. It reads no file, and no account of ours holds it: it is lent to
the set-up while that runs (`bootstrap.initialise`)."""

WINDOWS = {"analyst": "分析数据", "science": "科研数据"}
"""Audience that asks in SQL Lab → name of its database there, a database object of its own."""

DOORS: dict[str, frozenset[str]] = {
    "cockpit": frozenset({"cockpit", "district", "coach", "analyst"}),
    **{audience: frozenset({audience}) for audience in WINDOWS},
}
"""Database object (the name in its address) → audiences that may come through it. Each comes to its own file."""

HOMES = {"cockpit": "cockpit", "district": "district", "coach": "coach"}
"""Audience → slug of the dashboard made for it."""

PLACEHOLDERS = {"district": "本区", "coach": "本队"}
"""What titles of a scoped audience's dashboard say; the reader sees the name of the own scope."""

WIDER = {"analyst": frozenset({"cockpit", "district"}), "cockpit": frozenset({"district"})}
"""Audience → audiences whose rows its file holds too; for accounts with several roles. Roles that the policy lets nobody
combine (science staff) are in none: together with another role they read nothing."""


class Refused(ValueError):
    """The account reads no serving file; the message carries a stable code and what to do."""


@dataclass(frozen=True)
class Access:
    """One audience, and one scope of it where it has scopes."""

    audience: str
    file: str
    scope: str | None = None
    scope_name: str | None = None

    @property
    def label(self) -> str:
        """Name under which results of this file are cached: whoever reads the same file shares them, nobody else."""
        return self.file.removesuffix(".duckdb")


@lru_cache(maxsize=4)
def _read(path: Path, _modified: int) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text("utf8")))


def _declared() -> dict[str, Any]:
    return _read(POLICY, POLICY.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _vocabulary(name: str) -> tuple[tuple[str, str], ...]:
    listed = yaml.safe_load((REPO / "catalog" / "vocabularies" / f"{name}.yaml").read_text("utf8"))["values"]
    return tuple((row["code"], row["name"]) for row in listed)


def scopes(audience: str) -> dict[str, str]:
    """Code → Chinese name of an audience's scopes; empty when it has one file with all rows."""
    rows = _declared()["row_scopes"][_declared()["audiences"][audience]["rows"]]
    if not rows.get("vocabulary"):
        return {}
    return {code: name for code, name in _vocabulary(rows["vocabulary"]) if code not in rows.get("without", ())}


def scope_column(audience: str) -> str | None:
    """Column by which the datasets of a scoped audience's dashboard tell whose row it is; None without scopes."""
    rows = _declared()["row_scopes"][_declared()["audiences"][audience]["rows"]]
    return f"{rows['vocabulary']}_code" if rows.get("vocabulary") else None


def is_named(audience: str) -> bool:
    """Whether the policy shows an audience persons by name."""
    return bool(_declared()["audiences"][audience].get("named"))


def _access(audience: str, scope: str | None) -> Access:
    file = _declared()["audiences"][audience]["file"]
    if scope is None:
        return Access(audience, file)
    return Access(audience, file.format(scope=scope), scope, scopes(audience)[scope])


def declared_roles() -> dict[str, dict[str, Any]]:
    """The roles of the policy as declared: title, audience, kind, and `alone` or `duty` where it says so."""
    return dict(_declared()["roles"])


@lru_cache(maxsize=1)
def roles() -> dict[str, Access]:
    """Every Superset role that reads a file → what it reads: the roles of the policy whose audience has one."""
    declared = _declared()
    wanted = {name: role["audience"] for name, role in declared["roles"].items()}
    found: dict[str, Access] = {}
    for role, audience in wanted.items():
        if not declared["audiences"][audience].get("file"):
            continue
        codes = scopes(audience)
        found |= (
            {f"{role}_{code}": _access(audience, code) for code in codes} if codes else {role: _access(audience, None)}
        )
    return found


def policy_role(name: str) -> str | None:
    """The role of the policy behind a Superset role, with or without a scope; None for Superset's own roles."""
    declared = _declared()["roles"]
    if name in declared:
        return name
    return next((role for role in declared if name.startswith(f"{role}_") and name in roles()), None)


def conflict(held: Iterable[str]) -> str | None:
    """Why one account may not hold these Superset roles together, in Chinese; None when it may.

    The same rule as `catalog.policy.roles.conflicts` (a test compares them over every subset), for Superset's
    environment: an administrator holds nothing else, nor does a role that is declared `alone`. Superset's Admin counts as
    an administrator.
    """
    held = set(held)
    declared = _declared()["roles"]
    known = sorted({role for name in held if (role := policy_role(name)) is not None})
    if ADMIN in held and known:
        return f"{ADMIN} 不得兼任 {'、'.join(declared[name]['title'] for name in known)}"
    if len(known) < 2:
        return None
    single = [name for name in known if declared[name].get("alone")]
    if _declared()["combination"]["admin_alone"]:
        single += [name for name in known if declared[name]["kind"] == "admin"]
    elif len(duties := [name for name in known if declared[name].get("duty")]) > 1:
        single += duties
    if not single:
        return None
    first = single[0]
    others = "、".join(declared[name]["title"] for name in known if name != first)
    return f"{declared[first]['title']} 不得兼任 {others}"


def of(held: Iterable[str]) -> Access:
    """What an account with these roles reads.

    Several roles are fine when one file holds the rows of all; two districts have no common file. Raises
    :class:`Refused`, TIYU-COCKPIT-0014 without any role that reads, 0015 when no single file fits, 0017 for roles that the
    policy does not let one person hold.
    """
    held = list(held)
    if reason := conflict(held):
        raise Refused(f"TIYU-COCKPIT-0017 该账号的角色不能由同一人持有：{reason}。处理办法：请安全管理员只保留一方")
    known = {roles()[name] for name in held if name in roles()}
    if not known:
        raise Refused("TIYU-COCKPIT-0014 该账号没有可读数据的角色。处理办法：请管理员授予一个角色（区级领导须写明区）")
    if len(known) == 1:
        return known.pop()
    for one in known:
        if all(other.audience in WIDER.get(one.audience, ()) for other in known - {one}):
            return one
    raise Refused(
        "TIYU-COCKPIT-0015 该账号有两个以上的数据范围，没有同时覆盖它们的文件。处理办法：只保留一个范围的角色"
    )


def through(door: str, held: Iterable[str]) -> Access:
    """The same, for one database object. Raises :class:`Refused` TIYU-COCKPIT-0002 for an object we did not declare,
    0014, 0015, and 0016 for an audience that the object is not for."""
    if door not in DOORS:
        raise Refused(
            f"TIYU-COCKPIT-0002 不允许打开的数据文件：{door}。处理办法：数据库连接只能是 "
            + "、".join(f"duckdb:///{name}" for name in DOORS)
        )
    found = of(held)
    if found.audience not in DOORS[door]:
        raise Refused(
            f"TIYU-COCKPIT-0016 该账号的角色不能使用数据库 {door}。处理办法：使用自己的看板或请管理员调整角色"
        )
    return found


@lru_cache(maxsize=64)
def _digest(audience: str, _modified: int) -> str:
    declared = _declared()
    who = declared["audiences"][audience]
    parts = {
        "audience": who,
        "surfaces": {name: place for name, place in declared["surfaces"].items() if audience in place["audiences"]},
        "kinds": declared["kinds"],
        "rows": declared["row_scopes"][who["rows"]],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def policy_digest(audience: str) -> str:
    """Hash of everything in the policy that decides what an audience's file holds; the same as
    `sharing.serving.policy.Audience.digest`, which the publisher writes into the file (a test compares them)."""
    return _digest(audience, POLICY.stat().st_mtime_ns)


def labels() -> list[str]:
    """Cache labels of all files."""
    return sorted({access.label for access in roles().values()})


def home_of(held: Iterable[str]) -> str | None:
    """Slug of the dashboard that is the first page of an account which has nothing but a dashboard."""
    try:
        found = of(held)
    except Refused:
        return None
    return HOMES.get(found.audience)
