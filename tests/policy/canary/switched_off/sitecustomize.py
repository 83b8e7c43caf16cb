"""Put on the path of a demo's processes, this takes protections away in the modules that hold them as soon as one is imported.

Which ones says the file `TIYU_CANARY_OFF` points to, one word a line. It is read by every process that imports such a module,
so one running Airflow can be asked with and without a protection.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

#: Word → module, name in it, what stands there then.
OFF: dict[str, tuple[str, str, Any]] = {
    "redaction": ("protection.redaction", "install", lambda surface="": None),
    "answers": ("sharing.exchange.receipts", "shown", lambda name: name),
    "names": ("ingestion.naming", "protect_name", lambda contract, name: name),
}


class _Finder:
    """Finds nothing itself: lets the others find, and changes the module once it is there."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        found = [entry for word, entry in OFF.items() if entry[0] == name and word in _words()]
        if not found:
            return None
        sys.meta_path.remove(self)  # type: ignore[arg-type]
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)  # type: ignore[arg-type]
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            for _, attribute, value in found:
                assert hasattr(module, attribute)
                setattr(module, attribute, value)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _words() -> list[str]:
    try:
        with open(os.environ["TIYU_CANARY_OFF"], encoding="utf-8") as file:
            return file.read().split()
    except (KeyError, OSError):
        return []


sys.meta_path.insert(0, _Finder())  # type: ignore[arg-type]
