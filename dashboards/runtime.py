"""What Superset needs at run time and does not have: serving files by name, a cache that follows them, query limits,
a Chinese login page and a map of the districts. Imported by ``superset_config`` only.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from flask_caching.backends.filesystemcache import FileSystemCache
from sqlalchemy.engine.url import URL

from dashboards import access, assignment, roles

DUCKDB_LOCKDOWN: Mapping[str, Any] = {
    "threads": 2,
    "memory_limit": "1GB",
    "enable_external_access": False,
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "temp_directory": "",
}
"""DuckDB start-up settings of every connection. ``access_mode=read_only`` alone is no sandbox: read_csv() and COPY TO
still reach the file system, so external access is off."""

LOCK_DOWN = ("SET disabled_filesystems = 'LocalFileSystem'", "SET lock_configuration = true")
"""Run on every new connection, once the file is open. External access off still leaves the opened file and its ``.wal``
to COPY TO (which SQL Lab does not count as writing): an analyst could lay a false log beside the file for everyone."""

_LOCKING = threading.Lock()

# Wrong or missing strings of Superset's Chinese language pack ("Sign in" is translated as "Not In").
ZH_CORRECTIONS = {
    "Sign in": "登录",
    "Sign in with": "登录方式",
    "Enter your login and password below:": "请输入用户名和密码",
    "Username:": "用户名",
    "Password:": "密码",
    "Filters and controls": "筛选",
    "Apply filters": "应用",
    "Clear all": "清除",
    "No filter": "全部",
    "No filters": "全部",
    "SQL Lab": "SQL 查询",
    "Dashboards": "驾驶舱",
    "Select all": "全选",
    "Users": "用户",
    "Current": "本期",
    "Extra Controls": "更多",
    "More filters": "更多筛选",
    "View as table": "以表格查看",
    "Drill by": "按维度下钻",
    "entries": "行",
    "entries per page": "行／页",
    "Show %s entries": "显示 %s 行",
    "N/A": "无",
    "Select schema": "选择模式",
    "Enter a part of the object name": "按表名查找",
    "More Options": "更多选项",
    "Forbidden": "无权访问",
    "You don't have permission to access this page.": "您没有权限访问此页面。",
}

LOGO_SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 300 40" width="300" height="40">
<rect x="1" y="3" width="34" height="34" rx="8" fill="#0b4f9e"/>
<path d="M8 28 L15 18 L20 23 L28 11" fill="none" stroke="#fff" stroke-width="3.4" stroke-linecap="round"
 stroke-linejoin="round"/><circle cx="28" cy="11" r="3.2" fill="#ffb020"/>
<text x="45" y="28" font-size="22" font-weight="700" fill="#10243e"
 font-family="'Noto Sans CJK SC','PingFang SC','Microsoft YaHei',sans-serif">上海体育数据平台</text></svg>"""


def serving_path(found: access.Access) -> Path:
    """The serving file somebody reads."""
    return Path(os.environ["TIYU_SERVING_ROOT"]) / found.file


def lock_down(connection: Any, record: Any = None) -> None:
    """Take the file system from a new DuckDB connection and lock its configuration.

    Connections of one process to one file share an instance, so another one may have locked it already.
    """
    del record
    cursor = connection.cursor()
    with _LOCKING:
        cursor.execute("SELECT current_setting('lock_configuration')")
        if cursor.fetchone()[0] in (True, "true"):
            return
        for statement in LOCK_DOWN:
            cursor.execute(statement)


STAMP = "SELECT text FROM served.main.catalog_notice WHERE name = '构建指纹'"


@lru_cache(maxsize=256)
def _cut_under(path: Path, _identity: str) -> str:
    """The digest of the policy a serving file was cut under; empty when the file does not say it."""
    import duckdb

    # A private instance: one of its own on the file would share the settings of whoever has it open.
    connection = duckdb.connect(":memory:")
    try:
        connection.execute(f"ATTACH '{str(path).replace(chr(39), chr(39) * 2)}' AS served (READ_ONLY)")
        row = connection.execute(STAMP).fetchone()
    except duckdb.Error:
        return ""
    finally:
        connection.close()
    return str(row[0]).partition(".")[2] if row else ""


