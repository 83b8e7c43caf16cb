"""Object names that may be written down: identifiers in a path become tokens before the name leaves memory."""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata

from catalog.contracts import Contract
from protection import keys, tokens
from protection.masking import personal_numbers

_TOKEN = r"{kind}_k\w+?_[a-z2-7]{{26}}"


def _path_fields(contract: Contract) -> str | None:
    return contract.server.decoder_options.get("path_fields") if contract.server else None


def protect_name(contract: Contract, name: str) -> str:
    """The object's name with every identifier in it replaced.

    Where the contract's ``pathFields`` expects it, by its token; anywhere else (the same kind of identifier in another
    part of the path, an identity or mobile number, Chinese text in the name of a person's own file) by a keyed digest,
    so that different names stay different.
    """
    pattern = _path_fields(contract)
    match = re.search(pattern, name) if pattern else None
    kinds = {p.source_name: p.identifier_kind for p in contract.root.properties if p.protection}
    groups = {group: value for group, value in (match.groupdict() if match else {}).items() if group in kinds}
    spans = sorted(
        (match.span(group), tokens.token(str(kinds[group]), value) or "")
        for group, value in groups.items()
        if match and value
    )
    done, position = "", 0
    for (start, end), token in spans:
        done += _hide(pattern, name[position:start]) + token
        position = end
    return done + _hide(pattern, name[position:])


def _hide(pattern: str | None, text: str) -> str:
    """Digests in place of what may name a person; ``pattern`` is given for resources of one person's files."""
    if pattern:
        for group in re.findall(r"\(\?P<\w+>([^()]*)\)", pattern):
            text = re.sub(group, _digest, text, flags=re.IGNORECASE)
        text = re.sub(r"[\u3400-\u9fff\u00b7]+", _digest, text)
    numbers = personal_numbers(text)
    if numbers:
        text = unicodedata.normalize("NFKC", text)
        for number in numbers:
            text = text.replace(number, _digest(number))
    return text


def _digest(found: re.Match[str] | str) -> str:
    return f"[{fingerprint(found if isinstance(found, str) else found[0])[:10]}]"


def token_in_name(kind: str, name: str) -> str | None:
    """The token of a kind that :func:`protect_name` left in a name, or None."""
    found = re.search(_TOKEN.format(kind=re.escape(kind)), name)
    return found[0] if found else None


def fingerprint(signature: str) -> str:
    """Keyed digest of a connector's cheap object signature (a path may hold an identifier, so it is not stored)."""
    _, key = keys.provider().current("token")
    return hmac.new(key, b"signature\0" + signature.encode(), hashlib.sha256).hexdigest()
