"""What the simulator found in the core, as short scripts."""

from hafsm.core.settings import MILLISECOND, SECOND
from tests.unit_core.pair import B, Pair, act


def test_a_new_life_drops_the_vips_of_the_last_one_before_it_stops_scripts() -> None:
    """The other director takes over when it hears of the new life; a script that stops slowly must not make two owners
    of it."""
    pair = Pair().start()
    pair.a.kill()
    pair.a.generation += 1
    pair.a.silent = lambda action: isinstance(action, act.RunScript)
    pair.a.start(same_boot=True)
    pair.run(20 * MILLISECOND)
    assert pair.holders() == [B]
    pair.run(20 * SECOND)
    assert pair.holders() == [B], "and a later look at the kernel does not bring them back"
