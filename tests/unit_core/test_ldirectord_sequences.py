"""What reaches IPVS, step by step, beside what ldirectord 4.12 was seen to do with the same file.

Written in ipvsadm's words: S is `-t 192.0.2.1:80`, Rn `10.77.0.n:80`, FB the fallback. Where hafsm does something else,
a comment beside it says what ldirectord does and why hafsm does not.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hafsm.core.ipvs import Operation, Verb
from hafsm.core.settings import SECOND, Forwarding, RealServer, VirtualService
from tests.unit_core.pair import A, Machine, Pair, act, check, ev, group


@pytest.fixture(autouse=True)
def checks_end_when_the_test_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "first_checks", False)


OPTION = {
    Verb.ADD_SERVICE: "-A",
    Verb.EDIT_SERVICE: "-E",
    Verb.DELETE_SERVICE: "-D",
    Verb.ADD_DESTINATION: "-a",
    Verb.EDIT_DESTINATION: "-e",
    Verb.DELETE_DESTINATION: "-d",
}
WAY = {Forwarding.GATE: "-g", Forwarding.MASQ: "-m", Forwarding.IPIP: "-i"}


def line(operation: Operation) -> str:
    """As ldirectord calls ipvsadm, thresholds only where there are any."""
    service, destination = operation.service, operation.destination
    where = {"tcp:192.0.2.1:80": "S"}.get(service.key, service.key)
    words = [OPTION[operation.verb], where]
    if destination is not None:
        name = {"127.0.0.1:80": "FB"}.get(destination.key, f"R{destination.address.rsplit('.')[-1]}")
        words.append(name)
        if operation.verb is not Verb.DELETE_DESTINATION:
            words += [WAY[destination.forwarding], f"-w {destination.weight}"]
            if destination.upper_threshold or destination.lower_threshold:
                words.append(f"-x {destination.upper_threshold} -y {destination.lower_threshold}")
    elif operation.verb is not Verb.DELETE_SERVICE:
        words.append(f"-s {service.scheduler}")
    return " ".join(words)


def real(number: int, weight: int = 1, **more: int) -> RealServer:
    address = f"10.77.0.{number}"
    return RealServer(address=address, port=80, forwarding=Forwarding.MASQ, weight=weight, check=check(address), **more)


def http(*reals: RealServer, **more: object) -> VirtualService:
    return VirtualService(
        protocol="tcp",
        address="192.0.2.1",
        port=80,
        scheduler="wlc",
        reals=reals,
        fallback=RealServer(address="127.0.0.1", port=80, forwarding=Forwarding.GATE),
        **more,
    )


REALS = (real(1), real(2, weight=5), real(3))


class Director:
    """One that holds the services; `after_…` returns what was sent to IPVS since the last call."""

    def __init__(self, *services: VirtualService) -> None:
        self.pair = Pair(services=services, groups=(group(A),))
        self.machine = self.pair.a
        self._seen = 0
        self.pair.start()

    def after_start(self) -> list[str]:
        actions = [a for _, actions in self.machine.log for a in actions if isinstance(a, act.ProgramIpvs)]
        fresh, self._seen = actions[self._seen :], len(actions)
        return [line(operation) for action in fresh for operation in action.operations]

    def after_checks(self, *outcomes: bool | None, **named: bool) -> list[str]:
        """Of R1, R2, …; None: not checked. Each check's result comes alone, in the order of the file."""
        named |= {f"a{n}": ok for n, ok in enumerate(outcomes, 1) if ok is not None}
        for name, ok in named.items():
            self.machine.report_checks(**{name: ok})
            self.pair.run(SECOND // 10)
        return self.after_start()

    def after_reload(self, *services: VirtualService) -> list[str]:
        self.machine.fold(ev.ServicesReloaded(at=self.pair.now, services=services))
        self.pair.run(SECOND // 10)
        return self.after_start()

    def after_stop(self) -> list[str]:
        self.machine.fold(ev.StopRequested(at=self.pair.now, by="SIGTERM"))
        self.pair.run(5 * SECOND)
        return self.after_start()


@pytest.mark.parametrize("quiescent", [False, True], ids=["quiescent=no", "quiescent=yes"])
class TestTheLifeOfAService:
    def director(self, quiescent: bool) -> Director:
        director = Director(http(*REALS, quiescent=quiescent))
        self.start = director.after_start()
        self.first = director.after_checks(True, True, True)
        return director

    def test_start_with_an_empty_kernel(self, quiescent):
        self.director(quiescent)
        assert self.start == ["-A S -s wlc", "-a S FB -g -w 1"]
        # ldirectord now adds each real server with its full weight and takes it out again, the fallback going and
        # coming each time: 20 ms of exposure for every dead server. Here one that was never seen is down.
        assert self.first == ["-a S R1 -m -w 1", "-d S FB", "-a S R2 -m -w 5", "-a S R3 -m -w 1"]

    def test_one_dies_and_returns(self, quiescent):
        director = self.director(quiescent)
        assert director.after_checks(True, False, True) == (["-e S R2 -m -w 0"] if quiescent else ["-d S R2"])
        back = "-e" if quiescent else "-a"
        assert director.after_checks(True, True, True) == [f"{back} S R2 -m -w 5"]

    def test_all_die_and_return(self, quiescent):
        director = self.director(quiescent)
        died = director.after_checks(False, False, False)
        if quiescent:
            assert died == ["-e S R1 -m -w 0", "-e S R2 -m -w 0", "-e S R3 -m -w 0", "-a S FB -g -w 1"]
        else:
            # ldirectord deletes R3 first, which leaves the service without a server for the time of two commands.
            assert died == ["-d S R1", "-d S R2", "-a S FB -g -w 1", "-d S R3"]
        verb = "-e" if quiescent else "-a"
        assert director.after_checks(True, False, False) == [f"{verb} S R1 -m -w 1", "-d S FB"]
        assert director.after_checks(None, True, True) == [f"{verb} S R2 -m -w 5", f"{verb} S R3 -m -w 1"]

    def test_a_reload_is_the_difference(self, quiescent):
        director = self.director(quiescent)
        # ldirectord also says `-E` to the unchanged service and gives R4 full weight before its first check.
        changed = http(real(1), real(2, weight=7), real(4), quiescent=quiescent)
        assert director.after_reload(changed)[:2] == ["-e S R2 -m -w 7", "-d S R3"]
        assert director.after_checks(a4=True)[-1].endswith("S R4 -m -w 1")

    def test_another_scheduler_does_not_touch_a_dead_server(self, quiescent):
        director = self.director(quiescent)
        director.after_checks(False, True, True)
        service = replace(http(*REALS, quiescent=quiescent), scheduler="rr")
        assert director.after_reload(service) == ["-E S -s rr"]  # ldirectord: and R1 in with full weight, and out

    def test_an_unchanged_file_changes_nothing(self, quiescent):
        director = self.director(quiescent)
        assert director.after_reload(http(*REALS, quiescent=quiescent)) == []  # ldirectord: -E S

    def test_stop(self, quiescent):
        # ldirectord deletes the real servers one by one before; the kernel does that itself.
        assert self.director(quiescent).after_stop() == ["-D S"]

    def test_a_server_below_failurecount_is_left_alone(self, quiescent):
        director = Director(http(*REALS, quiescent=quiescent, failurecount=3))
        director.after_checks(True, True, True)
        assert director.after_checks(a2=False) == director.after_checks(a2=False) == []
        assert len(director.after_checks(a2=False)) == 1


def test_thresholds_stay_when_quiesced():
    """ldirectord's `-e … -w 0` drops both to 0 until the server returns."""
    director = Director(http(real(1, weight=2, upper_threshold=10, lower_threshold=5), quiescent=True))
    director.after_start()
    assert director.after_checks(True)[0] == "-a S R1 -m -w 2 -x 10 -y 5"
    assert director.after_checks(False)[0] == "-e S R1 -m -w 0 -x 10 -y 5"
    assert director.after_checks(True)[0] == "-e S R1 -m -w 2 -x 10 -y 5"


def test_a_new_service_takes_no_server_from_an_old_one():
    """ldirectord, with the new service below the old one, takes R1 and R2 out of both until they are checked again."""
    first = http(real(1), real(2))
    second = replace(first, port=81)
    for order in ((first, second), (second, first)):
        director = Director(first)
        director.after_checks(True, True)
        sent = director.after_reload(*order)
        assert not [words for words in sent if " S " in words]
        assert sent[0] == "-A tcp:192.0.2.1:81 -s wlc"
