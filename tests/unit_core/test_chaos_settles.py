"""Whatever happened: no crash of the core, and once the faults stop exactly one director holds the VIP."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hafsm import codec
from hafsm.core.settings import SECOND, Address, AutoFailback
from hafsm.core.state import initial
from hafsm.core.step import step
from tests.unit_core.pair import A, B, Machine, Pair, act, ev, group

OTHER = Address(ip="192.0.2.9", prefix=24, interface="eth0")
FAULTS = (
    "power", "start", "stop", "kill", "freeze", "thaw", "partition", "one way", "heal", "gateway", "no gateway",
    "checks fail", "checks pass", "scripts fail", "scripts work", "table cleared", "vip removed", "lossy", "clean",
)  # fmt: skip

storms = st.lists(
    st.tuples(st.sampled_from(FAULTS), st.sampled_from("ab"), st.integers(0, 45_000)), min_size=1, max_size=14
)


def strike(pair: Pair, machine: Machine, fault: str) -> None:
    match fault:
        case "power":
            machine.power_cut()
            machine.frozen = False
        case "kill":
            machine.kill()
            machine.frozen = False
        case "start":
            if not machine.running:
                machine.start(same_boot=bool(machine.scripts))
        case "stop":
            machine.fold(ev.StopRequested(at=pair.now, by="test"))
        case "freeze":
            machine.frozen = machine.running
        case "thaw":
            if machine.frozen:
                machine.thaw()
        case "partition":
            pair.partition()
        case "one way":
            pair.cut = {(machine.name, pair.other(machine).name)}
        case "heal":
            pair.heal()
        case "gateway" | "no gateway":
            machine.sees_gateway = fault == "gateway"
        case "checks fail" | "checks pass":
            if machine.running:
                machine.report_checks(a31=fault == "checks pass", a41=fault == "checks pass")
        case "scripts fail":
            machine.refuse = lambda action: isinstance(action, act.RunScript)
        case "scripts work":
            machine.refuse = lambda action: False
        case "table cleared":
            machine.table = ()
        case "vip removed":
            machine.addresses.clear()
        case "lossy":
            count = iter(range(10**9))
            pair.lose = lambda message: next(count) % 3 == 0
        case "clean":
            pair.lose = lambda message: False


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(storm=storms, mode=st.sampled_from(AutoFailback), both_own=st.booleans(), started=st.booleans())
def test_after_any_storm_the_cluster_settles(storm, mode, both_own, started) -> None:
    groups = (group(A), group(B, OTHER)) if both_own else (group(A),)
    pair = Pair(auto_failback=mode, groups=groups)
    if started:
        pair.start()
    for fault, which, after_ms in storm:
        strike(pair, pair.a if which == "a" else pair.b, fault)
        pair.run(after_ms * 1_000_000)
    pair.heal()
    pair.lose = lambda message: False
    for machine in (pair.a, pair.b):
        machine.refuse = lambda action: False
        machine.sees_gateway = True
        if machine.frozen:
            machine.thaw()
    pair.run(100 * SECOND)  # a stop that was asked for ends
    for machine in (pair.a, pair.b):
        if not machine.running:
            machine.start(same_boot=True)
    pair.until(pair.settled, limit=900 * SECOND)
    pair.run(30 * SECOND)
    pair.until(pair.settled, limit=900 * SECOND)
    for settings_group, index in ((g, i) for i, g in enumerate(groups)):
        ip = settings_group.resources[0].address.ip
        holders = [m.name for m in (pair.a, pair.b) if ip in m.vips()]
        assert len(holders) == 1, (ip, holders)
        holder = pair.a if holders == [A] else pair.b
        assert holder.table, "who holds the VIP has the services"
        if mode is not AutoFailback.OFF and not any(f == "scripts fail" for f, _, _ in storm):
            assert holders == [settings_group.preferred], index
    for machine in (pair.a, pair.b):
        replays_identically(machine)


def replays_identically(machine: Machine) -> None:
    """Every life of the log, folded again through its records, decides the same."""
    state = initial(machine.config)
    for event, actions in machine.log:
        if isinstance(event, ev.DaemonStarted):
            state = initial(machine.config)
        again = codec.decode_event(*codec.encode_event(event), at=event.at)
        decision = step(state, again)
        assert decision.actions == actions
        state = decision.state
    if machine.running:
        assert codec.encode_state(state) == codec.encode_state(machine.state)
