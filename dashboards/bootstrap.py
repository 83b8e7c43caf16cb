"""Prepare Superset's metadata database: schema, roles, accounts, assets. Runs in the cockpit environment.

Every Superset command costs about seven seconds of imports, so everything happens in one process, and the result can
be kept as a *template*: a SQLite file without secrets (no usable password, no machine path, nothing encrypted) that
a later start only copies.

    python -m dashboards.bootstrap template --out FILE        build the template (set-up time, about 40 s)
    python -m dashboards.bootstrap start-from-template --template FILE --port 8088
    python -m dashboards.bootstrap init                       the same on an existing or Postgres metadata database
    python -m dashboards.bootstrap passwords                  set the accounts' passwords from the environment

Superset's own Admin role is lent to an account that cannot sign in, while this runs, and taken back at its end; every start
takes it from any account that holds it nevertheless.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import logging
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dashboards import access
from dashboards import roles as generated_roles

HERE = Path(__file__).resolve().parent
REPO = HERE.parent
ACCOUNTS = {
    "security_admin": ("security_admin", "安全", "管理员"),
    "auditor": ("auditor", "审计", "员"),
    "system_admin": ("system_admin", "系统", "管理员"),
    "catalogue_editor": ("catalogue_editor", "目录", "编目员"),
    "leader": ("leader", "局", "领导"),
    "leader_xuhui": ("district_leader_310104", "徐汇区", "领导"),
    "analyst": ("analyst", "数据", "分析员"),
    "science": ("science_staff", "科研", "人员"),
    "coach_sq01": ("coach_SQ01", "中长跑队", "教练"),
}
"""User name → (role, family name shown, given name shown)."""

REQUIRED_ACCOUNTS = ("security_admin", "leader", "analyst")
"""Accounts that must have a password; the others are unusable until their variable is set."""

SETUP_ACCOUNT = "setup"
"""Owns what is imported; never signs in (inactive, a password nobody knows) and holds no role except while it imports."""

DASHBOARD_AUDIENCES = {"cockpit": ("cockpit", "analyst"), "district": ("district",), "coach": ("coach",)}
"""Slug of a dashboard → audiences whose roles open it."""

# A reader of one dashboard needs, beside Superset's read-only "public" set, a CSRF token and its own filter state; it may
# take a chart's figures along as CSV.
READER_PERMISSIONS = (
    ("can_language_pack", "Superset"),
    ("can_explore_json", "Superset"),
    ("can_csv", "Superset"),
    ("can_log", "Superset"),
    ("can_write", "Log"),
    ("can_read", "CurrentUserRestApi"),
    ("can_read", "SecurityRestApi"),
    ("can_read", "DashboardFilterStateRestApi"),
    ("can_write", "DashboardFilterStateRestApi"),
    ("can_read", "DashboardPermalinkRestApi"),
    ("can_write", "DashboardPermalinkRestApi"),
    ("can_this_form_get", "ResetMyPasswordView"),
    ("can_this_form_post", "ResetMyPasswordView"),
    ("resetmypassword", "UserDBModelView"),
)
# What Superset's "Gamma" brings along and an analyst of graded data must not have: publishing, uploads, sharing out.
ANALYST_DENIED_VIEWS = ("Theme", "Annotation", "CssTemplate", "ReportSchedule", "DynamicPlugin", "Embedded")


EXPORT = "can_csv"
"""What a reader of named data does not get: the figures of a chart as a file."""

ROW_FILTER = "scope:"
"""Names of the row filters that belong to us begin so."""


class MissingPassword(SystemExit):
    """An account's password variable is not set (exit code 2)."""


def password_variable(user: str) -> str:
    """Name of the environment variable that holds the password of ``user``."""
    return f"TIYU_COCKPIT_{user.upper()}_PASSWORD"


