"""What may be called zero-shot: what was declared or checked, and nothing else."""

import mteb
import pytest

from medembed.evaluate.lineage import by_manifest, mteb_names
from medembed.evaluate.zero_shot import declared, of_both, of_data, share, tasks_of
from medembed.leaderboard.results import trained_on
from medembed.tasks import registry

TASKS = ["NFCorpus", "TRECCOVID", "ArguAna"]
CHECKED = {"state": "decontaminated", "removed": {"same query": 3}}


def test_a_task_whose_data_was_declared_is_trained_on_and_the_others_are_not() -> None:
    states = declared(TASKS, {"NFCorpus", "MSMARCO"})
    assert states == {"NFCorpus": "trained on", "TRECCOVID": "zero-shot", "ArguAna": "zero-shot"}
    assert (tasks_of(states), share(states)) == (["TRECCOVID", "ArguAna"], 66.7)


def test_without_a_declaration_nothing_is_known_and_nothing_zero_shot() -> None:
    states = declared(TASKS, None)
    assert set(states.values()) == {"not known"}
    assert (tasks_of(states), share(states)) == ([], None)


@pytest.mark.parametrize("name", ["abhinand/MedEmbed-small-v0.1", "BAAI/bge-small-en-v1.5", "BAAI/bge-m3"])
def test_the_states_of_a_model_are_those_that_mteb_computes(name) -> None:
    meta = mteb.get_model_meta(name, fetch_from_hf=False)
    tasks = ["ArguAna", "MedicalQARetrieval", "NFCorpus", "PublicHealthQA", "TRECCOVID", "MIRACLRetrieval"]
    states = declared(tasks, meta.get_training_datasets())
    for task in tasks:
        assert (states[task] == "zero-shot") == meta.is_zero_shot_on([task])
    assert int(share(states)) == meta.zero_shot_percentage(tasks)


def test_the_original_was_trained_on_its_own_five_benchmarks() -> None:
    meta = mteb.get_model_meta("abhinand/MedEmbed-small-v0.1", fetch_from_hf=False)
    five = ["ArguAna", "MedicalQARetrieval", "NFCorpus", "PublicHealthQA", "TRECCOVID"]
    assert set(declared(five, meta.get_training_datasets()).values()) == {"trained on"}


def test_data_that_was_decontaminated_is_zero_shot_unless_it_is_that_of_the_task() -> None:
    datasets = {"NFCorpus": "mteb/nfcorpus", "TRECCOVID": "mteb/trec-covid", "mine": "mine"}
    report = {"NFCorpus": CHECKED, "TRECCOVID": CHECKED, "mine": {"state": "not checked"}}
    assert of_data(datasets, ["org/triplets", "BeIR/nfcorpus"], report) == {
        "NFCorpus": "trained on",
        "TRECCOVID": "zero-shot",
        "mine": "not known",
    }
    for name in ("somebody/TREC-COVID", "BeIR/trec_covid/"):
        assert of_data({"TRECCOVID": "mteb/another"}, [name], report) == {"TRECCOVID": "trained on"}
    assert of_data({"ArguAna": "mteb/arguana"}, ["org/triplets"], {}) == {"ArguAna": "not known"}


def test_a_translation_of_what_was_trained_on_is_trained_on_too() -> None:
    tasks = ["SciFact", "SciFact-PL", "NFCorpus"]
    for data in ("BeIR/scifact", "mteb/SciFact-PL"):
        told = {"training_datasets": [data, {"not": "a name"}], "decontamination": "no report"}
        states = by_manifest(told, tasks, [])
        assert states == {"SciFact": "trained on", "SciFact-PL": "trained on", "NFCorpus": "not known"}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("BeIR/scifact", ("SciFact", "SciFact-PL")),
        ("mteb/medical_qa", ("MedicalQARetrieval",)),
        ("CmedqaRetrieval", ("CmedqaRetrieval", "CMedQAv2-reranking")),
        ("mteb/medrxiv-clustering-p2p", ("MedrxivClusteringP2P.v2",)),
        ("somebody/notes", ()),
    ],
)
def test_names_of_data_are_those_of_the_tasks_that_mteb_makes_of_it(data, expected) -> None:
    assert set(expected) <= set(trained_on(mteb_names([data])))
    assert bool(expected) == bool(trained_on(mteb_names([data])))


def test_a_model_that_carries_its_manifest_is_judged_by_it_and_by_its_base() -> None:
    tasks = ["NFCorpus", "TRECCOVID"]
    revisions = {task: registry.find(task, []).metadata.dataset["revision"] for task in tasks}
    told = {
        "stages": {"train": {"facts": {"base": {"name": "sentence-transformers/all-MiniLM-L6-v2"}}}},
        "training_datasets": ["org/triplets"],
        "decontamination": {task: CHECKED | {"revision": revisions[task]} for task in tasks},
    }
    assert set(by_manifest(told, tasks, []).values()) == {"zero-shot"}
    told["stages"]["train"]["facts"]["base"]["name"] = "abhinand/MedEmbed-small-v0.1"
    assert set(by_manifest(told, tasks, []).values()) == {"trained on"}
    told["stages"]["train"]["facts"]["base"]["name"] = "org/unheard-of"
    assert set(by_manifest(told, tasks, []).values()) == {"not known"}


def test_a_tuned_model_is_no_more_zero_shot_than_its_base_or_its_data() -> None:
    base = {"a": "trained on", "b": "zero-shot", "c": "not known", "d": "zero-shot", "e": "trained on"}
    data = {"a": "zero-shot", "b": "zero-shot", "c": "zero-shot", "d": "not known", "e": "not known"}
    assert of_both(base, data) == {
        "a": "trained on",
        "b": "zero-shot",
        "c": "not known",
        "d": "not known",
        "e": "trained on",
    }
