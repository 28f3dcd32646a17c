"""`hafsm.testing`: the example of the documentation runs, and each thing that can be done there does what it says."""

import re
from pathlib import Path

import pytest

from hafsm.errors import HafsmError
from hafsm.testing import pair
from tests.simulation.planted import leases_without_end

DOCUMENT = Path(__file__).parents[2] / "docs" / "testing.md"
A, B, VIP = "server40.example.com", "server19.example.com", "192.168.2.232"


def examples() -> dict[str, str]:
    block = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert block is not None
    head, *tests = re.split(r"(?m)^(?=def test_)", block[1])
    return {re.match(r"def (\w+)", test)[1]: head + test for test in tests}  # type: ignore[index]


@pytest.mark.parametrize("name", examples())
def test_the_documented_example(name: str, scenario: Path) -> None:
    namespace: dict[str, object] = {}
    exec(examples()[name].replace("/etc/ha.d", str(scenario)), namespace)
    namespace[name]()  # type: ignore[operator]


def test_a_killed_daemon_loses_its_vip_when_the_lease_ends(scenario: Path) -> None:
    cluster = pair(scenario).start().kill(A)
    cluster.advance(15)
    assert cluster.holder(VIP) == A
    cluster.until(lambda: cluster.holder(VIP) == B, 31)
    cluster.run(A)
    cluster.until(lambda: cluster.holder(VIP) == A and cluster.scripts(A) == {"httpd"})
    assert not cluster.scripts(B)


def test_a_freeze_beyond_the_lease(scenario: Path) -> None:
    cluster = pair(scenario).start()
    thaw = cluster.freeze(A)
    cluster.advance(40)
    assert cluster.holder(VIP) == B
    thaw()
    cluster.advance(0.1)
    assert any(reason.startswith("stood still for 40.0 s") for reason in cluster.why(A))


def test_operators_and_a_graceful_stop(scenario: Path) -> None:
    cluster = pair(scenario).start().standby(A)
    cluster.until(lambda: cluster.holder(VIP) == B, 5)
    cluster.advance(1).takeover(A)
    cluster.until(lambda: cluster.holder(VIP) == A, 5)
    cluster.stop(A)
    cluster.until(lambda: cluster.holder(VIP) == B, 5)


def test_a_partition_gives_two_owners_and_the_preferred_node_keeps_it(scenario: Path) -> None:
    cluster = pair(scenario).start().partition().advance(40)
    assert cluster.holders(VIP) == [A, B]
    assert cluster.holder(VIP) == B, "who got it last"
    cluster.heal().advance(5)
    assert cluster.holder(VIP) == A


def test_scripts_that_fail_send_the_group_away(scenario: Path) -> None:
    cluster = pair(scenario)
    cluster.fail_scripts(A)
    cluster.power_on(A).power_on(B)
    cluster.until(lambda: cluster.holder(VIP) == B, 300)
    assert any("does not start here" in reason for reason in cluster.why(A))


def test_pings_links_and_repaired_servers(scenario: Path) -> None:
    cluster = pair(scenario).start()
    cluster.lose_ping("192.168.2.251").advance(40)
    assert cluster.holder(VIP) == A, "on a tie nothing moves"
    cluster.return_ping("192.168.2.251").cut("eth0", sender=A).advance(10).heal()
    cluster.fail_real("192.168.2.31").advance(5).repair_real("192.168.2.31").advance(5)
    assert cluster.table(A) == {"tcp:192.168.2.232:80": {"192.168.2.31:80": 1, "192.168.2.41:80": 1}}
    assert cluster.state(A).phase.value == "stable"


def test_a_broken_invariant_fails_the_test(scenario: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leases_without_end(monkeypatch)
    cluster = pair(scenario).start().kill(A)
    with pytest.raises(AssertionError, match="one_director_answers"):
        cluster.advance(60)


def test_what_is_not_there_is_named(scenario: Path, tmp_path: Path) -> None:
    cluster = pair(scenario)
    with pytest.raises(HafsmError, match=r"'server1' is none of server40\.example\.com"):
        cluster.kill("server1")
    with pytest.raises(HafsmError, match=r"there are 192\.168\.2\.31, 192\.168\.2\.41"):
        cluster.fail_real("192.168.2.1")
    with pytest.raises(HafsmError, match=r"ha\.cf"):
        pair(tmp_path)
    with pytest.raises(AssertionError, match="has not come true within 1 s"):
        cluster.until(lambda: False, 1)
