"""Cards: what they tell, that they are true to the manifest, and that the Hub accepts their metadata."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from medembed import publish, resources
from medembed.errors import InputError
from medembed.provenance import decontamination, manifest
from medembed.publish.cards import Table, dataset_card, eval_results, model_card
from medembed.publish.cards.energy import estimate
from medembed.recipe_file import load
from tests.fixtures.hub import Hub
from tests.fixtures.hub_rules import faults_of_card, metadata_of
from tests.publish.manifests import dense, triplets
from tests.publish.runs import GENERATOR, SECRET_TEXT, dataset_run, model_run

TABLES = {
    "corpus": Table({"train": 6}, {"passage_id": "string", "text": "string"}),
    "pairs": Table({"train": 5, "dev": 1}, {"query": "string", "positive": "string"}),
    "triplets": Table({"train": 5, "dev": 1}, {"query": "string", "negative_1": "string", "negative_2": "string"}),
}


@pytest.fixture
def of_dataset(tmp_path: Path) -> dict[str, Any]:
    return manifest(*dataset_run(tmp_path / "d", publish={"repo": "medembed/tiny-triplets"}))


@pytest.fixture
def of_model(tmp_path: Path, tiny_model: Path, of_dataset: dict[str, Any]) -> dict[str, Any]:
    publish = {"repo": "medembed/tiny-embed"}
    return manifest(*model_run(tmp_path / "m", tiny_model, publish=publish, upstream=of_dataset))


def test_a_card_of_a_model_tells_results_data_and_how_to_use_it(of_model: dict[str, Any]) -> None:
    card = model_card(of_model)
    assert "| tiny-task | 41.2 | 46.3 | +5.1 [+2.1, +8.0] | not recorded | not recorded |" in card
    assert "| tiny-task | Recall@10 | 41.2 | 46.3 | +5.1 [+2.1, +8.0] |" in card
    assert "**WIN**: over 1 task ([zero-shot](#results): not recorded) it beats its base" in card
    assert 'SentenceTransformer("medembed/tiny-embed")' in card
    assert "encode_query" in card and "encode_document" in card
    assert f"| notes.jsonl | cc0-1.0 | {GENERATOR} | 6 |" in card
    assert "**It is not a medical device and gives no diagnosis or advice.**" in card
    assert "Built with Llama" in card
    data = metadata_of(card)
    assert data["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert data["base_model_relation"] == "finetune"
    assert data["datasets"] == ["medembed/tiny-triplets"]
    assert data["model-index"][0]["results"][0]["metrics"][0] == {
        "type": "ndcg_at_10",
        "name": "nDCG@10",
        "value": 0.463,
    }


def test_a_card_of_a_dataset_tells_what_each_stage_took_away_and_who_wrote_it(of_dataset: dict[str, Any]) -> None:
    card = dataset_card(of_dataset, TABLES)
    assert f"**The queries are synthetic**: {GENERATOR} wrote them." in card
    assert (
        "Made up for this page" in card
        and "not recorded" in card.split("<summary>The prompt")[1].split("</details>")[0]
    )
    assert "| generate | notes 7, pairs 6 | evidence not in note 1 |" in card
    assert "| `triplets` | `dev` | 1 |" in card
    assert card.count("`negative_1 …`") == 1 and "negative_2" not in card
    configs = {config["config_name"]: config for config in metadata_of(card)["configs"]}
    assert configs["triplets"]["default"] is True
    assert configs["pairs"]["data_files"][1] == {"split": "dev", "path": "pairs/dev-*.parquet"}


def test_settings_of_filters_are_told_in_words_and_a_model_by_its_name(of_dataset: dict[str, Any]) -> None:
    retriever = {
        "model": "org/small",
        "weights": {"package": "p", "folder": "f", "sha256": "0" * 64},
        "revision": "a" * 40,
    }
    tasks = [f"EvaluationTask{n}" for n in range(17)]
    settings = {
        "evidence": True,
        "duplicates": {"near": 0.8, "normalised": True, "of": ["pairs", "queries"]},
        "length": {"query": [2, 96], "positive": [8, 512]},
        "language": ["en", "de"],
        "copies": 0.9,
        "round_trip": {"retriever": retriever, "top_k": 20},
        "phi": {"policy": "redact", "model": "en_core_web_sm"},
        "decontaminate": {"tasks": tasks},
    }
    removed = {"passages removed": 0, "pairs removed": 0, "reasons": {f"decontaminate: {task}": 2 for task in tasks}}
    of_dataset["stages"]["curate"]["facts"]["filters"] = [
        {"filter": name, "settings": said} | removed for name, said in settings.items()
    ]
    of_dataset["recipe"]["curate"] = [{"language": ["en", "de"]}]
    card = dataset_card(of_dataset, TABLES)
    for row in (
        "| evidence | – |",
        "| duplicates | near 0.8; normalised; of pairs, queries |",
        "| length | query 2 to 96; positive 8 to 512 |",
        "| language | en, de |",
        "| copies | 0.9 |",
        "| round_trip | retriever org/small (aaaaaaaaaaaa); top_k 20 |",
        "| phi | policy redact; model en_core_web_sm |",
        f"| decontaminate | tasks {', '.join(tasks)} |",
    ):
        assert row in card
    assert card.count("decontaminate: EvaluationTask16 2") == len(settings)  # no list of theirs is cut
    assert metadata_of(card)["language"] == ["en", "de"] and "in English" not in card


@pytest.mark.parametrize(
    "facts, told",
    [
        ({"policy": "report"}, "counted and left where it stands"),
        ({"policy": "block"}, "A passage or pair with a finding was removed"),
        ({"policy": "redact"}, "replaced by surrogates such as `[NAME-1]`"),
        ({"names": "en_core_web_sm"}, "names by patterns and the spaCy model en_core_web_sm."),
        ({"policy": "another"}, "What it did with findings: not recorded"),
    ],
)
def test_what_the_gate_did_is_told(of_dataset: dict[str, Any], facts: dict[str, str], told: str) -> None:
    of_dataset["stages"]["curate"]["facts"]["phi"] |= facts
    assert told in dataset_card(of_dataset, TABLES)


def test_boilerplate_that_was_let_pass_is_told_on_both_cards(
    of_dataset: dict[str, Any], of_model: dict[str, Any]
) -> None:
    assert "boilerplate" not in dataset_card(of_dataset, TABLES)
    of_dataset["stages"]["curate"]["facts"]["decontaminate"]["boilerplate"] = 3
    of_dataset["stages"]["curate"]["facts"]["decontaminate"]["tasks"]["NFCorpus"]["boilerplate"] = 1200
    card = dataset_card(of_dataset, TABLES)
    assert "but for the task's boilerplate: runs of words that stand in 3 or more of its own texts." in card
    assert "that may be left in the data: NFCorpus 1,200." in card
    of_model["decontamination"] = decontamination(["NFCorpus"], of_dataset)
    assert "8 words in a row (but for what stands in 3 or more of its own texts)" in model_card(of_model)


def test_how_negatives_were_chosen_is_told_and_nothing_that_was_not_done() -> None:
    made = triplets()
    card = dataset_card(made, TABLES)
    for said in (
        "not below 0.1, not above 0.8",
        "at least 0.9 of the positive's probability",
        "3 answer the query, it says, and became positives of rows of their own, where enough negatives are found for them",
        "21.1 % were left out",
    ):
        assert said in card
    mine, facts = made["recipe"]["mine"], made["stages"]["mine"]["facts"]
    for part in (mine, facts):
        del part["teacher"], part["judge"]
    del mine["relative_margin"], mine["min_score"], mine["max_score"]
    facts["suspected_false_negatives"] = 0.0
    card = dataset_card(made, TABLES)
    assert "No distance from the positive's score was asked for" in card
    for silent in ("were left out as suspected", "not below", "not above", "probability", "it says"):
        assert silent not in card


@pytest.mark.parametrize(
    ("fewer", "told"),
    [
        ("drop", "a row that has fewer is left out."),
        ("keep", "a row that has fewer is kept as it is, one that has none left out."),
        ("fill", "a row that has fewer is filled up at random from other notes, within the same bounds, and left out"),
    ],
)
def test_which_rows_are_lost_for_want_of_negatives_is_told(fewer: str, told: str) -> None:
    made = triplets()
    made["recipe"]["mine"]["fewer"] = fewer
    assert told in dataset_card(made, TABLES)


def test_a_licence_that_the_author_says_is_not_told_as_computed(of_dataset: dict[str, Any]) -> None:
    assert "cc0-1.0, computed from the licences of the sources." in dataset_card(of_dataset, TABLES)
    of_dataset["recipe"]["publish"]["license"] = of_dataset["license"] = "cc-by-4.0"
    assert "cc-by-4.0, as its author says; the sources say cc0-1.0." in dataset_card(of_dataset, TABLES)


def test_a_score_without_its_base_is_said_alone(of_model: dict[str, Any]) -> None:
    scored = json.loads(json.dumps(of_model))
    scored["stages"]["evaluate"]["facts"]["tasks"]["tiny-task"] = {"ndcg_at_10": {"tuned": 0.5}}
    assert "| tiny-task | not recorded | 50.0 | not recorded | not recorded | not recorded |" in model_card(scored)


def test_no_text_of_notes_or_queries_stands_on_a_card(of_model: dict[str, Any], of_dataset: dict[str, Any]) -> None:
    for card in (model_card(of_model), dataset_card(of_dataset, TABLES)):
        assert SECRET_TEXT not in card and "what was started" not in card


@pytest.mark.parametrize("verdict, says", [("MARGINAL", "cannot be told from"), ("REGRESSION", "is worse than")])
def test_a_verdict_is_said_as_it_is(of_model: dict[str, Any], verdict: str, says: str) -> None:
    of_model["stages"]["evaluate"]["facts"]["verdict"] = verdict
    assert f"**{verdict}**: over 1 task ([zero-shot](#results): not recorded) it {says} its base" in model_card(
        of_model
    )


def test_the_recipe_on_a_card_is_a_recipe(of_model: dict[str, Any], tmp_path: Path) -> None:
    of_model["recipe"]["evaluate"]["tasks"] = ["NFCorpus"]  # a local task stands there by its name alone
    of_model["recipe"]["publish"]["about"] = "Two fences:\n\n````\ninside\n````\n\nand more."
    found = re.search(r"(`+)yaml\n(.*?)\n\1\n", model_card(of_model), re.DOTALL)
    assert found
    (tmp_path / "again.yaml").write_text(found[2])
    assert load(tmp_path / "again.yaml").model_dump(mode="json", exclude_none=True) == of_model["recipe"]


def test_a_licence_that_the_hub_does_not_know_is_other_with_a_name(of_model: dict[str, Any]) -> None:
    data = metadata_of(model_card(of_model | {"license": "My Lab's Licence (v2)"}))
    assert data["license"] == "other" and faults_of_card(f"---\n{yaml.safe_dump(data)}---\n", "model") == []


def test_the_hub_accepts_the_metadata_and_refuses_a_broken_one(of_model: Any, of_dataset: Any, tmp_path: Path) -> None:
    (tmp_path / "model.md").write_text(model_card(of_model))
    (tmp_path / "dataset.md").write_text(dataset_card(of_dataset, TABLES))
    (tmp_path / "broken.md").write_text("---\nlicense: none of them\n---\n")
    validate = """if True:
        import sys
        from huggingface_hub import DatasetCard, ModelCard
        folder = sys.argv[1]
        ModelCard.load(f"{folder}/model.md").validate()
        DatasetCard.load(f"{folder}/dataset.md").validate()
        assert len(ModelCard.load(f"{folder}/model.md").data.eval_results) == 3
        try:
            ModelCard.load(f"{folder}/broken.md", ignore_metadata_errors=True).validate()
        except ValueError as error:
            print("refused:", error)
    """
    with Hub(tmp_path / "hub") as hub:
        command = [sys.executable, "-c", validate, str(tmp_path)]
        done = subprocess.run(command, check=False, env=hub.env(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "refused:" in done.stdout
    assert hub.requests("POST", "/api/validate-yaml") == 3


def test_a_result_of_a_task_on_the_hub_is_listed_in_the_hubs_own_format(tmp_path: Path) -> None:
    from huggingface_hub import EvalResultEntry, parse_eval_result_entries

    files = eval_results(dense())
    assert list(files) == [".eval_results/NFCorpus.yaml", ".eval_results/PublicHealthQA.yaml"]  # own-task is on no Hub
    assert parse_eval_result_entries(yaml.safe_load(files[".eval_results/NFCorpus.yaml"])) == [
        EvalResultEntry(
            dataset_id="mteb/nfcorpus",
            task_id="NFCorpus",
            value=2.3,
            dataset_revision="0123456789abcdef0123456789abcdef01234567",
            source_url="https://huggingface.co/medembed/tiny-embed/tree/main/results",
            source_name="mteb's result files",
            notes="nDCG@10 × 100, mteb 2.26.24",
        )
    ]
    assert "revision" not in files[".eval_results/PublicHealthQA.yaml"]  # `main` is no commit


def test_a_result_in_a_folder_names_no_repository() -> None:
    made = dense()
    made["recipe"]["publish"] = {"folder": "tiny-embed"}
    assert "source" not in eval_results(made)[".eval_results/NFCorpus.yaml"]


@pytest.mark.parametrize(
    "measured, kwh",
    [
        ({"seconds": 3600, "device": "NVIDIA H100 80GB HBM3", "processes": 8}, 5.6),
        ({"seconds": 3600, "device": "NVIDIA H100 PCIe", "processes": 1}, 0.35),
        ({"seconds": 3600, "device": "NVIDIA H100 NVL", "processes": 1}, 0.4),
        ({"seconds": 3600, "device": "NVIDIA A100-SXM4-80GB", "processes": 1}, 0.4),
        ({"seconds": 3600, "device": "NVIDIA A100-PCIE-40GB", "processes": 1}, 0.25),
        ({"seconds": 7200, "device": "NVIDIA L4", "processes": 1}, 0.144),
        ({"seconds": 3600, "device": "NVIDIA L40S", "processes": 1}, 0.35),
        ({"seconds": 3600, "device": "CPU", "processes": 2, "threads": 4}, 0.056),
    ],
)
def test_energy_is_hours_times_devices_times_their_rated_power(measured: dict[str, Any], kwh: float) -> None:
    found = estimate(measured)
    assert found is not None and found.kwh == pytest.approx(kwh)


@pytest.mark.parametrize(
    "measured",
    [
        {},
        {"seconds": 3600, "device": "Some new accelerator", "processes": 1},
        {"device": "NVIDIA L4", "processes": 1},
        {"seconds": 3600, "device": "CPU", "processes": 1},
    ],
)
def test_energy_is_not_guessed_where_time_or_hardware_is_not_known(measured: dict[str, Any]) -> None:
    assert estimate(measured) is None
    assert "| Energy | not recorded |" in model_card(dense() | {"measured": {"train": measured}})


def test_the_smallest_form_that_costs_less_than_a_point_is_recommended() -> None:
    made = dense()
    forms = made["stages"]["evaluate"]["facts"]["models"][1]["compressed"]
    assert "**Which to choose**: int8 at 16 dimensions" in model_card(made)
    for form in forms[1:]:
        form["average"] = 0.001
    assert "every smaller form costs a point or more here" in model_card(made)
    del forms[1:]
    assert "Smaller embeddings" not in model_card(made)  # none was measured


@pytest.mark.parametrize(
    "broken, where",
    [
        ("{% if %}", "model.md.jinja:1"),
        ("line\n{{ m.name.upper.lower.join() }}", "model.md.jinja:2"),
        ("{{ 1 / 0 }}", "model.md.jinja:1"),
        ('{% include "none.jinja" %}', "model.md.jinja:1"),
    ],
)
def test_a_broken_template_stops_publishing_before_anything_is_sent_and_loses_nothing(
    broken: str, where: str, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, run = model_run(tmp_path / "m", tiny_model, publish={"folder": str(tmp_path / "hub/tiny-embed")})
    weights = (run.path("train", "model") / "model.safetensors").read_bytes()
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "model.md.jinja").write_text(broken)
    monkeypatch.setattr(resources, "folder", lambda name: templates)
    with pytest.raises(InputError, match="the card cannot be written") as told:
        publish.work(recipe, run)
    assert told.value.faults[0].where == where
    assert not (tmp_path / "hub").exists() and not run.path("publish").exists()
    assert (run.path("train", "model") / "model.safetensors").read_bytes() == weights


def test_pictures_and_listed_results_are_published_beside_the_card(tmp_path: Path, tiny_model: Path) -> None:
    said = {"repo": "medembed/tiny-embed", "license": "apache-2.0"}  # of data whose licence nobody tells
    recipe, run = model_run(tmp_path, tiny_model, publish=said, drawn=True, on_hub=True)
    artifact = publish.contents(recipe, run)
    assert {"compressed.png", "compressed.svg", ".eval_results/NFCorpus.yaml"} <= artifact.keys()
    assert b"](compressed.png)" in artifact["README.md"]
