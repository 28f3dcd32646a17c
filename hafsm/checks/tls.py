"""TLS as a layer between a socket and a conversation: bytes in, bytes out, nothing that waits.

Without an authority the certificate is not looked at: a health check asks whether the service works. With one, the
chain, the dates and the name must hold.
"""

from __future__ import annotations

import ssl

from hafsm.checks.connect import Verdict
from hafsm.core.settings import CheckSpec

_READ_BYTES = 16 * 1024
RAW_MAX_BYTES = 2 * 1024 * 1024
"""Of one connection, TLS records included: empty records must not keep the worker busy until the deadline."""
SYSTEM = "system"
"""`Tls.authority` for the authorities that the system trusts."""
_contexts: dict[str, ssl.SSLContext] = {}


def context(authority: str) -> ssl.SSLContext:
    """Shared by all checks with this authority. Raises ValueError when its file cannot be used."""
    known = _contexts.get(authority)
    if known is not None:
        return known
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not authority:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    elif authority == SYSTEM:
        made.load_default_certs()
    else:
        try:
            made.load_verify_locations(authority)
        except OSError as error:
            raise ValueError(f"authority {authority} cannot be used: {error.strerror or error}") from None
    _contexts[authority] = made
    return made


def server_name(spec: CheckSpec) -> str | None:
    """What is sent as SNI and must stand in the certificate: the configured name, else the virtualhost (without a
    port), else, only to be compared, the address. Raises ValueError when it cannot be a name."""
    name = spec.tls.name
    if not name and spec.virtualhost:
        host, colon, port = spec.virtualhost.rpartition(":")
        name = host if colon and port.isdigit() else spec.virtualhost
        name = name.strip("[]")
    if not name:
        return spec.address if spec.tls.authority else None
    if not name.isascii() or len(name) > 253 or name.startswith(".") or not name.isprintable() or " " in name:
        raise ValueError(f"{name!r} cannot be the name of a TLS server")
    return name


class TlsLayer:
    """One connection's TLS."""

    __slots__ = ("_incoming", "_kept", "_outgoing", "_tls", "ended", "established")

    def __init__(self, using: ssl.SSLContext, name: str | None) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = using.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._kept = b""
        """What is to be sent once there is a channel."""
        self.established = False
        self.ended = False
        """The server has closed its direction."""

    def send(self, plain: bytes) -> None:
        """Encrypt; `take` has what is to be sent."""
        if self.established:
            self._tls.write(plain)
        else:
            self._kept += plain

    def receive(self, raw: bytes) -> bytes:
        """What was in `raw`; b"" as `raw` is the end of the stream. Raises ssl.SSLError, which `explain_tls` puts into
        words."""
        if raw:
            self._incoming.write(raw)
        else:
            self._incoming.write_eof()
        plain = b""
        try:
            if not self.established:
                self._tls.do_handshake()
                self.established = True
                if self._kept:
                    self._tls.write(self._kept)
                    self._kept = b""
            while True:
                part = self._tls.read(_READ_BYTES)
                if not part:
                    self.ended = True
                    break
                plain += part
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLEOFError:
            # Many servers end the connection without ending TLS; what they said before counts.
            if not self.established:
                raise
            self.ended = True
        return plain

    def begin(self) -> None:
        """Say hello; the handshake then goes on in `receive`."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return

    def take(self) -> bytes:
        """Encrypted bytes to be sent now."""
        return self._outgoing.read()


def explain_tls(error: ssl.SSLError) -> Verdict:
    """What failed, in words that do not change from one check to the next."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Verdict(False, f"certificate: {error.verify_message.rstrip('.')}")
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return Verdict(False, "connection closed within the TLS handshake")
    return Verdict(False, f"TLS: {(error.reason or 'unusable answer').replace('_', ' ').lower()}")
