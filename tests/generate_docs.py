"""Writes what the docs say about the state machines, from the rows: `python -m tests.generate_docs`.

`test_docs_are_current` fails when the files are not what this writes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hafsm.core.machines import ALL, NODE, REAL
from hafsm.core.tables import Table

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- generated from the rows: begin -->", "<!-- generated from the rows: end -->"


def diagram(table: Table[Any]) -> str:
    """A mermaid state diagram; triggers between the same two states share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for row in table.rows:
        if row.dest is not None:
            triggers = arrows.setdefault((row.source.value, row.dest.value), [])
            if row.trigger not in triggers:
                triggers.append(row.trigger)
    lines = [f"    {source} --> {dest}: {', '.join(triggers)}" for (source, dest), triggers in arrows.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def moves(table: Table[Any]) -> str:
    """The rows that change the state."""
    lines = ["| from | on | if | to | because |", "| --- | --- | --- | --- | --- |"]
    for row in table.rows:
        if row.dest is not None:
            guard = "" if row.guard is None else (row.guard.__doc__ or "")
            lines.append(f"| {row.source.value} | {row.trigger} | {guard} | {row.dest.value} | {row.why} |")
    return "\n".join(lines)


def ignored(table: Table[Any]) -> str:
    """The rows that do not, with their reasons."""
    lines = ["| in | on | ignored because |", "| --- | --- | --- |"]
    lines += [f"| {row.source.value} | {row.trigger} | {row.why} |" for row in table.rows if row.dest is None]
    return "\n".join(lines)


def machines_page() -> str:
    """docs/state-machines.md."""
    parts = [
        "# The state machines",
        "",
        "Generated from the rows in `hafsm/core/machines.py` by `python -m tests.generate_docs`.",
        "Every pair of state and trigger is either a move or ignored with a reason; anything else is a bug that stops",
        "the core, is journalled, and makes the supervisor release everything and start a new life.",
    ]
    for table in ALL:
        parts += ["", f"## {table.name[0].upper()}{table.name[1:]}", "", diagram(table), "", moves(table), ""]
        parts += ["<details><summary>What is ignored, and why</summary>", "", ignored(table), "", "</details>"]
    return "\n".join(parts) + "\n"


def readme_block() -> str:
    """What stands in README.md between the markers."""
    parts = [BEGIN]
    for table in (NODE, REAL):
        parts += ["", f"**{table.name[0].upper()}{table.name[1:]}**", "", diagram(table), "", moves(table)]
    return "\n".join([*parts, "", END])


def with_block(readme: str) -> str:
    """README.md with the block renewed."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + readme_block() + after


def main() -> None:
    (ROOT / "docs/state-machines.md").write_text(machines_page())
    readme = ROOT / "README.md"
    readme.write_text(with_block(readme.read_text()))


if __name__ == "__main__":
    main()
