"""Signed requests: HTTP Message Signatures (RFC 9421) with ``hmac-sha256`` and a digest of the body (RFC 9530).

The source and we share a key; it never travels. What is covered: method, authority, path, query and body, with the time
of signing and a nonce, so that a request that was overheard can neither be altered nor sent a second time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from urllib.parse import urlsplit

_COVERED = ("@method", "@authority", "@path", "@query", "content-digest")


def signature_base(components: list[tuple[str, str]], parameters: str) -> str:
    """The text that is signed (RFC 9421 §2.5): one line a component, in order, then the parameters of the signature."""
    names = " ".join(f'"{name}"' for name, _ in components)
    lines = [f'"{name}": {value}' for name, value in components]
    return "\n".join([*lines, f'"@signature-params": ({names}){parameters}'])


def hmac_sha256(key: bytes, base: str) -> str:
    """The signature as a structured-field byte sequence, ``:base64:`` (RFC 9421 §3.3.3)."""
    return f":{base64.b64encode(hmac.new(key, base.encode('ascii'), hashlib.sha256).digest()).decode()}:"


def content_digest(body: bytes) -> str:
    """Value of ``Content-Digest`` (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def signed_headers(
    method: str,
    url: str,
    body: bytes,
    *,
    key_id: str,
    secret: str,
    created: int | None = None,
    nonce: str | None = None,
) -> dict[str, str]:
    """``Content-Digest``, ``Signature-Input`` and ``Signature`` of a request.

    url: as it is sent, percent-encoded. created: Unix seconds, now when None. nonce: new and random when None; every
    attempt needs its own. The label of the signature is ``tiyu``, the key's bytes are the secret's UTF-8.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}.get(parts.scheme)
    authority = host if parts.port in (None, default) else f"{host}:{parts.port}"
    digest = content_digest(body)
    values = (method.upper(), authority, parts.path or "/", f"?{parts.query}", digest)
    quoted = key_id.replace("\\", "\\\\").replace('"', '\\"')
    parameters = (
        f";created={int(time.time()) if created is None else created}"
        f';nonce="{nonce or secrets.token_hex(16)}";alg="hmac-sha256";keyid="{quoted}"'
    )
    base = signature_base(list(zip(_COVERED, values, strict=True)), parameters)
    names = " ".join(f'"{name}"' for name in _COVERED)
    return {
        "Content-Digest": digest,
        "Signature-Input": f"tiyu=({names}){parameters}",
        "Signature": f"tiyu={hmac_sha256(secret.encode(), base)}",
    }
