"""What the journal costs: appending with fsync, bytes on disk, scanning with and without verification.

Run alone: `python -m tests.bench.journal_bench`.
"""

from __future__ import annotations

import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from hafsm import codec
from hafsm.core.actions import SendMessage
from hafsm.core.events import HeartbeatReceived
from hafsm.core.settings import NodeName
from journal import pack
from journal.folder import segments
from journal.reader import Journal
from journal.records import ActionRecord, EventRecord, RunRecord, SnapshotRecord
from journal.writer import Writer

PACED_EVENTS_PER_S = 2000
PACED_SECONDS = 10
BULK_EVENTS = 200_000
ACTION_EVERY = 5
"""An event in five causes an action: about what heartbeats, checks and pings of a quiet pair make."""

_jitter = random.Random(1)
_NODE = NodeName("director-b")


def decision(seq: int) -> tuple[EventRecord, tuple[ActionRecord, ...]]:
    """A heartbeat, at times with the message that answers it; numbers and times as irregular as real ones."""
    mono_ns = 86_400 * 10**9 + seq * 500_000 + _jitter.randrange(400_000)
    heartbeat = HeartbeatReceived(
        at=mono_ns,
        link=seq % 2,
        node=_NODE,
        generation=1_790_000_017,
        sequence=seq // 2,
        status="active",
        deadtime_ns=10_000_000_000,
        journal=17 * seq // 10 + _jitter.randrange(3),
    )
    wall_ns = 1_790_000_000_000_000_000 + mono_ns + _jitter.randrange(1000)
    event = EventRecord(seq, mono_ns, wall_ns, *codec.encode_event(heartbeat), None, None, "")
    if seq % ACTION_EVERY:
        return event, ()
    fields = (("st", "active"), ("dt", "2710"), ("protocol", "1"), ("hj", f"{seq:x}"))
    answer = SendMessage(id=seq // ACTION_EVERY, kind="status", generation=1_790_000_017, sequence=seq, fields=fields)
    return event, (ActionRecord(answer.id, seq, *codec.encode_action(answer)),)


def started(folder: Path, durable: threading.Event, last_seq: int) -> Writer:
    """A writer whose `durable` is set when event `last_seq` is on disk."""

    def on_durable(seq: int) -> None:
        if seq == last_seq:
            durable.set()

    writer = Writer(folder, segment_bytes=2**40, queue_max_events=10**9, on_durable=on_durable, on_trouble=print)
    writer.open()
    writer.start_run(RunRecord(1, 1, 0, "director-a", "boot", "0", "", "", ""), SnapshotRecord(0, 0, "{}", ""))
    return writer


def append_paced(folder: Path) -> None:
    """CPU for the rate of a busy director, its loop's share of `append` included."""
    total = PACED_EVENTS_PER_S * PACED_SECONDS
    durable = threading.Event()
    writer = started(folder, durable, total)
    pause_s = 0.005
    batch = int(PACED_EVENTS_PER_S * pause_s)
    decisions = [decision(seq) for seq in range(1, total + 1)]
    began_cpu, began = time.process_time(), time.perf_counter()
    for start in range(0, total, batch):
        for event, actions in decisions[start : start + batch]:
            writer.append(event, actions, False)
        time.sleep(max(0.0, began + (start + batch) / PACED_EVENTS_PER_S - time.perf_counter()))
    durable.wait(60)
    elapsed, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    writer.close(60)
    print(f"append, paced     {total / elapsed:9,.0f} events/s  {cpu / elapsed:6.1%} of one core")


def append_bulk(folder: Path) -> None:
    """As fast as it goes, everything on disk at the end."""
    durable = threading.Event()
    writer = started(folder, durable, BULK_EVENTS)
    decisions = [decision(seq) for seq in range(1, BULK_EVENTS + 1)]
    began = time.perf_counter()
    for event, actions in decisions:
        writer.append(event, actions, False)
    durable.wait(300)
    elapsed = time.perf_counter() - began
    writer.close(60)
    (path,) = segments(folder)
    payload_bytes = sum(
        len(event.payload) + sum(len(action.payload) for action in actions) for event, actions in decisions
    )
    extra = (path.stat().st_size - payload_bytes) / BULK_EVENTS
    print(f"append, at once   {BULK_EVENTS / elapsed:9,.0f} events/s")
    size = path.stat().st_size / BULK_EVENTS
    print(f"on disk           {size:9.0f} bytes/event while written, {extra:.0f} beyond payload")


def pack_sealed(folder: Path) -> None:
    """The process that packs a sealed segment: what it leaves, and its share of a core at the paced rate."""
    (path,) = segments(folder)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-I", "-S", pack.__file__, path], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    (packed,) = segments(folder)
    share = cpu / (BULK_EVENTS / PACED_EVENTS_PER_S)
    size = packed.stat().st_size / BULK_EVENTS
    print(f"on disk, packed   {size:9.0f} bytes/event, packing takes {share:.1%} of one core at the paced rate")
    began = time.perf_counter()
    with Journal(packed) as journal:
        opened = time.perf_counter() - began
        count = sum(1 for _ in journal.scan(verify=False))
    print(f"packed, opened in {opened:9.2f} s for {count:,} events")


def rate(name: str, rows: Iterable[object]) -> float:
    """Events read per second."""
    began = time.perf_counter()
    count = sum(1 for _ in rows)
    events_per_s = count / (time.perf_counter() - began)
    print(f"{name:17} {events_per_s:9,.0f} events/s")
    return events_per_s


def scan(path: Path) -> None:
    """The reader against what SQLite alone can do on the same file."""
    with sqlite3.connect(path) as connection:
        bare = rate("bare SELECT", connection.execute("SELECT * FROM event ORDER BY seq"))
    connection.close()
    with Journal(path) as journal:
        plain = rate("scan", journal.scan(verify=False))
        verified = rate("scan, verified", journal.scan())
    print(f"of a bare SELECT  scan {plain / bare:.0%}, verified {verified / bare:.0%}")


def main() -> None:
    """Print all of it."""
    with tempfile.TemporaryDirectory() as folder:
        append_paced(Path(folder) / "paced")
        append_bulk(Path(folder) / "bulk")
        scan(segments(Path(folder) / "bulk")[0])
        pack_sealed(Path(folder) / "bulk")


if __name__ == "__main__":
    main()
