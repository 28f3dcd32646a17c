"""HTML as a tree, escaped by the standard library's serializer: text from a journal can never become markup.

What would confuse a reader of the page rather than its parser, control characters and the ones that reverse the
direction of writing, is shown as a replacement character.
"""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, tostring

Child = Element | str | None

_UNREADABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff]")


def plain(text: str) -> str:
    """The text without what a page cannot or should not show."""
    return _UNREADABLE.sub("\ufffd", text)


def h(tag: str, /, *children: Child, **attributes: str | int | bool | None) -> Element:
    """An element. `class_` is `class`, `data_a` is `data-a`; True stands for itself, None and False for nothing."""
    element = Element(tag)
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        key = name.rstrip("_").replace("_", "-")
        element.set(key, key if value is True else plain(str(value)))
    add(element, *children)
    return element


def add(parent: Element, *children: Child) -> None:
    """Append elements and text."""
    for child in children:
        if child is None:
            continue
        if isinstance(child, Element):
            parent.append(child)
        elif len(parent):
            parent[-1].tail = (parent[-1].tail or "") + plain(child)
        else:
            parent.text = (parent.text or "") + plain(child)


def document(root: Element) -> str:
    """The whole page."""
    return "<!DOCTYPE html>\n" + tostring(root, encoding="unicode", method="html") + "\n"
