"""The paired bootstrap and the verdict."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medembed.evaluate.statistics import Comparison, compare, verdict

scores = arrays(np.float64, st.tuples(st.integers(2, 30), st.just(2)), elements=st.floats(0, 1, width=32))


def one_task(base, tuned) -> Comparison:
    return compare({"it": [(base, tuned)]}, resamples=500, seed=1)[0]["it"][0]


@settings(max_examples=30, deadline=None)
@given(scores)
def test_equal_scores_differ_by_nothing_and_are_marginal(base) -> None:
    found = one_task(base, base)
    assert (found.difference, found.low, found.high) == (0, 0, 0)
    assert verdict(found, [found]) == "MARGINAL"


@settings(max_examples=30, deadline=None)
@given(scores, st.floats(0.01, 0.5))
def test_a_shift_of_every_query_is_found_exactly(base, shift) -> None:
    won, lost = one_task(base, base + shift), one_task(base + shift, base)
    assert (won.low, won.high) == (pytest.approx(shift, abs=2e-6), pytest.approx(shift, abs=2e-6))
    assert verdict(won, [won]) == "WIN"
    assert verdict(lost, [lost]) == "REGRESSION"


@settings(max_examples=30, deadline=None)
@given(scores, st.integers(0, 100))
def test_exchanging_the_models_mirrors_the_interval(base, seed) -> None:
    tuned = np.random.default_rng(seed).permutation(base)
    there, back = one_task(base, tuned), one_task(tuned, base)
    assert (back.difference, back.low, back.high) == pytest.approx(
        (-there.difference, -there.high, -there.low), abs=2e-6
    )


def test_the_interval_has_the_width_that_theory_gives() -> None:
    differences = np.random.default_rng(0).normal(0.1, 0.2, size=(400, 1))
    found = compare({"it": [(np.zeros((400, 1)), differences)]}, resamples=10_000, seed=42)[0]["it"][0]
    half = 1.96 * differences.std() / 400**0.5
    assert (found.low, found.high) == pytest.approx((differences.mean() - half, differences.mean() + half), abs=2e-3)


def test_95_of_100_intervals_hold_the_true_difference() -> None:
    generator = np.random.default_rng(7)
    samples = generator.normal(0.05, 0.3, size=(400, 80, 1))
    found = [compare({"it": [(0 * it, it)]}, resamples=400, seed=n)[0]["it"][0] for n, it in enumerate(samples)]
    assert 0.91 < np.mean([it.low <= 0.05 <= it.high for it in found]) < 0.98


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    generator = np.random.default_rng(3)
    task = {"it": [(generator.random((50, 3)), generator.random((50, 3)))]}
    assert compare(task, 1000, seed=1) == compare(task, 1000, seed=1)
    assert compare(task, 1000, seed=1) != compare(task, 1000, seed=2)


def test_small_and_large_tasks_and_parts_count_alike_in_a_mean() -> None:
    few, many = np.ones((2, 1)), np.zeros((200, 1))
    tasks, average = compare({"a": [(0 * few, few), (many, many)], "b": [(many, many)]}, resamples=200, seed=1)
    assert tasks["a"][0].tuned == 0.5
    assert (average[0].base, average[0].tuned) == (0, 0.25)


def test_the_mean_over_tasks_is_surer_than_any_of_them() -> None:
    generator = np.random.default_rng(5)
    parts = {name: [(np.zeros((100, 1)), generator.normal(0.03, 0.2, size=(100, 1)))] for name in "abcd"}
    tasks, average = compare(parts, resamples=4000, seed=1)
    widths = [task[0].high - task[0].low for task in tasks.values()]
    assert average[0].high - average[0].low == pytest.approx(np.mean(widths) / 2, rel=0.1)


def test_a_block_smaller_than_the_resamples_changes_no_more_than_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.random.default_rng(0).random((30, 2))
    whole = compare({"it": [(0 * differences, differences)]}, 2000, seed=1)[0]["it"]
    monkeypatch.setattr("medembed.evaluate.statistics.BLOCK", 100)
    blocks = compare({"it": [(0 * differences, differences)]}, 2000, seed=1)[0]["it"]
    assert [it.low for it in blocks] == pytest.approx([it.low for it in whole], abs=0.01)


@pytest.mark.parametrize(
    ("average", "tasks", "expected"),
    [
        ((0.01, 0.03), [(0.01, 0.05), (-0.02, 0.01)], "WIN"),
        ((-0.01, 0.03), [(0.01, 0.05), (-0.02, 0.01)], "MARGINAL"),
        ((0.01, 0.03), [(0.04, 0.08), (-0.03, -0.01)], "REGRESSION"),
        ((-0.03, -0.01), [(-0.03, 0.01)], "REGRESSION"),
        ((0.0, 0.03), [(0.0, 0.03)], "MARGINAL"),
    ],
)
def test_the_verdict_wants_a_better_mean_and_no_worse_task(average, tasks, expected) -> None:
    def interval(low: float, high: float) -> Comparison:
        return Comparison(base=0.5, tuned=0.5 + (low + high) / 2, difference=(low + high) / 2, low=low, high=high)

    assert verdict(interval(*average), [interval(*task) for task in tasks]) == expected
