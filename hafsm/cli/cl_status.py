"""`hafsm cl-status`: answers as heartbeat's cl_status gives them, so that scripts and monitors need no change.

Source: output and exit statuses of heartbeat 3.0.6, each sub-command run in a lab. What the daemon does not know has
heartbeat's fixed answer: every node weighs 100 and has no site.
"""

from __future__ import annotations

import getopt
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from hafsm.cli.ask import NoAnswer, NotObeyed, NotRunning, Silent, ask
from hafsm.cli.options import settings_option
from hafsm.config.settings_file import DaemonSettings

OK, FAILED, MISUSED, TIMED_OUT, OTHER = 0, 1, 11, 12, 13
"""cl_status's exit statuses."""

USAGE = """\
Usage: cl_status SUB-COMMAND [OPTIONS] [PARAMETERS]

  hbstatus [-v]                     whether the daemon runs here; -v adds version and listnodes -v
  listnodes [-n|-p] [-v]            names of the nodes; -n normal, -p ping nodes only; -v with type, status and links
  nodestatus NODE                   init, up, active, dead or ping
  nodetype NODE                     normal or ping
  nodeweight NODE, nodesite NODE    100 and nothing
  listhblinks NODE [-v]             its heartbeat links; -v with their status
  hblinkstatus NODE LINK            up or dead
  clientstatus NODE CLIENT [MS]     online or offline
  rscstatus                         none, local, foreign, all or transition
  hbparameter -p NAME               a value of ha.cf

With -m answers are sentences. Exit status: 0 yes, 1 no, 11 misused, 12 no answer in time, 13 any other failure."""


class Answer(NamedTuple):
    """What is printed and the exit status."""

    code: int
    text: str = ""
    """For standard output; empty: nothing."""
    error: str = ""
    """For standard error."""


class Asked(NamedTuple):
    """A sub-command with what it may look at."""

    status: dict[str, Any]
    parameters: dict[str, str]
    options: dict[str, str]
    """`-m` and the like → value."""
    words: Sequence[str]

    def has(self, option: str) -> bool:
        return option in self.options

    def say(self, sentence: str, plain: str) -> str:
        return sentence if self.has("-m") else plain


class Node(NamedTuple):
    """A node or ping node as heartbeat lists it."""

    name: str
    kind: str
    status: str
    links: tuple[tuple[str, str], ...]
    """(name, up or dead)."""


def nodes_of(status: dict[str, Any]) -> list[Node]:
    """Newest line of ha.cf first, as heartbeat keeps them."""
    found = []
    for node in status["nodes"]:
        here = node["name"] == status["node"]
        links = ((link["name"], "up" if here or link["up"] else "dead") for link in status["links"])
        found.append(Node(node["name"], "normal", node["status"], tuple(links)))
    for ping in status["pings"]:
        alive = ping["alive"]
        link = (ping["name"], "up" if alive else "dead")
        found.append(Node(ping["name"], "ping", "ping" if alive else "dead", (link,)))
    return found[::-1]


def _node(asked: Asked) -> Node | None:
    """heartbeat folds the case of node names."""
    name = asked.words[0].lower()
    return next((node for node in nodes_of(asked.status) if node.name.lower() == name), None)


def _unknown(text: str = "Error. May be due to incorrect node name") -> Answer:
    return Answer(MISUSED, error=text)


def _hbstatus(asked: Asked) -> Answer:
    if _own_status(asked.status) != "active":
        return _STOPPED
    if not asked.has("-v"):
        return _RUNNING
    version = asked.parameters["hbversion"]
    head = asked.say(
        f'Heartbeat version {version}\nResources controlled by "haresources"',
        f'version:\t{version}\nmanaged by:\t"haresources"',
    )
    return Answer(OK, f"{head}\n{_listnodes(asked).text}")


def _own_status(status: dict[str, Any]) -> str:
    return next(str(node["status"]) for node in status["nodes"] if node["name"] == status["node"])


def _listnodes(asked: Asked) -> Answer:
    kinds = {kind for option, kind in (("-n", "normal"), ("-p", "ping")) if asked.has(option)}
    lines = ["The nodes are as follow:"] if asked.has("-m") else []
    for node in nodes_of(asked.status):
        if kinds and node.kind not in kinds:
            continue
        if asked.has("-v"):
            lines += ["", f"{node.name}\t{node.status}\t(nodetype: {node.kind})", *_links(asked, node)]
        else:
            lines.append(node.name)
    return Answer(OK, "\n".join(lines))


def _links(asked: Asked, node: Node) -> list[str]:
    lines = ["\tthis node has the following heartbeat links:"] if asked.has("-m") else []
    return lines + [f"\t{name}\t{state}" if asked.has("-v") else f"\t{name}" for name, state in node.links]


def _nodestatus(asked: Asked) -> Answer:
    node = _node(asked)
    if node is None:
        return _unknown()
    text = asked.say(f"The cluster node {asked.words[0]} is {node.status}", node.status)
    return Answer(OK if node.status in ("up", "active", "ping") else FAILED, text)


def _nodetype(asked: Asked) -> Answer:
    node = _node(asked)
    if node is None:
        return _unknown()
    return Answer(OK, asked.say(f"The node {asked.words[0]}'s type: {node.kind}", node.kind))


