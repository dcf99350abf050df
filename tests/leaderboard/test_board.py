"""From many results to one row a model: which revision counts, what a mean needs, who stands beside whom."""

from pathlib import Path

import pytest

from medembed.leaderboard import board, snapshot
from medembed.leaderboard.board import Board, Row
from medembed.leaderboard.results import EXTERNAL, Facts, Found, Result, read
from medembed.leaderboard.snapshot import Snapshot, Source
from medembed.leaderboard.tasks import BENCHMARK, HEADLINE, TASKS
from tests.leaderboard.files import COMMIT, write_meta, write_result

SOURCE = Source("results", "https://example.org/results", "c0ffee", "2026-08-20", "CC0-1.0")


def result(model: str, task: str, score: float, revision: str = COMMIT, version: str = "2.0.0") -> Result:
    scores: dict[str, dict[str, float]] = {}
    for split, subset in TASKS[task].parts:
        scores.setdefault(split, {})[subset] = score
    return Result(model, revision, task, scores, version, f"{model.replace('/', '__')}/{revision}/{task}.json")


def of(results: list[Result], **facts: Facts) -> Board:
    """The board of published results; facts by the part of the model's name after `org/`."""
    return board.make(Snapshot([SOURCE], {f"org/{name}": it for name, it in facts.items()}, results), Found())


def row(board: Board, model: str) -> Row:
    return next(row for row in board.rows if row.model == model)


def all_tasks(model: str, score: float) -> list[Result]:
    return [result(model, task, score) for task in TASKS]


def test_means_are_over_the_five_tasks_and_over_the_benchmark() -> None:
    found = row(of([result("org/a", task, 0.5 if task in HEADLINE else 0.3) for task in TASKS]), "org/a")
    assert found.mean == pytest.approx(0.5)
    assert found.benchmark == pytest.approx((4 * 0.5 + 8 * 0.3) / 12)


def test_the_headline_counts_the_english_part_and_the_benchmark_needs_all_languages() -> None:
    results = [it for it in all_tasks("org/a", 0.5) if it.task != "PublicHealthQA"]
    english = Result("org/a", COMMIT, "PublicHealthQA", {"test": {"english": 0.9, "klingon": 0.0}})
    found = row(of([*results, english]), "org/a")
    assert found.headline["PublicHealthQA"] == 0.9 and found.mean == pytest.approx((4 * 0.5 + 0.9) / 5)
    assert found.scores["PublicHealthQA"].value is None and found.benchmark is None


