"""Roles: what a person holds, which audience it makes of them, and which roles nobody may hold together."""

from __future__ import annotations

from collections.abc import Iterable

from catalog.policy import declaration
from catalog.policy.declaration import Policy
from lake.errors import EXIT_USAGE, TiyuError


def audience_of(role: str) -> str:
    """The audience of a role; raises TIYU-POL-0002 for a role nobody declared."""
    found = declaration.current().roles.get(role)
    if found is None:
        raise TiyuError(
            "TIYU-POL-0002", "没有这个角色", "角色在 catalog/policy/policy.yaml 中声明", EXIT_USAGE, role=role
        )
    return found.audience


def conflicts(roles: Iterable[str], policy: Policy | None = None) -> list[str]:
    """Why one person may not hold these roles together, in Chinese; empty when they may."""
    declared = policy or declaration.current()
    held = sorted(set(roles))
    found = [f"没有声明的角色 {name}" for name in held if name not in declared.roles]
    known = [name for name in held if name in declared.roles]
    if len(known) < 2:
        return found
    title = {name: declared.roles[name].title for name in known}
    admins = [name for name in known if declared.roles[name].kind == "admin"]
    if len({declared.roles[name].duty for name in admins}) > 1:
        found.append(f"三员分立：{'、'.join(title[name] for name in admins)} 不得由一人兼任")
    if declared.combination.admin_alone and admins and len(admins) < len(known):
        others = [title[name] for name in known if name not in admins]
        found.append(f"管理角色 {'、'.join(title[n] for n in admins)} 不得兼任 {'、'.join(others)}")
    for name in known:
        if declared.roles[name].alone:
            found.append(f"{title[name]} 不得与任何其他角色兼任：{declared.roles[name].basis}")
    return found


def check_assignment(roles: Iterable[str]) -> None:
    """Raise TIYU-POL-0003 with the reasons when one person may not hold these roles together."""
    reasons = conflicts(roles)
    if reasons:
        raise TiyuError(
            "TIYU-POL-0003",
            "这些角色不能由同一人持有",
            "减少角色，或由不同的人分别持有",
            EXIT_USAGE,
            reasons="；".join(reasons),
        )
