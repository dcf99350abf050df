"""Mining as a stage: scores that are true, a record that tells all, faults that are told."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sentence_transformers import SentenceTransformer

from medembed import stages
from medembed.errors import InputError, RunError
from medembed.mine.corpus import read_corpus, read_pairs
from medembed.mine.report import edges
from medembed.recipe import Mine
from medembed.retrieval import approximate
from medembed.rows import CORPUS
from medembed.run import Run
from tests.curate.rows import pair, passage_of, store
from tests.mine.conftest import Mined, recipe_of, write


def test_scores_are_the_retrievers_cosines(mine: Mined, tiny_model: Path) -> None:
    record, run = mine()
    rows = run.read("mine", "triplets-train").to_pylist()
    assert record.counts["train"] == len(rows) >= 5
    model = SentenceTransformer(str(tiny_model), device="cpu")
    for row in rows[:5]:
        query = model.encode_query(row["query"], normalize_embeddings=True)
        texts = [row["positive"], row["negative_1"], row["negative_2"]]
        cosines = model.encode_document(texts, normalize_embeddings=True) @ query
        np.testing.assert_allclose(cosines, [row["positive_score"], *row["negative_scores"]], atol=2e-3)


def test_the_same_recipe_gives_the_same_bytes(mine: Mined) -> None:
    said: dict[str, Any] = {"sampling": "random", "ranks": [2, 9]}
    assert mine("one", **said)[0].outputs == mine("two", **said)[0].outputs


@pytest.mark.parametrize("sampling", ["top", "random", "spread"])
def test_negatives_stand_in_the_order_of_their_ranks(mine: Mined, sampling: str) -> None:
    _, run = mine(sampling=sampling, negatives=4, relative_margin=None, fewer="drop")
    for row in run.read("mine", "triplets-train").to_pylist():
        assert row["negative_scores"] == sorted(row["negative_scores"], reverse=True)


def test_bm25_alone_ranks_and_scores(mine: Mined) -> None:
    record, run = mine(retriever="bm25", relative_margin=0.99)
    assert record.facts["retriever"]["name"] == "BM25"
    rows = run.read("mine", "triplets-train").to_pylist()
    assert all(0 <= score < row["positive_score"] for row in rows for score in row["negative_scores"])


def test_what_only_bm25_finds_is_scored_by_the_embeddings(mine: Mined, tiny_model: Path) -> None:
    record, run = mine(retriever=[str(tiny_model), "bm25"], ranks=[1, 3], fewer="keep", relative_margin=None)
    assert record.facts["retriever"]["name"].endswith("and BM25")
    model = SentenceTransformer(str(tiny_model), device="cpu")
    for row in run.read("mine", "triplets-train").to_pylist():
        cosine = model.encode_document(row["negative_1"]) @ model.encode_query(row["query"])
        assert row["negative_scores"][0] == pytest.approx(cosine, abs=2e-3)


def test_a_row_with_fewer_negatives_is_kept_filled_or_rejected_as_the_recipe_says(mine: Mined) -> None:
    said: dict[str, Any] = {"negatives": 3, "ranks": [1, 12], "relative_margin": 0.9999}
    dropped, run = mine("drop", fewer="drop", **said)
    reason = "fewer than 3 negatives"
    assert 0 < dropped.rejects[reason] == dropped.counts["pairs in"] - dropped.counts["triplets"]
    assert run.read("mine", "rejects").num_rows == dropped.rejects[reason]

    kept, run = mine("keep", fewer="keep", **said)
    rows = run.read("mine", "triplets-train").to_pylist() + run.read("mine", "triplets-dev").to_pylist()
    short = [row for row in rows if len(row["negative_ids"]) < 3]
    assert 0 < len(short) == kept.counts["with fewer negatives"]
    for row in short:
        texts = [row[f"negative_{n}"] for n in (1, 2, 3)]
        assert [text is not None for text in texts] == [n < len(row["negative_ids"]) for n in range(3)]
    assert kept.rejects.get("no negative", 0) == kept.counts["pairs in"] - len(rows)

    filled, run = mine("fill", fewer="fill", **said)
    assert filled.counts["filled at random"] > 0
    assert filled.counts["triplets"] > dropped.counts["triplets"]
    assert all(len(row["negative_ids"]) == 3 for row in run.read("mine", "triplets-train").to_pylist())


def test_an_index_that_finds_fewer_gives_the_row_what_the_recipe_says(
    mine: Mined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approximate, "PROBES", 1)  # of 6 lists: a query sees about 7 of 40 passages
    said: dict[str, Any] = {
        "passages": 40,
        "exact_up_to": 39,
        "negatives": 6,
        "ranks": [1, 40],
        "relative_margin": None,
    }
    kept, run = mine("keep", fewer="keep", **said)
    rows = run.read("mine", "triplets-train").to_pylist()
    assert kept.facts["candidates"]["in all"] < 40 * 40
    assert 0 < sum(len(row["negative_ids"]) < 6 for row in rows) <= kept.counts["with fewer negatives"]
    for row in rows:
        assert row["passage_id"] not in row["negative_ids"]
        assert np.isfinite(row["negative_scores"]).all()
        assert all(row[f"negative_{n + 1}"] for n in range(len(row["negative_ids"])))

    filled, run = mine("fill", fewer="fill", **said)
    assert filled.counts["filled at random"] > 0
    assert all(len(set(row["negative_ids"])) == 6 for row in run.read("mine", "triplets-train").to_pylist())


def test_the_record_tells_of_scores_ranks_and_what_was_left_out(mine: Mined) -> None:
    record, _ = mine(relative_margin=0.99)
    facts = json.loads(json.dumps(record.facts))
    for name in ("positive_scores", "negative_scores", "ranks"):
        assert len(facts[name]) == 11 and facts[name] == sorted(facts[name])
    assert facts["candidates"]["in all"] == 30 * 30
    assert facts["candidates"]["a positive of the query"] == 30
    close = facts["candidates"]["too close to the positive's score"]
    assert facts["suspected_false_negatives"] == pytest.approx(close / (30 * 29), abs=1e-4)
    assert "sign" not in str({key: value for key, value in facts.items() if key != "retriever"})


def test_a_picture_is_drawn_where_matplotlib_is_there(mine: Mined, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    record, run = mine("with")
    with Image.open(run.path("mine", "mining.png")) as picture:
        assert picture.width > 2 * picture.height
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 20  # not an empty sheet
    assert "mining.png" in record.outputs
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    record, run = mine("without")
    assert "mining.png" not in record.outputs
    assert not run.path("mine", "mining.png").exists()


@pytest.mark.parametrize("last", [1, 2, 39, 40, 41, 99, 1000])
def test_each_rank_has_its_place_in_the_picture(last: int) -> None:
    bars, _ = np.histogram(np.arange(1, last + 1), edges(last))
    assert bars.sum() == last and len(bars) <= 40
    assert bars[-1] > 0


@pytest.mark.parametrize(("said", "least"), [({}, 2), ({"fewer": "keep", "passages": 1}, 1)])
def test_a_corpus_without_enough_passages_is_told(mine: Mined, said: dict[str, Any], least: int) -> None:
    different = f"{said.get('passages', 2)} passages of different texts"
    with pytest.raises(InputError, match=f"{different} cannot give {least} negatives"):
        mine(**{"passages": 2} | said)


def test_passages_that_all_say_the_same_are_told_before_long_work(tmp_path: Path, tiny_model: Path) -> None:
    recipe, rows = (
        recipe_of(tmp_path, tiny_model),
        [{"query": f"q {n}", "positive": "same" + "!" * n} for n in range(9)],
    )
    write(tmp_path / "pairs.jsonl", rows)
    run = Run(recipe, tmp_path / "run")
    assert stages.perform("curate", recipe, run).counts["passages"] == 9
    with pytest.raises(InputError, match="1 passages of different texts cannot give 2 negatives"):
        stages.perform("mine", recipe, run)
    assert not run.path("embeddings").exists()


def test_a_pair_whose_positive_is_no_passage_of_the_corpus_is_rejected(tmp_path: Path) -> None:
    rows = [pair("known", "a"), pair("unknown", "b"), pair("known too", "a")]
    stored = store(tmp_path, rows, [passage_of(rows[0])])
    pairs, rejects = read_pairs({"train": stored.pairs_path}, read_corpus(stored.passages_path))
    assert list(pairs.queries) == ["known", "known too"] and pairs.positives.tolist() == [0, 0]
    (reject,) = rejects
    assert reject.reason == "the positive is no passage of the corpus" and rows[1]["passage_id"] in reject.where
    assert json.loads(reject.row)["query"] == "unknown"


def test_a_corpus_that_is_smaller_than_the_window_of_ranks_is_searched_as_it_is(mine: Mined) -> None:
    record, _ = mine(passages=4, ranks=[1, 50], relative_margin=None)
    assert record.counts["triplets"] == 4


def test_two_passages_with_one_id_and_different_texts_are_refused(tmp_path: Path) -> None:
    row = {"passage_id": "p", "note_id": "n", "text": "a", "title": "", "source": "s", "license": "mit"}
    rows = [row, {**row, "text": "A."}, {**row, "passage_id": "q", "text": None}]
    pq.write_table(pa.Table.from_pylist(rows, schema=CORPUS), tmp_path / "corpus.parquet")
    corpus = read_corpus(tmp_path / "corpus.parquet")
    assert corpus.ids.to_pylist() == ["p", "q"]  # the same passage again is no clash
    rows.append({**row, "text": "b"})
    pq.write_table(pa.Table.from_pylist(rows, schema=CORPUS), tmp_path / "corpus.parquet")
    with pytest.raises(InputError, match="1 passages have the id of another one with a different text"):
        read_corpus(tmp_path / "corpus.parquet")


def test_a_retriever_that_gives_no_numbers_is_told(mine: Mined, tiny_model: Path, tmp_path: Path) -> None:
    model = SentenceTransformer(str(tiny_model), device="cpu")
    next(model.parameters()).data.fill_(float("nan"))
    model.save(str(tmp_path / "broken"))
    with pytest.raises(RunError, match="not finite"):
        mine(retriever=str(tmp_path / "broken"))


def test_a_folder_that_is_no_model_is_told(mine: Mined, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no model weights"):
        mine(retriever=str(tmp_path / "empty"))


@pytest.mark.parametrize("fewer", ["drop", "fill"])
def test_no_row_with_enough_negatives_is_told_and_the_rejects_stay(mine: Mined, tmp_path: Path, fewer: str) -> None:
    with pytest.raises(RunError, match="no row of the split `train` found enough negatives") as caught:
        mine(fewer=fewer, max_score=-0.99)
    assert ("fewer: fill" in str(caught.value)) == (fewer == "drop")  # no advice that is followed already
    assert pq.read_table(tmp_path / "run" / "mine" / "rejects.parquet").num_rows == 30


def test_a_window_that_cannot_hold_the_negatives_is_refused() -> None:
    with pytest.raises(ValueError, match="ranks 3 to 4 hold fewer candidates"):
        Mine.model_validate({"retriever": "a/b", "negatives": 3, "ranks": [3, 4]})
