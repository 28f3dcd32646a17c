"""Reads authkeys. No message here ever repeats what may be a key.

Grammar (heartbeat 3.0.6): `auth N`, and key lines `index method [key]` with an index from 0 to 15. The method sha256
is hafsm's own.
"""

from __future__ import annotations

import re

from hafsm.config.findings import Report
from hafsm.config.model import AuthKey, Authkeys, AuthMethod, Secret
from hafsm.config.names import Misread, whole
from hafsm.config.source import Source

_KEY_LINE = "INDEX METHOD KEY such as: 1 sha1 SomeKey"
_METHODS: dict[str, AuthMethod] = {"crc": "crc", "md5": "md5", "sha1": "sha1", "sha256": "sha256"}
_READABLE = 0o044


def read_authkeys(source: Source, report: Report) -> Authkeys | None:
    """The keys, or None when no valid active key was found. The file's mode is judged too."""
    if source.mode & _READABLE:
        report.error(
            0,
            f"readable by group or others (mode {source.mode:04o})",
            "mode 0600",
            f"Run: chmod 600 {source.path}",
        )
    reader = _Reader(report)
    for line in source.lines:
        text = line.text.strip(" \t")
        if text and not text.startswith("#"):
            reader.read(line.number, text)
    return reader.finish()


class _Reader:
    def __init__(self, report: Report) -> None:
        self.report = report
        self.active = -1
        self.active_line = 0
        self.auth_tried = False
        self.keys: dict[int, tuple[int, AuthKey]] = {}
        self.broken: set[int] = set()

    def read(self, line: int, text: str) -> None:
        words = re.split(r"[ \t]+", text)
        if words[0] == "auth" or text.startswith("a"):
            self.auth(line, words)
        elif not words[0].isdigit():
            self.report.error(line, "neither an auth line nor a key line", _KEY_LINE)
        else:
            self.key(line, words)

    def auth(self, line: int, words: list[str]) -> None:
        expected = "auth N with N from 0 to 15"
        self.auth_tried = True
        if words[0] != "auth" or len(words) != 2:
            self.report.error(line, "an auth line that cannot be read", expected)
            return
        try:
            index = whole(words[1], 0, 15)
        except Misread:
            self.report.error(line, "an auth line without an index from 0 to 15", expected)
            return
        if self.active_line:
            self.report.error(line, "a second auth line", f"one (line {self.active_line} has it)", "Remove one of them")
            return
        self.active, self.active_line = index, line

    def key(self, line: int, words: list[str]) -> None:
        try:
            index = whole(words[0], 0, 15)
        except Misread:
            self.report.error(line, "a key index out of range", "an index from 0 to 15")
            return
        self.broken.add(index)
        if len(words) < 2 or words[1] not in _METHODS:
            self.report.error(line, f"key {index} has no known method", "crc, md5, sha1 or sha256 behind the index")
            return
        method = _METHODS[words[1]]
        if method == "crc" and len(words) > 2:
            self.report.error(line, f"key {index} is crc with a key", "crc alone", "Remove the word, or write sha1")
            return
        if method != "crc" and len(words) < 3:
            self.report.error(
                line, f"key {index} is {method} without a key", f"a key behind {method}", _one_line_key(index)
            )
            return
        if index in self.keys:
            self.report.error(line, f"key {index} is given again", f"it once (line {self.keys[index][0]} has it)")
            return
        if len(words) > 3:
            self.report.warn(
                line, f"key {index} is followed by more words", "a key without blanks", "Only the first word is the key"
            )
        secret = words[2].encode("utf-8", "surrogateescape") if method != "crc" else b""
        self.keys[index] = (line, AuthKey(index=index, method=method, secret=Secret(secret)))
        self.broken.discard(index)

    def finish(self) -> Authkeys | None:
        if not self.active_line:
            if not self.auth_tried:
                self.report.error(
                    0, "no auth line", "auth N, naming the key that signs", "Write auth 1 into the first line"
                )
            return None
        if self.active not in self.keys:
            if self.active not in self.broken:
                self.report.error(
                    self.active_line,
                    f"auth {self.active} names a key that is not there",
                    f"a line {self.active} METHOD KEY",
                    _one_line_key(self.active),
                )
            return None
        line, key = self.keys[self.active]
        if line < self.active_line:
            self.report.warn(
                self.active_line, f"auth {self.active} stands below its key", "it above", "heartbeat refuses this order"
            )
        if key.method == "crc":
            self.report.warn(
                line,
                "crc is the active method: anyone on the network can forge heartbeats and take the addresses",
                "sha1",
                _one_line_key(self.active),
            )
        return Authkeys(active=self.active, keys=tuple(key for _, key in self.keys.values()))


def _one_line_key(index: int) -> str:
    return f"Make one with: echo {index} sha1 $(openssl rand -hex 20)"
