"""The quickstart's corpus is what its README says, and its test set stays out of training."""

import json
from collections import Counter

import pytest

from medembed import resources, stages
from medembed.evaluate import check_tasks
from medembed.generate.passages import cut, normalise
from medembed.recipe import DatasetRecipe, ModelRecipe
from medembed.recipe_file import load
from medembed.rows import content_id
from medembed.run import Run
from medembed.tokens import count

FOLDER = resources.folder("recipes") / "quickstart"


def lines(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def dataset() -> DatasetRecipe:
    recipe = load(FOLDER / "dataset.yaml")
    assert isinstance(recipe, DatasetRecipe)
    return recipe


@pytest.fixture(scope="module")
def generated(dataset: DatasetRecipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The real generate and curate stages, answered by the recorded replies: no endpoint is named."""
    run = Run(dataset, tmp_path_factory.mktemp("quickstart") / "run")
    for stage in ("generate", "curate"):
        stages.perform(stage, dataset, run)
    return run


def test_the_notes_are_as_many_and_as_long_as_said() -> None:
    notes = lines("notes.jsonl")
    assert Counter(note["specialty"] for note in notes) == Counter(dict.fromkeys({n["specialty"] for n in notes}, 8))
    assert len({note["specialty"] for note in notes}) == 12
    assert Counter(note["split"] for note in notes) == {"train": 72, "test": 24}
    assert all(120 <= len(note["text"].split()) <= 250 for note in notes)
    assert len({note["text"].split()[0] for note in notes}) > 30  # they do not open alike
    assert {note["license"] for note in notes} == {"cc0-1.0"}


def test_recorded_replies_answer_every_request(generated: Run) -> None:
    record = generated.finished("generate")
    assert (record.counts["notes"], record.counts["pairs"], record.rejects) == (72, 432, {})
    assert Counter(generated.read("generate", "pairs")["query_type"].to_pylist()) == Counter(
        dict.fromkeys(("keyword", "question", "treatment", "lay", "shorthand", "comparison"), 72)
    )


def test_the_test_corpus_is_the_passages_of_all_notes(dataset: DatasetRecipe) -> None:
    assert dataset.generate
    cut_now = {
        content_id(note["title"], passage): (note["title"], passage)
        for note in lines("notes.jsonl")
        for passage in cut(normalise(note["text"]), dataset.generate.passages, count)
    }
    assert {row["_id"]: (row["title"], row["text"]) for row in lines("quickstart-test/corpus.jsonl")} == cut_now


def test_no_passage_of_a_test_note_and_no_test_query_is_trained_on(generated: Run) -> None:
    trained = set(generated.read("curate", "corpus")["passage_id"].to_pylist())
    judgments = [line.split("\t") for line in (FOLDER / "quickstart-test/qrels/test.tsv").read_text().splitlines()[1:]]
    test_notes = {note["title"] for note in lines("notes.jsonl") if note["split"] == "test"}
    test_passages = {row["_id"] for row in lines("quickstart-test/corpus.jsonl") if row["title"] in test_notes}
    assert len(test_passages) > 100 and not trained & test_passages
    best = {query: passage for query, passage, grade in judgments if grade == "2" and passage in test_passages}
    assert len(best) == 144  # every query is answered by a passage of a test note
    queries = {row["text"].casefold() for row in lines("quickstart-test/queries.jsonl")}
    assert not queries & {query.casefold() for query in generated.read("curate", "pairs-train")["query"].to_pylist()}


def test_the_test_set_is_sound_and_graded() -> None:
    recipe = load(FOLDER / "model.yaml")
    assert isinstance(recipe, ModelRecipe)
    check_tasks(recipe.evaluate)
    grades = Counter(
        line.split("\t")[2] for line in (FOLDER / "quickstart-test/qrels/test.tsv").read_text().splitlines()[1:]
    )
    assert len(lines("quickstart-test/queries.jsonl")) == 144
    assert grades["1"] > 100 and grades["2"] > 144
