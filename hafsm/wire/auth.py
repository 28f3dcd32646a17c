"""Keys of authkeys and the signatures made with them: `<index> <lower-case hex>`.

What is believed. heartbeat 3 takes the method from the index that stands in the message and, in the netstring form, the
key text from its own active line, whatever key stands at that index. Copied blindly, a message that names the
index of a `crc` line would pass without any key. So here:

- the index must stand in the ring;
- `crc` is believed only when `crc` is the active method (then anybody can sign, and the configuration says so);
- a keyed method of any listed index is believed with the active key's secret (heartbeat's rule: two nodes with the same
  key text and different active lines understand each other), unless sha256 is active: then every node is hafsm; and
- with the listed key's own secret if its method is at least as strong as the active one (crc < md5 < sha1 < sha256).
  This is what heartbeat lacks: a key can be changed without silence by listing the new one on both nodes first. A key
  that must no longer be believed has to leave the file.

The index itself is not signed, and this cannot be mended without leaving heartbeat's protocol.
"""

from __future__ import annotations

import hmac
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from hafsm.errors import InvariantError

Method = Literal["crc", "md5", "sha1", "sha256"]
"""Names of authkeys; all but crc are HMACs (RFC 2104). sha256 is ours: heartbeat 3 refuses an authkeys that has it."""

_STRENGTH: dict[Method, int] = {"crc": 0, "md5": 1, "sha1": 2, "sha256": 3}
_TOKEN = re.compile(rb"(0|[1-9]|1[0-5]) ([0-9a-f]{1,64})")
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True, slots=True)
class Key:
    """A key line of authkeys."""

    index: int
    """0 to 15."""
    method: Method
    secret: bytes = field(repr=False)
    """Empty for crc, and only for crc."""

    def __post_init__(self) -> None:
        if not 0 <= self.index <= 15 or self.method not in _STRENGTH or bool(self.secret) == (self.method == "crc"):
            raise InvariantError(f"key {self.index} with method {self.method} should not have been read from a file")


class KeyRing:
    """All keys of authkeys; one of them signs."""

    __slots__ = ("_active", "_believed", "_keys")

    def __init__(self, keys: Iterable[Key], active: int) -> None:
        """`active` is the index of the key that signs; it must be among `keys`."""
        self._keys = {key.index: key for key in keys}
        if active not in self._keys:
            raise InvariantError(f"key {active} signs but is not there")
        self._active = self._keys[active]
        self._believed = {key.index: _believed_secrets(key, self._active) for key in self._keys.values()}

    def __repr__(self) -> str:
        return f"KeyRing({list(self._keys.values())!r}, {self._active.index})"

    def sign(self, data: bytes) -> bytes:
        """The signature of the active key: `1 205dee…`."""
        active = self._active
        return b"%d %s" % (active.index, digest(active.method, active.secret, data))

    def verify(self, data: bytes, token: bytes) -> bool:
        """Whether `token` is a signature of `data` that is to be believed (rules above). Never raises."""
        match = _TOKEN.fullmatch(token)
        key = None if match is None else self._keys.get(int(match[1]))
        if match is None or key is None:
            return False
        return any(
            hmac.compare_digest(digest(key.method, secret, data), match[2]) for secret in self._believed[key.index]
        )


def _believed_secrets(key: Key, active: Key) -> tuple[bytes, ...]:
    """What a signature with the index of `key` may have been made with (rules above)."""
    if key.method == "crc":
        return (b"",) if active.method == "crc" else ()
    own = (key.secret,) if _STRENGTH[key.method] >= _STRENGTH[active.method] else ()
    if not active.secret or active.secret in own or active.method == "sha256":
        return own
    return (*own, active.secret)


def digest(method: Method, secret: bytes, data: bytes) -> bytes:
    """Lower-case hex: 64 digits for sha256, 40 for sha1, 32 for md5, up to 8 without leading zeros for crc."""
    if method == "crc":
        return b"%x" % crc32_cksum(data)
    return hmac.digest(secret, data, method).hex().encode()


def crc32_cksum(data: bytes) -> int:
    """CRC-32/CKSUM without the length: polynomial 04C11DB7, initial 0, not reflected, final XOR FFFFFFFF.

    zlib computes the reflected sibling, so bytes and result are mirrored on the way in and out.
    """
    mirrored = zlib.crc32(data.translate(_MIRRORED), 0xFFFFFFFF)
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_MIRRORED), "big")
