"""Tables for people, from the plain values of `core.describe`."""

from __future__ import annotations

import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_NODE_STYLE = {"active": "green", "standby": "cyan", "init": "yellow", "dead": "red"}
_REAL_STYLE = {"up": "green", "quiesced": "yellow", "removed": "red"}


def wall_time(wall_ns: int) -> str:
    """`2026-11-24 03:00:00.123`, local time."""
    moment = datetime.datetime.fromtimestamp(wall_ns // 1_000_000_000).astimezone()
    return f"{moment:%Y-%m-%d %H:%M:%S}.{wall_ns // 1_000_000 % 1000:03d}"


def ago(seconds: float | None) -> str:
    """`12.3 s`, `1:02:03`."""
    if seconds is None:
        return "never"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return str(datetime.timedelta(seconds=int(seconds)))


def _styled(word: str, styles: dict[str, str]) -> str:
    style = styles.get(word)
    return f"[{style}]{word}[/{style}]" if style else word


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def show_status(console: Console, status: dict[str, Any]) -> None:
    """The whole of `hafsm status`."""
    console.print(
        f"[bold]{status['node']}[/bold]: phase {status['phase']}, holds {status['holds']}, "
        + ("stable" if status["stable"] else "in transition")
        + f", generation {status['generation']}, event {status['event']}",
        highlight=False,
    )
    console.print()
    nodes = _table("Nodes", "node", "state", "generation", "last heard")
    for node in status["nodes"]:
        heard = "here" if node["name"] == status["node"] else ago(node["silent_s"])
        nodes.add_row(node["name"], _styled(node["state"], _NODE_STYLE), str(node["generation"] or "-"), heard)
    console.print(nodes)
    _show_paths(console, status)
    vips = _table("Virtual IPs", "VIP", "holder", "preferred")
    for vip in status["vips"]:
        vips.add_row(vip["address"], vip["holder"] or "[red]nobody[/red]", vip["preferred"])
    console.print()
    console.print(vips)
    groups = _table("Resource groups on this node", "state", "resources", "")
    for group in status["groups"]:
        groups.add_row(group["state"], " ".join(group["resources"]), group["failure"])
    console.print()
    console.print(groups)
    for service in status["services"]:
        console.print()
        console.print(_service(service))
    _show_remarks(console, status)


def _show_paths(console: Console, status: dict[str, Any]) -> None:
    paths = _table("Links and ping nodes", "name", "state", "last heard")
    for link in status["links"]:
        paths.add_row(link["name"], "[green]up[/green]" if link["up"] else "[red]down[/red]", ago(link["silent_s"]))
    for ping in status["pings"]:
        alive = "[green]answers[/green]" if ping["alive"] else "[red]silent[/red]"
        paths.add_row(f"ping {ping['name']}", alive, ago(ping["silent_s"]))
    if paths.row_count:
        console.print()
        console.print(paths)


def _service(service: dict[str, Any]) -> Table:
    where = "in the kernel's table" if service["in_kernel"] else "checked, not in this kernel's table"
    table = _table(
        escape(f"{service['service']} {service['scheduler']} ({where})"),
        "real server",
        "forward",
        "weight",
        "state",
        "since",
        "why",
    )
    for real in service["reals"]:
        weight = "-" if real["weight"] is None else str(real["weight"])
        state = _styled(real["state"], _REAL_STYLE)
        table.add_row(
            escape(real["real"]), real["forwarding"], weight, state, ago(real["since_s"]), escape(real["why"])
        )
    fallback = service["fallback"]
    if fallback is not None:
        weight = "-" if fallback["weight"] is None else str(fallback["weight"])
        state = "[yellow]serving[/yellow]" if fallback["weight"] is not None else "idle"
        table.add_row(escape(fallback["real"]), fallback["forwarding"], weight, state, "", "fallback")
    return table


def _show_remarks(console: Console, status: dict[str, Any]) -> None:
    remarks = []
    if status["journal"] != "written":
        remarks.append(f"journal: {status['journal']}")
    if status["configuration"] != "as read":
        remarks.append(f"configuration: {status['configuration']}")
    if isinstance(status["maintenance"], str):
        remarks.append(f"maintenance folder: {status['maintenance']}")
    if status["memory"] != "kept":
        remarks.append(f"operators' words: {status['memory']}")
    configured = {(s["service"], r["real"]) for s in status["services"] for r in s["reals"]}
    remarks += [
        f"{word['real']} of {word['service']} has a word of {word['by']} ({word['verb']}), but is not configured"
        for word in status["operators"]
        if (word["service"], word["real"]) not in configured
    ]
    if status["refused_datagrams"]:
        counts = ", ".join(f"{reason} {count}" for reason, count in status["refused_datagrams"].items())
        remarks.append(f"datagrams refused: {counts}")
    if remarks:
        console.print()
        for remark in remarks:
            console.print(remark, style="yellow", highlight=False, markup=False, soft_wrap=True)
    if status["reasons"]:
        console.print()
        console.print("Last decisions", style="bold")
        for entry in status["reasons"][-8:]:
            line = f"{wall_time(entry['wall_ns'])}  {entry['event']}  {entry['reason']}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
