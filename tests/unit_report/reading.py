"""A report as a browser's parser sees it, without a browser."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "br", "link", "img", "input", "hr", "base", "source", "embed"}


class Read(HTMLParser):
    """Tags with their attributes, the texts of scripts and styles, ids, and for each table its caption."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.texts: list[str] = []
        self.tables: list[bool] = []
        """For each table, whether a caption is its first child."""
        self._path: list[str] = []
        self.feed(text)
        self.close()
        assert self._path == [], f"not closed: {self._path}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._path and self._path[-1] == "table" and self.tables and not self.tables[-1] and tag == "caption":
            self.tables[-1] = True
        if tag == "table":
            self.tables.append(False)
        if tag in self.raw:
            self.raw[tag].append("")
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._path.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._path and self._path[-1] == tag, f"</{tag}> closes {self._path[-3:]}"
        self._path.pop()

    def handle_data(self, data: str) -> None:
        if self._path and self._path[-1] in self.raw:
            self.raw[self._path[-1]][-1] += data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def values(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.tags if attribute in attributes]
