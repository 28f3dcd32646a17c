"""The fewest items that still fail, compared with trying every subset."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from replay.shrink import fewest, last_that_suffice


@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.sets(st.integers(0, 9), min_size=1, max_size=3))
def test_no_item_of_the_result_can_be_left_out(items: list[int], needed: set[int]) -> None:
    def fails(some: list[int]) -> bool:
        return needed <= set(some)

    if not fails(items):
        return
    best = fewest(items, fails)
    assert fails(best)
    assert not any(fails(list(some)) for some in combinations(best, len(best) - 1))
    assert len(best) == len(needed)


def test_order_is_kept_and_the_whole_is_given_back_when_all_are_needed() -> None:
    assert fewest([3, 1, 2], lambda some: some == [3, 1, 2]) == [3, 1, 2]
    assert fewest(list(range(1000)), lambda some: {7, 500, 999} <= set(some)) == [7, 500, 999]


def test_it_stops_when_its_tries_are_used_up() -> None:
    calls: list[int] = []

    def fails(some: list[int]) -> bool:
        calls.append(len(some))
        return 77 in some

    best = fewest(list(range(100)), fails, tries=3)
    assert len(calls) == 3 and 77 in best


def test_the_shortest_tail() -> None:
    assert last_that_suffice(list(range(100)), lambda some: 97 in some) == [96, 97, 98, 99]
    assert last_that_suffice([1, 2, 3], lambda some: 1 in some) == [1, 2, 3]