def test_a_mean_of_ours_is_of_one_revision_and_a_base_that_nobody_knows_makes_nothing_zero_shot() -> None:
    whole, half = "b" * 40, "a" * 40
    results = [result("org/a", task, 0.6, whole) for task in HEADLINE]
    results += [result("org/a", task, 0.9, half) for task in list(HEADLINE)[:2]]
    ours = Found(results=results, facts={"org/a": Facts(base="org/unknown", trained_on=())})
    made = board.make(Snapshot([SOURCE], {}, []), ours)
    found = row(made, "org/a")
    assert found.mean == pytest.approx(0.6) and found.revision == whole
    assert made.counts["scores of another revision, or told twice"] == 2
    assert found.zero_shot is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("main", "1.0.0"), ("newer", "2.9.0")),  # what the registry names, before what is newer
        (("aaa", "1.0.0"), (EXTERNAL, "")),  # what mteb measured, before what authors report
        (("aaa", "2.10.0"), ("bbb", "2.9.9")),  # the newest mteb, by number and not by letter
    ],
)
def test_of_two_revisions_mtebs_rule_chooses_and_the_other_is_counted(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    results = [result("org/a", "NFCorpus", 0.7, *one), result("org/a", "NFCorpus", 0.1, *other)]
    for order in (results, results[::-1]):
        made = of(order, a=Facts(revision="main"))
        assert row(made, "org/a").scores["NFCorpus"].value == 0.7
        assert made.counts["scores of another revision, or told twice"] == 1


def test_revisions_are_joined_task_by_task() -> None:
    made = row(of([result("org/a", "NFCorpus", 0.3), result("org/a", "ArguAna", 0.6, EXTERNAL)]), "org/a")
    assert {task: score.revision for task, score in made.scores.items()} == {"NFCorpus": COMMIT, "ArguAna": EXTERNAL}


def test_a_result_of_ours_goes_before_the_same_published_one_and_links_to_its_own_file(tmp_path: Path) -> None:
    write_result(tmp_path, "org/a", "NFCorpus", 0.42, version="2.0.0")
    made = board.make(Snapshot([SOURCE], {}, [result("org/a", "NFCorpus", 0.1)]), read([tmp_path]))
    score = row(made, "org/a").scores["NFCorpus"]
    assert (score.value, score.link) == (0.42, f"results/org__a/{COMMIT}/NFCorpus.json")
    assert row(made, "org/a").ours


def test_a_published_score_links_to_its_file_at_the_commit_of_the_snapshot() -> None:
    score = row(of([result("org/a", "NFCorpus", 0.1)]), "org/a").scores["NFCorpus"]
    assert score.link == f"https://example.org/results/blob/c0ffee/results/org__a/{COMMIT}/NFCorpus.json"


def test_base_and_tuned_stand_together_with_the_difference_and_the_best_family_first() -> None:
    results = [*all_tasks("org/base", 0.5), *all_tasks("org/tuned", 0.6), *all_tasks("org/lone", 0.55)]
    small = Facts(parameters=30_000_000)
    made = of(results, base=small, lone=small, tuned=small.model_copy(update={"base": "org/base"}))
    assert [row.model for row in made.rows] == ["org/base", "org/tuned", "org/lone"]
    assert row(made, "org/tuned").difference == pytest.approx(0.1) and row(made, "org/base").difference is None


def test_models_that_name_each_other_as_base_do_not_stop_the_board() -> None:
    results = [*all_tasks("org/a", 0.5), *all_tasks("org/b", 0.6), *all_tasks("org/c", 0.4)]
    made = of(results, a=Facts(base="org/b"), b=Facts(base="org/a"), c=Facts(base="org/c"))
    assert {row.model for row in made.rows} == {"org/a", "org/b", "org/c"}


@pytest.mark.parametrize(
    ("parameters", "size"),
    [
        (50_000_000, "≤ 50M"),
        (50_000_001, "≤ 150M"),
        (400_000_000, "≤ 400M"),
        (8e9, "larger"),
        (None, "size not declared"),
    ],
)
def test_models_are_grouped_by_size(parameters: float | None, size: str) -> None:
    facts = Facts(parameters=None if parameters is None else int(parameters))
    assert row(of([result("org/a", "NFCorpus", 0.1)], a=facts), "org/a").size == size


def test_a_model_is_zero_shot_on_nothing_that_it_or_its_base_was_trained_on(tmp_path: Path) -> None:
    write_result(tmp_path, "org/ours", "NFCorpus", 0.4)
    write_meta(tmp_path, "org/ours", adapted_from="org/base", training_datasets=["NFCorpus"])
    published = Snapshot([SOURCE], {"org/base": Facts(trained_on=("ArguAna",))}, [result("org/base", "ArguAna", 0.5)])
    made = board.make(published, read([tmp_path]))
    assert row(made, "org/ours").facts.trained_on == ("ArguAna", "NFCorpus")
    assert row(made, "org/ours").zero_shot == pytest.approx(11 / 13)


def test_what_nobody_declares_is_not_zero_shot() -> None:
    assert row(of([result("org/a", "NFCorpus", 0.1)]), "org/a").zero_shot is None


# ---- the snapshot that comes along -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published() -> Board:
    return board.make(snapshot.load(), Found())


def test_the_snapshot_names_its_source_with_commit_date_and_licence() -> None:
    first = snapshot.load().sources[0]
    assert (first.url, first.licence) == ("https://github.com/embeddings-benchmark/results", "CC0-1.0")
    assert len(first.commit) == 40 and first.date


def test_every_model_that_all_compare_with_is_in_the_snapshot(published: Board) -> None:
    names = [row.model for row in published.rows if row.anchor]
    assert len(names) == 28
    assert all(row.headline["NFCorpus"] for row in published.rows if row.anchor)


def test_the_originals_models_stand_below_their_bases_and_are_not_zero_shot(published: Board) -> None:
    for size in ("small", "base", "large"):
        tuned = row(published, f"abhinand/MedEmbed-{size}-v0.1")
        assert tuned.base == f"BAAI/bge-{size}-en-v1.5"
        assert set(HEADLINE) <= set(tuned.facts.trained_on or ())
        assert published.rows[published.rows.index(tuned) - 1].model == tuned.base


def test_no_mean_of_the_snapshot_rests_on_a_missing_score(published: Board) -> None:
    for each in published.rows:
        if each.benchmark is not None:
            assert all(each.scores[task].value is not None for task in BENCHMARK)