def check_policy(found: access.Access) -> None:
    """Raise :class:`access.Refused` TIYU-COCKPIT-0020 when the file was not cut under the policy in force.

    A file that is not there is no stale file: opening it says so itself.
    """
    path = serving_path(found)
    if path.is_file() and _cut_under(path, serving_stamp(found)) != access.policy_digest(found.audience):
        raise access.Refused(
            "TIYU-COCKPIT-0020 数据文件不是按现行展示策略裁切的，暂不提供。处理办法：请运维人员运行 tiyu serve，随后刷新页面"
        )


def mutate_connection(
    uri: URL, params: dict[str, Any], username: str | None, security_manager: Any, source: Any
) -> tuple[URL, dict[str, Any]]:
    """``DB_CONNECTION_MUTATOR``: turn ``duckdb:///cockpit`` into the locked-down, read-only serving file of this user.

    The assets therefore hold no machine path, and nothing an administrator types into a database object can loosen
    the sandbox or open another audience's file: address and configuration are replaced, not merged. A user whom
    nobody gave a role, and a call without a user, is refused.
    """
    del source
    if uri.get_backend_name() != "duckdb":
        raise ValueError(
            f"TIYU-COCKPIT-0003 驾驶舱只连接 DuckDB 服务文件，不连接 {uri.get_backend_name()}。处理办法：删除该数据库连接"
        )
    user = security_manager.find_user(username) if username else None
    held = [role.name for role in user.roles] if user is not None and user.is_active else []
    try:
        found = access.through((uri.database or "").strip("/"), held)
        check_policy(found)
    except access.Refused as refused:
        raise _forbidden(refused) from None
    connect_args = {"read_only": True, "config": dict(DUCKDB_LOCKDOWN)}
    locked = {**params, "connect_args": connect_args, "pool_events": [(lock_down, "connect")]}
    return uri.set(database=str(serving_path(found)), query={}), locked


def _forbidden(refused: access.Refused) -> Exception:
    """The refusal as Superset answers it: 403 with our code and what to do, instead of a failure of the server."""
    from superset.errors import ErrorLevel, SupersetError, SupersetErrorType
    from superset.exceptions import SupersetSecurityException

    kind = SupersetErrorType.DATABASE_SECURITY_ACCESS_ERROR
    return SupersetSecurityException(SupersetError(message=str(refused), error_type=kind, level=ErrorLevel.ERROR))


NOBODY = "nobody"
"""Cache label outside a request and for an account that reads no file; no figure is ever computed there."""


def current_access() -> access.Access | None:
    """What the user of this request reads; None outside a request and for one who reads nothing."""
    from flask import g, has_app_context

    user = getattr(g, "user", None) if has_app_context() else None
    if user is None or not getattr(user, "is_authenticated", False):
        return None
    known = getattr(g, "_tiyu_access", None)
    if known is None or known[0] is not user:  # the user may be changed inside one request
        try:
            found = access.of([role.name for role in user.roles])
        except access.Refused:
            found = None
        known = g._tiyu_access = (user, found)
    return known[1]


def serving_stamp(found: access.Access) -> str:
    """Identity of somebody's serving file as it is now: changes whenever the file is replaced."""
    try:
        stat = serving_path(found).stat()
    except (FileNotFoundError, KeyError):
        return "none"
    return f"{stat.st_mtime_ns:x}-{stat.st_ino:x}-{stat.st_size:x}"


class ServingCache(FileSystemCache):
    """A file cache whose entries are valid only for the serving file they were computed from.

    An entry is kept under the file its reader reads and the identity of that file: readers of one file share it, a
    reader of another file can never meet it, and after a publication everybody misses. So nobody has to call Superset
    after a publication, and no key of Superset's own needs to know about scopes.
    Nothing is kept of what a reader of named persons was answered: the file alone holds names.
    """

    @classmethod
    def factory(cls, app: Any, config: Mapping[str, Any], args: list[Any], kwargs: dict[str, Any]) -> ServingCache:
        """Entry point Flask-Caching calls for a class named in ``CACHE_TYPE``."""
        del app
        args.insert(0, config["CACHE_DIR"])
        kwargs.update(threshold=config["CACHE_THRESHOLD"], default_timeout=config["CACHE_DEFAULT_TIMEOUT"])
        return cls(*args, **kwargs)

    def _get_filename(self, key: str) -> str:
        # cachelib's own counter file must stay where it is, or pruning would lose count at each publication.
        if key == self._fs_count_file:
            return super()._get_filename(key)
        found = current_access()
        return self._filename_for(key, found)

    def _filename_for(self, key: str, found: access.Access | None) -> str:
        label, stamp = (NOBODY, "none") if found is None else (found.label, serving_stamp(found))
        # Figures of a file that was cut under an older policy are not met either.
        rules = "none" if found is None else access.policy_digest(found.audience)
        return super()._get_filename(f"{label}:{stamp}:{rules}:{key}")

    def set(self, key: str, value: Any, timeout: int | None = None, mgmt_element: bool = False) -> bool:
        """Keep an answer, unless its reader sees persons by name."""
        found = current_access()
        if not mgmt_element and found is not None and access.is_named(found.audience):
            return False
        return bool(super().set(key, value, timeout, mgmt_element))

    def delete(self, key: str, mgmt_element: bool = False) -> bool:
        """Forget a key for the readers of every file: who invalidates a figure is not who reads it."""
        del mgmt_element
        for found in [None, *set(access.roles().values())]:
            with contextlib.suppress(FileNotFoundError):
                os.remove(self._filename_for(key, found))
                self._update_count(delta=-1)
        return True


