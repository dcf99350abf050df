"""The paired bootstrap and the verdict."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medembed.evaluate.statistics import FEW, Comparison, Part, compare, holm, verdict

scores = arrays(np.float64, st.tuples(st.integers(FEW, 30), st.just(2)), elements=st.floats(0, 1, width=32))


def one_task(base, tuned) -> Comparison:
    return compare({"it": [Part(base, tuned)]}, resamples=500, seed=1).tasks["it"][0]


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
    found = compare({"it": [Part(np.zeros((400, 1)), differences)]}, resamples=10_000, seed=42).tasks["it"][0]
    half = 1.96 * differences.std() / 400**0.5
    assert (found.low, found.high) == pytest.approx((differences.mean() - half, differences.mean() + half), abs=2e-3)


def test_95_of_100_intervals_hold_the_true_difference() -> None:
    generator = np.random.default_rng(7)
    samples = generator.normal(0.05, 0.3, size=(400, 80, 1))
    found = [compare({"it": [Part(0 * it, it)]}, 400, seed=n).tasks["it"][0] for n, it in enumerate(samples)]
    assert 0.91 < np.mean([it.low <= 0.05 <= it.high for it in found]) < 0.98


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    generator = np.random.default_rng(3)
    task = {"it": [Part(generator.random((50, 3)), generator.random((50, 3)))]}
    assert compare(task, 1000, seed=1).tasks == compare(task, 1000, seed=1).tasks
    assert compare(task, 1000, seed=1).tasks != compare(task, 1000, seed=2).tasks


def test_small_and_large_tasks_and_parts_count_alike_in_a_mean() -> None:
    few, many = np.ones((2, 1)), np.zeros((200, 1))
    found = compare({"a": [Part(0 * few, few), Part(many, many)], "b": [Part(many, many)]}, resamples=200, seed=1)
    assert found.tasks["a"][0].tuned == 0.5
    (average,) = found.average()
    assert (average.base, average.tuned) == (0, 0.25)
    assert (average.wins, average.ties, average.losses) == (2, 400, 0)


def test_the_mean_over_tasks_is_surer_than_any_of_them() -> None:
    generator = np.random.default_rng(5)
    parts = {name: [Part(np.zeros((100, 1)), generator.normal(0.03, 0.2, size=(100, 1)))] for name in "abcd"}
    found = compare(parts, resamples=4000, seed=1)
    (average,) = found.average()
    widths = [task[0].high - task[0].low for task in found.tasks.values()]
    assert average.high - average.low == pytest.approx(np.mean(widths) / 2, rel=0.1)


def test_a_block_smaller_than_the_resamples_changes_no_more_than_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.random.default_rng(0).random((30, 2))
    whole = compare({"it": [Part(0 * differences, differences)]}, 2000, seed=1).tasks["it"]
    monkeypatch.setattr("medembed.evaluate.statistics.BLOCK", 100)
    blocks = compare({"it": [Part(0 * differences, differences)]}, 2000, seed=1).tasks["it"]
    assert [it.low for it in blocks] == pytest.approx([it.low for it in whole], abs=0.01)


def test_what_is_drawn_for_a_task_hangs_on_no_other_task() -> None:
    generator = np.random.default_rng(8)
    a, b = (Part(generator.random((40, 1)), generator.random((40, 1))) for _ in "ab")
    alone = compare({"b": [b]}, 500, seed=1).tasks["b"][0]
    beside = compare({"a": [a], "b": [b]}, 500, seed=1)
    assert (beside.tasks["b"][0].low, beside.tasks["b"][0].high) == (alone.low, alone.high)
    assert beside.average(["b"])[0].low == alone.low


def test_of_400_comparisons_of_equal_models_5_percent_have_a_small_p() -> None:
    samples = np.random.default_rng(11).normal(0, 0.3, size=(400, 80, 1))
    found = [compare({"it": [Part(0 * it, it)]}, 400, seed=n).tasks["it"][0].p for n, it in enumerate(samples)]
    assert 0.02 < np.mean(np.less(found, 0.05)) < 0.09


@settings(max_examples=30, deadline=None)
@given(scores, st.integers(0, 100))
def test_a_small_p_and_an_interval_without_zero_are_one_thing(base, seed) -> None:
    found = one_task(base, np.random.default_rng(seed).permutation(base))
    if found.low > 1e-6 or found.high < -1e-6:
        assert found.p <= 0.06  # the percentile lies between two of 500 draws
    if found.low < -1e-6 and found.high > 1e-6:
        assert found.p >= 0.04


def test_p_values_are_corrected_as_holm_has_it() -> None:
    # Ordered: 4 × 0.005, 3 × 0.01, 2 × 0.03, then no less than the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([0.2]) == [0.2]


def test_one_of_twenty_tasks_that_falls_by_chance_is_no_regression() -> None:
    sample = np.random.default_rng(2).normal(size=(60, 1))
    sample = (sample - sample.mean()) / sample.std()
    t = {str(n): 1.2 for n in range(19)} | {"unlucky": -2.3}  # differences, in standard errors
    parts = {name: [Part(0 * sample, (sample + shift / 60**0.5) / 50)] for name, shift in t.items()}
    found = compare(parts, 2000, seed=1)
    worst = found.tasks["unlucky"][0]
    assert worst.high < 0
    assert worst.p < 0.05 < worst.corrected_p
    assert verdict(found.average()[0], [task[0] for task in found.tasks.values()]) == "WIN"
    alone = compare({"unlucky": parts["unlucky"]}, 2000, seed=1)
    assert verdict(alone.average()[0], [alone.tasks["unlucky"][0]]) == "REGRESSION"


def test_queries_are_won_tied_and_lost() -> None:
    base, tuned = np.array([[0.5], [0.5], [0.5], [0.1 + 0.2]]), np.array([[0.9], [0.6], [0.2], [0.3]])
    found = one_task(base, tuned)
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)


def test_queries_that_say_the_same_ten_times_are_no_surer_than_one_of_them() -> None:
    once = np.random.default_rng(4).normal(0.1, 0.2, size=(60, 1))
    tenfold, notes = np.repeat(once, 10, axis=0), np.repeat(np.arange(60), 10)
    alone = compare({"it": [Part(0 * once, once)]}, 4000, seed=1).tasks["it"][0]
    naive = compare({"it": [Part(0 * tenfold, tenfold)]}, 4000, seed=1).tasks["it"][0]
    together = compare({"it": [Part(0 * tenfold, tenfold, notes)]}, 4000, seed=1).tasks["it"][0]
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high), abs=1e-6)
    assert naive.high - naive.low == pytest.approx((alone.high - alone.low) / 10**0.5, rel=0.1)


def test_clusters_of_unequal_size_keep_the_mean_over_queries() -> None:
    differences = np.array([[0.3], [0.3], [0.3], [0.1], [0.1]] * 10)
    clusters = np.array([f"{note} {n}" for n in range(10) for note in "aaabb"])
    found = compare({"it": [Part(0 * differences, differences, clusters)]}, 2000, seed=1).tasks["it"][0]
    assert found.difference == pytest.approx(0.22)
    assert 0.1 < found.low < 0.2 < 0.24 < found.high < 0.3


def test_from_few_queries_nothing_follows() -> None:
    better = np.full((40, 1), 0.5)
    for rows, notes in ((FEW - 1, None), (40, np.array(["one note"] * 40))):
        found = compare({"it": [Part(0 * better[:rows], better[:rows], notes)]}, 500, seed=1)
        (average,), (task,) = found.average(), found.tasks["it"]
        assert (task.difference, task.low, task.high, task.p) == (0.5, -1, 1, 1)
        assert verdict(average, [task]) == "MARGINAL"


def test_the_same_queries_in_several_parts_are_no_more_queries() -> None:
    draw = np.random.default_rng(3)
    base, tuned, names = draw.random((60, 1)), draw.random((60, 1)), np.array([f"query {n}" for n in range(60)])
    part = Part(base, tuned, names)
    once, thrice = (compare({"it": parts}, 500, seed=1).tasks["it"][0] for parts in ([part], [part] * 3))
    assert (once.low, once.high, once.p) == (thrice.low, thrice.high, thrice.p)
    others = [part._replace(clusters=np.array([f"{language} {name}" for name in names])) for language in "abc"]
    apart = compare({"it": others}, 500, seed=1).tasks["it"][0]
    assert apart.high - apart.low < 0.8 * (once.high - once.low)


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
        p = 0.5 if low <= 0 <= high else 0.01
        middle = (low + high) / 2
        return Comparison(0.5, 0.5 + middle, middle, low, high, p=p, corrected_p=p, wins=0, ties=0, losses=0)

    assert verdict(interval(*average), [interval(*task) for task in tasks]) == expected
