"""Our table of tasks is mteb's: splits, subsets, and what the headline and the benchmark are made of."""

import mteb

from medembed.leaderboard.tasks import BENCHMARK, BENCHMARK_NAME, HEADLINE, TASKS
from medembed.tasks import registry

METRICS = {"ndcg_at_10": "nDCG@10", "v_measure": "V-measure", "map_at_1000": "MAP"}


def test_splits_subsets_and_metrics_are_those_of_mteb() -> None:
    tasks = {task.metadata.name: task for task in [*mteb.get_benchmark(BENCHMARK_NAME).tasks, mteb.get_task("ArguAna")]}
    assert set(tasks) == set(TASKS)
    for name, task in tasks.items():
        assert set(TASKS[name].parts) == {(split, subset) for split in task.eval_splits for subset in task.hf_subsets}
        assert TASKS[name].metric == METRICS[task.metadata.main_score]


def test_headline_and_benchmark_are_those_of_the_evaluation() -> None:
    assert tuple(HEADLINE) == registry.HEADLINE and BENCHMARK_NAME == registry.BENCHMARK
    assert {*HEADLINE, *BENCHMARK} == set(registry.headline_and_benchmark())