def install_statement_timeout(seconds: float) -> None:
    """Abort a DuckDB statement after ``seconds``.

    DuckDB has no statement timeout, Superset's SQLLAB_TIMEOUT uses SIGALRM (main thread only, never a gthread worker)
    and raw DB-API cursors bypass SQLAlchemy events; the cursor wrapper of duckdb-engine is what every query passes.
    """
    import duckdb
    import duckdb_engine

    original: Callable[..., Any] = duckdb_engine.CursorWrapper.execute
    if getattr(original, "tiyu_timeout", None) is not None:
        return

    def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        connection = self._CursorWrapper__c
        fired = threading.Event()

        def stop() -> None:
            fired.set()
            connection.interrupt()

        timer = threading.Timer(seconds, stop)
        timer.daemon = True
        timer.start()
        try:
            return original(self, *args, **kwargs)
        except (duckdb.InterruptException, RuntimeError) as error:
            if fired.is_set():
                raise duckdb.OperationalError(
                    f"TIYU-COCKPIT-0004 查询超过 {seconds:.0f} 秒，已被中止。处理办法：缩小日期范围或先汇总再查询"
                ) from error
            raise
        finally:
            timer.cancel()

    execute.tiyu_timeout = seconds  # type: ignore[attr-defined]
    duckdb_engine.CursorWrapper.execute = execute  # type: ignore[method-assign]


def chinese_language_pack(superset_root: Path) -> bytes:
    """Superset's Chinese language pack with our corrections, as JSON bytes."""
    pack = json.loads((superset_root / "translations/zh/LC_MESSAGES/messages.json").read_text("utf8"))
    pack["locale_data"]["superset"].update({key: [value] for key, value in ZH_CORRECTIONS.items()})
    return json.dumps(pack, ensure_ascii=False).encode()


TELEMETRY = re.compile(r"https://apachesuperset\.gateway\.scarf\.sh/pixel/[^`\"']*")
EMPTY_PICTURE = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


def frontend_overrides(superset_root: Path) -> tuple[str, dict[str, bytes]]:
    """(URL of the built-in map to answer with the districts, URL → script without the telemetry picture).

    Superset's country map has no setting for one's own borders, so the file of a country we never show (Singapore) is
    answered with ours. Every page also asks a foreign host for a tracking picture, with no switch in the released
    package; the content security policy blocks it, and the script served is one that does not ask. Raises
    ``RuntimeError`` when an upgrade moved the map: better no start than a silently wrong one.
    """
    map_path, scripts = None, {}
    for bundle in sorted((superset_root / "static/assets").glob("*.entry.js")):
        text = bundle.read_text("utf8", "ignore")
        match = re.search(r'singapore:\w+\.p\+"([0-9a-f]+\.geojson)"', text)
        if match:
            map_path = f"/static/assets/{match.group(1)}"
        if "gateway.scarf.sh" in text:
            scripts[f"/static/assets/{bundle.name}"] = TELEMETRY.sub(EMPTY_PICTURE, text).encode()
    if map_path is None:
        raise RuntimeError(
            "TIYU-COCKPIT-0005 未找到 Superset 地图资源（版本已变化？）。处理办法：检查 dashboards/runtime.py 的地图替换规则"
        )
    return map_path, scripts


