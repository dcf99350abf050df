"""Round trip and generic queries: ranks by a real retriever, fair to ties, duplicates and other answers of the same query."""

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medembed import curate
from medembed.curate.ranks import known_answers, ranked
from medembed.curate.sifting import left, sift
from medembed.errors import MedEmbedError
from medembed.recipe import Filter, Model
from medembed.retrieval.embeddings import on_grid
from medembed.retrieval.search import ranks_of
from tests.curate.rows import Row, pair, passage_of, sifted, store

TEXTS = [
    "acute chest pain, troponin high",
    "insulin dose before breakfast",
    "asthma with cough after cold",
    "left knee pain without fever",
    "blood pressure raised again",
    "stroke of the right side",
]


def own(text: str, words: int = 99) -> Row:
    """A pair whose query is the beginning of its passage, so that even random weights find it."""
    return pair(" ".join(text.split()[:words]), text)


@pytest.fixture
def retriever(tiny_model: Path) -> dict[str, Any]:
    return {"model": str(tiny_model)}


def test_a_query_that_finds_its_positive_stays_with_rank_and_score(retriever: dict[str, Any]) -> None:
    result = sifted({"round_trip": {"retriever": retriever, "top_k": 1}}, [own(text) for text in TEXTS])
    assert [row["retriever_rank"] for row in result.pairs] == [1] * 6
    assert all(row["retriever_score"] == pytest.approx(1, abs=0.01) for row in result.pairs)
    assert all(row["reranker_score"] is None for row in result.pairs)


def test_a_query_that_finds_something_else_goes(retriever: dict[str, Any]) -> None:
    wrong = [pair(TEXTS[i], TEXTS[i - 1]) for i in range(6)]
    setting = {"retriever": retriever, "top_k": 1}
    assert sifted({"round_trip": setting}, wrong).reasons == ["not found by its query"] * 6
    assert sifted({"round_trip": setting | {"top_k": 6}}, wrong).reasons == []


def test_other_answers_of_the_same_query_do_not_count_against_it(retriever: dict[str, Any]) -> None:
    query = TEXTS[0]
    rows = [pair(query, TEXTS[0]), pair(f"{query}?", TEXTS[0] + " ."), pair(query.upper(), f"{query} and pain")]
    result = sifted({"round_trip": {"retriever": retriever, "top_k": 1}}, rows)
    assert result.reasons == [] and [row["retriever_rank"] for row in result.pairs] == [1, 1, 1]


def test_passages_that_say_the_same_count_once(retriever: dict[str, Any]) -> None:
    first = own(TEXTS[0])
    copies = [passage_of(pair("", text)) for text in (TEXTS[0].upper(), TEXTS[0] + "!", TEXTS[0] + " ?")]
    wrong = pair(TEXTS[0], TEXTS[1])
    passages = [passage_of(first), *copies, passage_of(wrong)]
    assert sifted({"round_trip": {"retriever": retriever, "top_k": 1}}, [first], passages).reasons == []
    found = sifted({"round_trip": {"retriever": retriever, "top_k": 2}}, [wrong], passages)
    assert [row["retriever_rank"] for row in found.pairs] == [2]


@pytest.mark.parametrize("rows", [[own(TEXTS[0])], [own(TEXTS[0])] * 3, [pair("pain", "")], []], ids=len)
@pytest.mark.parametrize("name", ["round_trip", "generic"])
def test_one_passage_equal_rows_and_empty_texts_are_found(
    retriever: dict[str, Any], rows: list[Row], name: str
) -> None:
    result = sifted(
        {name: {"retriever": retriever}}, rows, [passage_of(row) for row in rows[:1]] or [passage_of(own("x"))]
    )
    assert len(result.pairs) == len(rows)


def test_a_query_that_many_passages_answer_better_fits_any_note(retriever: dict[str, Any]) -> None:
    rows = [own(text) for text in TEXTS]
    order = np.argsort([row["retriever_score"] for row in _scored_with(TEXTS[0], retriever)])
    lonely = pair(f"{TEXTS[0]} again", TEXTS[int(order[0])])  # its passage is least like what it says
    result = sifted({"generic": {"retriever": retriever, "share": 0.5}}, [*rows, lonely])
    assert result.reasons == ["query fits too many passages"] and result.rejects[0]["query"] == lonely["query"]


