"""The judge: asked about what is suspicious alone, once; its yes takes a negative out, or makes it a positive."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medembed import stages
from medembed.errors import RunError
from medembed.llm.outcomes import Failure, Reply
from medembed.mine.filling import fill
from medembed.mine.judge import read_verdict
from medembed.mine.pools import gather
from medembed.mine.suspects import ANSWERS, DOES_NOT, NO_VERDICT, Verdicts, dropped, relabelled
from medembed.mine.teacher import Graded
from medembed.recipe import DatasetRecipe, Mine
from medembed.recipe.dataset import Generate, Judge
from medembed.run import Record, Run
from tests.fixtures.tgi import TGI
from tests.mine.columns import corpus_of, mined, pairs_of, ranking_of
from tests.mine.conftest import recipe_of

Judged = Callable[..., tuple[Record, Run]]


def number(passage: str) -> int:
    """n of «sign n of disease …»."""
    return int(passage.split()[1])


def says(text: str) -> str | None:
    """Every third passage answers whatever is asked."""
    _, passage, found = text.partition("Passage:")
    return json.dumps({"reason": "it says so", "answers": number(found) % 3 == 0}) if passage else None


@pytest.fixture
def tgi() -> Iterator[TGI]:
    with TGI(says=says) as server:
        yield server


@pytest.fixture
def judged(tmp_path: Path, tiny_model: Path) -> Judged:
    """Mine with a judge at `tgi`; the tiny model finds all passages alike, so all are suspicious."""

    def judged(tgi: TGI, name: str = "run", **judge: Any) -> tuple[Record, Run]:
        plain = recipe_of(tmp_path, tiny_model, 20, relative_margin=None, ranks=[1, 20], fewer="drop")
        assert plain.mine
        run = Run(plain, tmp_path / name)
        stages.perform("curate", plain, run)
        servers = Generate.model_validate({"endpoints": [tgi.url], "attempts": 1})
        options = plain.mine.model_copy(update={"judge": Judge.model_validate({"above": 0.9} | judge)})
        recipe = plain.model_copy(update={"generate": servers, "mine": options})
        return stages.perform("mine", recipe, run), run

    return judged


def rows_of(run: Run) -> list[dict[str, Any]]:
    return [row for split in ("train", "dev") for row in run.read("mine", f"triplets-{split}").to_pylist()]


def test_what_answers_the_query_is_no_negative_and_each_suspect_is_asked_about_once(judged: Judged, tgi: TGI) -> None:
    record, run = judged(tgi)
    assert len(rows := rows_of(run)) > 5
    assert all(number(row[name]) % 3 for row in rows for name in ("negative_1", "negative_2"))
    asked = [body["messages"][-1]["content"] for body in tgi.asked]
    assert (
        len(asked) == len(set(asked)) == record.facts["judge"]["asked"] == 20 * 4
    )  # pools hold twice what a row needs
    assert record.facts["judge"]["answer the query"] > 0
    assert record.facts["judge"]["model"].startswith("loopback/clinical-70b@")
    assert record.facts["judge"]["prompt_version"].startswith("judge-v1@")
    assert {body["temperature"] for body in tgi.asked} == {0.0}


def test_without_servers_of_generate_there_is_no_judge(tmp_path: Path) -> None:
    said = {"kind": "dataset", "name": "x", "mine": {"retriever": "a/b", "judge": {}}, "publish": {"folder": "x"}}
    source = {"source": str(tmp_path / "rows.jsonl"), "license": "mit"}
    journal = tmp_path / "journal.jsonl"
    for path in (tmp_path / "rows.jsonl", journal):
        path.touch()
    with pytest.raises(ValueError, match="a recipe of pairs alone has not: leave it out"):
        DatasetRecipe.model_validate(said | {"pairs": [source]})
    with pytest.raises(ValueError, match=r"under `generate.endpoints`: name some"):
        DatasetRecipe.model_validate(said | {"notes": [source], "generate": {"recorded": str(journal)}})


def test_a_run_that_was_cut_off_asks_only_what_has_no_answer_and_ends_alike(judged: Judged, tgi: TGI) -> None:
    whole, _ = judged(tgi, "whole")
    tgi.asked.clear()
    tgi.faults = ["500"]
    with pytest.raises(RunError, match="1 of 80 requests have no answer"):
        judged(tgi)
    tgi.asked.clear()
    again, run = judged(tgi)
    assert len(tgi.asked) == 1
    assert again.outputs == whole.outputs
    journal = (run.folder / "judge.jsonl").read_text(encoding="utf-8")
    assert len({json.loads(line)["key"] for line in journal.splitlines()}) == 80


def test_a_negative_without_a_verdict_is_left_out(judged: Judged, tgi: TGI) -> None:
    tgi.says = lambda text: (says(text) or "").replace(', "answers": true', "") or None
    record, run = judged(tgi)
    assert record.facts["judge"]["no verdict"] > 0
    assert all(number(row[name]) % 3 for row in rows_of(run) for name in ("negative_1", "negative_2"))


def test_an_answer_becomes_a_positive_where_no_other_split_has_its_note(judged: Judged, tgi: TGI) -> None:
    dropping, _ = judged(tgi, "drop")
    record, run = judged(tgi, "relabel", answers="relabel")
    notes = {split: set(run.read("curate", f"pairs-{split}")["note_id"].to_pylist()) for split in ("train", "dev")}
    new = [row for row in rows_of(run) if row["query"] != f"what is sign {number(row['positive'])}"]
    assert all(number(row["positive"]) % 3 == 0 for row in new)
    assert len(new) == record.counts["triplets"] - dropping.counts["triplets"] > 0
    for split, other in (("train", "dev"), ("dev", "train")):
        rows = run.read("mine", f"triplets-{split}").to_pylist()
        assert not {row["note_id"] for row in rows} & notes[other]
    own = {(row["query"], row["positive"]) for row in rows_of(run)}
    assert not any((row["query"], row[name]) in own for row in rows_of(run) for name in ("negative_1", "negative_2"))


SCORES = [[0.9, 0.85, 0.8, 0.7, 0.4, 0.3]]


def test_a_relabelled_row_keeps_to_the_margins_of_its_own_positive() -> None:
    options = Mine.model_validate(
        {"retriever": "a/b", "negatives": 2, "relative_margin": 0.9, "teacher": {"model": "a/c"}}
    )
    corpus, pairs = corpus_of([f"passage {n}" for n in range(6)]), pairs_of(corpus_of(["x"] * 6), [("q", 0)])
    _, pools = mined(SCORES, negatives=5, relative_margin=None)
    assert pools.ids.tolist() == [[1, 2, 3, 4, 5]]
    verdicts = Verdicts(np.array([[0, ANSWERS, DOES_NOT, 0, NO_VERDICT]], np.int8), {})
    left = ~dropped(pairs, corpus, pools, verdicts)
    assert left.tolist() == [[True, False, True, True, False]]
    graded = Graded(np.float32([3]), np.float32([[2, 1, 0, -1, -2]]))
    pairs, pools, graded_more, left = relabelled(pairs, corpus, pools, graded, left, verdicts, options)
    assert pairs.positives.tolist() == [0, 2] and list(pairs.queries) == ["q", "q"]
    assert pools.positives == pytest.approx([0.9, 0.8])
    assert graded_more and graded_more.positives.tolist() == [3, 1]
    assert left.tolist()[1] == [False, False, True, True, False]  # 1 scores above the new positive


def test_what_almost_repeats_a_relabelled_answer_is_left_out_of_the_other_rows_of_its_query() -> None:
    options = Mine.model_validate({"retriever": "a/b", "negatives": 2, "relative_margin": None})
    said = "aspirin lowers the risk of a second stroke in adults with high blood pressure"
    corpus = corpus_of(["iron", said, f"{said} indeed", "b", "c", "d"])
    pairs = pairs_of(corpus, [("q", 0)])
    _, pools = mined(SCORES, negatives=5, texts=list(corpus.texts), relative_margin=None)
    verdicts = Verdicts(np.array([[ANSWERS, 0, 0, 0, 0]], np.int8), {})
    left = ~dropped(pairs, corpus, pools, verdicts)
    pairs, pools, _, left = relabelled(pairs, corpus, pools, None, left, verdicts, options)
    assert pairs.positives.tolist() == [0, 1]
    assert [pools.ids[row][left[row]].tolist() for row in (0, 1)] == [[3, 4, 5]] * 2


def test_a_row_that_the_judge_leaves_short_is_filled_up_with_what_need_not_be_asked_about() -> None:
    """2 answers, as the judge says of the first row; 3 would have to be asked about there, and in the second row it would not."""
    options = Mine.model_validate(
        {"retriever": "a/b", "negatives": 2, "ranks": [1, 3], "relative_margin": None, "fewer": "fill", "judge": {}}
    )
    scores = [[0.9, 0.5, 0.85, 0.8, 0.4, 0.3], [0.5, 0.99, 0.8, 0.75, 0.4, 0.3]]
    corpus = corpus_of([f"passage {n}" for n in range(6)])
    pairs, ranking = pairs_of(corpus, [("q", 0), ("Q", 1)]), ranking_of(np.array(scores))
    pools = gather(ranking, pairs, corpus, options, 4)
    assert pools.ids.tolist() == [[2, 3, -1, -1], [2, 3, -1, -1]]
    verdicts = Verdicts(np.array([[ANSWERS, NO_VERDICT, 0, 0], [0, 0, 0, 0]], np.int8), {})
    left = (pools.ids >= 0) & ~dropped(pairs, corpus, pools, verdicts)
    fill(pairs, corpus, ranking, pools, left, None, verdicts, options, Path())
    taken = [sorted(pools.ids[row][left[row]].tolist()) for row in (0, 1)]
    assert taken[0] == [4, 5] and 3 in taken[1] and taken[1][1] in (4, 5)
    assert pools.ranks[left].tolist().count(0) == 3


@pytest.mark.parametrize(
    ("content", "reason", "verdict"),
    [
        ('{"reason": "", "answers": true}', "stop", ANSWERS),
        ('{"reason": "a\nb", "answers": false}', "stop", DOES_NOT),
        ('{"reason": "", "answers": true}', "length", NO_VERDICT),
        ('{"reason": "", "answers": "yes"}', "stop", NO_VERDICT),
        ('{"reason": "", "answers": 1}', "stop", NO_VERDICT),
        ("[" * 100_000, "stop", NO_VERDICT),
        ("[true]", "stop", NO_VERDICT),
        ("", "stop", NO_VERDICT),
    ],
)
def test_a_reply_is_a_verdict_only_if_it_says_so_to_the_letter(content: str, reason: str, verdict: int) -> None:
    assert read_verdict(Reply(content, reason)) == verdict
    assert read_verdict(Failure("422 validation", permanent=True)) == NO_VERDICT
