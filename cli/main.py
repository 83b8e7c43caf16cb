"""Entry point of `tiyu`: collects the command modules and turns errors into exit codes.

Exit codes: 0 ok · 1 a check failed or data is wrong · 2 wrong usage · 3 a source, service or key is unavailable ·
4 internal error.
"""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import nullcontext

import typer

from cli import role
from cli.output import print_error
from lake import state, storage
from lake.errors import EXIT_INTERNAL, TiyuError

#: Command modules in the order `tiyu --help` shows them; each has ``register(app)``.
COMMANDS = (
    "ingest",
    "stream",
    "compact",
    "reconcile",
    "archive",
    "status",
    "catalog",
    "contract",
    "policy",
    "grade",
    "lineage",
    "build",
    "gate",
    "serve",
    "exchange",
    "open_data",
    "sql",
    "scratch",
    "describe",
    "trace",
    "row",
    "diff",
    "quarantine",
    "backfill",
    "reread",
    "backup",
    "ledger",
    "keys",
)


def build_app() -> typer.Typer:
    """The complete command tree (imports stay light: verbs are imported when they run)."""
    app = typer.Typer(
        name="tiyu",
        help="Tiyu Lakehouse 体育数据湖仓: ingest, check, build, serve, deliver and open the city's sports data.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name in COMMANDS:
        importlib.import_module(f"cli.{name}").register(app)
    role.guard(app)
    return app


def main() -> None:
    """Run the command line. Files it makes are for this account and its group only."""
    os.umask(0o027)
    from protection import redaction

    redaction.install()
    try:
        # a restore replaces what every other command works on
        at_work = nullcontext() if "restore" in sys.argv[1:2] else state.in_use()
        with storage.coded(), at_work:
            build_app()()
    except TiyuError as error:
        print_error(error, as_json="--json" in sys.argv)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:  # an unforeseen error: name its type, keep values out of the message
        if "TIYU_DEBUG" in os.environ:
            raise
        print_error(
            TiyuError(
                "TIYU-CLI-0001",
                "程序内部错误",
                "设置 TIYU_DEBUG=1 重跑以取得完整堆栈，并提交给维护者",
                EXIT_INTERNAL,
                type=type(error).__name__,
            ),
            as_json="--json" in sys.argv,
        )
        sys.exit(EXIT_INTERNAL)


if __name__ == "__main__":
    main()
