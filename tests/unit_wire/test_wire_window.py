"""On one link each sequence number is accepted at most once, in whatever order it comes."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from hafsm.wire.window import WINDOW, ReplayWindow, Verdict


class NaiveWindow:
    """The rules as sets, without bits."""

    def __init__(self):
        self.generation = -1
        self.accepted = set()

    def accept(self, generation, sequence, *, status):
        if generation < self.generation:
            return Verdict.OLD_GENERATION
        if generation > self.generation:
            if not status:
                return Verdict.UNOPENED_GENERATION
            self.generation = generation
            self.accepted = {sequence}
            return Verdict.ACCEPTED
        if sequence == 0:
            return Verdict.ACCEPTED
        if sequence in self.accepted and sequence > max(self.accepted) - WINDOW:
            return Verdict.REPEATED
        if sequence <= max(self.accepted) - WINDOW:
            return Verdict.TOO_OLD
        self.accepted.add(sequence)
        return Verdict.ACCEPTED


NEAR = st.integers(1, 40)
FAR = st.one_of(NEAR, st.integers(WINDOW - 3, WINDOW + 43), st.integers(1, 5 * WINDOW), st.integers(1, 2**60))
MESSAGES = st.lists(
    st.tuples(st.integers(0, 3), st.one_of(st.just(0), NEAR, FAR), st.booleans()).map(
        # a status message always has a number
        lambda message: message if message[1] else (message[0], 0, False)
    ),
    max_size=60,
)


@given(MESSAGES)
@settings(deadline=None, max_examples=400)
def test_the_window_agrees_with_a_naive_twin(messages):
    """Any messages in any order, several lives, jumps of any width."""
    window, naive = ReplayWindow(), NaiveWindow()
    for generation, sequence, status in messages:
        expected = naive.accept(generation, sequence, status=status)
        assert window.accept(generation, sequence, status=status) is expected


@given(MESSAGES)
@settings(deadline=None, max_examples=200)
def test_no_number_is_accepted_twice(messages):
    """The property itself, without a model: the recording, and the recording played again twice."""
    window = ReplayWindow()
    accepted = [
        (generation, sequence)
        for generation, sequence, status in messages * 3
        if window.accept(generation, sequence, status=status) and sequence
    ]
    assert len(accepted) == len(set(accepted))


@given(st.integers(1, 2**40), st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_nothing_within_the_window_is_lost(start, seed):
    """All numbers of one window, shuffled: each is accepted exactly once."""
    rng = random.Random(seed)
    numbers = list(range(start, start + WINDOW))
    rng.shuffle(numbers)
    window = ReplayWindow()
    assert all(window.accept(7, number, status=True) for number in numbers)
    rng.shuffle(numbers)
    assert {window.accept(7, number, status=True) for number in numbers} == {Verdict.REPEATED}


def test_the_edge_of_the_window():
    """The last number that is remembered, and the first that is not."""
    window = ReplayWindow()
    assert window.accept(1, WINDOW + 10, status=True)
    assert window.accept(1, 11, status=False)
    assert window.accept(1, 11, status=False) is Verdict.REPEATED
    assert window.accept(1, 10, status=False) is Verdict.TOO_OLD


def test_a_jump_to_the_edge_of_the_window():
    """The widest jump that still remembers where it came from, and the first that need not."""
    window = ReplayWindow()
    assert window.accept(1, 1, status=True)
    assert window.accept(1, WINDOW, status=False)
    assert window.accept(1, 1, status=False) is Verdict.REPEATED
    assert window.accept(1, 2 * WINDOW, status=False)
    assert window.accept(1, WINDOW, status=False) is Verdict.TOO_OLD
    assert window.accept(1, WINDOW + 1, status=False)


def test_the_window_does_not_grow():
    """A daemon runs for years."""
    window = ReplayWindow()
    assert all(window.accept(1, number, status=True) for number in range(1, 5 * WINDOW, 3))
    assert window._seen.bit_length() <= WINDOW


def test_only_a_status_opens_a_generation():
    """Neither the first nor a later one is opened by anything else, and an old one never comes back."""
    window = ReplayWindow()
    assert window.accept(5, 1, status=False) is Verdict.UNOPENED_GENERATION
    assert window.accept(5, 0, status=False) is Verdict.UNOPENED_GENERATION
    assert window.accept(5, 900, status=True)
    assert window.accept(6, 1, status=False) is Verdict.UNOPENED_GENERATION
    assert window.accept(6, 0, status=False) is Verdict.UNOPENED_GENERATION
    assert window.accept(5, 901, status=False)
    assert window.accept(6, 1, status=True)
    assert window.accept(6, 2, status=False)
    assert window.accept(5, 902, status=True) is Verdict.OLD_GENERATION
    assert window.accept(5, 0, status=False) is Verdict.OLD_GENERATION


def test_messages_outside_the_sequence():
    """Only their generation is judged, and they move nothing."""
    window = ReplayWindow()
    assert window.accept(1, 10, status=True)
    assert window.accept(1, 0, status=False)
    assert window.accept(1, 0, status=False)
    assert window.accept(1, 10, status=True) is Verdict.REPEATED


def test_only_acceptance_is_true():
    """A verdict can be asked like a bool."""
    assert [verdict for verdict in Verdict if verdict] == [Verdict.ACCEPTED]


def test_a_generation_below_the_floor_is_old_and_the_floor_itself_opens() -> None:
    window = ReplayWindow(1001)
    assert window.accept(1000, 1, status=True) is Verdict.OLD_GENERATION
    assert window.accept(1001, 5, status=False) is Verdict.UNOPENED_GENERATION
    assert window.accept(1001, 5, status=True)
