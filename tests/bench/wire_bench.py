"""What a heartbeat message costs: written, believed and read, refused.

Run alone: `python -m tests.bench.wire_bench`.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable

from hafsm.errors import PeerError
from hafsm.wire.auth import Key, KeyRing
from hafsm.wire.framing import MAX_DATAGRAM, MAX_FIELDS, STRING, Field
from hafsm.wire.message import Message, build, decode, encode, encode_classic, read_envelope
from hafsm.wire.window import ReplayWindow

DECODE_BUDGET_US = 30
"""For sha1 in netstring form: two links at the shortest keepalive anyone uses (100 ms) then cost 0.06 % of a core."""
REPEATS = 7
LOOPS = 3000

STATUS = build(
    "status",
    node="director-a",
    uuid=bytes(range(16)),
    generation=0x6B031400,
    sequence=0x1234,
    wall_s=0x6B031400,
    load="0.85 0.56 0.31 5/146 24",
    ttl=3,
    fields=(("st", "active"), ("dt", "7530"), ("protocol", "1"), ("hj", "12d687")),
)
RINGS = {
    "sha1": KeyRing([Key(1, "sha1", b"LabSecretKey0")], 1),
    "md5": KeyRing([Key(1, "md5", b"LabSecretKey0")], 1),
    "crc": KeyRing([Key(1, "crc", b"")], 1),
}


def cost_us(call: Callable[[], object], loops: int = LOOPS) -> float:
    """The best of several runs: what the code costs, not what the machine did besides."""
    return min(timeit.repeat(call, number=loops, repeat=REPEATS)) / loops * 1e6


def show(name: str, us: float) -> None:
    print(f"{name:40} {us:9.1f} µs")


def refused(datagram: bytes, ring: KeyRing) -> None:
    """Decode what must not be believed."""
    try:
        decode(datagram, ring)
    except PeerError:
        return
    raise AssertionError("believed")


def ordinary() -> None:
    """Status messages with each method."""
    for method, ring in RINGS.items():
        datagram, classic = encode(STATUS, ring), encode_classic(STATUS, ring)
        decode_us = cost_us(lambda ring=ring, datagram=datagram: decode(datagram, ring))  # type: ignore[misc]
        show(f"{method}: encode", cost_us(lambda ring=ring: encode(STATUS, ring)))  # type: ignore[misc]
        show(f"{method}: decode and verify", decode_us)
        show(
            f"{method}: decode and verify, classic",
            cost_us(lambda ring=ring, classic=classic: decode(classic, ring)),  # type: ignore[misc]
        )
        if method == "sha1":
            verdict = "within" if decode_us <= DECODE_BUDGET_US else "BEYOND"
            print(f"{'':40} {verdict} the budget of {DECODE_BUDGET_US} µs")
    show("envelope", cost_us(lambda: read_envelope(STATUS)))
    window = ReplayWindow()
    numbers = iter(range(1, LOOPS * REPEATS + 1))
    show("replay window", cost_us(lambda: window.accept(1, next(numbers), status=True)))


def hostile() -> None:
    """The dearest datagrams that anybody can send (refused), and that a key holder can send (believed)."""
    ring = RINGS["sha1"]
    forged = (b"###\n" + b"5:(0)a=,".ljust(MAX_DATAGRAM, b"x"))[: MAX_DATAGRAM - 50]
    forged += b"%%%\n42:1 " + b"0" * 40 + b","
    lines = b">>>\n" + (b"a=" + b"x" * 58 + b"\n") * MAX_FIELDS + b"auth=1 " + b"0" * 40 + b"\n<<<\n"
    unframed = bytes(MAX_DATAGRAM)
    show("64 KiB without a frame, refused", cost_us(lambda: refused(unframed, ring)))
    show("64 KiB netstring, forged, refused", cost_us(lambda: refused(forged, ring), 200))
    show(f"{MAX_FIELDS} classic lines, forged, refused", cost_us(lambda: refused(lines, ring), 50))
    crowded = encode(Message((Field("a", STRING, b""),) * MAX_FIELDS), ring)
    show(f"{MAX_FIELDS} fields, believed", cost_us(lambda: decode(crowded, ring), 50))


def main() -> None:
    """Print all of it."""
    ordinary()
    hostile()


if __name__ == "__main__":
    main()
