"""The hash chain: each row carries SHA-256 over the chain of the row before it and its own canonical encoding.

One chain runs over all rows of all tables in the order of writing, which each row states in `link` (1, 2, 3 …), and on
from file to file. The encoding of a row: a letter for its table; `link` and the integer columns as signed 64-bit
big-endian numbers, NULL as -2**63; the length in bytes of each text as an unsigned 32-bit number, NULL as 2**32-1; the
texts in UTF-8; columns in the order of their table. The first row of a file continues from its column `previous`. The
chain says that nothing was altered, removed or reordered since; it cannot say that the newest records were not cut off.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from itertools import repeat
from operator import methodcaller
from typing import Any, NamedTuple

from journal.records import ActionRecord, EventRecord, GapRecord, RunRecord, SnapshotRecord

ORIGIN = bytes(32)
"""The chain before the first row of a journal."""

_NO_INTEGER = -(2**63)
_NO_TEXT = 2**32 - 1

_sha256 = hashlib.sha256
_digest = methodcaller("digest")
_pack_event = struct.Struct(">c6q4I").pack
_pack_action = struct.Struct(">c4q2I").pack
_pack_segment = struct.Struct(">c3q").pack
_pack_run = struct.Struct(">c4q6I").pack
_pack_snapshot = struct.Struct(">c3q2I").pack
_pack_gap = struct.Struct(">c5qI").pack


class SegmentRow(NamedTuple):
    """First row of a file: where it continues."""

    last_seq: int
    last_action_id: int
    previous: bytes
    """Chain of the last row of the file before."""


def event_chain(previous: bytes, link: int, event: EventRecord) -> bytes:
    """Chain value of an event row.

    Raises:
        struct.error: a number does not fit into 64 bits.
        UnicodeEncodeError: a text is not Unicode (a lone surrogate).
    """
    seq, at_mono_ns, at_wall_ns, kind, version, payload, action_id, outcome, reason = event
    kind_bytes = kind.encode()
    payload_bytes = payload.encode()
    reason_bytes = reason.encode()
    outcome_bytes = b"" if outcome is None else outcome.encode()
    head = _pack_event(
        b"e",
        link,
        seq,
        at_mono_ns,
        at_wall_ns,
        version,
        _NO_INTEGER if action_id is None else action_id,
        len(kind_bytes),
        len(payload_bytes),
        _NO_TEXT if outcome is None else len(outcome_bytes),
        len(reason_bytes),
    )
    return _sha256(previous + head + kind_bytes + payload_bytes + outcome_bytes + reason_bytes).digest()


def action_chain(previous: bytes, link: int, action: ActionRecord) -> bytes:
    """Chain value of an action row; raises as `event_chain`."""
    id_, cause, kind, version, payload = action
    kind_bytes = kind.encode()
    payload_bytes = payload.encode()
    head = _pack_action(b"a", link, id_, cause, version, len(kind_bytes), len(payload_bytes))
    return _sha256(previous + head + kind_bytes + payload_bytes).digest()


def event_chains(previous: Iterable[bytes], rows: Sequence[tuple[Any, ...]]) -> list[bytes]:
    """`event_chain` of many rows of the table at once, each after its own of `previous`: no loop in Python.

    Raises:
        struct.error: a number does not fit into 64 bits.
        TypeError: a cell is of another type than its column.
        UnicodeEncodeError: a text is not Unicode.
    """
    if not rows:
        return []
    seqs, monos, walls, kinds, versions, payloads, action_ids, outcomes, reasons, links, _ = zip(*rows, strict=True)
    encoded = {kind: str.encode(kind) for kind in set(kinds)}
    kinds_bytes = [encoded[kind] for kind in kinds]
    payloads_bytes = list(map(str.encode, payloads))
    outcomes_bytes = [b"" if outcome is None else str.encode(outcome) for outcome in outcomes]
    reasons_bytes = list(map(str.encode, reasons))
    heads = map(
        _pack_event,
        repeat(b"e"),
        links,
        seqs,
        monos,
        walls,
        versions,
        [_NO_INTEGER if action_id is None else action_id for action_id in action_ids],
        map(len, kinds_bytes),
        map(len, payloads_bytes),
        [_NO_TEXT if outcome is None else len(text) for outcome, text in zip(outcomes, outcomes_bytes, strict=True)],
        map(len, reasons_bytes),
    )
    parts = zip(previous, heads, kinds_bytes, payloads_bytes, outcomes_bytes, reasons_bytes, strict=True)
    return list(map(_digest, map(_sha256, map(b"".join, parts))))


def action_chains(previous: Iterable[bytes], rows: Sequence[tuple[Any, ...]]) -> list[bytes]:
    """`action_chain` of many rows of the table at once; as `event_chains`."""
    if not rows:
        return []
    ids, causes, kinds, versions, payloads, links, _ = zip(*rows, strict=True)
    kinds_bytes = list(map(str.encode, kinds))
    payloads_bytes = list(map(str.encode, payloads))
    lengths = map(len, kinds_bytes), map(len, payloads_bytes)
    heads = map(_pack_action, repeat(b"a"), links, ids, causes, versions, *lengths)
    parts = zip(previous, heads, kinds_bytes, payloads_bytes, strict=True)
    return list(map(_digest, map(_sha256, map(b"".join, parts))))


def segment_chain(link: int, segment: SegmentRow) -> bytes:
    """Chain value of a file's first row."""
    head = _pack_segment(b"f", link, segment.last_seq, segment.last_action_id)
    return _sha256(segment.previous + head).digest()


def run_chain(previous: bytes, link: int, run: RunRecord) -> bytes:
    """Chain value of a run row; raises as `event_chain`."""
    texts = [
        text.encode()
        for text in (
            run.node,
            run.boot_id,
            run.code_version,
            run.configuration,
            run.config_digest,
            run.flags,
        )
    ]
    head = _pack_run(b"r", link, run.run, run.first_seq, run.started_wall_ns, *map(len, texts))
    return _sha256(b"".join((previous, head, *texts))).digest()


def snapshot_chain(previous: bytes, link: int, snapshot: SnapshotRecord) -> bytes:
    """Chain value of a snapshot row; raises as `event_chain`."""
    state = snapshot.state.encode()
    digest = snapshot.digest.encode()
    head = _pack_snapshot(b"s", link, snapshot.seq, snapshot.at_wall_ns, len(state), len(digest))
    return _sha256(b"".join((previous, head, state, digest))).digest()


def gap_chain(previous: bytes, link: int, gap: GapRecord) -> bytes:
    """Chain value of a gap row; raises as `event_chain`."""
    cause = gap.cause.encode()
    head = _pack_gap(b"g", link, gap.after_seq, gap.count, gap.from_wall_ns, gap.to_wall_ns, len(cause))
    return _sha256(b"".join((previous, head, cause))).digest()