def personalised(text: str, name: str, placeholder: str = access.PLACEHOLDERS["district"]) -> str:
    """JSON text with the placeholder replaced, also where it is escaped (also twice, as JSON inside JSON)."""

    def escaped(match: re.Match[str]) -> str:
        return "".join(f"{match[1]}u{ord(letter):04x}" for letter in name)

    first, second = (f"{ord(letter):04x}" for letter in placeholder)
    return re.sub(rf"(\\+)u{first}\1u{second}", escaped, text.replace(placeholder, name))


def _name_the_scope(app: Any) -> None:
    """Titles of dashboards and charts say 徐汇区 to 徐汇区's leader; data never passes here."""
    from flask import request

    @app.after_request
    def replace(response: Any) -> Any:
        if not request.path.startswith("/api/v1/dashboard/") or response.mimetype != "application/json":
            return response
        found = current_access()
        if found is None or found.scope_name is None or response.is_streamed:
            return response
        placeholder = access.PLACEHOLDERS[found.audience]
        response.set_data(personalised(response.get_data(as_text=True), found.scope_name, placeholder))
        # Two accounts in one browser must not meet each other's titles.
        response.headers.pop("ETag", None)
        response.headers["Cache-Control"] = "no-store"
        return response


PATHS_THAT_OPEN_SESSIONS = ("/login", "/logout", "/api/v1/security/")
"""Where a session without a user may be written: login, logout, and the CSRF token of token-authenticated clients."""


def _login_safe_sessions(app: Any) -> None:
    """Let only the pages that open a session write an anonymous session cookie.

    The session lives in the cookie and Superset renews it with every answer. An answer to a request sent before login
    but arriving after it would put the anonymous session back and throw the user out again.
    """
    from flask import request
    from flask.sessions import SecureCookieSessionInterface, SessionMixin

    class LoginSafeSessions(SecureCookieSessionInterface):
        def should_set_cookie(self, app: Any, session: SessionMixin) -> bool:
            if "_user_id" not in session and not request.path.startswith(PATHS_THAT_OPEN_SESSIONS):
                return False
            return super().should_set_cookie(app, session)

    app.session_interface = LoginSafeSessions()


def _database_id(name: str) -> int | None:
    """Number of a Superset database object by its name; None before it has been deployed."""
    from superset import db
    from superset.models.core import Database

    found = db.session.query(Database.id).filter(Database.database_name == name).one_or_none()
    return found[0] if found else None


def flask_app_mutator(app: Any) -> None:
    """``FLASK_APP_MUTATOR``: Chinese before login, districts for the map, and the cockpit as a leader's first page."""
    import superset
    from flask import Response, redirect, request

    root = Path(superset.__file__).parent
    pack = chinese_language_pack(root)
    map_path, scripts = frontend_overrides(root)
    geojson = Path(os.environ.get("TIYU_MAP_GEOJSON") or Path(os.environ["TIYU_COCKPIT_HOME"]) / "districts.geojson")

    _login_safe_sessions(app)
    _name_the_scope(app)
    assignment.install(app)

    @app.before_request
    def answer_overrides() -> Any:
        if request.path == "/superset/language_pack/zh/":
            return Response(pack, mimetype="application/json", headers={"Cache-Control": "public, max-age=3600"})
        if request.path in scripts:
            headers = {"Cache-Control": "public, max-age=3600"}
            return Response(scripts[request.path], mimetype="application/javascript", headers=headers)
        if request.path == map_path:
            if not geojson.is_file():
                return Response(
                    "TIYU-COCKPIT-0006 缺少区界示意图文件", status=503, mimetype="text/plain; charset=utf-8"
                )
            headers = {"Cache-Control": "no-cache"}
            return Response(geojson.read_bytes(), mimetype="application/geo+json", headers=headers)
        if request.path == "/sqllab/" and "sql" in request.args and "dbid" not in request.args:
            number = _database_id(access.WINDOWS["analyst"])
            if number is not None:  # a query handed over by address opens without "choose a database" in its way
                return redirect(f"/sqllab/?{urlencode({**request.args, 'dbid': number})}")
        if request.path in ("/", "/superset/welcome/"):
            from flask_login import current_user

            held = [role.name for role in getattr(current_user, "roles", [])]
            home = access.home_of(held)
            if home:
                return redirect(f"/superset/dashboard/{home}/")
            if page := roles.home_of(held):
                return redirect(page)
        return None
