"""What keeps an artifact from being published, each gate by itself and as the commands meet it."""

import json
from pathlib import Path
from typing import Any

import pytest

from medembed import publish, stages
from medembed.errors import InputError
from medembed.provenance import manifest
from medembed.publish import cards, gates
from medembed.recipe import DatasetRecipe
from medembed.run import Run
from tests.publish.runs import CURATED, PHI, SECRET_TEXT, dataset_run, model_run

SIFTED = [{"decontaminate": "default"}, "phi"]


def test_a_model_without_results_at_hand_is_not_published(tmp_path: Path, tiny_model: Path) -> None:
    recipe, run = model_run(tmp_path, tiny_model, publish={"folder": str(tmp_path / "hub")})
    record = run.path("evaluate", "record.json")
    told = json.loads(record.read_text())
    told["facts"]["tasks"]["another-task"] = told["facts"]["tasks"].pop("tiny-task")
    record.write_text(json.dumps(told))
    with pytest.raises(InputError, match="there are no results on tiny-task"):
        publish.contents(recipe, run)
    record.unlink()
    with pytest.raises(InputError, match="`evaluate` has not been done"):
        publish.inputs(recipe, run)


def test_a_model_that_may_have_been_trained_on_its_tasks_is_not_published(tmp_path: Path, tiny_model: Path) -> None:
    recipe, run = model_run(tmp_path, tiny_model, publish={"folder": str(tmp_path / "hub")})
    record = run.path("train", "record.json")
    told = json.loads(record.read_text())

    def compared(by_train: Any, by_curate: dict[str, Any]) -> bool:
        told["facts"]["checks"] = by_train
        curate = {"facts": {"decontaminate": {"tasks": by_curate}}}
        upstream = {"format": 1, "origins": {}, "stages": {"curate": curate}}
        told["facts"]["dataset"]["provenance"] = upstream
        record.write_text(json.dumps(told))
        try:
            return bool(publish.contents(recipe, run))
        except InputError as error:
            assert "nobody has compared the training data with tiny-task" in str(error)
            return False

    assert compared({"tasks": {"tiny-task": {"queries": 0, "passages": 3}}}, {})
    assert compared(None, {"tiny-task": {"removed": {"queries": {"n-gram": 1}}}})
    assert not compared(None, {})
    assert not compared({"tasks": {"tiny-task": "it cannot be reached"}}, {"another-task": {"removed": {}}})


def test_results_of_another_model_are_not_published(tmp_path: Path, tiny_model: Path) -> None:
    recipe, run = model_run(tmp_path, tiny_model, publish={"folder": str(tmp_path / "hub")})
    weights = run.path("train", "model") / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"trained again")
    with pytest.raises(InputError, match="another model"):
        publish.inputs(recipe, run)


def test_data_that_nobody_looked_through_for_persons_goes_to_no_public_repository(tmp_path: Path) -> None:
    publishing = {"repo": "medembed/tiny"}
    unseen = dataset_run(tmp_path / "unseen", publish=publishing, curated=CURATED | {"phi": None})
    with pytest.raises(InputError, match="nobody has looked for personal health information") as caught:
        publish.contents(*unseen)
    assert "- phi: redact" in str(caught.value)
    left = CURATED | {"phi": PHI | {"policy": "report", "remaining": {"name": 3, "date": 11}}}
    with pytest.raises(InputError, match=r"identifiers of persons are left in the data: name 3\n"):
        publish.contents(*dataset_run(tmp_path / "left", publish=publishing, curated=left))
    dates = CURATED | {"phi": PHI | {"policy": "report", "remaining": {"date": 11}}}
    assert publish.contents(*dataset_run(tmp_path / "dates", publish=publishing, curated=dates))
    private = publishing | {"private": True}
    assert publish.contents(*dataset_run(tmp_path / "private", publish=private, curated={"filters": []}))


