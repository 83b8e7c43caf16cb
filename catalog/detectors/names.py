"""What a column's name says: snake_case, camelCase, run-together and pinyin names, and Chinese titles."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from catalog import yamlfile
from catalog.problems import DeclarationError

FILE = Path(__file__).with_name("names.yaml")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])")
_MIN_RUN_TOGETHER = 6
"""A pattern shorter than this is looked for as whole words only: `dz` stands in too many names."""


class NameKind(BaseModel):
    """One kind of item and the names it goes by; see the head of names.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    group: str
    words: list[str] = []
    zh: list[str] = []
    not_words: list[str] = []
    not_zh: list[str] = []


@dataclass(frozen=True)
class NameHit:
    """A kind of item suggested by a name, and the part of the name that says so."""

    kind: str
    evidence: str


@lru_cache(maxsize=4)
def _load(key: tuple[tuple[str, int, int], ...]) -> tuple[NameKind, ...]:
    content = yamlfile.read(Path(key[0][0]))
    try:
        found = tuple(NameKind.model_validate(item) for item in content["kinds"])
    except (ValidationError, KeyError, TypeError) as error:
        raise DeclarationError(
            "TIYU-GRD-0001", "列名识别规则不合格", "按文件头的说明修改 catalog/detectors/names.yaml", [str(error)]
        ) from error
    return found


def kinds() -> tuple[NameKind, ...]:
    """All kinds in the order they are asked. Raises DeclarationError TIYU-GRD-0001."""
    return _load(yamlfile.fingerprint(FILE.parent, FILE.name))


def words_of(name: str) -> str:
    """The words of an identifier, lower case, one blank around each: ``idCardNo`` → `` id card no ``."""
    text = _CAMEL.sub(" ", unicodedata.normalize("NFKC", name))
    return f" {' '.join(re.findall(r'[a-z]+|[0-9]+', text.lower()))} "


def _english(patterns: list[str], words: str) -> str | None:
    """The longest pattern that stands in the words, or runs together with another word in one of them."""
    tokens: list[str] | None = None
    found = [pattern for pattern in patterns if f" {pattern} " in words]
    for pattern in patterns:
        joined = pattern.replace(" ", "")
        if len(joined) >= _MIN_RUN_TOGETHER and joined in words:
            tokens = words.split() if tokens is None else tokens
            if any(joined in token for token in tokens):
                found.append(pattern)
    return max(found, key=len, default=None)


def _chinese(patterns: list[str], text: str) -> str | None:
    return next((pattern for pattern in sorted(patterns, key=len, reverse=True) if pattern in text), None)


def detect(*names: str | None) -> list[NameHit]:
    """Kinds suggested by the spellings of one column (its name, its source name, its Chinese title), at most one per group."""
    return list(_detect(names, yamlfile.fingerprint(FILE.parent, FILE.name)))


@lru_cache(maxsize=16_384)
def _detect(names: tuple[str | None, ...], key: tuple[tuple[str, int, int], ...]) -> tuple[NameHit, ...]:
    """The same columns are asked about by every check and every command that shows them."""
    texts = [unicodedata.normalize("NFKC", name) for name in names if name]
    words = [words_of(text) for text in texts]
    hits: list[NameHit] = []
    taken: set[str] = set()
    for kind in _load(key):
        if kind.group in taken:
            continue
        for text, split in zip(texts, words, strict=True):
            if _chinese(kind.not_zh, text) or _english(kind.not_words, split):
                continue
            evidence = _chinese(kind.zh, text) or _english(kind.words, split)
            if evidence:
                hits.append(NameHit(kind.kind, evidence))
                taken.add(kind.group)
                break
    return tuple(hits)
