"""The few lines that entries cannot derive: `catalog/entries/*.yaml`, read strictly.

`provider.yaml` who provides and the numeric prefix of the codes · `defaults.yaml` what holds for a layer, a domain or a
degree of sensitivity · `codes.yaml` the register of codes (`catalog.entries.codes`) · `collection.yaml` which items are
collected more than once and why.
"""

from __future__ import annotations

import os
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from catalog import yamlfile
from catalog.entries.model import OpenTerms, ShareTerms
from catalog.problems import DeclarationError

FOLDER = Path(__file__).resolve().parent
Sensitivity = Literal["public", "internal", "personal", "sensitive"]


class Strict(BaseModel):
    """Base of the declarations of this folder: unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Level(Strict):
    """One level of the class tree: its digits, its name, and where both come from."""

    digits: str = Field(pattern=r"^[0-9A-Z]+$")
    name: str
    provenance: str = Field(pattern=r"(V[12]|VC|K-[HML]|DESIGN)")


class Prefix(Strict):
    """The digits before 细目: 类, 项, 目, in force from a date. A new prefix is added, never put in place of the old."""

    effective_from: date
    category: Level
    item: Level
    catalogue: Level

    @property
    def digits(self) -> str:
        return self.category.digits + self.item.digits + self.catalogue.digits


class Provider(Strict):
    """The provider of every entry and the classes its codes are built from.

    uscc: unified social credit code (GB 32100), in production from `TIYU_EXCHANGE_USCC`. domains: domain → 细目.
    """

    name: str
    uscc: str
    uscc_is_synthetic: bool
    contact: str
    prefixes: list[Prefix] = Field(min_length=1)
    domains: dict[str, Level]

    @property
    def prefix(self) -> Prefix:
        """The prefix in force: the latest."""
        return max(self.prefixes, key=lambda prefix: prefix.effective_from)


class Terms(Strict):
    """Sharing and opening of tables of one degree of sensitivity, unless the table declares its own."""

    share: ShareTerms
    open: OpenTerms


class Defaults(Strict):
    """What holds unless an entry says otherwise. owners: domain → unit. retention, update_cycle: layer → text, cycle."""

    owners: dict[str, str]
    update_cycle: dict[str, str]
    retention_public: str
    retention_personal: str
    legal_basis: dict[str, str]
    terms: dict[Sensitivity, Terms]
    theme: dict[str, str]


class Reason(Strict):
    """Why an item may be collected by several sources. `sources`: exactly those, so that a new one asks again; `["*"]` for
    an attribute that every business event has of its own (never for personal data)."""

    item: str
    sources: list[str] = Field(min_length=1)
    reason_zh: str = Field(min_length=8)


class Collection(Strict):
    """Items that several sources collect, with the reason (Data Regulation art. 30)."""

    reasons: list[Reason]


Model = TypeVar("Model", bound=BaseModel)


@lru_cache(maxsize=32)
def _load(file: str, _modified: int, _size: int, model: type[Any]) -> Any:
    path = Path(file)
    try:
        return model.model_validate(yamlfile.read(path))
    except yaml.YAMLError as error:
        problems = [f"{path.name}: YAML 读不懂：{str(error).splitlines()[0]}"]
    except ValidationError as error:
        problems = [f"{path.name}.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    raise DeclarationError(
        "TIYU-CAT-0011", "目录声明不合格，拒绝使用", "按列出的位置修改 catalog/entries 下的文件", problems
    )


def load(folder: Path, name: str, model: type[Model]) -> Model:
    """One file of the folder as a strict model. Raises DeclarationError TIYU-CAT-0011; FileNotFoundError if missing."""
    path = folder / name
    state = path.stat()
    loaded: Model = _load(str(path), state.st_mtime_ns, state.st_size, model)
    return loaded


def provider(folder: Path = FOLDER) -> Provider:
    """Provider and class tree; the credit code comes from `TIYU_EXCHANGE_USCC` where that is set."""
    declared = load(folder, "provider.yaml", Provider)
    real = os.environ.get("TIYU_EXCHANGE_USCC")
    return declared.model_copy(update={"uscc": real, "uscc_is_synthetic": False}) if real else declared


def defaults(folder: Path = FOLDER) -> Defaults:
    """Defaults by layer, domain and sensitivity."""
    return load(folder, "defaults.yaml", Defaults)


def collection(folder: Path = FOLDER) -> Collection:
    """Declared repeated collection."""
    return load(folder, "collection.yaml", Collection)
