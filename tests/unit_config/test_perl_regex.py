"""Perl's regular expressions in Python's words: what stays, what is translated, what is refused, and what matches."""

from __future__ import annotations

import itertools
import json
import random
import re
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hafsm.config.names import Misread
from hafsm.config.perl_regex import LENGTH_LIMIT, translate

SAME = (
    *("OK", "^a.*b$", "(?i)ok", r"\d+\.\\z", r"\\\\Q", "(?<=a)b", r"\(?|x", "a++", "a?+b", "(?>a|ab)c", "a{2,3}?"),
    *("[a-z-]", "[-a]", "[]a]", "[^]a]", r"[\w.]", "(?:a|b)", "(?P<n>a)(?P=n)", r"(a)\1", "a{,3}", "{", "x{y}", "é+"),
    *("(?i:a)b", "(?s-i:.)", "(?=a)", "(?!a)b", "(?<!a)b", r"\bword\b", r"\.\/\-", "a|b|", r"[\]x]", "$", r"\A\w"),
)
TRANSLATED = {
    r"a\z": r"a\Z",
    r"a\Z": r"a(?=\n?\Z)",
    r"\h": r"[\x09\x20\xa0]",
    r"\H": r"[^\x09\x20\xa0]",
    r"\v": r"[\x0a-\x0d\x85]",
    r"\R": r"(?>\r\n|[\x0a-\x0d\x85])",
    r"\N": r"[^\n]",
    r"\N{2}": r"[^\n]{2}",
    r"a\Kb": "a(?:)b",
    r"\Qa.b\E.": r"a\.b.",
    r"\Qa(": r"a\(",
    r"\e\cA": r"\x1b\x01",
    r"\x4g\x{41}\x": r"\x04g\x41\x00",
    r"\o{101}\0\012": r"\x41\x00\x0a",
    r"\y": "y",
    "(?<n>a)": "(?P<n>a)",
    "(?'n'a)": "(?P<n>a)",
    r"(?<n>a)\k<n>\k{n}\k'n'\g{n}": "(?P<n>a)(?P=n)(?P=n)(?P=n)(?P=n)",
    r"(a)(b)\g1\g{2}\g{-1}": r"(a)(b)(?:\1)(?:\2)(?:\2)",
    r"(?<n>a)?(?(<n>)b|c)": "(?P<n>a)?(?(n)b|c)",
    "(?#why)a": "a",
    "x(?i)a|b": "x(?i:a)|(?i:b)",
    "((?i)a|b)c": "((?i:a)|(?i:b))c",
    "(?i)a(?-i)b": "(?i)a(?-i:b)",
    "(?m)^a": r"(?m)(?:^(?!\Z)|\A)a",
    "(?m:^a)^": r"(?m:(?:^(?!\Z)|\A)a)^",
    "(?^i:a)": "(?i-msx:a)",
    "(?aa)x": "x",
    "[[:digit:]_]": r"[\x30-\x39_]",
    "[[:^ascii:]]": r"[\x80-\xff]",
    r"[\h\d]": r"[\x09\x20\xa0\d]",
    "[a[]": r"[a\[]",
    r"[\w-.]": r"[\w\-.]",
    r"[a-\d]": r"[a\-\d]",
    "[+--]": r"[+-\-]",
    "[a&&b]": r"[a\&\&b]",
    r"[\101]": r"[\x41]",
    "\udcff": r"\xff",
    "\xa0": r"\xc2\xa0",
}
SHARED = "a regular expression that Perl and Python share"
REFUSED = {
    "(?|a|b)": 'Python has no "(?|" (branch reset)',
    "(?R)": 'Python has no "(?R" (recursion)',
    "(a)(?1)": 'Python has no "(?1)" (recursion)',
    "(a)(?-1)": 'Python has no "(?1)" (recursion)',
    "(?<n>a)(?&n)": 'Python has no "(?&" (recursion)',
    "(?P>n)": 'Python has no "(?P>" (recursion)',
    "(?{1})": 'Python has no "(?{" (Perl code)',
    "(??{1})": 'Python has no "(??{" (Perl code)',
    "(?[a])": 'Python has no "(?[" (set operations)',
    "(*FAIL)": 'Python has no "(*" (verbs)',
    "(?(R)a)": 'Python has no "(?(" (that kind of group)',
    "(?n:a)": 'Python has no "(?n)" (that flag)',
    "(?xx)a": 'Python has no "(?xx)" (that flag)',
    r"\pL": 'Python has no "\\p" (Unicode properties)',
    r"[\pL]": 'Python has no "\\p" (Unicode properties)',
    r"\X": 'Python has no "\\X" (Unicode clusters)',
    r"\Gx": 'Python has no "\\G" (the end of the last match)',
    r"\Lx": 'Python has no "\\L" (case changes and quoting)',
    r"x\E": 'Python has no "\\E" (case changes and quoting)',
    r"\N{U+41}": 'Python has no "\\N{" (names of characters)',
    r"\b{wb}": 'Python has no "\\b{" (Unicode boundaries)',
    r"\x{263a}": 'Python has no "\\x{263a}" (answers are bytes)',
    r"\o{777}": 'Python has no "\\o{777}" (answers are bytes)',
    r"\cé": 'Python has no "\\c" (that control character)',
    r"\g{-1}": 'Python has no "\\g{-1}" (a reference that names no group)',
    r"\k": 'Python has no "\\k" (a reference that names no group)',
    r"[\N]": 'Python has no "\\N" (inside a class)',
    "[[:greek:]]": 'Python has no "[:greek:]" (that class)',
    "a{2, 3}": 'Python has no "{2, 3}" (blanks in a count)',
    "a(b": "It does not compile: missing ), unterminated subpattern at position 1",
    "a)b": "It does not compile: unbalanced parenthesis at position 1",
    "*": "It does not compile: nothing to repeat at position 0",
    "a{2,1}": "It does not compile: min repeat greater than max repeat at position 2",
    "(?<=a*)b": "It does not compile: look-behind requires fixed-width pattern",
    "a\\": "It does not compile: bad escape (end of pattern) at position 1",
    "[a": "It does not compile: unterminated character set at position 0",
    r"\1": "It does not compile: invalid group reference 1 at position 1",
}


