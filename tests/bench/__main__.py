"""`make bench`: every benchmark, one after the other."""

from __future__ import annotations

import importlib

BENCHES = (
    "core_bench",
    "journal_bench",
    "replay_bench",
    "takeover_bench",
    "wire_bench",
    "checks_bench",
    "memory_bench",
    "realtime_bench",
)

for name in BENCHES:
    print(f"--- {name}", flush=True)
    importlib.import_module(f"tests.bench.{name}").main()
