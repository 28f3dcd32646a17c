"""Who owns the VIP at each moment, by who answers ARP for it: what a switch and its clients go by.

A host of its own on the laboratory's bridge asks every 10 ms. It sees what no look into a director shows: two owners at
once, or none. A machine that was frozen also answers requests that waited in its network card meanwhile, and those
answers count, for clients hear them too.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from tests.kernel.lab import VIP, NativeHost
from tests.kernel.uml import GUEST

ASK_EVERY_S = 0.01
RECENT = 20
"""Requests that tell who owns it now: 0.2 s, several times what a busy kernel took to answer."""


@dataclass(frozen=True)
class Moment:
    """From one request to the next."""

    at: float
    """`time.monotonic` of this machine."""
    owners: frozenset[str]
    """Hardware addresses that answered in it."""


class Owners:
    """Asks all the time from `host`, until `stop`."""

    def __init__(self, host: NativeHost, vip: str = VIP) -> None:
        words = [vip, host.addresses[0], str(ASK_EVERY_S)]
        self._process = host.start([sys.executable, "-I", "-S", str(GUEST / "owners.py"), *words])
        self._moments: list[Moment] = []
        self._log = self._process.log.open("rb")

    def moments(self, since: float = 0.0, until: float = float("inf")) -> list[Moment]:
        """Those that began in [since, until), in order."""
        while (line := self._log.readline()).endswith(b"\n"):
            at, owners = json.loads(line)
            self._moments.append(Moment(at, frozenset(owners)))
        self._log.seek(-len(line), os.SEEK_CUR)  # the beginning of a line that is being written
        return [moment for moment in self._moments if since <= moment.at < until]

    def now(self) -> frozenset[str]:
        """Everybody who answered in the last 0.2 s."""
        return frozenset().union(*(moment.owners for moment in self.moments()[-RECENT:]))

    def both(self, since: float, until: float = float("inf")) -> float:
        """Seconds in which more than one answered, all together."""
        return sum(length for moment, length in self._lengths(since, until) if len(moment.owners) > 1)

    def nobody(self, since: float, until: float = float("inf")) -> float:
        """Seconds of the longest time without an answer."""
        longest = lasts = 0.0
        for moment, length in self._lengths(since, until):
            lasts = 0.0 if moment.owners else lasts + length
            longest = max(longest, lasts)
        return longest

    def last_answer(self, mac: str, since: float, until: float = float("inf")) -> float:
        """Seconds from `since` to the end of the last moment in which `mac` answered; 0 if it did not."""
        ends = [moment.at + length for moment, length in self._lengths(since, until) if mac in moment.owners]
        return ends[-1] - since if ends else 0.0

    def _lengths(self, since: float, until: float) -> Iterator[tuple[Moment, float]]:
        moments = self.moments(since, until)
        for moment, following in pairwise(moments):
            yield moment, following.at - moment.at

    def stop(self) -> None:
        """Stop asking; ask for nothing afterwards."""
        self._process.stop()
        self._log.close()
