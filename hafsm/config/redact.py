"""Configuration text that may be recorded: keys and passwords become digests, in comments too (law L10)."""

from __future__ import annotations

import re

from hafsm.config.model import SourceText, secret_digest
from hafsm.config.source import Source

_KEY_LINE = re.compile(r"(\s*#?\s*\d+\s+(?:sha256|sha1|md5|crc))(?:(\s+)(\S.*))?$")
_AUTH_LINE = re.compile(r"\s*#?\s*auth\s+\d+\s*$")
_COMMENT = re.compile(r"(\s*#\s*)(\S.*)$")
_STONITH_HOST = re.compile(r"(.*\bstonith_host\s+\S+\s+\S+\s+)(\S.*)$")
_PASSWORD = re.compile(r"(.*\b(?:login|passwd|secret)\s*=\s*)(\S.*)$")
_USERINFO = re.compile(r"(?<=://)[^/\s\"]+(?=@)")


def redacted(source: Source) -> SourceText:
    """The text of a configuration file without its secrets; the file's name decides what is a secret."""
    treat = {"authkeys": _authkeys, "ha.cf": _ha_cf}.get(source.path.name, _ldirectord_cf)
    return SourceText(name=source.path.name, text="".join(f"{treat(line.text)}\n" for line in source.lines))


def without_userinfo(text: str) -> str:
    """Text whose URLs hold a digest where `user:password@` stood."""
    return _USERINFO.sub(lambda m: _digest(m[0]), text)


def _digest(text: str) -> str:
    return secret_digest(text.strip().encode("utf-8", "surrogateescape"))


def _plain(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _authkeys(text: str) -> str:
    """Index and method stay. A comment that is no key line may quote an old key, so all of it goes."""
    if key := _KEY_LINE.match(text):
        return _plain(key[1]) + (f"{key[2]}{_digest(key[3])}" if key[3] else "")
    if not text.strip() or _AUTH_LINE.match(text):
        return text
    comment = _COMMENT.match(text)
    return comment[1] + _digest(comment[2]) if comment else _digest(text)


def _ha_cf(text: str) -> str:
    found = _STONITH_HOST.match(text)
    return _plain(found[1]) + _digest(found[2]) if found else _plain(text)


def _ldirectord_cf(text: str) -> str:
    if found := _PASSWORD.match(text):
        return _plain(found[1]) + _digest(found[2])
    return _plain(without_userinfo(text))
