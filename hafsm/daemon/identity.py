"""Who this node is across lives: its uuid, its generation, the boot it last lived in.

The generation only ever grows: a peer refuses everything of an older one (heartbeat's `hg`). The first is the Unix
time, as heartbeat has it, so that a lost state folder or a heartbeat that ran here before do not bring it down.
"""

from __future__ import annotations

import contextlib
import logging
import os
import uuid
from pathlib import Path
from typing import NamedTuple

import msgspec

log = logging.getLogger("hafsm.identity")


class Identity(NamedTuple):
    """One life."""

    uuid: bytes
    """16 bytes, the same in every life."""
    generation: int
    boot_id: str
    same_boot: bool
    """The machine has not booted since the last life."""
    peers: dict[str, int]
    """Newest generation heard of each other node, in any life."""


class _Stored(msgspec.Struct):
    uuid: str = ""
    generation: int = 0
    boot_id: str = ""
    peers: dict[str, int] = {}


def boot_id() -> str:
    """The kernel's name for this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def begin_life(state_dir: Path, wall_s: int) -> Identity:
    """Read what the last life left, write the next generation to the disk, and return it.

    The file is replaced by rename after fsync, so that a power cut leaves the old one or the new one. A file that
    cannot be understood is set aside and said so; the Unix time is larger than any generation it can have held.
    """
    path = state_dir / "identity.json"
    with contextlib.suppress(OSError):
        state_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    boot = boot_id()
    try:
        last = msgspec.json.decode(path.read_bytes(), type=_Stored)
        known = bytes.fromhex(last.uuid)
        if len(known) != 16:
            raise ValueError(f"a uuid of {len(known)} bytes")
    except FileNotFoundError:
        last, known = _Stored(), uuid.uuid4().bytes
    except (ValueError, msgspec.MsgspecError) as error:
        aside = path.with_suffix(".unreadable")
        path.replace(aside)
        log.warning("%s: %s; kept as %s, this node goes on with a new uuid", path, error, aside)
        last, known = _Stored(), uuid.uuid4().bytes
    generation = last.generation + 1 if last.generation else wall_s
    try:
        replace_file(path, msgspec.json.encode(_Stored(known.hex(), generation, boot, last.peers)))
    except OSError as error:
        # A disk never decides a failover; the Unix time is larger than what other lives could not write either.
        generation = max(generation, wall_s)
        log.error("%s: %s; this life goes on with generation %d", path, error.strerror, generation)
    return Identity(known, generation, boot, same_boot=last.boot_id == boot, peers=last.peers)


def remember_peer(state_dir: Path, name: str, generation: int) -> None:
    """Keep a peer's new generation for later lives: what was recorded of its older ones stays refused. Blocks."""
    path = state_dir / "identity.json"
    stored = msgspec.json.decode(path.read_bytes(), type=_Stored)
    stored.peers[name] = max(generation, stored.peers.get(name, 0))
    replace_file(path, msgspec.json.encode(stored))


def replace_file(path: Path, content: bytes) -> None:
    """Durable, and whole or not at all: the old content or the new one. Blocks; raises OSError."""
    new = path.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        written = 0
        while written < len(content):
            written += os.write(descriptor, content[written:])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
