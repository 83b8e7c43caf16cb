"""One more day: the city moves on, every DAG runs, and every user's door is asked whether that user can see it.

``python -m deploy.tomorrow [--headless]`` (``make demo-tomorrow``). With a demo up on the state folder it works there and ends; with
none it starts one first. A run that was interrupted is finished by the next one, which then does not move the city a second time.

Exit codes as of ``deploy.demo``; 1 also when an effect of the day is missing at a door.
"""

from __future__ import annotations

import fcntl
import sys
import time
from collections.abc import Callable

from deploy import demo as supervisor
from deploy import doors, effects, state
from deploy.demo import Demo, DemoError


def one_day(demo: Demo) -> bool:
    """Move on by one day and check what it did; True when every effect is seen."""
    with (demo.home / "demo" / "tomorrow.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DemoError("已有一个 make demo-tomorrow 正在运行，请等它结束。", 2) from None
        started = time.monotonic()
        if state.day_done(demo.home) == demo.present()["number"]:
            number = demo.present()["number"] + 1
            state.note_before(demo.home, number, effects.before(demo.home).versions)
            demo.let_a_day_happen()
        demo.ingest()
        demo.build_and_share()
        with demo.display.step("起始页") as step:
            demo.build_start_page()
            step.note = demo.urls["site"] + "/"
        demo.display.say(f"这一天用了 {time.monotonic() - started:.0f} 秒")
        good = judged(demo)
        state.note_day(demo.home, demo.present()["number"])
    return good


def judged(demo: Demo) -> bool:
    """Ask for the effects of the city's present day; True when every one is seen and no other source failed."""
    demo.results = check(demo, noted_before(demo))
    return all(door.ok for door in demo.results) and not demo.unexpected


def noted_before(demo: Demo) -> effects.Before:
    """What was there before the city's present day."""
    noted = state.before_day(demo.home, demo.present()["number"])
    return effects.Before(noted) if noted is not None else effects.before(demo.home)


def check(demo: Demo, known: effects.Before) -> list[doors.Door]:
    """Ask every door for what the day must have changed there."""
    present = demo.present()
    cockpit, leader = demo.urls["cockpit"], demo.secrets["cockpit_leader"]
    checks: list[tuple[str, Callable[[], doors.Door]]] = [
        ("缺哪个来源、为什么（领导）", lambda: effects.missing_source(cockpit, leader, present)),
        ("预警、责任单位与时限（领导）", lambda: effects.alerts(cockpit, leader, present)),
        ("昨日数据的订正（分析师）", lambda: effects.restated(demo.env, present)),
        ("退回与重交（市大数据中心）", lambda: effects.resent(demo.env, present)),
        ("更新记录（公众）", lambda: effects.open_data_grew(demo.urls["site"], known, present)),
        ("今日要事（起始页）", lambda: effects.start_page(demo.urls["site"], present)),
    ]
    results = []
    for title, ask in checks:
        step = demo.display.begin(f"检查 {title}")
        door = doors.safely(title, ask)
        demo.display.end(step, door.note, ok=door.ok)
        results.append(door)
    return results


def started_here(demo: Demo) -> bool:
    """No demo was up: start it, then let the day happen; a day that was interrupted is finished instead and judged like any other."""
    done = state.day_done(demo.home)
    interrupted = done is not None and demo.present()["number"] > done
    if not demo.start():
        return False
    if interrupted:
        demo.display.say("上次没有做完的一天已补完")
        return judged(demo)
    return one_day(demo)


def main() -> int:
    """Entry point of ``make demo-tomorrow``."""
    return supervisor.main(run=started_here, attached=one_day)


if __name__ == "__main__":
    sys.exit(main())
