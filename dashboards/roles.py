"""What the roles of the policy that read no serving file may do in Superset: the three administrators and the catalogue
editor. Names only; needs neither Superset nor the pipeline's environment.

Which roles there are, and which of the three administrators one is, says the policy; what a duty means in Superset's
own permissions stands here. Every list is complete: what is not in it, the role cannot do. None of them holds a
permission that answers with data (tests/unit/dashboards/test_roles.py), and behind that no connection opens for them
(`access.through`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dashboards import access

Permission = tuple[str, str]
"""(permission, view) as Superset names them."""

SIGNED_IN: tuple[Permission, ...] = (
    ("can_language_pack", "Superset"),
    ("can_log", "Superset"),
    ("can_write", "Log"),
    ("can_get", "MenuApi"),
    ("can_read", "CurrentUserRestApi"),
    ("can_read", "SecurityRestApi"),
    ("can_read", "user"),
    ("can_userinfo", "UserDBModelView"),
    ("resetmypassword", "UserDBModelView"),
    ("can_this_form_get", "ResetMyPasswordView"),
    ("can_this_form_post", "ResetMyPasswordView"),
)
"""What every account needs: its own page, its own password, a CSRF token, Chinese."""

_WHO_HOLDS_WHAT: tuple[Permission, ...] = (
    ("can_read", "security"),
    ("can_get", "User"),
    ("can_info", "User"),
    ("can_get", "Role"),
    ("can_info", "Role"),
    ("can_list_role_permissions", "Role"),
    ("can_list_roles", "RoleRestAPI"),
    ("can_get", "Group"),
    ("menu_access", "Security"),
    ("menu_access", "List Users"),
    ("menu_access", "List Roles"),
)

DUTIES: Mapping[str, tuple[Permission, ...]] = {
    # Accounts and which role each holds. The roles themselves are generated from the policy and not edited here, accounts are
    # made inactive and not deleted, so that the log keeps its names.
    "security": (
        *_WHO_HOLDS_WHAT,
        ("can_post", "User"),
        ("can_put", "User"),
        ("can_read", "Row Level Security"),
        ("menu_access", "Row Level Security"),
    ),
    # The log of what was done, and who holds which role; changes nothing.
    "audit": (*_WHO_HOLDS_WHAT, ("can_read", "Log"), ("menu_access", "Action Log")),
    # Runs the service: starts, updates and restores it on its machine; inside Superset only makes it forget figures.
    "system": (("can_invalidate", "CacheRestApi"),),
}
"""Duty of an administrator in the policy → permissions beside `SIGNED_IN`."""

CATALOGUE: tuple[Permission, ...] = (("can_read", "Dataset"), ("menu_access", "Datasets"))
"""The catalogue editor reads what the datasets and their columns are called and mean, and no row of them."""

HOMES = {
    "security": "/users/",
    "audit": "/actionlog/list",
    "system": "/user_info/",
    "catalogue": "/tablemodelview/list/",
}
"""Duty (or `catalogue`) → first page after signing in."""


def _kinds() -> dict[str, str]:
    """Role of the policy → duty, or `catalogue`, for the roles generated here."""
    found = {}
    for name, role in access.declared_roles().items():
        if role.get("duty"):
            found[name] = role["duty"]
        elif role["audience"] == "catalogue":
            found[name] = "catalogue"
    return found


def generated() -> dict[str, tuple[Permission, ...]]:
    """Superset role → its permissions, for every role of the policy that administers or edits the catalogue.

    Raises KeyError for a duty that nobody described in Superset's words.
    """
    return {name: SIGNED_IN + (CATALOGUE if kind == "catalogue" else DUTIES[kind]) for name, kind in _kinds().items()}


def reads_definitions() -> list[str]:
    """Roles that see the datasets' descriptions."""
    return [name for name, kind in _kinds().items() if kind == "catalogue"]


def home_of(held: Iterable[str]) -> str | None:
    """First page of an account that holds one of these roles."""
    kinds = _kinds()
    return next((HOMES[kinds[name]] for name in held if name in kinds), None)


def assignable() -> set[str]:
    """The Superset roles that an account may be given: those generated from the policy, never Superset's own."""
    return {*access.roles(), *generated()}
