"""Hard negatives: near, below the margin, and never false by text."""

from typing import Any

import numpy as np
import pytest

from medembed.mine.negatives import Candidates, choose
from medembed.recipe import Mine


def found(scores: list[float], texts: list[str] | None = None, notes: list[str] | None = None) -> Candidates:
    """One query; passage i has the cosine `scores[i]` with it."""
    texts = texts or [f"passage {i}" for i in range(len(scores))]
    notes = notes or [f"n{i}" for i in range(len(scores))]
    corpus = [
        {"passage_id": f"p{i}", "note_id": note, "text": text, "title": ""}
        for i, (text, note) in enumerate(zip(texts, notes, strict=True))
    ]
    cosines = np.array(scores, dtype=np.float32)
    passages = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)
    order = np.argsort(-cosines, kind="stable")
    return Candidates(corpus, texts, passages, np.array([[1, 0]], dtype=np.float32), order[None], cosines[order][None])


def pair(passage: int = 0, query: str = "q", **more: Any) -> dict[str, Any]:
    return {
        "query": query,
        "positive": f"passage {passage}",
        "passage_id": f"p{passage}",
        "note_id": f"n{passage}",
    } | more


def mined(candidates: Candidates, pairs: list[dict[str, Any]] | None = None, **options: Any) -> list[dict[str, Any]]:
    settings = Mine.model_validate({"retriever": "a/b", "negatives": 2} | options)
    return choose(pairs or [pair()], candidates, settings)[0]


def test_the_nearest_below_the_margin_are_taken_with_their_scores() -> None:
    (row,) = mined(found([0.8, 0.9, 0.77, 0.75, 0.5]))
    assert row["negative_ids"] == ["p3", "p4"]  # p1 beats the positive, p2 is above 95 % of it
    assert row["negative_1"] == "passage 3"
    assert row["negative_scores"] == pytest.approx([0.75, 0.5])
    assert row["positive_score"] == pytest.approx(0.8)


def test_a_margin_under_a_negative_score_still_lies_below_it() -> None:
    (row,) = mined(found([-0.5, -0.49, -0.51, -0.6, -0.7]))
    assert row["negative_ids"] == ["p3", "p4"]


def test_no_negative_has_the_positives_text_or_that_of_another_negative() -> None:
    (row,) = mined(found([0.9, 0.5, 0.4, 0.39, 0.3], texts=["Take iron.", "take IRON", "b", "B!", "c"]))
    assert row["negative_ids"] == ["p2", "p4"]


def test_a_query_with_two_positives_gets_neither_as_negative() -> None:
    candidates = found([0.9, 0.5, 0.4, 0.3])
    twice = Candidates(*candidates[:3], *(np.repeat(part, 2, axis=0) for part in candidates[3:]))
    rows = mined(twice, [pair(0), pair(1, query="Q")])
    assert [row["negative_ids"] for row in rows] == [["p2", "p3"], ["p2", "p3"]]


def test_the_positives_note_can_be_left_out() -> None:
    candidates = found([0.9, 0.5, 0.4, 0.3], notes=["n0", "n0", "n2", "n3"])
    assert mined(candidates)[0]["negative_ids"] == ["p1", "p2"]
    assert mined(candidates, exclude_note=True)[0]["negative_ids"] == ["p2", "p3"]


def test_a_row_that_finds_fewer_is_a_counted_reject_or_filled_the_same_way_every_time() -> None:
    scores = [0.5, 0.9, 0.8, 0.7, 0.3, 0.2]
    settings = Mine.model_validate({"retriever": "a/b", "negatives": 2, "ranks": [1, 2]})
    near = found(scores)
    near = near._replace(ids=near.ids[:, :5], scores=near.scores[:, :5])  # the ranking ends before the last passage
    rows, rejects = choose([pair()], near, settings)
    assert rows == [] and rejects[0].reason == "fewer than 2 negatives"
    first, again = (mined(near, fewer="fill") for _ in range(2))
    assert first == again
    assert first[0]["negative_ids"] == ["p4", "p5"]  # none that beats the positive, however random the draw


def test_a_row_that_cannot_be_filled_below_the_margin_is_rejected() -> None:
    assert mined(found([0.5, 0.9, 0.8, 0.7, 0.3]), fewer="fill") == []
