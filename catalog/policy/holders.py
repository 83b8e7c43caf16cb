"""Who may act as which role on the command line, and which role a command is done under.

The operator owns `$TIYU_HOME/roles.yaml` (another place: TIYU_ROLES_FILE):

    accounts:
      wang: [analyst]            # account of the operating system → roles of the policy
      duty: [system_admin]

With the file, an account that is not in it may do nothing. Without it, only who may write the state folder, and so could write the
file too, may act, as one role a command. What a role may do is the policy's (`commands`, `surfaces`).
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from catalog import yamlfile
from catalog.policy import declaration
from catalog.policy.roles import conflicts
from catalog.problems import DeclarationError
from lake.errors import EXIT_USAGE, TiyuError
from lake.settings import settings

FIRST = "analyst"
"""The role an operator acts as where several fit and none is named."""


class _Holders(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    accounts: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Acting:
    """Who does a command, and under which role. `audience` is the role's."""

    account: str
    role: str
    audience: str


def account() -> str:
    """The account of the operating system this process runs as. Not from the environment, which its user writes."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's number without a name
        return str(os.geteuid())


def file() -> Path:
    """Where the operator says who holds what."""
    return Path(os.environ.get("TIYU_ROLES_FILE") or settings().home / "roles.yaml")


def held() -> tuple[str, ...]:
    """The roles this account may act as.

    Raises TIYU-POL-0008 for a file that others may write, that is not as described above, names an unknown role, or gives one
    account roles that one person may not hold.
    """
    path = file()
    if not path.is_file():
        home = settings().home
        may_write = os.access(home, os.W_OK) if home.exists() else True  # a state folder that is only now made
        return tuple(declaration.current().roles) if may_write else ()
    if path.stat().st_mode & 0o022:
        raise TiyuError(
            "TIYU-POL-0008", "账号与角色的文件可被他人改写，拒绝使用", f"运行 chmod go-w {path.name}，并核对其内容", EXIT_USAGE,
            file=path.name,
        )  # fmt: skip
    problems = []
    try:
        found = _Holders.model_validate(yamlfile.loads(path.read_text("utf-8")) or {})
    except (ValidationError, ValueError, yaml.YAMLError) as error:
        found, problems = _Holders(accounts={}), [str(error).splitlines()[0]]
    for name, roles in found.accounts.items():
        problems += [f"账号 {name}：{reason}" for reason in conflicts(roles)]
    if problems:
        raise DeclarationError(
            "TIYU-POL-0008", "账号与角色的文件有误", "写成 accounts: {账号: [角色]}；角色见 tiyu policy show", problems, file=path.name
        )  # fmt: skip
    return found.accounts.get(account(), ())


def fitting(command: str) -> tuple[str, ...]:
    """The roles of the policy that may do a command; none for a command that nobody declared."""
    declared = declaration.current()
    rule = declared.commands.get(command)
    if rule is None:
        return ()
    if rule.open:
        return tuple(declared.roles)
    if rule.surface is None:
        return rule.roles
    readers = declared.surfaces[rule.surface].audiences
    return tuple(name for name, role in declared.roles.items() if role.audience in readers)


def act(command: str, wanted: str | None = None) -> Acting:
    """The role a command is done under: the one wanted (or TIYU_ROLE), else the only one of this account that fits.

    Raises TIYU-POL-0002 for an unknown role, 0007 when the account does not hold the role or none that fits, 0009 when the role
    may not do the command, 0010 when several fit and none is named.
    """
    who, own, able = account(), held(), fitting(command)
    wanted = wanted or os.environ.get("TIYU_ROLE") or None
    if wanted is not None and wanted not in declaration.current().roles:
        raise TiyuError(
            "TIYU-POL-0002", "没有这个角色", "角色在 catalog/policy/policy.yaml 中声明", EXIT_USAGE, role=wanted
        )
    if wanted is not None and wanted not in own:
        raise TiyuError(
            "TIYU-POL-0007", "该账号不得以这个角色操作", "请运维人员在 roles.yaml 中授予角色，或换一个角色", EXIT_USAGE,
            account=who, role=wanted,
        )  # fmt: skip
    if wanted is not None and wanted not in able:
        raise TiyuError(
            "TIYU-POL-0009", "展示策略不允许这个角色使用这条命令", f"可用的角色：{'、'.join(able) or '无'}", EXIT_USAGE,
            command=command, role=wanted,
        )  # fmt: skip
    candidates = [wanted] if wanted is not None else [name for name in own if name in able]
    if not candidates:
        raise TiyuError(
            "TIYU-POL-0007", "该账号没有可使用这条命令的角色", "请运维人员在 roles.yaml 中授予角色", EXIT_USAGE,
            account=who, command=command, fitting="、".join(able),
        )  # fmt: skip
    if len(candidates) > 1 and file().is_file() and not declaration.current().commands[command].open:
        raise TiyuError(
            "TIYU-POL-0010", "该账号有多个角色可使用这条命令", "用 --as-role 或环境变量 TIYU_ROLE 指明一个", EXIT_USAGE,
            account=who, roles="、".join(candidates),
        )  # fmt: skip
    role = FIRST if FIRST in candidates else candidates[0]
    return Acting(who, role, declaration.current().roles[role].audience)
