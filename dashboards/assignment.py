"""Giving an account its roles, as the policy allows it: the guard before Superset's own account interface, and a line in the
log for every change of an account.

The security administrator gives roles that are generated from the policy, never Superset's own, never to himself, and
never two that one person may not hold. Imported by ``runtime`` only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dashboards import access, roles

ACCOUNTS = "/api/v1/security/users/"
GUARDED = ("/api/v1/security/users/", "/api/v1/security/roles/", "/api/v1/security/groups/")
"""Where accounts, roles and groups change; every change there is logged."""

CHANGES = ("POST", "PUT", "PATCH", "DELETE")


def objection(held: Iterable[str], *, groups: bool = False, own: bool = False) -> str | None:
    """Why an account may not be given these Superset roles (TIYU-COCKPIT-0018), in Chinese; None when it may.

    groups: it is also put into groups, which would bring roles past this check. own: it is the account of who gives them.
    """
    held = list(held)
    reason = None
    if foreign := sorted(set(held) - roles.assignable()):
        reason = f"角色 {'、'.join(foreign)} 不是展示策略中的角色"
    elif found := access.conflict(held):
        reason = found
    elif groups:
        reason = "不使用用户组，角色直接授予账号"
    elif own:
        reason = "不能改动自己的角色"
    return reason and (
        f"TIYU-COCKPIT-0018 不能这样授予角色：{reason}。处理办法：只授予 catalog/policy/policy.yaml 中的角色，一人一个职责"
    )


def install(app: Any) -> None:
    """Check and log changes of accounts."""
    from flask import jsonify, request

    @app.before_request
    def check() -> Any:
        if request.method not in ("POST", "PUT", "PATCH") or not request.path.startswith(ACCOUNTS):
            return None
        body = request.get_json(silent=True)
        if not isinstance(body, dict):
            return None  # Superset's own schema refuses it
        given = _names(body.get("roles"))
        refused = objection(given, groups=bool(body.get("groups")), own="roles" in body and _is_own(given))
        if refused is None:
            return None
        answer = jsonify({"message": refused})
        answer.status_code = 422
        return answer

    @app.after_request
    def note(response: Any) -> Any:
        if request.method in CHANGES and request.path.startswith(GUARDED):
            _log(response.status_code)
        return response


def _names(numbers: Any) -> list[str]:
    """Names of the roles with these numbers; a number without a role stands for itself and is no role of the policy."""
    from superset import db, security_manager

    wanted = numbers if isinstance(numbers, list) else []
    model = security_manager.role_model
    known = {
        role.id: role.name
        for role in db.session.query(model).filter(model.id.in_([n for n in wanted if _is_number(n)]))
    }
    return [known.get(number, str(number)) if _is_number(number) else str(number) for number in wanted]


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_own(given: list[str]) -> bool:
    """Whether the account of this request changes its own roles."""
    from flask import request

    account = _account()
    if account is None or request.path.removeprefix(ACCOUNTS).strip("/") != str(account.id):
        return False
    return sorted(given) != sorted(role.name for role in account.roles)


def _account() -> Any:
    """The account of this request, by its session or by the token it carries; None when it has neither.

    Superset looks at a token only behind these checks. A token that is not valid is left for it to refuse.
    """
    from flask_jwt_extended import verify_jwt_in_request
    from flask_jwt_extended.exceptions import JWTExtendedException
    from flask_login import current_user
    from jwt.exceptions import PyJWTError
    from superset import security_manager

    if not current_user.is_authenticated:
        try:
            verify_jwt_in_request(optional=True)
        except (JWTExtendedException, PyJWTError):
            return None
    return security_manager.current_user


def _log(status: int) -> None:
    """Who changed which account or role and with what result; no password, no other value of the request."""
    from flask import request
    from superset.extensions import event_logger

    body = request.get_json(silent=True)
    body = body if isinstance(body, dict) else {}
    record = {
        "path": request.path,
        "status": status,
        "account": str(body.get("username", ""))[:64],
        "changed": sorted(str(name)[:40] for name in body),
        "roles": _names(body.get("roles")),
        "active": body.get("active") if isinstance(body.get("active"), bool) else None,
    }
    action = f"{request.path.split('/')[4]}.{request.method.lower()}"
    event_logger.log(getattr(_account(), "id", None), action, None, None, None, None, records=[record])