@pytest.mark.parametrize("text", SAME)
def test_what_both_share_stays_as_it_is(text: str) -> None:
    assert translate(text) == text


@pytest.mark.parametrize(("text", "expected"), TRANSLATED.items())
def test_translated(text: str, expected: str) -> None:
    assert translate(text) == expected
    if not re.search(r"Z|\(\?\(|\(\?m", expected):  # those are Python's alone
        assert translate(expected) == expected


@pytest.mark.parametrize(("text", "remedy"), REFUSED.items())
def test_refused_by_name(text: str, remedy: str) -> None:
    with pytest.raises(Misread) as refusal:
        translate(text)
    assert (refusal.value.expected, refusal.value.remedy) == (SHARED, remedy)


def test_too_long() -> None:
    assert translate("a" * LENGTH_LIMIT)
    with pytest.raises(Misread, match="of at most 4096 characters"):
        translate("a" * (LENGTH_LIMIT + 1))


SIGNS = st.sampled_from(
    [*r"\()[]{}|?*+.^$-<>!=:'#&~,01aAhHkKgNPQERzZvxeionpsimx", "(?", "[:", ":]", "(?<", r"\g{", "é", "\udcff", "\x00"]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(SIGNS, max_size=24).map("".join) | st.text(max_size=40))
def test_anything_compiles_or_is_refused(text: str) -> None:
    try:
        re.compile(translate(text).encode())
    except Misread as refusal:
        assert refusal.expected


PERL = r"""
use strict; use warnings; no warnings; use JSON::PP;
local $/; my $cases = decode_json(<STDIN>); my @found;
for my $case (@$cases) {
    my ($pattern, @subjects) = map { pack("H*", $_) } @$case;
    my $compiled = eval { qr/$pattern/ };
    push @found, defined $compiled ? [map { $_ =~ /$pattern/ ? 1 : 0 } @subjects] : undef;
}
print encode_json(\@found);
"""
SUBJECTS = (
    *(b"", b"a", b"b", b"ab", b"aa", b"AB", b"xA", b"xb", b"OK\n", b"OK", b"a\n", b"a\nb", b"a\r\nb", b"\x85", b"a b"),
    *(b"\t", b"\xa0", b"\xc2\xa0", b"\xc3\xa9\xc3\xa9", b"a-b", b"[", b"]", b"-", b".", b"+", b",", b"_", b"7", b"a.b"),
    *(b"a\x0bb", b"\x00", b"A\x1b\x01", b"\x04g", b"y", b"bb", b"abab", b"word", b"a&b", b"{", b"aaa", b"\xff", b"/-"),
)
PIECES = (
    *("a", "b", ".", "^", "$", r"\z", r"\Z", r"\A", r"\h", r"\H", r"\v", r"\V", r"\R", r"\s", r"\w", r"\d", r"\N"),
    *(
        "(?i)",
        "(?s)",
        "(?m)",
        "(?x)",
        "(?-i)",
        "(",
        ")",
        "(?:",
        "(?<n>",
        "|",
        "*",
        "+",
        "?",
        "*+",
        "++",
        "{1,2}",
        "{2}",
    ),
    *(r"\K", r"\x41", r"\x{61}", r"\g{-1}", r"\1", r"\b", "[ab]", "[^a]", r"[\h]", "[[:alpha:]]", "[[:^space:]]", "-"),
    *(r"[\w-.]", "[a-]", "[+--]", "(?=", "(?!", "(?<=a)", "(?>", " ", r"\.", r"\y", "(?^i:", "{", "é", r"[\x00-\x40]"),
)


def _perl() -> bool:
    return subprocess.run(["/bin/sh", "-c", "perl -MJSON::PP -e 1"], capture_output=True).returncode == 0


@pytest.mark.skipif(not _perl(), reason="Perl with its standard modules is not installed")
def test_perl_finds_the_same() -> None:
    r"""Whatever is translated matches what Perl's matches; \Q is left out: there they differ on purpose."""
    choice = random.Random(20241).choice
    made = ("".join(choice(PIECES) for _ in range(length)) for length, _ in itertools.product(range(1, 7), range(500)))
    texts = [text for text in (*SAME, *TRANSLATED, *made) if r"\Q" not in text]
    patterns = []
    for text in dict.fromkeys(texts):
        try:
            patterns.append((text, re.compile(translate(text).encode())))
        except Misread:
            continue
    assert len(patterns) > 500
    cases = [[data.hex() for data in (text.encode("utf-8", "surrogateescape"), *SUBJECTS)] for text, _ in patterns]
    answer = subprocess.run(["perl", "-e", PERL], input=json.dumps(cases).encode(), capture_output=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert sum(perl is not None for perl in found) > 0.9 * len(patterns)
    different = []
    for (text, compiled), perl in zip(patterns, found, strict=True):
        ours = [int(compiled.search(subject) is not None) for subject in SUBJECTS]
        if perl is not None and perl != ours:
            different.append(
                (text, compiled.pattern, [s for s, a, b in zip(SUBJECTS, perl, ours, strict=True) if a != b])
            )
    assert different == []
