"""Superset configuration of the cockpit; everything that differs between installations comes from the environment.

Required: SUPERSET_SECRET_KEY (32+ random bytes, kept stable), TIYU_COCKPIT_HOME (state folder), TIYU_SERVING_ROOT
(folder of cockpit.duckdb and analyst.duckdb). Optional: TIYU_MAP_GEOJSON (district borders, default
HOME/districts.geojson), SUPERSET_METADATA_URI (default SQLite in HOME), TIYU_COCKPIT_HTTPS=1 (secure cookies),
TIYU_COCKPIT_STATEMENT_TIMEOUT (seconds, default 30), GUEST_TOKEN_JWT_SECRET.
"""

import base64
import os
from typing import Any

from superset.config import THEME_DEFAULT as _BASE_THEME

from dashboards import runtime as _runtime
from dashboards.palette import CATEGORICAL, SEQUENTIAL


def _required(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise SystemExit(f"TIYU-COCKPIT-0001 缺少环境变量 {name}。处理办法：设置后重新启动")
    return value


SECRET_KEY = _required("SUPERSET_SECRET_KEY")
HOME = _required("TIYU_COCKPIT_HOME")
_required("TIYU_SERVING_ROOT")
SQLALCHEMY_DATABASE_URI = os.environ.get("SUPERSET_METADATA_URI") or (
    f"sqlite:///{HOME}/superset.db?check_same_thread=false"
)
GUEST_TOKEN_JWT_SECRET = os.environ.get("GUEST_TOKEN_JWT_SECRET") or f"guest:{SECRET_KEY}"

# ---- language and look
APP_NAME = "体育数据驾驶舱"
BABEL_DEFAULT_LOCALE = "zh"
LANGUAGES = {"zh": {"flag": "cn", "name": "简体中文"}}
D3_FORMAT = {"decimal": ".", "thousands": ",", "grouping": [3], "currency": ["¥", ""]}
D3_TIME_FORMAT = {
    "dateTime": "%Y-%m-%d %H:%M:%S",
    "date": "%Y-%m-%d",
    "time": "%H:%M:%S",
    "periods": ["上午", "下午"],
    "days": ["星期日", "星期一", "星期二", "星期三", "星期四", "星期五", "星期六"],
    "shortDays": ["日", "一", "二", "三", "四", "五", "六"],
    "months": [f"{month}月" for month in range(1, 13)],
    "shortMonths": [f"{month}月" for month in range(1, 13)],
}
_LOGO = "data:image/svg+xml;base64," + base64.b64encode(_runtime.LOGO_SVG.encode()).decode()
FAVICONS = [{"href": _LOGO}]
THEME_DEFAULT: dict[str, Any] = {
    **_BASE_THEME,
    "token": {
        **_BASE_THEME["token"],
        "brandAppName": APP_NAME,
        "brandLogoAlt": APP_NAME,
        "brandLogoUrl": _LOGO,
        "brandLogoHeight": "30px",
        "brandLogoMargin": "13px 0",
        "colorPrimary": "#0b5cad",
        "colorLink": "#0b5cad",
        "colorError": "#c8102e",
        "colorWarning": "#e07b00",
        "colorSuccess": "#1f8a4c",
        "fontFamily": "'Noto Sans CJK SC', 'PingFang SC', 'Microsoft YaHei', Inter, sans-serif",
    },
}
THEME_DARK = None
ENABLE_UI_THEME_ADMINISTRATION = False
EXTRA_CATEGORICAL_COLOR_SCHEMES = [
    {"id": "tiyu", "description": "", "label": "体育", "isDefault": True, "colors": list(CATEGORICAL)}
]
EXTRA_SEQUENTIAL_COLOR_SCHEMES = [
    {"id": "tiyu_blue", "description": "", "isDiverging": False, "label": "体育蓝", "isDefault": True,
     "colors": list(SEQUENTIAL)}
]  # fmt: skip
# Handlebars cards use class names and the dashboard's own style sheet; script and style attributes stay forbidden.
HTML_SANITIZATION = True
HTML_SANITIZATION_SCHEMA_EXTENSIONS = {"attributes": {"*": ["className"]}}

# ---- features
FEATURE_FLAGS = {
    "DASHBOARD_RBAC": True,
    "RLS_IN_SQLLAB": True,
    "ENABLE_TEMPLATE_PROCESSING": False,
    "EMBEDDED_SUPERSET": False,
    "EMBEDDABLE_CHARTS": False,
    "TAGGING_SYSTEM": False,
    "ALERT_REPORTS": False,
    "THUMBNAILS": False,
    "ALLOW_ADHOC_SUBQUERY": False,
    "DRILL_TO_DETAIL": True,
    "DRILL_BY": True,
}
ROW_LIMIT = 5000
SQL_MAX_ROW = 100_000
DISPLAY_MAX_ROW = 10_000
SUPERSET_WEBSERVER_TIMEOUT = 60

# ---- data: only the locked serving files, never longer than the limit
DB_CONNECTION_MUTATOR = _runtime.mutate_connection
FLASK_APP_MUTATOR = _runtime.flask_app_mutator
STATEMENT_TIMEOUT_SECONDS = float(os.environ.get("TIYU_COCKPIT_STATEMENT_TIMEOUT") or 30)
SQLLAB_TIMEOUT = int(STATEMENT_TIMEOUT_SECONDS) + 5
_runtime.install_statement_timeout(STATEMENT_TIMEOUT_SECONDS)
# Superset calls a DuckDB address "unsafe"; ours can only reach the two serving files (mutate_connection).
PREVENT_UNSAFE_DB_CONNECTIONS = False

# ---- caches: figures follow the serving file, the rest is plain state
CACHE_CONFIG: dict[str, Any] = {
    "CACHE_TYPE": "dashboards.runtime.ServingCache",
    "CACHE_DIR": f"{HOME}/cache/data",
    "CACHE_DEFAULT_TIMEOUT": 3600,
    "CACHE_THRESHOLD": 5000,
}
DATA_CACHE_CONFIG = CACHE_CONFIG  # one backend, or Superset's own cachekey/invalidate deletes from the wrong one
STORE_CACHE_KEYS_IN_METADATA_DB = True  # without it cachekey/invalidate answers 201 and does nothing
FILTER_STATE_CACHE_CONFIG: dict[str, Any] = {
    "CACHE_TYPE": "FileSystemCache",
    "CACHE_DIR": f"{HOME}/cache/filter",
    "CACHE_DEFAULT_TIMEOUT": 86400,
    "CACHE_THRESHOLD": 5000,
}
EXPLORE_FORM_DATA_CACHE_CONFIG: dict[str, Any] = {**FILTER_STATE_CACHE_CONFIG, "CACHE_DIR": f"{HOME}/cache/explore"}

# ---- security
WTF_CSRF_ENABLED = True
AUTH_RATE_LIMITED = True
RATELIMIT_ENABLED = True
RATELIMIT_APPLICATION = "300 per second"
RATELIMIT_STORAGE_URI = "memory://"
_HTTPS = os.environ.get("TIYU_COCKPIT_HTTPS") == "1"
ENABLE_CORS = False
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = _HTTPS
TALISMAN_ENABLED = True
CONTENT_SECURITY_POLICY_WARNING = False
TALISMAN_CONFIG = {
    # Nothing may leave the page's own origin: this also stops Superset's telemetry pixel. 'unsafe-eval' is what the
    # chart code (Handlebars templates, chart loaders) needs.
    "content_security_policy": {
        "base-uri": ["'self'"],
        "default-src": ["'self'"],
        "img-src": ["'self'", "blob:", "data:"],
        "worker-src": ["'self'", "blob:"],
        "connect-src": ["'self'"],
        "object-src": "'none'",
        "style-src": ["'self'", "'unsafe-inline'"],
        "script-src": ["'self'", "'strict-dynamic'", "'unsafe-eval'"],
        "font-src": ["'self'", "data:"],
        "frame-ancestors": ["'self'"],
    },
    "content_security_policy_nonce_in": ["script-src"],
    "force_https": _HTTPS,
    "session_cookie_secure": _HTTPS,
}
