"""Tables of text for a terminal or a pipe."""

from __future__ import annotations

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text


def table(title: str, *columns: str, whole: Iterable[str] = ()) -> Table:
    """An empty table; the cells of the columns in `whole` are not broken over lines."""
    found = Table(title=Text(title), title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        found.add_column(column, overflow="fold", no_wrap=column in whole)
    return found


def row(into: Table, *cells: str) -> None:
    """Add a row of plain text: square brackets of a regular expression are no markup."""
    into.add_row(*map(Text, cells))
