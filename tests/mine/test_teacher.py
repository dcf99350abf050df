"""A cross-encoder's scores: true, made once, taken up after a kill, and told when they are none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import CrossEncoder

from medembed.errors import InputError, RunError
from medembed.mine import teacher
from tests.mine.conftest import Mined, make_tiny_reranker

QUERIES = ["what is pain", "chest pain", "what is pain", "dose"]
PASSAGES = ["pain of the chest with fever", "insulin", "acute heart failure was treated with oral iv dose mg daily"]
ASKED = np.array([[0, 0], [1, 2], [0, 1], [0, 0], [3, 2], [1, 2]])


@pytest.fixture
def counted(tiny_reranker: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[CrossEncoder, list[list[tuple[str, str]]]]:
    """The reranker, and all that it was asked."""
    predict, asked = CrossEncoder.predict, []

    def counting(model: CrossEncoder, texts: list[tuple[str, str]], **said: Any) -> Any:
        asked.append(texts)
        return predict(model, texts, **said)

    monkeypatch.setattr(CrossEncoder, "predict", counting)
    return CrossEncoder(str(tiny_reranker), device="cpu"), asked


def score(model: CrossEncoder, cache: Path) -> Any:
    return teacher.score(model, "r1", QUERIES, PASSAGES, ASKED, cache, batch_size=2)


def test_scores_are_the_models_logits_and_each_distinct_pair_is_scored_once(tmp_path: Path, counted: Any) -> None:
    model, asked = counted
    logits = score(model, tmp_path)
    ((texts),) = asked
    assert len(texts) == len(set(texts)) == 4
    assert [len(q) + len(p) for q, p in texts] == sorted((len(q) + len(p) for q, p in texts), reverse=True)
    inputs = model.tokenizer(
        *zip(*((QUERIES[q], PASSAGES[p]) for q, p in ASKED), strict=True), padding=True, return_tensors="pt"
    )
    np.testing.assert_allclose(logits, model.model(**inputs).logits[:, 0].detach().numpy(), atol=1e-4)
    assert logits.max() > 1 or logits.min() < 0  # no probabilities


def test_a_run_that_was_cut_off_scores_only_the_blocks_that_are_missing(
    tmp_path: Path, counted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher, "BLOCK", 3)
    model, asked = counted
    whole = score(model, tmp_path)
    assert [len(block) for block in asked] == [3, 1]
    max(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns).unlink()  # as if killed before the last one
    asked.clear()
    np.testing.assert_array_equal(score(model, tmp_path), whole)
    assert [len(block) for block in asked] == [1]


def test_another_teacher_does_not_take_the_scores_of_this_one(tmp_path: Path, counted: Any) -> None:
    model, asked = counted
    score(model, tmp_path)
    teacher.score(model, "r2", QUERIES, PASSAGES, ASKED, tmp_path, batch_size=2)
    assert len(asked) == 2


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


def test_a_teacher_with_several_outputs_is_refused(mine: Mined, tiny_model: Path, tmp_path: Path) -> None:
    several = make_tiny_reranker(tiny_model, tmp_path / "several", outputs=3)
    with pytest.raises(InputError, match="gives 3 scores for a pair, not one"):
        mine(teacher={"model": str(several)})


def test_a_teacher_that_gives_no_numbers_is_told(mine: Mined, tiny_reranker: Path, tmp_path: Path) -> None:
    model = CrossEncoder(str(tiny_reranker), device="cpu")
    model.model.classifier.bias.data.fill_(float("nan"))
    model.save_pretrained(str(tmp_path / "broken"))
    with pytest.raises(RunError, match="scores that are not finite"):
        mine(teacher={"model": str(tmp_path / "broken")})
