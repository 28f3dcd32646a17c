"""Perl's regular expressions for Python's `re` on bytes: translated where both can say it, refused by name where not.

Most expressions in real files mean the same in both and stay as they are. Only whether an expression matches counts, so
`\\K`, which moves the beginning of a match, changes nothing. Source: perlre and perlrecharclass of Perl 5.36.
"""

from __future__ import annotations

import re
import string
import warnings
from collections.abc import Iterable

from hafsm.config.findings import quote
from hafsm.config.names import Misread

LENGTH_LIMIT = 4096
"""Characters. Longer ones are a mistake, and take long to compile."""

_EXPECTED = "a regular expression that Perl and Python share"
_SAME = "dDwWsSbBAnrtfa"
_BLANK = frozenset(b"\t \xa0")
_VERTICAL = frozenset(b"\n\v\f\r\x85")
_ASCII = frozenset(range(128))


def _of(text: str) -> frozenset[int]:
    return frozenset(text.encode())


_POSIX: dict[str, frozenset[int]] = {
    "alpha": _of(string.ascii_letters),
    "digit": _of(string.digits),
    "alnum": _of(string.ascii_letters + string.digits),
    "upper": _of(string.ascii_uppercase),
    "lower": _of(string.ascii_lowercase),
    "space": _of(" \t\n\r\f\v"),
    "blank": _of(" \t"),
    "punct": _of(string.punctuation),
    "print": frozenset(range(32, 127)),
    "graph": frozenset(range(33, 127)),
    "cntrl": frozenset({*range(32), 127}),
    "xdigit": _of(string.hexdigits),
    "word": _of(string.ascii_letters + string.digits + "_"),
    "ascii": _ASCII,
}
_SETS = {"h": _BLANK, "v": _VERTICAL}
"""Escapes that stand for several bytes and that Python lacks or reads otherwise; in upper case for all the others."""
_REFUSED = {
    **dict.fromkeys("pP", "Unicode properties"),
    **dict.fromkeys("LUluFE", "case changes and quoting"),
    "X": "Unicode clusters",
    "C": "single bytes",
    "G": "the end of the last match",
}
_POSIX_CLASS = re.compile(r"\[:(\^?)([a-z]+):\]")
_FLAGS = re.compile(r"\(\?(\^?)([a-zA-Z]*)(?:-([a-zA-Z]*))?([:)])")
_NAMED = re.compile(r"\(\?P?(?:<([A-Za-z_]\w*)>|'([A-Za-z_]\w*)')", re.ASCII)
_CONDITION = re.compile(r"\(\?\((?:([0-9]+)|<([A-Za-z_]\w*)>|'([A-Za-z_]\w*)')\)", re.ASCII)
_REFERENCE = re.compile(r"g(?:(-?[0-9]+)|\{(-?[0-9]+)\}|\{([A-Za-z_]\w*)\})", re.ASCII)
_NAME_REFERENCE = re.compile(r"k(?:<([A-Za-z_]\w*)>|\{([A-Za-z_]\w*)\}|'([A-Za-z_]\w*)')", re.ASCII)
_HEX = re.compile(r"x(?:\{ *([0-9A-Fa-f]{1,8}) *\}|([0-9A-Fa-f]{0,2}))")
_OCTAL = re.compile(r"o\{([0-7]{1,8})\}|(0[0-7]{0,2}|[0-7]{3})")
_COUNT = re.compile(r"\{[0-9]+(?:,[0-9]*)?\}")
_SPACED_COUNT = re.compile(r"\{(?= *,? *[0-9])(?=[^}]* )[0-9, ]*\}")
_PLAIN_OPENINGS = ("(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!")
_NO_EQUIVALENT = (
    ("(?|", "branch reset"),
    ("(?R", "recursion"),
    ("(?&", "recursion"),
    ("(?P>", "recursion"),
    ("(?{", "Perl code"),
    ("(??{", "Perl code"),
    ("(?[", "set operations"),
    ("(*", "verbs"),
)


