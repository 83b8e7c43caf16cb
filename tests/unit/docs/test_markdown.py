"""What the pages point to is there: relative links, headings, pictures, and the commands they tell people to type."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).resolve().parents[3]
SKIPPED = {".git", ".venv", ".venv-cockpit", ".tools", "var", "build", "node_modules", ".pytest_cache"}
PAGES = sorted(p for p in ROOT.rglob("*.md") if not SKIPPED & set(p.relative_to(ROOT).parts))
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
TYPED = [*GUIDES, *sorted((ROOT / "docs" / "how_to").glob("*.md")), ROOT / "docs" / "next_engineer.md", ROOT / "README.md", ROOT / "README.zh-CN.md"]  # fmt: skip
_CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ +(.+?) *$", _CODE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"`", "", head).lower()).replace(" ", "-") for head in heads}


def broken(page: Path, text: str) -> list[str]:
    """Relative links of a page that lead nowhere."""
    found = []
    for target in _LINK.findall(_CODE.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        missing = not other.exists() or ROOT not in (other, *other.parents)
        if missing or (anchor and other.suffix == ".md" and anchor not in anchors(other.read_text("utf-8"))):
            found.append(target)
    return found


def test_every_relative_link_exists():
    links = {page: set(broken(page, page.read_text("utf-8"))) for page in PAGES}
    assert {str(page.relative_to(ROOT)): wrong for page, wrong in links.items() if wrong} == {}
    assert len(PAGES) > 30
    assert sum(len(_LINK.findall(page.read_text("utf-8"))) for page in PAGES) > 100


@pytest.mark.parametrize("link", ["no_such_page.md", "../LICENSE/x", "README.md#no-such-heading", "../../outside.md"])
def test_a_broken_link_is_seen(link):
    assert broken(ROOT / "docs" / "page.md", f"[x]({link}) [y](https://example.org) [z](../README.md)") == [link]


# ------------------------------------------------------------------ commands
def commands(text: str) -> list[list[str]]:
    """The arguments of every `tiyu …` that a page has people type: lines of code blocks, and inline code."""
    lines = [line for block in re.findall(r"^```bash[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) for line in block.splitlines()]  # fmt: skip
    # In a sentence a command may be named without its arguments: then it only has to exist.
    named = re.findall(r"(?<!`)`(tiyu [^`]+)`(?!`)", _CODE.sub("", text))
    lines += [f"{line} --help" if re.fullmatch(r"tiyu [a-z-]+( [a-z]+)?", line) else line for line in named]
    typed = [re.sub(r" \|\| .*$", "", line) for line in lines if line.startswith("tiyu ")]
    return [shlex.split(line, comments=True)[1:] for line in typed]


@pytest.fixture
def refusal(tmp_path, monkeypatch, capsys):
    """Parse arguments with the real command tree, without running anything; the refusal, empty when they are fine."""
    from cli.main import build_app

    root = typer.main.get_command(build_app())
    todo = [root]
    while todo:
        command = todo.pop()
        children = list(getattr(command, "commands", {}).values())
        todo += children
        if not children:
            command.callback = lambda **_: None
    (tmp_path / "var" / "exchange").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    def parse(arguments: list[str]) -> str:
        try:
            root(arguments, prog_name="tiyu")
        except SystemExit as end:
            told = capsys.readouterr()
            return (told.err or told.out or "refused") if end.code else ""
        return ""

    return parse


def test_every_command_in_the_pages_exists(refusal):
    wrong, examined = [], 0
    for page in TYPED:
        for arguments in commands(page.read_text("utf-8")):
            if any("$(" in item or "…" in item for item in arguments):
                continue
            examined += 1
            told = refusal(arguments)
            if told:
                wrong.append(f"{page.name}: tiyu {' '.join(arguments)}: {told}")
    assert wrong == []
    assert examined > 60


@pytest.mark.parametrize("line", ["dream", "sql --dream x", "exchange dream", "exchange status --days many", "ingest"])
def test_a_command_that_does_not_exist_is_seen(refusal, line):
    assert refusal(shlex.split(line)) != ""


def advised(text: str) -> list[list[str]]:
    """The arguments of every `tiyu …` in running text (a remedy in the list of error codes is not marked as code)."""
    found = re.findall(r"tiyu((?: (?:[a-z][a-z0-9_.-]*|--[a-z-]+))+)", text)
    return [list(words) for words in sorted({tuple(shlex.split(words)) for words in found})]


def wrong_advice(refusal, text: str) -> tuple[int, list[str]]:
    """How many commands a text advises, and those that no argument would make right."""
    given = advised(text)
    extra = ([], ["x"], ["x", "y"], ["--help"])  # arguments the sentence left out; help stands for a bare command only
    wrong = [
        " ".join(words)
        for words in given
        if all(refusal([*words, *more]) for more in extra if more != ["--help"] or len(words) == 1)
    ]
    return len(given), wrong


def test_every_command_that_an_error_advises_exists(refusal):
    examined, wrong = wrong_advice(refusal, (ROOT / "docs" / "error_codes.md").read_text("utf-8"))
    assert wrong == []
    assert examined > 15


def test_advice_that_does_not_work_is_seen(refusal):
    text = "重跑 tiyu build ads；再 tiyu dream 或 tiyu serve --dream，最后 tiyu serve"
    assert wrong_advice(refusal, text) == (4, ["build ads", "dream", "serve --dream"])


def test_guides_are_chinese_one_screen_long_and_show_a_picture():
    assert len(GUIDES) == 9
    for guide in GUIDES:
        text = guide.read_text("utf-8")
        assert len(text.splitlines()) <= 60, f"{guide.name} is longer than a screen"
        assert len(re.findall(r"[\u4e00-\u9fff]", text)) > 60, guide.name
        assert guide.name == "README.md" or "](../images/" in text, f"{guide.name} has no picture"