def test_a_query_that_is_asked_of_many_notes_fits_any_note(retriever: dict[str, Any]) -> None:
    rows = [own(text) for text in TEXTS]
    asked = [pair(f"What is the diagnosis{mark}", text) for mark, text in zip("?!. …?", TEXTS, strict=True)]
    result = sifted({"generic": {"retriever": retriever}}, [*rows, *asked])
    assert result.pairs == rows and result.reasons == ["query fits too many passages"] * 6


@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=12), said=st.integers(1, 4))
def test_the_answers_of_a_query_are_counted_as_a_comparison_of_all_with_all_counts_them(
    pairs: list[tuple[int, int]], said: int
) -> None:
    spelled, positives = np.array(pairs).T
    draw = np.random.default_rng(0)
    texts, passages = (on_grid(draw.standard_normal((n, 8)).astype(np.float32)) for n in (4, 6))
    queries = texts[spelled]
    _, scores = ranks_of(queries, passages, positives)
    answers, higher = known_answers(queries, passages, positives, scores, spelled, spelled % said)
    for row, (query, _) in enumerate(pairs):
        known = {passage for other, passage in pairs if other % said == query % said}
        assert answers[row] == len(known)
        theirs = queries[row].astype(np.float64) @ passages[sorted(known)].astype(np.float64).T
        assert higher[row] == (theirs > scores[row]).sum()


def test_a_query_of_very_many_pairs_takes_no_more_memory_than_any_other_pairs() -> None:
    passages = on_grid(np.random.default_rng(0).standard_normal((20_000, 16)).astype(np.float32))
    queries, positives, one = np.repeat(passages[:1], 20_000, axis=0), np.arange(20_000), np.zeros(20_000, np.int64)
    _, scores = ranks_of(queries, passages, positives)
    tracemalloc.start()
    answers, higher = known_answers(queries, passages, positives, scores, one, one)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(answers) == {20_000} and sorted(higher)[:3] == [0, 1, 2]
    assert peak < 10_000_000  # all with all would be 20,000 × 20,000 numbers


def _scored_with(query: str, retriever: dict[str, Any]) -> list[Row]:
    found = sifted({"round_trip": {"retriever": retriever}}, [pair(query, text) for text in TEXTS])
    return found.pairs


def sifted_by(filters: list[Any], pairs: list[Row], passages: list[Row], folder: Path) -> list[list[Row]]:
    """The pairs that each of the filters leaves, one after the other, as the stage runs them."""
    steps = [folder / str(number) for number in range(len(filters) + 1)]
    sources = store(steps[0], pairs, passages)
    for number, each in enumerate(map(Filter.model_validate, filters), start=1):
        sift(lambda stored, each=each: curate._sieve(each, stored), left(steps[:number], sources.cache), steps[number])
    return [list(left(steps[: number + 1], sources.cache).pairs()) for number in range(1, len(steps))]


def test_what_an_earlier_filter_has_taken_does_not_count_whichever_filter_ranked_before(
    retriever: dict[str, Any], tmp_path: Path
) -> None:
    """Six notes are asked the same; the one pair that is left finds its own passage first, and fits no other note."""
    asked = [pair(TEXTS[0], text) for text in TEXTS]
    passages = [passage_of(row) for row in asked]
    round_trip, generic = {"round_trip": {"retriever": retriever, "top_k": 6}}, {"generic": {"retriever": retriever}}
    duplicates = {"duplicates": {"of": ["queries"]}}
    ranked_before = sifted_by([round_trip, duplicates, generic], asked, passages, tmp_path / "ranked before")
    assert [len(pairs) for pairs in ranked_before] == [6, 1, 1]
    assert [len(pairs) for pairs in sifted_by([duplicates, generic], asked, passages, tmp_path / "not")] == [1, 1]