def test_data_that_nobody_compared_with_the_tests_goes_to_no_public_repository(tmp_path: Path) -> None:
    for nothing in (None, {"tasks": {}}):
        curated = CURATED | {"decontaminate": nothing}
        run = dataset_run(tmp_path / str(nothing), publish={"repo": "medembed/tiny"}, curated=curated)
        with pytest.raises(InputError, match="nobody has compared the data with evaluation tasks") as caught:
            publish.contents(*run)
        assert len(caught.value.faults) == 1 and "- decontaminate: default" in str(caught.value)
    folder = dataset_run(tmp_path / "folder", publish={"folder": "x"}, curated={"filters": []})
    assert "README.md" in publish.contents(*folder)


@pytest.mark.parametrize(
    ("licence", "told"),
    [
        ("cc-by-nc-sa-4.0", "notes.jsonl (cc-by-nc-sa-4.0)"),
        ("cc-by-nd-4.0", "notes.jsonl (cc-by-nd-4.0)"),
        ("all rights reserved", "notes.jsonl (unknown)"),
        ("PhysioNet Credentialed Health Data License 1.5.0", "notes.jsonl (data-use-agreement)"),
    ],
)
def test_data_that_is_not_open_goes_to_no_public_repository(tmp_path: Path, licence: str, told: str) -> None:
    public = dataset_run(tmp_path / "public", publish={"repo": "medembed/tiny"}, license=licence)
    with pytest.raises(InputError, match="not open") as caught:
        publish.contents(*public)
    assert told in str(caught.value) and "publish.private: true" in str(caught.value)
    private = dataset_run(tmp_path / "private", publish={"repo": "medembed/tiny", "private": True}, license=licence)
    assert "README.md" in publish.contents(*private)
    folder = dataset_run(tmp_path / "folder", publish={"folder": str(tmp_path / "hub")}, license=licence)
    assert "README.md" in publish.contents(*folder)


def test_a_model_of_data_that_is_not_open_needs_its_authors_word_and_one_of_signed_data_stays_private(
    tmp_path: Path, tiny_model: Path
) -> None:
    def told(place: str, licence: str, **said: Any) -> str:
        upstream = manifest(*dataset_run(tmp_path / place / "d", publish={"folder": "x"}, license=licence))
        run = model_run(tmp_path / place / "m", tiny_model, publish={"repo": "medembed/m"} | said, upstream=upstream)
        try:
            return str(publish.contents(*run).keys())
        except InputError as error:
            return str(error)

    assert "`publish.license` says under which licence" in told("a", "cc-by-nc-4.0")
    assert "README.md" in told("b", "cc-by-nc-4.0", license="cc-by-nc-4.0")
    signed = told("c", "n2c2 data use agreement", license="mit")
    assert "notes.jsonl (data-use-agreement)" in signed and "publish.license" not in signed
    assert "README.md" in told("d", "n2c2 data use agreement", private=True)


@pytest.mark.parametrize(
    ("said", "faults"),
    [
        ({}, ["nobody has looked", "nobody has compared"]),
        ({"curate": ["phi"]}, ["nobody has compared"]),
        ({"curate": SIFTED}, []),
        ({"curate": SIFTED, "license": "cc-by-nc-4.0"}, ["the data is not open: pairs.jsonl (cc-by-nc-4.0)"]),
        ({"curate": SIFTED, "license": "MIMIC"}, ["the data is not open: pairs.jsonl (data-use-agreement)"]),
        ({"license": "MIMIC", "publish": {"repo": "org/name", "private": True}}, []),
        ({"license": "MIMIC", "publish": {"folder": "x"}}, []),
    ],
)
def test_what_a_gate_is_sure_to_keep_back_is_told_before_anything_starts(
    tmp_path: Path, said: dict[str, Any], faults: list[str]
) -> None:
    (tmp_path / "pairs.jsonl").write_text("{}\n")
    pairs = [{"source": str(tmp_path / "pairs.jsonl"), "license": said.pop("license", "mit")}]
    recipe = {"kind": "dataset", "name": "d", "pairs": pairs, "publish": {"repo": "org/name"}} | said
    try:
        gates.check(DatasetRecipe.model_validate(recipe))
        told: tuple[object, ...] = ()
    except InputError as error:
        told = error.faults
    assert len(told) == len(faults) and all(text in str(fault) for text, fault in zip(faults, told, strict=True))


