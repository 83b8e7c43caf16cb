"""Saved queries: SQL files with a Chinese title and the question they answer, shown by `tiyu sql` and SQL Lab."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lake.errors import EXIT_INTERNAL, EXIT_USAGE, TiyuError

FOLDER = Path(__file__).parent / "saved_queries"


@dataclass(frozen=True)
class SavedQuery:
    """One saved query; `name` is the file's stem, `sql` runs on the analyst file without any setting."""

    name: str
    title: str
    question: str
    sql: str


def load_all(folder: Path = FOLDER) -> list[SavedQuery]:
    """All saved queries by name. Raises TIYU-SQL-0003 for a file without title, question or statement."""
    return [_read(file) for file in sorted(folder.glob("*.sql"))]


def load(name: str) -> SavedQuery:
    """One saved query by name or Chinese title; raises TIYU-SQL-0002 with the names there are."""
    found = load_all()
    for query in found:
        if name in (query.name, query.title):
            return query
    raise TiyuError(
        "TIYU-SQL-0002",
        "没有这个已存查询",
        f"可用：{'、'.join(f'{q.name}（{q.title}）' for q in found)}",
        EXIT_USAGE,
        name=name,
    )


def _read(file: Path) -> SavedQuery:
    fields = {"标题": "", "问题": ""}
    body = []
    for line in file.read_text("utf-8").splitlines():
        key, _, value = line.removeprefix("--").strip().partition("：")
        if line.startswith("--") and key in fields:
            fields[key] = value.strip()
        else:
            body.append(line)
    sql = "\n".join(body).strip().rstrip(";")
    if not (sql and fields["标题"] and fields["问题"]):
        raise TiyuError(
            "TIYU-SQL-0003",
            "已存查询缺少标题、问题或语句",
            "文件开头写 -- 标题：… 与 -- 问题：…",
            EXIT_INTERNAL,
            file=file.name,
        )
    return SavedQuery(file.stem, fields["标题"], fields["问题"], sql)
