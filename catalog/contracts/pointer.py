"""JSON Pointers (RFC 6901): places inside a JSON value."""

from __future__ import annotations


def tokens(pointer: str) -> list[str]:
    """The steps of a pointer, unescaped; none for the whole value."""
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def first(pointer: str) -> str:
    """The member of the record that a pointer goes into. Raises IndexError for the whole record."""
    return tokens(pointer)[0]


def to_member(name: str) -> str:
    """The pointer to a member of an object, whatever characters its name holds."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def above(pointer: str) -> list[str]:
    """The pointers to what a value lies in, the whole left out, from the outside: ``/a/b/c`` gives ``/a`` and ``/a/b``."""
    parts = pointer.split("/")[1:]
    return ["/" + "/".join(parts[:depth]) for depth in range(1, len(parts))]


__all__ = ["above", "first", "to_member", "tokens"]
