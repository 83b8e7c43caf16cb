"""Object names that may be written down: identifiers in a path become tokens before the name leaves memory."""

from __future__ import annotations

import hashlib
import hmac
import re

from catalog.contracts import Contract
from protection import keys, tokens

_TOKEN = r"{kind}_k\w+?_[a-z2-7]{{26}}"


def _path_fields(contract: Contract) -> str | None:
    return contract.server.decoder_options.get("path_fields") if contract.server else None


def protect_name(contract: Contract, name: str) -> str:
    """The object's name with every identifier that the contract's ``pathFields`` finds in it replaced by its token."""
    pattern = _path_fields(contract)
    match = re.search(pattern, name) if pattern else None
    if not match:
        return name
    kinds = {p.source_name: p.identifier_kind for p in contract.root.properties if p.protection}
    spans = sorted(
        (
            (match.span(group), kinds[group], value)
            for group, value in match.groupdict().items()
            if value and group in kinds
        ),
        reverse=True,
    )
    for (start, end), kind, value in spans:
        name = name[:start] + (tokens.token(str(kind), value) or "") + name[end:]
    return name


def token_in_name(kind: str, name: str) -> str | None:
    """The token of a kind that :func:`protect_name` left in a name, or None."""
    found = re.search(_TOKEN.format(kind=re.escape(kind)), name)
    return found[0] if found else None


def fingerprint(signature: str) -> str:
    """Keyed digest of a connector's cheap object signature (a path may hold an identifier, so it is not stored)."""
    _, key = keys.provider().current("token")
    return hmac.new(key, b"signature\0" + signature.encode(), hashlib.sha256).hexdigest()
