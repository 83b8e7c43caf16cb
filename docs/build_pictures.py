"""Take the pictures of the guides from a running installation: pages in headless Chromium, commands as they print.

Run: ``python docs/build_pictures.py --home var`` after ``make demo``; writes docs/images/guide_*.png. Needs Chromium.
"""

from __future__ import annotations

import argparse
import contextlib
import html
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
PAGES = {"start": "/", "open_index": "/open/", "open_dataset": "/open/venue_directory/", "exchange": "/exchange/"}
COMMANDS = {
    "analyst": [
        ["sql", "select district_name as 区, sum(visit_count) as 客流 from ads.ads_cockpit__district_day group by 1 order by 2 desc limit 5"],
        ["describe", "ads_cockpit__sport_day"],
    ],
    "operator": [["status"], ["reconcile"]],
    "center": [["exchange", "status"], ["exchange", "verify", "OUTBOX"]],
}  # fmt: skip
STYLE = "body{margin:0;background:#12222b;color:#e8f0f2;font:15px/1.25 'Noto Sans Mono CJK SC','Noto Sans Mono CJK',monospace}pre{margin:16px 20px;white-space:pre;font:inherit;text-spacing-trim:space-all}b{color:#7fd6c2}"
LINES = 34
#: Frames as plain characters: in a font with Chinese letters a drawn line is as wide as two of them.
FRAME = {ord(c): "|" for c in "┃│"} | {ord(c): "-" for c in "━─"} | {ord(c): "+" for c in "┏┳┓┡╇┩└┴┘┬┐┌├┼┤"}


@contextlib.contextmanager
def served(home: Path) -> Iterator[str]:
    """The sites of an installation on a free port."""
    import httpx

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "sharing.sites.serve", "--port", str(port)], cwd=ROOT, env=os.environ | {"TIYU_HOME": str(home)}
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{address}/health", trust_env=False).status_code == 200:
                    break
            time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait(10)


def printed(home: Path, arguments: list[str]) -> str:
    """A command and what it prints, as HTML."""
    arguments = [str(home / "exchange") if item == "OUTBOX" else item for item in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments], cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"TIYU_HOME": str(home), "COLUMNS": "118"},
    )  # fmt: skip
    shown = " ".join(f'"{item}"' if " " in item else item.replace(str(home), "var") for item in arguments)
    lines = (done.stdout + done.stderr).replace(str(home), "var").rstrip().splitlines()
    if len(lines) > LINES:
        lines = [*lines[: LINES - 1], "…"]
    text = "\n".join(lines).translate(FRAME)
    return f"<b>$ tiyu {html.escape(shown)}</b>\n" + html.escape(text)


def main() -> None:
    """Write all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    home = parser.parse_args().home.absolute()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play, served(home) as address:
        chromium = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1200, "height": 760})
        for name, path in PAGES.items():
            page.goto(address + path)
            page.screenshot(path=IMAGES / f"guide_{name}.png")
        page = chromium.new_page(viewport={"width": 1200, "height": 300})  # without the sites' content policy
        for name, commands in COMMANDS.items():
            text = "\n\n".join(printed(home, command) for command in commands)
            page.set_content(f"<meta charset=utf-8><style>{STYLE}</style><pre>{text}</pre>")
            page.screenshot(path=IMAGES / f"guide_{name}.png", full_page=True)
        chromium.close()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
