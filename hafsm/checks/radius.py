"""RADIUS: an Access-Request with a password must be accepted, and the answer must be signed with the shared secret.

Sources: RFC 2865, RFC 2869 section 5.14 (Message-Authenticator, without which today's servers do not trust a request);
ldirectord's radius check.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
import struct

from hafsm.checks.connect import PASSED, Verdict
from hafsm.checks.conversation import SOME, Script

ACCESS_REQUEST, ACCESS_ACCEPT, ACCESS_REJECT, ACCESS_CHALLENGE = 1, 2, 3, 11
_USER_NAME, _USER_PASSWORD, _NAS_ADDRESS, _NAS_IPV6_ADDRESS, _SIGNATURE = 1, 2, 4, 95, 80
_HEADER = struct.Struct(">BBH16s")
TEXT_MAX_BYTES = 253
PASSWORD_MAX_BYTES = 128


def radius(login: bytes, password: bytes, secret: bytes, local: str) -> Script:
    """Datagrams that are no answer to this request are passed over; a wrong signature is a failure."""
    number = secrets.randbits(8)
    authenticator = secrets.token_bytes(16)
    yield request(number, authenticator, login, password, secret, local)
    while True:
        answer = yield SOME
        if len(answer) < _HEADER.size:
            continue
        code, answers_to, length, signed = _HEADER.unpack_from(answer)
        if answers_to != number or not _HEADER.size <= length <= len(answer):
            continue
        answer = answer[:length]
        expected = _md5(answer[:4] + authenticator + answer[_HEADER.size :] + secret)
        if not hmac.compare_digest(expected, signed):
            return Verdict(False, "the answer is not signed with the secret")
        if code == ACCESS_ACCEPT:
            return PASSED
        return Verdict(False, {ACCESS_REJECT: "rejected", ACCESS_CHALLENGE: "challenged"}.get(code, f"code {code}"))


def request(number: int, authenticator: bytes, login: bytes, password: bytes, secret: bytes, local: str) -> bytes:
    """An Access-Request; `local` is our own `address:port`."""
    host = local.rpartition(":")[0].strip("[]")
    if ":" in host:
        nas = _attribute(_NAS_IPV6_ADDRESS, socket.inet_pton(socket.AF_INET6, host))
    else:
        nas = _attribute(_NAS_ADDRESS, socket.inet_aton(host))
    attributes = (
        _attribute(_USER_NAME, login) + _attribute(_USER_PASSWORD, _hidden(password, secret, authenticator)) + nas
    )
    head = _HEADER.pack(ACCESS_REQUEST, number, _HEADER.size + 18 + len(attributes), authenticator)
    unsigned = head + _attribute(_SIGNATURE, bytes(16)) + attributes
    signature = hmac.digest(secret, unsigned, "md5")
    return head + _attribute(_SIGNATURE, signature) + attributes


def _attribute(kind: int, value: bytes) -> bytes:
    return bytes((kind, len(value) + 2)) + value


def _hidden(password: bytes, secret: bytes, authenticator: bytes) -> bytes:
    """RFC 2865 section 5.2."""
    padded = password.ljust(max(-(-len(password) // 16), 1) * 16, b"\0")
    hidden, before = b"", authenticator
    for at in range(0, len(padded), 16):
        before = bytes(a ^ b for a, b in zip(padded[at : at + 16], _md5(secret + before), strict=True))
        hidden += before
    return hidden


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()