def test_no_licence_that_asks_less_than_the_sources_goes_out_with_a_public_dataset(tmp_path: Path) -> None:
    publishing = {"repo": "medembed/tiny", "license": "cc0-1.0"}
    with pytest.raises(InputError, match=r"asks less than the sources do: cc-by-sa-4\.0"):
        publish.contents(*dataset_run(tmp_path / "a", publish=publishing, license="cc-by-sa-4.0"))
    assert publish.contents(*dataset_run(tmp_path / "b", publish=publishing, license="public domain"))
    for place, spelt in enumerate(("CC0-1.0", "CC0", "MIT", "my own")):
        with pytest.raises(InputError, match="asks less than the sources do"):
            said = publishing | {"license": spelt}
            publish.contents(*dataset_run(tmp_path / f"spelt {place}", publish=said, license="cc-by-sa-4.0"))
    same = publishing | {"license": "CC BY-SA 4.0"}
    card = publish.contents(*dataset_run(tmp_path / "same", publish=same, license="cc-by-sa-4.0"))["README.md"]
    assert isinstance(card, bytes) and b"license: cc-by-sa-4.0" in card


def test_triplets_of_pairs_that_were_curated_again_since_are_not_published(tmp_path: Path) -> None:
    """What `phi: redact` has taken out of the pairs would still stand in them, under a card that tells of none."""
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"]
    rows = [
        {"query": f"what about {word} therapy", "positive": f"The {word} therapy was started, call 617-555-01{n:02d}."}
        for n, word in enumerate(words)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = {
        "kind": "dataset",
        "name": "again",
        "pairs": [{"source": str(tmp_path / "pairs.jsonl"), "license": "cc0-1.0"}],
        "mine": {"retriever": "bm25", "negatives": 1, "ranks": [1, 12]},
        "publish": {"folder": str(tmp_path / "hub")},
    }
    before, after = (DatasetRecipe.model_validate(said | {"curate": each}) for each in ([], [{"phi": "redact"}]))
    for stage, recipe in (("curate", before), ("mine", before), ("curate", after)):
        stages.perform(stage, recipe, Run(recipe, tmp_path / "run"))
    run = Run(after, tmp_path / "run")
    with pytest.raises(InputError, match="`mine` was done before what it reads was made again"):
        stages.perform("publish", after, run)
    stages.perform("mine", after, run)
    assert stages.perform("publish", after, run).facts["loaded_back"]["rows"]["triplets"]


def test_a_model_of_data_that_nobody_tells_of_or_that_may_hold_persons_goes_to_no_public_repository(
    tmp_path: Path, tiny_model: Path
) -> None:
    def told(place: str, upstream: dict[str, Any] | None, **said: Any) -> str:
        run = model_run(tmp_path / place, tiny_model, publish={"repo": "medembed/m"} | said, upstream=upstream)
        try:
            return str(publish.contents(*run).keys())
        except InputError as error:
            return str(error)

    unknown = told("a", None)
    assert "the data is not open: medembed/tiny-triplets (unknown)" in unknown
    assert "README.md" in told("b", None, license="apache-2.0")
    unseen = manifest(*dataset_run(tmp_path / "d", publish={"folder": "x"}, curated={**CURATED, "phi": None}))
    assert "nobody has looked for personal health information" in told("c", unseen)
    assert "README.md" in told("e", unseen, private=True)


def test_a_model_that_is_worse_goes_out_with_a_reason_alone(tmp_path: Path, tiny_model: Path) -> None:
    recipe, run = model_run(tmp_path / "a", tiny_model, publish={"folder": str(tmp_path / "hub")}, verdict="REGRESSION")
    with pytest.raises(InputError, match="worse than its base"):
        publish.contents(recipe, run)
    said = {"folder": str(tmp_path / "hub"), "allow_regression": "smaller, and faster"}
    recipe, run = model_run(tmp_path / "b", tiny_model, publish=said, verdict="REGRESSION")
    card = publish.contents(recipe, run)["README.md"]
    assert isinstance(card, bytes) and "The author's reason: smaller, and faster" in card.decode()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "modeling.py", "notes.jsonl", "sub/config.json"])