def test_two_filters_with_one_retriever_encode_the_passages_once(
    retriever: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentence_transformers import SentenceTransformer

    encoded: list[str] = []
    encode = SentenceTransformer.encode_document
    monkeypatch.setattr(
        SentenceTransformer,
        "encode_document",
        lambda self, texts, **kw: encoded.extend(texts) or encode(self, texts, **kw),
    )
    rows = [own(text) for text in TEXTS] + [pair("cough", text) for text in TEXTS]
    filters = [{"generic": {"retriever": retriever, "share": 0.2}}, {"round_trip": {"retriever": retriever}}]
    after = sifted_by(filters, rows, [passage_of(own(text)) for text in TEXTS], tmp_path)
    assert [len(pairs) for pairs in after] == [6, 6]  # the second asks about fewer pairs
    assert sorted(encoded) == sorted(TEXTS)


def test_ranks_do_not_hang_on_what_another_recipe_asked_before(retriever: dict[str, Any], tmp_path: Path) -> None:
    """With all pairs every passage answers the query, and no rank is above 1; with one pair alone the others count."""
    model = Model.model_validate(retriever)
    passages = [passage_of(own(text)) for text in TEXTS]
    before = store(tmp_path / "before", [pair("cough", text) for text in TEXTS], passages)
    assert set(ranked(model, before).ranks) == {1}
    last = max(TEXTS, key=lambda text: ranked(model, store(tmp_path / text, [pair("cough", text)], passages)).ranks[0])
    after = replace(store(tmp_path / "after", [pair("cough", last)], passages), cache=before.cache)
    assert ranked(model, after).ranks.tolist() == [len(TEXTS)]


def test_embeddings_that_are_no_numbers_are_told(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from tests.fixtures.models import make_tiny_model

    model = make_tiny_model(tmp_path)
    weights = load_file(model / "model.safetensors")
    save_file(
        {name: tensor * float("nan") for name, tensor in weights.items()}, model / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(MedEmbedError, match="not finite"):
        sifted({"round_trip": {"retriever": str(model)}}, [own(TEXTS[0])])


# ---- with a cross-encoder --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A cross-encoder with random weights."""
    import torch
    from sentence_transformers import CrossEncoder
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("reranker")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        num_labels=1, initializer_range=0.5,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder / "plain")
    tokenizer.save_pretrained(folder / "plain")
    CrossEncoder(str(folder / "plain"), device="cpu").save_pretrained(str(folder / "model"))
    return folder / "model"


def test_the_rerankers_score_is_kept_and_must_reach_the_bound(retriever: dict[str, Any], reranker: Path) -> None:
    setting = {"retriever": retriever, "reranker": str(reranker)}
    everything = sifted({"round_trip": setting | {"min_score": 1e-9}}, [own(text) for text in TEXTS])
    scores = [row["reranker_score"] for row in everything.pairs]
    assert len(set(scores)) == 6 and all(0 < score < 1 for score in scores)
    bound = sorted(scores)[3]
    half = sifted({"round_trip": setting | {"min_score": bound - 1e-6}}, [own(text) for text in TEXTS])
    assert [row["reranker_score"] for row in half.pairs] == [score for score in scores if score >= bound]
    assert half.reasons == ["reranker score too low"] * 3


def test_what_a_reranker_has_scored_is_not_scored_again(
    retriever: dict[str, Any], reranker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentence_transformers import CrossEncoder

    from medembed.curate import round_trip
    from medembed.retrieval import reranking

    monkeypatch.setattr(reranking, "BLOCK", 2)
    stored = store(tmp_path / "0", [own(text) for text in TEXTS], [passage_of(own(text)) for text in TEXTS])
    setting = Filter.model_validate(
        {"round_trip": {"retriever": retriever, "reranker": str(reranker), "min_score": 0.1}}
    ).round_trip
    assert setting
    round_trip.sieve(setting, stored)
    blocks = sorted(stored.cache.glob("*.logits"))
    assert len(blocks) == 3
    blocks[0].write_bytes(b"damaged")
    asked: list[int] = []
    predict = CrossEncoder.predict
    monkeypatch.setattr(
        CrossEncoder, "predict", lambda self, texts, **kw: asked.append(len(texts)) or predict(self, texts, **kw)
    )
    round_trip.sieve(setting, stored)
    assert asked == [2]
