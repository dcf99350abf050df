"""A cross-encoder's scores: true, made once, taken up after a kill, and told when they are none."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import CrossEncoder

from medembed.errors import InputError, RunError
from medembed.mine import teacher
from medembed.mine.pools import Pools
from medembed.mine.teacher import Graded
from medembed.recipe.dataset import Teacher
from medembed.retrieval import reranking
from tests.mine.columns import corpus_of, pairs_of
from tests.mine.conftest import Mined, make_tiny_reranker

QUERIES = ["what is pain", "chest pain", "what is pain", "dose"]
PASSAGES = ["pain of the chest with fever", "insulin", "acute heart failure was treated with oral iv dose mg daily"]
ANSWERS = [0, 2, 1, 0]
POOLS = [[1, -1], [0, -1], [0, 2], [2, 1]]  # equal queries have some passages in common


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[str, str]]]:
    """All that cross-encoders are asked."""
    predict, asked = CrossEncoder.predict, []

    def listening(model: CrossEncoder, texts: list[tuple[str, str]], **said: Any) -> Any:
        asked.append(texts)
        return predict(model, texts, **said)

    monkeypatch.setattr(CrossEncoder, "predict", listening)
    return asked


def grade(model: Path, cache: Path) -> Graded:
    corpus = corpus_of(PASSAGES)
    pools = Pools(np.zeros(4, np.float32), np.array(POOLS), np.zeros((4, 2), np.float32), np.array(POOLS), Counter())
    pairs = pairs_of(corpus, list(zip(QUERIES, ANSWERS, strict=True)))
    return teacher.graded(pairs, corpus, pools, Teacher.model_validate({"model": str(model), "batch_size": 2}), cache)


def test_scores_are_the_models_logits_and_each_distinct_pair_is_scored_once(
    tmp_path: Path, tiny_reranker: Path, asked: list[list[tuple[str, str]]]
) -> None:
    graded = grade(tiny_reranker, tmp_path)
    ((texts),) = asked
    assert len(texts) == len(set(texts)) == 8
    assert [len(q) + len(p) for q, p in texts] == sorted((len(q) + len(p) for q, p in texts), reverse=True)
    model = CrossEncoder(str(tiny_reranker), device="cpu")

    def logits(rows: list[tuple[str, str]]) -> Any:
        inputs = model.tokenizer(*zip(*rows, strict=True), padding=True, return_tensors="pt")
        return model.model(**inputs).logits[:, 0].detach().numpy()

    positives = logits([(query, PASSAGES[row]) for query, row in zip(QUERIES, ANSWERS, strict=True)])
    np.testing.assert_allclose(graded.positives, positives, atol=1e-4)
    assert graded.positives.max() > 1 or graded.positives.min() < 0  # no probabilities
    there = [(row, place) for row, pool in enumerate(POOLS) for place, passage in enumerate(pool) if passage >= 0]
    negatives = logits([(QUERIES[row], PASSAGES[POOLS[row][place]]) for row, place in there])
    np.testing.assert_allclose([graded.negatives[at] for at in there], negatives, atol=1e-4)
    assert np.isnan(graded.negatives).sum() == 2


@pytest.mark.parametrize("damage", ["gone", "truncated", "flipped"])
def test_a_run_that_was_cut_off_scores_only_the_blocks_that_are_missing_or_damaged(
    damage: str, tmp_path: Path, tiny_reranker: Path, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reranking, "BLOCK", 5)
    whole = grade(tiny_reranker, tmp_path)
    assert [len(block) for block in asked] == [5, 3]
    last = max(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    content = last.read_bytes()
    if damage == "gone":
        last.unlink()
    else:
        last.write_bytes(content[:5] if damage == "truncated" else bytes([content[0] ^ 1]) + content[1:])
    asked.clear()
    again = grade(tiny_reranker, tmp_path)
    np.testing.assert_array_equal(again.positives, whole.positives)
    np.testing.assert_array_equal(again.negatives, whole.negatives)
    assert [len(block) for block in asked] == [3]
    assert last.read_bytes() == content


def test_another_teacher_does_not_take_the_scores_of_this_one(
    tmp_path: Path, tiny_reranker: Path, asked: list[Any]
) -> None:
    grade(tiny_reranker, tmp_path / "cache")
    model = CrossEncoder(str(tiny_reranker), device="cpu")
    model.model.classifier.bias.data.add_(1)
    model.save_pretrained(str(tmp_path / "other"))
    asked.clear()
    grade(tmp_path / "other", tmp_path / "cache")
    assert len(asked) == 1


def test_the_margin_is_a_share_of_the_probability() -> None:
    positives, negatives = np.float32([4, -4]), np.float32([[3.9, 2, np.nan], [-4.5, -3.9, -9]])
    close = teacher.too_close(negatives, positives, 0.95)
    assert close.tolist() == [[True, False, False], [False, True, False]]
    assert not teacher.too_close(negatives, positives, None).any()


def test_triplets_keep_the_teachers_scores_and_none_above_its_margin(mine: Mined, tiny_reranker: Path) -> None:
    said = {"model": str(tiny_reranker), "relative_margin": 0.999}
    record, run = mine(teacher=said, relative_margin=None, ranks=[1, 20])
    plain, without = mine("plain", relative_margin=None, ranks=[1, 20])
    model = CrossEncoder(str(tiny_reranker), device="cpu")
    rows = run.read("mine", "triplets-train").to_pylist()
    replaced = 0
    before = {row["query"]: row["negative_ids"] for row in without.read("mine", "triplets-train").to_pylist()}
    for row in rows:
        texts = [row["positive"], row["negative_1"], row["negative_2"]]
        probabilities = model.predict([(row["query"], text) for text in texts])
        kept = np.array([row["positive_teacher_score"], *row["negative_teacher_scores"]])
        np.testing.assert_allclose(1 / (1 + np.exp(-kept)), probabilities, atol=1e-4)
        assert max(probabilities[1:]) < 0.999 * probabilities[0] + 1e-4
        replaced += row["negative_ids"] != before[row["query"]]
    assert replaced > 0
    assert record.facts["teacher"]["scores"] == "logits"
    assert (
        plain.counts["triplets"] >= record.counts["triplets"] == sum(record.counts[split] for split in ("train", "dev"))
    )
    assert without.read("mine", "triplets-train")["positive_teacher_score"].null_count == plain.counts["train"]


def test_rows_that_the_teacher_leaves_short_are_filled_up_below_its_margin(mine: Mined, tiny_reranker: Path) -> None:
    said: dict[str, Any] = {"teacher": {"model": str(tiny_reranker), "relative_margin": 0.999}}
    said |= {"relative_margin": None, "ranks": [1, 4], "passages": 40}
    (dropped, _), (filled, run) = mine("drop", fewer="drop", **said), mine("fill", fewer="fill", **said)
    rows = [row for split in ("train", "dev") for row in run.read("mine", f"triplets-{split}").to_pylist()]
    assert len(rows) == filled.counts["triplets"] > dropped.counts["triplets"] + 5
    assert filled.counts["filled at random"] >= filled.counts["triplets"] - dropped.counts["triplets"]
    model = CrossEncoder(str(tiny_reranker), device="cpu")
    for row in rows:
        texts = [row["positive"], row["negative_1"], row["negative_2"]]
        kept = np.array([row["positive_teacher_score"], *row["negative_teacher_scores"]])
        probabilities = model.predict([(row["query"], text) for text in texts])
        np.testing.assert_allclose(1 / (1 + np.exp(-kept)), probabilities, atol=1e-4)
        assert max(probabilities[1:]) < 0.999 * probabilities[0] + 1e-4
        assert len({row["passage_id"], *row["negative_ids"]}) == 3


def test_a_teacher_with_several_outputs_is_refused(mine: Mined, tiny_model: Path, tmp_path: Path) -> None:
    several = make_tiny_reranker(tiny_model, tmp_path / "several", outputs=3)
    with pytest.raises(InputError, match="gives 3 scores for a pair, not one"):
        mine(teacher={"model": str(several)})
    assert not (tmp_path / "run" / "embeddings").exists()  # told before long work


def test_an_embedding_model_is_no_teacher(mine: Mined, tiny_model: Path) -> None:
    with pytest.raises(InputError, match="no weights that score a pair"):
        mine(teacher={"model": str(tiny_model)})


def test_a_teacher_that_gives_no_numbers_is_told(mine: Mined, tiny_reranker: Path, tmp_path: Path) -> None:
    model = CrossEncoder(str(tiny_reranker), device="cpu")
    model.model.classifier.bias.data.fill_(float("nan"))
    model.save_pretrained(str(tmp_path / "broken"))
    with pytest.raises(RunError, match="scores that are not finite"):
        mine(teacher={"model": str(tmp_path / "broken")})