def test_a_file_that_nobody_expects_is_not_published(tmp_path: Path, tiny_model: Path, name: str) -> None:
    recipe, run = model_run(tmp_path, tiny_model, publish={"folder": str(tmp_path / "hub")})
    place = run.path("train", "model") / name
    place.parent.mkdir(exist_ok=True)
    place.write_text("{}")
    with pytest.raises(InputError, match=name):
        publish.contents(recipe, run)


SECRETS = [
    "hf_" + "a1B2" * 9,
    "ghp_" + "x" * 36,
    "AKIA" + "ABCDEFGH12345678",
    "-----BEGIN RSA PRIVATE KEY-----",
    "myOwnToken",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_file_with_a_secret_is_not_published_and_the_secret_not_shown(
    tmp_path: Path, tiny_model: Path, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "myOwnToken")
    monkeypatch.setattr(gates, "CHUNK", 512)
    recipe, run = model_run(tmp_path, tiny_model, publish={"folder": str(tmp_path / "hub")})
    weights = run.path("train", "model") / "extra.json"
    for at in (0, 500, 700):  # also across two chunks
        weights.write_text("x" * at + secret + "y" * 900)
        with pytest.raises(InputError, match=r"extra\.json") as refused:
            publish.contents(recipe, run)
        assert secret not in str(refused.value)


def test_a_secret_in_a_compressed_table_is_found_and_words_that_begin_like_one_are_none(tmp_path: Path) -> None:
    import pyarrow as pa

    recipe, run = dataset_run(tmp_path, publish={"folder": str(tmp_path / "hub")})
    texts = [f"{SECRET_TEXT} on day {n}, and nothing else was changed in what is given." for n in range(500)]
    texts[7] += " seen by a high-risk-non-muscle-invasive-bladder-cancer clinic"
    for secret in ("", "hf_" + "x" * 34, "hf_jwt_" + "x.y" * 20, "glpat-" + "x" * 20):
        texts[300] = (
            f"{SECRET_TEXT} on day 300, {secret} and nothing else"  # not the first or last: those stand in statistics
        )
        run.write("curate", "texts", pa.table({"text": texts, "lists": [[text] for text in texts]}))
        file = run.path("curate", "texts.parquet")
        artifact = {"corpus/train-00000-of-00001.parquet": file}
        if secret:
            with pytest.raises(InputError, match="looks like a key"):
                gates.holds_what_is_expected(recipe.kind, artifact)
        else:
            gates.holds_what_is_expected(recipe.kind, artifact)


def test_a_card_without_what_the_hub_lists_it_by_is_not_published(
    tmp_path: Path, tiny_model: Path, monkeypatch
) -> None:
    recipe, run = model_run(tmp_path, tiny_model, publish={"folder": str(tmp_path / "hub")})
    card = publish.contents(recipe, run)["README.md"].decode()
    gates.card_is_complete(recipe, card)
    for lacking in ("pipeline_tag", "model-index", "datasets"):
        without = card.replace(f"\n{lacking}:", "\nanother:")
        with pytest.raises(InputError, match=f"its metadata lack {lacking}"):
            gates.card_is_complete(recipe, without)
        monkeypatch.setattr(cards, "model_card", lambda _, without=without: without)
        with pytest.raises(InputError, match=f"its metadata lack {lacking}"):
            publish.contents(recipe, run)