def translate(text: str) -> str:
    """The expression for `re.compile(result.encode())`, which succeeds. Raises Misread.

    Bytes that are not UTF-8 may stand in `text` as surrogates; the result has escapes for them.
    """
    if len(text) > LENGTH_LIMIT:
        raise Misread(f"a regular expression of at most {LENGTH_LIMIT} characters")
    result = _Translator(text).run()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(result.encode())
    except (re.error, Warning, OverflowError, RecursionError, ValueError) as error:
        raise Misread(_EXPECTED, remedy=f"It does not compile: {error}") from None
    return result


def quotes_with_q(text: str) -> bool:
    r"""Whether `\Q` stands in it: Perl does not see it there when the expression comes out of a file."""
    return re.search(r"(?<!\\)(?:\\\\)*\\Q", text) is not None


def _refused(what: str, why: str) -> Misread:
    return Misread(_EXPECTED, remedy=f"Python has no {quote(what)} ({why})")


def _hexadecimal(byte: int) -> str:
    return f"\\x{byte:02x}"


def _ranges(members: Iterable[int]) -> str:
    """The inside of a character class."""
    found, values = "", sorted(members)
    while values:
        length = next((n for n, value in enumerate(values) if value != values[0] + n), len(values))
        run, values = values[:length], values[length:]
        found += _hexadecimal(run[0]) + (f"-{_hexadecimal(run[-1])}" if length > 1 else "")
    return found


def _literal(character: str) -> str:
    """A character that means itself, as bytes that survive any encoding."""
    if character.isprintable() or character == "\t":
        return character
    return "".join(map(_hexadecimal, character.encode("utf-8", "surrogateescape")))


