"""`hafsm real` and `hafsm ipvs` against the real admin API."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace
from rich.console import Console

from hafsm.cli.ask import NotObeyed, ask
from hafsm.cli.ipvs import lines
from hafsm.cli.main import main
from hafsm.cli.render import show_status
from hafsm.core.describe import describe
from hafsm.core.settings import SECOND, Forwarding, RealServer, RealVerb
from hafsm.daemon.targets import Unclear, targets
from tests.unit_cli.serving import Served, serving
from tests.unit_core.pair import Machine, Pair, ev, service

KEY = "tcp:192.168.2.232:80"
R31 = "192.168.2.31:80"


def running() -> Machine:
    pair = Pair(services=(service(name="Web"), service(protocol="udp", fallback=None))).start()
    pair.a.report_checks(a31=True, a41=True)
    pair.run(SECOND)
    return pair.a


def command(path: Path, *words: str) -> Result:
    settings = path.with_name("hafsm.toml")
    settings.write_text(f'[api]\nsocket = "{path}"\n')
    head, *rest = words
    return CliRunner().invoke(main, [head, *rest, "--settings", str(settings)])


async def run(served: Served, *words: str) -> tuple[int, str]:
    result = await served.do(command, *words)
    return result.exit_code, result.output


async def test_an_operator_drains_asks_again_and_enables(tmp_path: Path) -> None:
    async with serving(running(), tmp_path) as served:
        code, output = await run(served, "real", "drain", "Web", "192.168.2.31", "--reason", "new kernel")
        assert (code, output.rstrip().partition(" asked by ")[0]) == (0, f"real server {R31} of {KEY}: drain")
        assert output.endswith(" (new kernel): quiesced\n")
        code, output = await run(served, "real", "drain", KEY, R31)
        assert code == 0 and "nothing to do, it is drained by" in output
        code, output = await run(served, "real", "weight", KEY, R31, "5")
        assert code == 1 and ": enable it first" in output
        code, output = await run(served, "real", "enable", KEY, R31)
        assert code == 0 and output.endswith(": up\n")
        code, output = await run(served, "real", "enable", KEY, R31)
        assert code == 0 and "nothing to do, its checks and the file decide already" in output
        code, output = await run(served, "real", "quiesce", "all", "192.168.2.41")
        assert code == 0 and output.count(": quiesced") == 2
        assert served.crashes == []


async def test_the_answer_says_what_was_decided(tmp_path: Path) -> None:
    async with serving(running(), tmp_path) as served:
        body = {"verb": "weight", "virtual": KEY, "real": R31, "weight": 7}
        answer = await served.do(ask, "/v1/real", body)
        assert answer["outcome"] == "done" and answer["targets"] == [{"service": KEY, "real": R31}]
        assert answer["event"] == served.core.state.number
        assert (await served.do(ask, "/v1/real", body))["outcome"] == "nothing to do"
        assert (await served.do(ask, "/v1/real", {**body, "weight": 8}))["outcome"] == "done"
        body["verb"] = "drain"
        del body["weight"]
        await served.do(ask, "/v1/real", body)
        refused = {"verb": "weight", "virtual": KEY, "real": R31, "weight": 7, "reason": "refused, nothing to do"}
        assert (await served.do(ask, "/v1/real", refused))["outcome"] == "refused"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, "found {}; expected "),
        (
            {"verb": "melt", "virtual": KEY, "real": R31},
            'verb is "melt"; expected one of drain, quiesce, weight, enable',
        ),
        ({"verb": "drain", "virtual": 7, "real": R31}, "virtual is 7; expected one line"),
        ({"verb": "drain", "virtual": KEY, "real": R31, "reason": "a\nb"}, 'reason is "a\\nb"; expected one line'),
        ({"verb": "drain", "virtual": KEY, "real": R31, "reason": "x" * 201}, "expected one line of at most 200"),
        ({"verb": "drain", "virtual": KEY, "real": R31, "weight": 1}, "found a weight with drain; expected"),
        ({"verb": "weight", "virtual": KEY, "real": R31}, "found no weight; expected"),
        ({"verb": "weight", "virtual": KEY, "real": R31, "weight": True}, "weight is true; expected a whole number"),
        ({"verb": "weight", "virtual": KEY, "real": R31, "weight": 70000}, "weight is 70000; expected a whole number"),
        ({"verb": "drain", "virtual": KEY, "real": R31, "now": 1}, "found {"),
        (
            {"verb": "drain", "virtual": "192.168.2.232:80", "real": R31},
            f"may be {KEY} or udp:192.168.2.232:80: say which",
        ),
        ({"verb": "drain", "virtual": "tcp:x", "real": R31}, f"no virtual service tcp:x; there are {KEY}, udp:"),
        ({"verb": "drain", "virtual": KEY, "real": "192.168.2.99"}, f"no real server 192.168.2.99 in {KEY}; there are"),
    ],
)
async def test_what_is_not_understood_says_what_was_found_and_expected(
    tmp_path: Path, body: dict[str, object], error: str
) -> None:
    async with serving(running(), tmp_path) as served:
        number = served.core.state.number
        with pytest.raises(NotObeyed) as caught:
            await served.do(ask, "/v1/real", body)
        assert error in str(caught.value)
        assert served.core.state.number == number, "no event"


def test_servers_are_named_as_people_name_them() -> None:
    v6 = RealServer(address="2001:db8::31", port=80, forwarding=Forwarding.MASQ)
    mark = service(protocol="fwm", address="", port=0, mark=7, reals=(v6, replace(v6, port=81)))
    pair = Pair(services=(service(), mark)).start()
    state = pair.a.state
    for virtual in ("7", "fwm:7", "all"):
        for real in ("[2001:DB8:0::31]:80",):
            assert targets(state, RealVerb.DRAIN, virtual, real) == (("fwm:7", "[2001:db8::31]:80"),)
    assert len(targets(state, RealVerb.DRAIN, "7", "2001:db8::31")) == 2
    assert targets(state, RealVerb.DRAIN, "192.168.2.232:80", "192.168.2.31:80") == ((KEY, R31),)
    with pytest.raises(Unclear, match=r"no real server 10\.0\.0\.1 in any of the services"):
        targets(state, RealVerb.DRAIN, "all", "10.0.0.1")


def test_what_is_no_longer_configured_can_be_enabled() -> None:
    machine = running()
    machine.fold(
        ev.RealRequested(at=machine.pair.now, verb=RealVerb.DRAIN, targets=((KEY, R31),), by="alice", wall_ns=0)
    )
    machine.fold(ev.ServicesReloaded(at=machine.pair.now, services=()))
    for virtual in (KEY, "192.168.2.232:80", "all"):
        assert targets(machine.state, RealVerb.ENABLE, virtual, R31) == ((KEY, R31),)
    with pytest.raises(Unclear):
        targets(machine.state, RealVerb.DRAIN, KEY, R31)


async def test_the_table_is_shown_as_ipvsadm_does_with_health_and_why(tmp_path: Path) -> None:
    machine = running()
    machine.busy.add((KEY, R31))
    entry = machine.table[0]
    stranger = replace(entry, service=replace(entry.service, address="192.0.2.9"), destinations=entry.destinations[:1])
    machine.table = (*machine.table, stranger)
    machine.fold(
        ev.RealRequested(
            at=machine.pair.now, verb=RealVerb.QUIESCE, targets=((KEY, R31),), by="alice", wall_ns=0, reason="disk"
        )
    )
    machine.pair.run(SECOND // 10)
    async with serving(machine, tmp_path) as served:
        code, output = await run(served, "ipvs")
        assert code == 0
        shown = output.splitlines()
        assert shown[:3] == [
            "IP Virtual Server",
            "Prot LocalAddress:Port Scheduler Flags",
            "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn  Health",
        ]
        assert shown[3] == "TCP  192.168.2.232:80 rr"
        assert shown[4] == (
            "  -> 192.168.2.31:80              Route   0      1          0          "
            "quiesced 0.1 s, quiesced by alice (disk); its checks pass"
        )
        assert shown[5].startswith("  -> 192.168.2.41:80              Route   1      0          0          up 1.")
        assert "TCP  192.0.2.9:80 rr" in shown and shown[-1].endswith(" 0") and "up" not in shown[-1]
        code, output = await run(served, "ipvs", "--json")
        content = json.loads(output)
        assert code == 0 and content["trouble"] == ""
        assert [s["ours"] for s in content["services"]] == [True, True, False]
        assert content["services"][0]["reals"][0]["why"] == "quiesced by alice (disk); its checks pass"


async def test_a_kernel_that_does_not_answer_is_said_and_the_last_look_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(machine: Machine) -> object:
        raise TimeoutError

    monkeypatch.setattr("tests.unit_cli.serving.looked", silent)
    async with serving(running(), tmp_path) as served:
        code, output = await run(served, "ipvs")
        assert code == 1 and "the kernel could not be asked (no answer)" in output
        assert "  -> 192.168.2.31:80              Route   1      -          -          up" in output


def test_the_status_names_everything_literally_and_shows_words_on_servers_that_are_gone() -> None:
    old = service()
    v6 = replace(old.reals[0], address="fe80::31")
    pair = Pair(services=(service(protocol="fwm", address="::", port=0, mark=7, reals=(v6, old.reals[1])),)).start()
    for place in ("[fe80::31]:80", "192.168.2.41:80"):
        pair.a.fold(
            ev.RealRequested(
                at=pair.now, verb=RealVerb.DRAIN, targets=(("fwm6:7", place),), by="alice", wall_ns=0, reason="[red]x"
            )
        )
    pair.a.fold(
        ev.ServicesReloaded(at=pair.now, services=(service(protocol="fwm", address="::", mark=7, reals=(v6,)),))
    )
    pair.a.fold(ev.MaintenanceListed(at=pair.now, trouble="/m does not answer"))
    console = Console(width=200, file=io.StringIO())
    show_status(console, describe(pair.a.state, (), now=pair.now))
    shown = console.file.getvalue()
    assert "[fe80::31]:80" in shown and "drained by alice ([red]x)" in shown
    assert "192.168.2.41:80 of fwm6:7 has a word of alice (drain), but is not configured" in shown
    assert "maintenance folder: /m does not answer" in shown


def test_every_kind_of_service_has_ipvsadms_line() -> None:
    base = {
        "service": "x",
        "protocol": "tcp",
        "address": "2001:db8::1",
        "port": 80,
        "mark": 0,
        "scheduler": "sh",
        "scheduler_flags": ["sh-port"],
        "persistent_s": 600,
        "netmask": "64",
        "one_packet": True,
        "ours": True,
        "reals": [],
    }
    mark = {**base, "protocol": "fwm", "address": "::", "mark": 7, "scheduler_flags": [], "persistent_s": 0}
    assert list(lines([base, mark, {**mark, "address": "", "one_packet": False}]))[3:] == [
        "TCP  [2001:db8::1]:80 sh (sh-port) persistent 600 mask 64 ops",
        "FWM  7 IPv6 sh ops",
        "FWM  7 sh",
    ]