def fingerprint() -> str:
    """Hash of everything a template is made of: our code and declarations, and the locked environment."""
    digest = hashlib.sha256()
    files = [path for path in HERE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    files += (REPO / "sharing" / "serving" / "saved_queries").rglob("*.sql")
    files += (REPO / "catalog" / "policy").glob("*.yaml")
    lock = REPO / "requirements" / "cockpit.txt"
    for path in sorted([*files, *([lock] if lock.is_file() else [])]):
        digest.update(str(path.relative_to(REPO)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def log(message: str) -> None:
    print(f"[cockpit] {message}", file=sys.stderr, flush=True)


def _environment(home: Path, metadata_uri: str | None = None) -> None:
    """Point Superset at our configuration; generated values are used only where the caller gave none."""
    home.mkdir(parents=True, exist_ok=True)
    os.environ["TIYU_COCKPIT_HOME"] = str(home)
    os.environ["SUPERSET_CONFIG_PATH"] = str(HERE / "superset_config.py")
    os.environ.setdefault("TIYU_SERVING_ROOT", str(home / "serving"))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(REPO), *filter(None, [os.environ.get("PYTHONPATH")])])
    if metadata_uri:
        os.environ["SUPERSET_METADATA_URI"] = metadata_uri


def _roles(security: Any) -> dict[str, Any]:
    """Create or update our roles; Superset's own roles are synchronised by its own code."""
    permissions = security._get_all_pvms()
    readers = [name for name, found in access.roles().items() if found.audience in access.HOMES]
    for name in readers:
        security.set_role(name, security._is_public_pvm, permissions)
    askers = [name for name, found in access.roles().items() if found.audience in access.WINDOWS]
    for name in askers:
        security.set_role(
            name,
            lambda p: (
                (security._is_gamma_pvm(p) or security._is_sql_lab_pvm(p))
                and not any(str(p.view_menu.name).startswith(view) for view in ANALYST_DENIED_VIEWS)
            ),
            permissions,
        )
    roles = {name: security.find_role(name) for name in (*readers, *askers)}
    more = [found for name in READER_PERMISSIONS if (found := security.find_permission_view_menu(*name)) is not None]
    for name in readers:
        for found in more:
            if not (access.is_named(access.roles()[name].audience) and found.permission.name == EXPORT):
                security.add_permission_role(roles[name], found)
    return roles


def _generated_roles(security: Any) -> dict[str, Any]:
    """Roles of the policy that read no file, with exactly the permissions declared. Raises RuntimeError TIYU-COCKPIT-0019
    when Superset does not know one of them: better no start than a role that cannot do its work."""
    made = {}
    for name, permissions in generated_roles.generated().items():
        found = {pair: security.find_permission_view_menu(*pair) for pair in permissions}
        if missing := [f"{permission} on {view}" for (permission, view), one in found.items() if one is None]:
            raise RuntimeError(
                f"TIYU-COCKPIT-0019 Superset 中没有这些权限：{'、'.join(missing)}（版本已变化？）。处理办法：检查 dashboards/roles.py"
            )
        role = security.find_role(name) or security.add_role(name)
        role.permissions = list(found.values())
        made[name] = role
    return made


@contextlib.contextmanager
def lent_admin(security: Any, db: Any) -> Iterator[Any]:
    """The set-up account as the current user, with Superset's Admin role for as long as the block runs."""
    from superset.utils.core import override_user

    account = security.find_user(SETUP_ACCOUNT) or security.add_user(
        SETUP_ACCOUNT, "安装", "程序", f"{SETUP_ACCOUNT}@cockpit.invalid", [], password=secrets.token_urlsafe(32)
    )
    account.active, account.roles = False, [security.find_role(access.ADMIN)]
    db.session.commit()
    try:
        with override_user(account):
            yield account
    finally:
        db.session.rollback()
        account.roles = []
        db.session.commit()


def withdraw_admin(metadata_uri: str) -> list[str]:
    """Take Superset's Admin role from every account and group that holds it; returns the accounts' names.

    An account that held nothing else is made inactive. Works on the metadata database directly, as `set_passwords`.
    """
    import sqlalchemy

    engine = sqlalchemy.create_engine(metadata_uri)
    role = "(SELECT id FROM ab_role WHERE name = :admin)"
    with engine.begin() as connection:

        def run(statement: str) -> Any:
            return connection.execute(sqlalchemy.text(statement), {"admin": access.ADMIN})

        held = f"SELECT user_id FROM ab_user_role WHERE role_id IN {role}"
        names = [row[0] for row in run(f"SELECT username FROM ab_user WHERE id IN ({held}) ORDER BY 1")]
        others = f"SELECT user_id FROM ab_user_role WHERE role_id NOT IN {role}"
        off = sqlalchemy.text(f"UPDATE ab_user SET active = :off WHERE id IN ({held}) AND id NOT IN ({others})")
        connection.execute(off, {"admin": access.ADMIN, "off": False})
        run(f"DELETE FROM ab_user_role WHERE role_id IN {role}")
        run(f"DELETE FROM ab_group_role WHERE role_id IN {role}")
    engine.dispose()
    if names:
        log(f"已收回 Superset 自带的 {access.ADMIN} 角色：{'、'.join(names)}（管理职责由三员的角色承担）")
    return names


def _accounts(security: Any) -> None:
    """Create missing accounts without a usable password; keep the role of existing ones as declared."""
    for user, (role_name, last, first) in ACCOUNTS.items():
        role = security.find_role(role_name)
        account = security.find_user(user)
        if account is None:
            security.add_user(user, first, last, f"{user}@cockpit.invalid", role, password=secrets.token_urlsafe(32))
        elif [item.name for item in account.roles] != [role_name]:
            account.roles = [role]


def initialise(bundle: dict[str, str] | None = None) -> Any:
    """Bring the configured metadata database to the declared state. Idempotent; keeps users' own saved queries.

    bundle: other assets than the declared ones. Returns the :class:`dashboards.deploy.DeployReport`.
    """
    started = time.monotonic()
    # Migrations and synchronisation warn hundreds of times about nothing an operator can change.
    logging.disable(logging.WARNING)
    from superset.app import create_app

    app = create_app()
    with app.app_context():
        import flask_migrate
        from superset import db, security_manager
        from superset.extensions import appbuilder
        from superset.models.core import Database
        from superset.models.dashboard import Dashboard

        from dashboards import assets, deploy

        log("建立元数据库结构 …")
        with contextlib.redirect_stdout(sys.stderr):
            flask_migrate.upgrade()
        log(f"  完成（{time.monotonic() - started:.0f} 秒）；角色与账号 …")
        appbuilder.add_permissions(update_perms=True)
        security_manager.sync_role_definitions()
        roles = _roles(security_manager)
        others = _generated_roles(security_manager)
        _accounts(security_manager)
        db.session.commit()

        log("导入驾驶舱定义 …")
        with lent_admin(security_manager, db):
            report = deploy.install(bundle)
        removed = [*report.removed_dashboards, *report.removed_charts, *report.removed_datasets]
        log(f"  {report.files} 个文件、{report.charts} 个图表" + (f"；移除 {'、'.join(removed)}" if removed else ""))
        windows = {
            audience: db.session.query(Database).filter_by(uuid=uuid).one()
            for audience, uuid in assets.WINDOW_UUIDS.items()
        }
        for name, role in roles.items():
            audience = access.roles()[name].audience
            if audience in windows:
                reads = security_manager.add_permission_view_menu("database_access", windows[audience].perm)
                security_manager.add_permission_role(role, reads)
        for declared in assets.dashboards():
            dashboard = db.session.query(Dashboard).filter_by(uuid=declared.uuid).one()
            audiences = DASHBOARD_AUDIENCES[declared.slug]
            dashboard.roles = [role for name, role in roles.items() if access.roles()[name].audience in audiences]
        _row_filters(db, roles)
        _dataset_descriptions(db, security_manager, [others[name] for name in generated_roles.reads_definitions()])
        for user, (role, *_) in ACCOUNTS.items():
            if role in roles and (audience := access.roles()[role].audience) in windows:
                _saved_queries(db, security_manager.find_user(user), windows[audience], audience)
        db.session.commit()
    log(f"元数据库就绪（{time.monotonic() - started:.0f} 秒）")
    return report


def _dataset_descriptions(db: Any, security: Any, readers: list[Any]) -> None:
    """Let roles see what our datasets are called and mean; Superset lists a dataset only to who has access to it, and what
    answers with rows needs a further permission that these roles do not have."""
    from superset.connectors.sqla.models import SqlaTable

    for table in db.session.query(SqlaTable).filter_by(is_managed_externally=True):
        allowed = security.add_permission_view_menu("datasource_access", table.perm)
        for role in readers:
            security.add_permission_role(role, allowed)


def _row_filters(db: Any, roles: dict[str, Any]) -> None:
    """The second line behind the cut files: a filter for each scoped role on every dataset that says whose its rows are.

    Filters of one group are alternatives, so a role without a scope gets one that lets everything through: holding
    more roles never shows less.
    """
    from superset.connectors.sqla.models import RowLevelSecurityFilter, SqlaTable
    from superset.utils.core import RowLevelSecurityFilterType

    from dashboards import assets

    columns = {column for found in access.roles().values() if (column := access.scope_column(found.audience))}
    carrying = {column: set(assets.scoped_dataset_uuids(column)) for column in columns}
    managed = list(db.session.query(SqlaTable))
    names = set()
    for name, role in roles.items():
        found = access.roles()[name]
        column = access.scope_column(found.audience)
        wanted = carrying[column] if column else set().union(*carrying.values())
        row = db.session.query(RowLevelSecurityFilter).filter_by(name=f"{ROW_FILTER}{name}").one_or_none()
        row = row or RowLevelSecurityFilter(name=f"{ROW_FILTER}{name}")
        row.filter_type, row.group_key = RowLevelSecurityFilterType.REGULAR.value, "scope"
        # The comparison with the whole city is allowed by the policy, but no chart of a district shows it as a row.
        row.clause = "1 = 1" if found.scope is None else f"{column} = '{found.scope}'"
        row.roles, row.tables = [role], [table for table in managed if str(table.uuid) in wanted]
        row.description = "第二道行过滤；第一道是按范围裁切的数据文件"
        db.session.add(row)
        names.add(row.name)
    for row in db.session.query(RowLevelSecurityFilter):
        if row.name.startswith(ROW_FILTER) and row.name not in names:
            db.session.delete(row)


def _saved_queries(db: Any, owner: Any, database: Any, audience: str) -> None:
    """Give an account the declared saved queries of its audience (SQL Lab shows a user only his own)."""
    from superset.models.sql_lab import SavedQuery

    from dashboards import assets

    declared = {query["uuid"]: query for query in assets.saved_queries(audience)}
    existing = {str(row.uuid): row for row in db.session.query(SavedQuery).filter_by(user_id=owner.id)}
    for uuid, query in declared.items():
        # The analyst may change or add queries; a declared one returns to its text when the code changes.
        row = existing.get(uuid) or SavedQuery(uuid=uuid, user_id=owner.id)
        row.created_by_fk = row.changed_by_fk = owner.id
        row.database, row.schema = database, query["schema"]
        row.label, row.description, row.sql = query["label"], query["description"], query["sql"]
        db.session.add(row)


def set_passwords(metadata_uri: str) -> int:
    """Set the accounts' passwords from ``TIYU_COCKPIT_<USER>_PASSWORD``; returns how many were changed.

    Works on the metadata database directly (no Superset import: a second instead of eight). A password that already
    matches is left alone, so running sessions survive. Raises :class:`MissingPassword` when a variable is missing.
    """
    missing = [password_variable(user) for user in REQUIRED_ACCOUNTS if not os.environ.get(password_variable(user))]
    if missing:
        print(
            f"TIYU-COCKPIT-0007 缺少账号口令：{'、'.join(missing)}。处理办法：设置这些环境变量后重试", file=sys.stderr
        )
        raise MissingPassword(2)
    import sqlalchemy
    from werkzeug.security import check_password_hash, generate_password_hash

    changed = 0
    engine = sqlalchemy.create_engine(metadata_uri)
    with engine.begin() as connection:
        for user in ACCOUNTS:
            wanted = os.environ.get(password_variable(user))
            if not wanted:
                continue
            select = sqlalchemy.text("SELECT password FROM ab_user WHERE username = :user")
            current: str | None = connection.execute(select, {"user": user}).scalar_one()
            if current and check_password_hash(current, wanted):
                continue
            update = sqlalchemy.text("UPDATE ab_user SET password = :hash, active = :on WHERE username = :user")
            connection.execute(update, {"hash": generate_password_hash(wanted), "user": user, "on": True})
            changed += 1
    engine.dispose()
    return changed


def build_template(out: Path, *, force: bool = False) -> bool:
    """Write the template metadata database to ``out`` (atomically); False when it is already up to date."""
    stamp = out.with_name(out.name + ".fingerprint")
    wanted = fingerprint()
    if not force and out.is_file() and stamp.is_file() and stamp.read_text().strip() == wanted:
        log(f"模板已是最新：{out}")
        return False
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tiyu-cockpit-") as scratch:
        database = Path(scratch) / "superset.db"
        # The template must not depend on this machine: neither its key nor its data is used.
        os.environ["SUPERSET_SECRET_KEY"] = secrets.token_urlsafe(48)
        os.environ["TIYU_SERVING_ROOT"] = str(Path(scratch) / "serving")
        _environment(Path(scratch), f"sqlite:///{database}?check_same_thread=false")
        initialise()
        partial = out.with_name(out.name + ".tmp")
        shutil.copyfile(database, partial)
        os.replace(partial, out)
    stamp.write_text(wanted + "\n")
    log(f"模板：{out}（{out.stat().st_size / 1e6:.1f} MB）")
    return True


def prepare_home(home: Path, template: Path) -> None:
    """Make ``home`` ready to serve from ``template``: copy at the first start, bring up to date when code changed."""
    _environment(home)
    database, origin = home / "superset.db", home / "superset.db.fingerprint"
    wanted_file = template.with_name(template.name + ".fingerprint")
    if not template.is_file() or not wanted_file.is_file():
        print(f"TIYU-COCKPIT-0008 没有模板 {template}。处理办法：先运行 python -m dashboards.bootstrap template --out {template}",
              file=sys.stderr)  # fmt: skip
        raise SystemExit(2)
    wanted = wanted_file.read_text().strip()
    if not database.is_file():
        partial = home / "superset.db.tmp"
        shutil.copyfile(template, partial)
        os.replace(partial, database)
        origin.write_text(wanted + "\n")
    elif not origin.is_file() or origin.read_text().strip() != wanted:
        log("驾驶舱定义有变化，更新已有元数据库 …")
        initialise()
        origin.write_text(wanted + "\n")
    withdraw_admin(f"sqlite:///{database}")
    set_passwords(f"sqlite:///{database}")


def gunicorn_arguments(host: str, port: int, threads: int = 8) -> list[str]:
    """Command line of the web server: one worker (SQLite metadata), threads for parallel charts."""
    return [
        str(Path(sys.executable).with_name("gunicorn")),
        "--workers", "1", "--worker-class", "gthread", "--threads", str(threads), "--timeout", "120",
        "--limit-request-line", "0", "--limit-request-field_size", "0", "--no-control-socket",
        "--bind", f"{host}:{port}", "superset.app:create_app()",
    ]  # fmt: skip


def serve(host: str, port: int) -> None:
    """Replace this process by the web server (so a supervisor's signal reaches it)."""
    os.chdir(os.environ["TIYU_COCKPIT_HOME"])
    os.environ.setdefault("SCARF_ANALYTICS", "false")
    arguments = gunicorn_arguments(host, port)
    log(f"启动驾驶舱 http://{host}:{port}/login/")
    os.execv(arguments[0], arguments)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m dashboards.bootstrap", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    template = commands.add_parser("template", help="build the template metadata database")
    template.add_argument("--out", type=Path, required=True)
    template.add_argument("--force", action="store_true", help="rebuild even when up to date")
    start = commands.add_parser("start-from-template", help="copy the template if needed, set passwords, serve")
    start.add_argument("--template", type=Path, required=True)
    start.add_argument("--prepare-only", action="store_true", help="do not start the web server")
    commands.add_parser("init", help="initialise or update the configured metadata database and set passwords")
    commands.add_parser("passwords", help="set the accounts' passwords from the environment")
    plain = commands.add_parser("serve", help="start the web server on an initialised metadata database")
    for command in (start, plain):
        command.add_argument("--host", default="127.0.0.1")
        command.add_argument("--port", type=int, default=8088)
    options = parser.parse_args(argv)

    if options.command == "template":
        build_template(options.out.resolve(), force=options.force)
        return
    for name in ("SUPERSET_SECRET_KEY", "TIYU_COCKPIT_HOME"):
        if not os.environ.get(name):
            print(f"TIYU-COCKPIT-0001 缺少环境变量 {name}。处理办法：设置后重试", file=sys.stderr)
            raise SystemExit(2)
    home = Path(os.environ["TIYU_COCKPIT_HOME"]).resolve()
    metadata_uri = os.environ.get("SUPERSET_METADATA_URI") or f"sqlite:///{home / 'superset.db'}"
    if options.command == "start-from-template":
        prepare_home(home, options.template.resolve())
        if not options.prepare_only:
            serve(options.host, options.port)
        return
    _environment(home)
    if options.command == "init":
        initialise()
    withdraw_admin(metadata_uri)
    if options.command in ("init", "passwords"):
        log(f"已更新 {set_passwords(metadata_uri)} 个账号的口令")
    if options.command == "serve":
        serve(options.host, options.port)


if __name__ == "__main__":
    main()
