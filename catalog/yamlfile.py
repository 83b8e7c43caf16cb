"""Reading declarations: YAML that refuses duplicate keys, cached until a file changes."""

from __future__ import annotations

import pickle
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent


_Base: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):
    """Safe loader that refuses a key written twice (plain YAML keeps the last one and says nothing)."""


def _mapping(loader: _Loader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is written twice", key_node.start_mark)
        seen.add(key)
    return yaml.constructor.SafeConstructor.construct_mapping(loader, node, deep=deep)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def loads(text: str) -> Any:
    """Parse YAML text. Raises yaml.YAMLError on syntax errors and on duplicate keys."""
    return yaml.load(text, Loader=_Loader)  # a SafeLoader subclass


@lru_cache(maxsize=512)
def _parsed(text: str) -> bytes:
    """Parsing is slow and the same files are asked for by several readers; pickled, so that each gets its own copy."""
    return pickle.dumps(loads(text))


def read(path: Path) -> Any:
    """Parse a YAML file (UTF-8). Raises yaml.YAMLError as `loads` does."""
    return pickle.loads(_parsed(path.read_text(encoding="utf-8")))


def fingerprint(folder: Path, pattern: str) -> tuple[tuple[str, int, int], ...]:
    """Names, times and sizes of the files below `folder`: the cache key of every loader here."""
    return tuple((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(folder.rglob(pattern)))