class _Translator:
    """One pass from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.out: list[str] = []
        self.groups = 0
        """Capturing groups opened so far."""
        self.open: list[list[str]] = [[]]
        """Innermost group last; of each the flag groups that were opened for flags in its middle."""
        self.multiline = [False]
        """Of the same groups: whether the flag `m` holds at this place."""

    def run(self) -> str:
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == "\\":
                self.at += 1
                self._escape()
            elif character == "[":
                self._class()
            elif character == "(":
                self._group()
            elif character == "|":
                flags = self.open[-1]
                self._take(1, ")" * len(flags) + "|" + "".join(flags))
            elif character == ")":
                self._take(1, ")" * len(self.open[-1]) + ")")
                if len(self.open) > 1:  # one too many does not compile
                    self.open.pop()
                    self.multiline.pop()
            elif character == "^" and self.multiline[-1]:
                self._take(1, r"(?:^(?!\Z)|\A)")  # in Perl no line begins behind the last newline
            elif spaced := _SPACED_COUNT.match(self.text, self.at):
                raise _refused(spaced[0], "blanks in a count")
            else:
                self._take(1, _literal(character))
        return "".join(self.out) + ")" * len(self.open[0])

    def _take(self, length: int, translation: str) -> None:
        self.at += length
        self.out.append(translation)

    # ---- escapes

    def _escape(self) -> None:
        """Behind a backslash, outside a class."""
        rest = self.text[self.at : self.at + 2]
        letter = rest[:1]
        if byte := self._number():
            self.out.append(byte)
        elif letter == "Q":
            end = self.text.find("\\E", self.at)
            literal = self.text[self.at + 1 : end if end >= 0 else len(self.text)]
            self._take(len(literal) + (3 if end >= 0 else 1), "".join(map(_quoted, literal)))
        elif letter == "z":
            self._take(1, r"\Z")
        elif letter == "Z":
            self._take(1, r"(?=\n?\Z)")
        elif letter == "K":
            self._take(1, "(?:)")
        elif letter == "R":
            self._take(1, rf"(?>\r\n|[{_ranges(_VERTICAL)}])")
        elif letter == "N" and (rest[1:] != "{" or _COUNT.match(self.text, self.at + 1)):
            self._take(1, r"[^\n]")
        elif letter.lower() in _SETS and letter:
            negated = "^" if letter.isupper() else ""
            self._take(1, f"[{negated}{_ranges(_SETS[letter.lower()])}]")
        elif letter in ("g", "k"):
            self._reference(letter)
        elif letter in ("b", "B") and rest[1:] == "{":
            raise _refused(f"\\{rest}", "Unicode boundaries")
        else:
            self._simple(letter)

    def _simple(self, letter: str) -> None:
        """An escape that both have, or one that only takes the meaning from a character."""
        if letter == "N":
            raise _refused(r"\N{", "names of characters")
        if why := _REFUSED.get(letter):
            raise _refused(f"\\{letter}", why)
        if letter in _SAME or not letter.isalpha() or not letter.isascii():
            own = _literal(letter)
            self._take(1, own if own.startswith("\\x") else "\\" + own)
        else:
            self._take(1, letter)  # Perl takes an escape it does not know for the letter

    def _number(self) -> str:
        """A byte by its number; empty when none stands here."""
        if self.text.startswith("e", self.at):
            self.at += 1
            return _hexadecimal(0x1B)
        if self.text.startswith("c", self.at) and self.at + 1 < len(self.text):
            control = ord(self.text[self.at + 1].upper())
            if control > 127:
                raise _refused(r"\c", "that control character")
            self.at += 2
            return _hexadecimal(control ^ 64)
        if found := _HEX.match(self.text, self.at):
            value = int(found[1] or found[2] or "0", 16)
        elif found := _OCTAL.match(self.text, self.at):
            value = int(found[1] or found[2], 8)
        else:
            return ""
        if value > 255:
            raise _refused("\\" + found[0], "answers are bytes")
        self.at = found.end()
        return _hexadecimal(value)

    def _reference(self, letter: str) -> None:
        if letter == "k" and (found := _NAME_REFERENCE.match(self.text, self.at)):
            self._take(len(found[0]), f"(?P={found[1] or found[2] or found[3]})")
            return
        found = _REFERENCE.match(self.text, self.at)
        if found is None:
            raise _refused(f"\\{letter}", "a reference that names no group")
        if found[3]:
            self._take(len(found[0]), f"(?P={found[3]})")
            return
        number = (found[1] or found[2])[:6]
        group = self.groups + 1 + int(number) if number.startswith("-") else int(number)
        if not 1 <= group <= 99:
            raise _refused("\\" + found[0], "a reference that names no group")
        self._take(len(found[0]), rf"(?:\{group})")

    # ---- groups

    def _group(self) -> None:
        text, at = self.text, self.at
        for opening, why in _NO_EQUIVALENT:
            if text.startswith(opening, at):
                raise _refused(opening, why)
        if re.compile(r"\(\?[-+]?[0-9]").match(text, at):
            raise _refused("(?1)", "recursion")
        if not text.startswith("(?", at):
            self.groups += 1
            self._open(1, "(")
        elif text.startswith("(?#", at):
            end = text.find(")", at)
            self._take((end if end >= 0 else len(text)) + 1 - at, "")
        elif text.startswith("(?P=", at):
            self._open(4, "(?P=")
        elif opening := next((o for o in _PLAIN_OPENINGS if text.startswith(o, at)), ""):
            self._open(len(opening), opening)
        elif found := _NAMED.match(text, at):
            self.groups += 1
            self._open(len(found[0]), f"(?P<{found[1] or found[2]}>")
        elif found := _CONDITION.match(text, at):
            self._open(len(found[0]), f"(?({found[1] or found[2] or found[3]})")
        elif found := _FLAGS.match(text, at):
            self._flags(found)
        else:
            raise _refused(text[at : at + 3], "that kind of group")

    def _open(self, length: int, translation: str, *, multiline: bool | None = None) -> None:
        self.open.append([])
        self.multiline.append(self.multiline[-1] if multiline is None else multiline)
        self._take(length, translation)

    def _flags(self, found: re.Match[str]) -> None:
        """`(?i:…)`, and `(?i)`, which holds to the end of the group that it stands in."""
        caret, on, off, end = found[1], found[2], found[3] or "", found[4]
        for flag in on + off:
            if flag not in "imsxapd":
                raise _refused(f"(?{flag})", "that flag")
        if "xx" in on:
            raise _refused("(?xx)", "that flag")
        keep = "".join(dict.fromkeys(f for f in on if f in "imsx"))
        drop = "".join(dict.fromkeys(f for f in ("imsx" if caret else off) if f in "imsx" and f not in keep))
        opening = f"(?{keep}-{drop}:" if drop else f"(?{keep}:"
        multiline = (self.multiline[-1] or "m" in keep) and "m" not in drop
        if end == ":":
            self._open(len(found[0]), opening, multiline=multiline)
            return
        self.multiline[-1] = multiline
        if self.at == 0 and not drop:
            self._take(len(found[0]), f"(?{keep})" if keep else "")
        else:
            self.open[-1].append(opening)
            self._take(len(found[0]), opening)

    # ---- character classes

    def _class(self) -> None:
        negated = self.text.startswith("^", self.at + 1)
        self._take(2 if negated else 1, "[^" if negated else "[")
        first = self.at
        while self.at < len(self.text):
            if self.text[self.at] == "]" and self.at > first:
                self._take(1, "]")
                return
            item, one = self._item(first)
            if one and self._at_range():
                self.at += 1
                high, single = self._item(first)
                self.out.append(f"{_in_class(item)}-{_in_class(high)}" if single else f"{_in_class(item)}\\-{high}")
            else:
                at_edge = self.at == first + 1 or self.text.startswith("]", self.at)
                self.out.append(item if item == "-" and at_edge else _in_class(item) if one else item)

    def _at_range(self) -> bool:
        following = self.text[self.at : self.at + 2]
        return following[:1] == "-" and len(following) == 2 and following[1] != "]"

    def _item(self, first: int) -> tuple[str, bool]:
        """The next member as Python writes it, and whether it is one byte or character rather than a set."""
        if found := _POSIX_CLASS.match(self.text, self.at):
            if found[2] not in _POSIX:
                raise _refused(found[0], "that class")
            self.at = found.end()
            members = _POSIX[found[2]]
            return _ranges(frozenset(range(256)) - members if found[1] else members), False
        character = self.text[self.at]
        self.at += 1
        if character != "\\":
            return _literal(character), True
        if byte := self._number():
            return byte, True
        letter = self.text[self.at : self.at + 1]
        if octal := re.compile(r"[0-7]{1,2}").match(self.text, self.at):
            self.at = octal.end()
            return _hexadecimal(int(octal[0], 8)), True
        if letter.lower() in _SETS and letter:
            self.at += 1
            members = _SETS[letter.lower()]
            return _ranges(frozenset(range(256)) - members if letter.isupper() else members), False
        if letter and letter in "NRQBAzZ":
            raise _refused(f"\\{letter}", "inside a class")
        if why := _REFUSED.get(letter):
            raise _refused(f"\\{letter}", why)
        self.at += 1
        if letter and letter in "dDwWsS":
            return "\\" + letter, False
        if not letter.isascii() or (letter.isalpha() and letter not in _SAME):
            return _literal(letter), True
        return "\\" + letter, True


def _in_class(item: str) -> str:
    """A member that Python could take for an operator of a later version gets a backslash."""
    return "\\" + item if item in ("[", "-", "&", "~", "|") else item


def _quoted(character: str) -> str:
    own = _literal(character)
    return own if own.startswith("\\x") else re.escape(own)
