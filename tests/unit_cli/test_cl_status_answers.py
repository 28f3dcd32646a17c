"""cl-status says what heartbeat 3.0.6's cl_status said to the same words in a lab; only names and version differ."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from hafsm.cli import ask as ask_module
from hafsm.cli.cl_status import SUB_COMMANDS, USAGE, Answer, answer
from hafsm.config.load import load
from hafsm.config.model import Configuration
from hafsm.core.machines import NodeState
from hafsm.core.settings import SECOND, PingNode
from hafsm.daemon.parameters import parameters
from tests.unit_cli.serving import serving
from tests.unit_core.pair import Pair

PINGS = (PingNode(name="10.99.0.1", hosts=("10.99.0.1",)), PingNode(name="gw", hosts=("10.99.0.1", "10.99.0.77")))

HA_CF = """\
keepalive 200ms
deadtime 2   # a comment
warntime 1
initdead 3
udpport 694
ucast lo 127.0.1.12
auto_failback on
logfile /tmp/log
node server40
node server19
ping 10.99.0.1
"""


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    for name, text in {
        "ha.cf": HA_CF,
        "haresources": "server40 IPaddr::127.0.1.100/8/lo\n",
        "authkeys": "auth 1\n1 sha1 key\n",
    }.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    loaded = load(tmp_path, me="server40")
    assert loaded.configuration is not None, loaded.findings
    return loaded.configuration


def lone() -> Pair:
    """server40 holds everything, server19 was never there; both ping nodes answer."""
    pair = Pair(pings=PINGS)
    pair.a.start()
    pair.until(lambda: pair.a.state.node is NodeState.ACTIVE)
    pair.run(5 * SECOND)
    return pair


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("hbstatus", 0, "Heartbeat is running on this machine."),
        ("hbstatus -m", 0, "Heartbeat is running on this machine."),
        (
            "hbstatus -v",
            0,
            'version:\t0.1 (hafsm)\nmanaged by:\t"haresources"\n'
            "\ngw\tping\t(nodetype: ping)\n\tgw\tup\n"
            "\n10.99.0.1\tping\t(nodetype: ping)\n\t10.99.0.1\tup\n"
            "\nserver19\tdead\t(nodetype: normal)\n\teth0\tdead\n"
            "\nserver40\tactive\t(nodetype: normal)\n\teth0\tup",
        ),
        (
            "hbstatus -mv",
            0,
            'Heartbeat version 0.1 (hafsm)\nResources controlled by "haresources"\nThe nodes are as follow:\n'
            "\ngw\tping\t(nodetype: ping)\n\tthis node has the following heartbeat links:\n\tgw\tup\n"
            "\n10.99.0.1\tping\t(nodetype: ping)\n\tthis node has the following heartbeat links:\n\t10.99.0.1\tup\n"
            "\nserver19\tdead\t(nodetype: normal)\n\tthis node has the following heartbeat links:\n\teth0\tdead\n"
            "\nserver40\tactive\t(nodetype: normal)\n\tthis node has the following heartbeat links:\n\teth0\tup",
        ),
        ("listnodes", 0, "gw\n10.99.0.1\nserver19\nserver40"),
        ("listnodes -m", 0, "The nodes are as follow:\ngw\n10.99.0.1\nserver19\nserver40"),
        ("listnodes -p", 0, "gw\n10.99.0.1"),
        ("listnodes -n", 0, "server19\nserver40"),
        ("listnodes -np", 0, "gw\n10.99.0.1\nserver19\nserver40"),
        (
            "listnodes -pv",
            0,
            "\ngw\tping\t(nodetype: ping)\n\tgw\tup\n\n10.99.0.1\tping\t(nodetype: ping)\n\t10.99.0.1\tup",
        ),
        ("nodestatus server40", 0, "active"),
        ("nodestatus SERVER40", 0, "active"),
        ("nodestatus server40 server19", 0, "active"),
        ("nodestatus -m server40", 0, "The cluster node server40 is active"),
        ("nodestatus server19", 1, "dead"),
        ("nodestatus gw", 0, "ping"),
        ("nodetype server40", 0, "normal"),
        ("nodetype gw -m", 0, "The node gw's type: ping"),
        ("nodeweight gw", 0, "100"),
        ("nodeweight -m server40", 0, "The weight of the cluster node server40 is 100"),
        ("nodesite server40", 0, "\n"),
        ("nodesite -m server40", 0, "The site of the cluster node server40 is "),
        ("listhblinks server40", 0, "\teth0"),
        ("listhblinks -v server19", 0, "\teth0\tdead"),
        ("listhblinks -mv server19", 0, "\tthis node has the following heartbeat links:\n\teth0\tdead"),
        ("listhblinks gw", 0, "\tgw"),
        ("hblinkstatus server40 eth0", 0, "up"),
        ("hblinkstatus server19 eth0", 1, "dead"),
        ("hblinkstatus -m server19 eth0", 1, "The node server19's heartbeat link eth0 is dead"),
        ("hblinkstatus gw gw", 0, "up"),
        ("clientstatus server40 ipfail", 0, "online"),
        ("clientstatus server40 ccm 100", 1, "offline"),
        ("clientstatus server19 ipfail", 1, "offline"),
        ("rscstatus", 0, "all"),
        ("rscstatus -m", 0, "This node is holding all resources."),
        ("rscstatus extra", 0, "all"),
        ("hbparameter -p keepalive", 0, "200ms"),
        ("hbparameter -p deadtime", 0, "2"),
        ("hbparameter -mp deadtime", 0, "Heartbeat parameter deadtime's value: 2"),
        ("hbparameter -p auto_failback", 0, "on"),
        ("hbparameter -p logfile", 0, "/tmp/log"),
        ("hbparameter -p udpport", 0, "694"),
        ("hbparameter -p baud", 0, "19200"),
        ("hbparameter -p hopfudge", 0, "1"),
        ("hbparameter -p deadping", 0, "2000ms"),
        ("hbparameter -p autojoin", 0, "none"),
        ("hbparameter -p crm", 0, "false"),
        ("hbparameter -p hbversion", 0, "0.1 (hafsm)"),
        ("-h", 0, USAGE),
        ("", 0, USAGE),
    ],
)
async def test_an_answer(line: str, code: int, text: str, configuration: Configuration, tmp_path: Path) -> None:
    async with serving(lone().a, tmp_path, parameters(configuration, "0.1")) as served:
        assert await served.do(answer, line.split()) == Answer(code, text)


@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        ("nodestatus", 11, "Not enough parameters."),
        ("nodetype", 11, "No enough parameter."),
        ("clientstatus server40", 11, "No enough parameter."),
        ("hblinkstatus server19", 11, "No enough parameter."),
        ("nodestatus zz", 11, "Error. May be due to incorrect node name"),
        ("nodetype zz", 11, "Error. May be due to incorrect node name"),
        ("nodesite zz", 11, "Error. May be due to incorrect node name"),
        ("nodeweight zz", 11, "Error. Maybe due to incorrect node name."),
        ("listhblinks zz", 13, "there is no node zz"),
        ("hblinkstatus server19 zz", 13, "node server19 has no heartbeat link zz"),
        ("hblinkstatus zz eth0", 13, "node zz has no heartbeat link eth0"),
        ("clientstatus zz ipfail", 13, "there is no node zz that could run ipfail"),
        ("clientstatus gw ipfail", 13, "there is no node gw that could run ipfail"),
        ("hbparameter", 11, "the name of a parameter is needed: -p NAME"),
        ("hbparameter -p", 11, "hbparameter: option -p requires argument"),
        ("hbparameter -p zz", 1, "ha.cf gives zz no single value"),
        ("hbparameter -p node", 1, "ha.cf gives node no single value"),
        ("hbparameter -p ucast", 1, "ha.cf gives ucast no single value"),
        ("rscstatus -z", 11, "rscstatus: option -z not recognized"),
        ("bogus", 11, f"bogus: invalid sub-command; expected one of {', '.join(SUB_COMMANDS)}"),
    ],
)
async def test_a_failure(line: str, code: int, error: str, configuration: Configuration, tmp_path: Path) -> None:
    async with serving(lone().a, tmp_path, parameters(configuration, "0.1")) as served:
        assert await served.do(answer, line.split()) == Answer(code, error=error)


async def test_a_daemon_that_still_looks_for_the_others_counts_as_stopped(tmp_path: Path) -> None:
    pair = Pair()
    pair.a.start()
    pair.run(SECOND)
    async with serving(pair.a, tmp_path) as served:
        assert await served.do(answer, ["hbstatus"]) == Answer(1, "Heartbeat is stopped on this machine.")
        assert await served.do(answer, ["nodestatus", "server40"]) == Answer(0, "up")
        assert await served.do(answer, ["nodestatus", "server19"]) == Answer(1, "init")
        assert await served.do(answer, ["rscstatus"]) == Answer(0, "transition")


async def test_a_pair_in_the_middle_of_a_hand_over_is_in_transition(tmp_path: Path) -> None:
    pair = Pair().start()
    async with serving(pair.a, tmp_path) as served:
        assert await served.do(answer, ["rscstatus"]) == Answer(0, "local")
        assert await served.do(answer, ["nodestatus", "server19"]) == Answer(0, "active")
        await served.do(ask_module.ask, "/v1/standby", {"hold": "all"})
        assert await served.do(answer, ["rscstatus"]) == Answer(0, "transition")


def test_no_daemon(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    assert answer(path, ["hbstatus"]) == Answer(1, "Heartbeat is stopped on this machine.")
    assert answer(path, ["rscstatus"]) == Answer(1, error=f"hafsm is not running: nothing listens at {path}")


def test_a_daemon_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask_module, "ANSWER_LIMIT_S", 0.05)
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        assert answer(path, ["hbstatus"]) == Answer(12, error=f"no answer at {path} within 0.05 s")


def test_something_else_listens(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def hang_up() -> None:
            for said in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno"):
                connection, _ = listener.accept()
                connection.recv(4096)
                connection.sendall(said)
                connection.close()

        other = threading.Thread(target=hang_up)
        other.start()
        first, second = answer(path, ["rscstatus"]), answer(path, ["hbstatus"])
        other.join()
    assert (first.code, first.text) == (1, "") and first.error.startswith(f"no usable answer at {path}: ")
    assert second.text == "Heartbeat is apparently running on this machine, but refuses my connection"
