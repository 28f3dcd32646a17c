"""What the journal costs: appending with fsync, bytes on disk, scanning with and without verification.

Run alone: `python -m tests.bench.journal_bench`.
"""

from __future__ import annotations

import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from journal.folder import segments
from journal.reader import Journal
from journal.records import ActionRecord, EventRecord, RunRecord, SnapshotRecord
from journal.writer import Writer

PACED_EVENTS_PER_S = 2000
PACED_SECONDS = 3
BULK_EVENTS = 200_000
ACTION_EVERY = 5
"""An event in five causes an action: about what heartbeats, checks and pings of a quiet pair make."""

PAYLOAD = '{"at":123456789012345,"link":0,"node":"director-b","generation":17,"sequence":4711,"status":"active"}'
ACTION_PAYLOAD = '{"kind":"status","generation":17,"sequence":4711}'


def decision(seq: int) -> tuple[EventRecord, tuple[ActionRecord, ...]]:
    """A heartbeat, at times with the message that answers it."""
    wall_ns = 1_790_000_000_000_000_000 + seq * 500_000
    event = EventRecord(seq, seq * 500_000, wall_ns, "heartbeat_received", 1, PAYLOAD, None, None, "")
    if seq % ACTION_EVERY:
        return event, ()
    return event, (ActionRecord(seq // ACTION_EVERY, seq, "send_message", 1, ACTION_PAYLOAD),)


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
    print(f"on disk           {path.stat().st_size / BULK_EVENTS:9.0f} bytes/event, {extra:.0f} beyond payload")


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


if __name__ == "__main__":
    main()
