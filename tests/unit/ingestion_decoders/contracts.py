"""Contracts in miniature: what a decoder asks of the real one."""

from __future__ import annotations

from types import SimpleNamespace


def contract(*fields: str, unknown: str = "refuse", missing: str = "refuse") -> SimpleNamespace:
    properties = [SimpleNamespace(source_name=name, derive=None) for name in fields]
    properties.append(SimpleNamespace(source_name=None, derive={"function": "birth_year"}))
    root = SimpleNamespace(
        table="ods_t__t",
        is_root=True,
        properties=properties,
        drift=SimpleNamespace(unknown_column=unknown, missing_column=missing),
    )
    return SimpleNamespace(objects=[root])
