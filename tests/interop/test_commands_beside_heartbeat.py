"""The commands on a hafsm director beside heartbeat's own on the other one: the same cluster, the same words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hafsm.cli.cl_status import SUB_COMMANDS
from tests.interop.lab import GATEWAY, Pair
from tests.interop.test_heartbeat_as_peer import SETTLE_S, settled
from tests.kernel.site import Result, wait_for

LINES = f"""\
hbstatus
hbstatus -m
listnodes
listnodes -m
listnodes -v
listnodes -mv
listnodes -p
listnodes -pv
listnodes -n
listnodes -np
nodestatus
nodestatus director-a
nodestatus DIRECTOR-B
nodestatus -m director-b
nodestatus {GATEWAY}
nodestatus no-such-node
nodetype director-a
nodetype -m {GATEWAY}
nodetype no-such-node
nodeweight director-a
nodeweight -m director-b
nodeweight no-such-node
nodesite director-a
nodesite -m director-a
nodesite no-such-node
listhblinks director-a
listhblinks -v director-b
listhblinks -mv director-b
listhblinks {GATEWAY}
listhblinks no-such-node
hblinkstatus director-b eth0
hblinkstatus -m director-a eth0
hblinkstatus director-b no-such-link
hblinkstatus director-b
clientstatus director-a
rscstatus -z
rscstatus
rscstatus -m
hbparameter
hbparameter -p keepalive
hbparameter -p deadtime
hbparameter -m -p warntime
hbparameter -p initdead
hbparameter -p deadping
hbparameter -p udpport
hbparameter -p baud
hbparameter -p hopfudge
hbparameter -p use_logd
hbparameter -p logfile
hbparameter -p autojoin
hbparameter -p crm
hbparameter -p node
hbparameter -p no-such-parameter
no-such-sub-command
""".splitlines()


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    pair = Pair(hafsm_primary=True, more=f"ping {GATEWAY}\n")
    try:
        for director in pair.directors:
            director.start()
        wait_for(lambda: settled(pair), SETTLE_S, "both run and are settled")
        wait_for(lambda: pair.hafsm.status()["pings"][0]["alive"], SETTLE_S, "the gateway has answered")
        yield pair
    finally:
        pair.close()


def hafsm(pair: Pair, *words: str) -> Result:
    return pair.hafsm.run(pair.hafsm.hafsm(*words), check=False)


def settings(pair: Pair) -> str:
    return f"--settings={pair.ground.folder / pair.hafsm.name / 'hafsm.toml'}"


def test_every_sub_command_is_compared() -> None:
    assert {line.split()[0] for line in LINES} >= SUB_COMMANDS.keys()


@pytest.mark.parametrize("line", LINES)
def test_cl_status_says_the_same_on_both(pair: Pair, line: str) -> None:
    theirs = pair.heartbeat.run(["cl_status", *line.split()], check=False)
    ours = hafsm(pair, "cl-status", settings(pair), *line.split())
    assert (ours.rc, ours.stdout) == (theirs.rc, theirs.stdout)


def test_standby_and_takeover_with_heartbeat_on_the_other_side(pair: Pair) -> None:
    """After each command the VIP is where the command says it is, without waiting any longer."""
    ours, theirs = pair.hafsm.name, pair.heartbeat.name
    for command, held, sentence in (
        (("standby",), theirs, f"{theirs} holds local resources of {ours} now (after "),
        (("takeover",), ours, f"{ours} holds all resources now (after "),
        (("standby", "failback"), ours, f"{theirs} holds foreign resources of {ours} now (after "),
    ):
        done = hafsm(pair, command[0], settings(pair), *command[1:])
        assert done.rc == 0, done.describe()
        assert done.stdout.splitlines()[1].startswith(sentence), done.stdout
        wait_for(lambda held=held: pair.ownership.owners == {held}, 1.0, f"the VIP is on {held}")
        wait_for(lambda: settled(pair), SETTLE_S, "settled")