def _nodeweight(asked: Asked) -> Answer:
    if _node(asked) is None:
        return _unknown("Error. Maybe due to incorrect node name.")
    return Answer(OK, asked.say(f"The weight of the cluster node {asked.words[0]} is 100", "100"))


def _nodesite(asked: Asked) -> Answer:
    if _node(asked) is None:
        return _unknown()
    return Answer(OK, asked.say(f"The site of the cluster node {asked.words[0]} is ", "\n"))


def _listhblinks(asked: Asked) -> Answer:
    node = _node(asked)
    if node is None:
        return Answer(OTHER, error=f"there is no node {asked.words[0]}")
    return Answer(OK, "\n".join(_links(asked, node)))


def _hblinkstatus(asked: Asked) -> Answer:
    node = _node(asked)
    state = None if node is None else dict(node.links).get(asked.words[1])
    if state is None:
        return Answer(OTHER, error=f"node {asked.words[0]} has no heartbeat link {asked.words[1]}")
    text = asked.say(f"The node {asked.words[0]}'s heartbeat link {asked.words[1]} is {state}", state)
    return Answer(OK if state == "up" else FAILED, text)


def _clientstatus(asked: Asked) -> Answer:
    """heartbeat's clients are parts of hafsm: only ipfail has a life of its own, on each director that is active."""
    node = _node(asked)
    if node is None or node.kind != "normal":
        return Answer(OTHER, error=f"there is no node {asked.words[0]} that could run {asked.words[1]}")
    online = asked.words[1] == "ipfail" and asked.status["ipfail"] and node.status == "active"
    return Answer(OK, "online") if online else Answer(FAILED, "offline")


def _rscstatus(asked: Asked) -> Answer:
    held = asked.status["resources"]
    return Answer(OK, asked.say(f"This node is holding {held} resources.", held))


def _hbparameter(asked: Asked) -> Answer:
    name = asked.options.get("-p")
    if name is None:
        return Answer(MISUSED, error="the name of a parameter is needed: -p NAME")
    value = asked.parameters.get(name)
    if value is None:
        return Answer(FAILED, error=f"ha.cf gives {name} no single value")
    return Answer(OK, asked.say(f"Heartbeat parameter {name}'s value: {value}", value))


class _SubCommand(NamedTuple):
    answer: Callable[[Asked], Answer]
    options: str = "m"
    """In getopt's form."""
    words: int = 0
    """Needed; more are ignored, as heartbeat does."""
    missing: str = "No enough parameter."


_RUNNING = Answer(OK, "Heartbeat is running on this machine.")
_STOPPED = Answer(FAILED, "Heartbeat is stopped on this machine.")

SUB_COMMANDS = {
    "hbstatus": _SubCommand(_hbstatus, "mv"),
    "listnodes": _SubCommand(_listnodes, "mpnv"),
    "nodestatus": _SubCommand(_nodestatus, words=1, missing="Not enough parameters."),
    "nodetype": _SubCommand(_nodetype, words=1),
    "nodeweight": _SubCommand(_nodeweight, words=1),
    "nodesite": _SubCommand(_nodesite, words=1),
    "listhblinks": _SubCommand(_listhblinks, "mv", words=1),
    "hblinkstatus": _SubCommand(_hblinkstatus, words=2),
    "clientstatus": _SubCommand(_clientstatus, words=2),
    "rscstatus": _SubCommand(_rscstatus),
    "hbparameter": _SubCommand(_hbparameter, "mp:"),
}


def answer(socket: Path, line: Sequence[str]) -> Answer:
    """What cl_status says to these words."""
    if not line or line[0] in ("-h", "--help"):
        return Answer(OK, USAGE)
    name, *rest = line
    command = SUB_COMMANDS.get(name)
    if command is None:
        return Answer(MISUSED, error=f"{name}: invalid sub-command; expected one of {', '.join(SUB_COMMANDS)}")
    try:
        options, words = getopt.gnu_getopt(rest, command.options)
    except getopt.GetoptError as error:
        return Answer(MISUSED, error=f"{name}: {error}")
    try:
        asked = Asked(ask(socket, "/v1/cluster"), ask(socket, "/v1/parameters"), dict(options), words)
    except Silent as error:
        return Answer(TIMED_OUT, error=str(error))
    except (NoAnswer, NotObeyed) as error:
        if name != "hbstatus":
            return Answer(FAILED, error=str(error))
        return _STOPPED if isinstance(error, NotRunning) else Answer(FAILED, _REFUSES, error=str(error))
    if len(words) < command.words:
        return Answer(MISUSED, error=command.missing)
    return command.answer(asked)


_REFUSES = "Heartbeat is apparently running on this machine, but refuses my connection"


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@settings_option
@click.argument("line", metavar="SUB-COMMAND [OPTIONS] [PARAMETERS]", nargs=-1, type=click.UNPROCESSED)
def cl_status(settings: DaemonSettings, line: tuple[str, ...]) -> None:
    """Answer as heartbeat's cl_status does: the same sub-commands, words and exit statuses.

    Without a sub-command it lists them.
    """
    said = answer(settings.api.socket, line)
    if said.text:
        click.echo(said.text, nl=not said.text.endswith("\n"))
    if said.error:
        click.echo(f"cl_status: {said.error}", err=True)
    sys.exit(said.code)
