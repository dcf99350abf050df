"""How many requests an endpoint is given at once: more while it answers, fewer in proportion to what it refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medembed.llm.endpoints import Window


def after(window: Window, *, answered: int = 0, refused: int = 0, full: bool = True) -> float:
    for n in range(answered + refused):
        window.used(int(window.size) if full else 1)
        window.count(refused=n < refused)
    return window.size


def test_a_window_grows_by_an_eighth_of_its_beginning_with_each_round_of_answers():
    window = Window(32, 100)
    assert [after(window, answered=int(window.size)) for _ in range(4)] == [36, 40, 44, 48]


def test_it_grows_no_wider_than_the_most_and_starts_no_wider():
    window = Window(32, 40)
    assert [after(window, answered=int(window.size)) for _ in range(4)] == [36, 40, 40, 40]
    assert Window(128, 5).size == 5


def test_room_that_nobody_uses_does_not_grow():
    assert after(Window(32, 100), answered=320, full=False) == 32


def test_when_all_that_is_in_flight_is_refused_at_once_the_window_is_halved_once():
    assert after(Window(50, 50), refused=50) == 25


def test_it_shrinks_by_half_of_the_share_that_was_refused():
    assert after(Window(100, 100), refused=40, answered=60) == pytest.approx(80)


def test_what_is_refused_by_chance_costs_no_room():
    window = Window(100, 100)
    assert [after(window, refused=2, answered=98) for _ in range(20)] == [100] * 20


def test_one_that_shrank_in_a_storm_is_wide_again_after_some_rounds():
    window = Window(128, 128)
    for _ in range(20):
        after(window, refused=int(window.size) + 1)
    assert window.size == 1
    for _ in range(9):
        after(window, answered=int(window.size) + 1)
    assert window.size == 128


@given(st.integers(1, 200), st.integers(1, 200), st.lists(st.tuples(st.booleans(), st.booleans()), max_size=500))
def test_whatever_comes_a_window_has_room_for_one_and_for_no_more_than_the_most(start, most, outcomes):
    window = Window(start, most)
    for refused, full in outcomes:
        window.used(most if full else 0)
        window.count(refused=refused)
        assert 1 <= window.size <= most
