"""Publishing to a local folder: whole or not at all, loaded back by the libraries that people use."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medembed import publish, stages
from medembed.errors import InputError, RunError
from medembed.provenance import manifest
from medembed.publish import gates, push
from medembed.recipe import DatasetRecipe
from medembed.run import Run
from tests.publish.runs import CURATED, PHI, SECRET_TEXT, dataset_run, model_run

SIFTED = [{"decontaminate": "default"}, "phi"]
MINE = {"kind": "dataset", "name": "tiny"}


def test_a_published_dataset_is_loaded_by_each_config(tmp_path: Path) -> None:
    from datasets import load_dataset

    recipe, run = dataset_run(tmp_path, publish={"folder": str(tmp_path / "hub/tiny-triplets")})
    record = stages.perform("publish", recipe, run)
    loaded = {
        config: load_dataset(str(tmp_path / "hub/tiny-triplets"), config, cache_dir=str(tmp_path / "cache"))
        for config in ("corpus", "pairs", "triplets")
    }
    assert {config: {split: len(rows) for split, rows in splits.items()} for config, splits in loaded.items()} == {
        "corpus": {"train": 6},
        "pairs": {"train": 5, "dev": 1},
        "triplets": {"train": 5, "dev": 1},
    }
    assert loaded["triplets"]["train"][0]["negative_scores"] == pytest.approx([0.5, 0.4])
    for (
        splits
    ) in loaded.values():  # the Hub's Croissant has a field `split` of its own, and skips columns of other types
        columns = splits["train"].features
        kinds = {getattr(column, "feature", column).dtype for column in columns.values()}
        assert "split" not in columns and kinds <= {"string", "large_string", "int32", "float32"}
    assert record.facts["loaded_back"] == {"config": "triplets", "rows": {"train": 5, "dev": 1}}
    assert record.facts["where"] == str(tmp_path / "hub/tiny-triplets")
    assert "| `negative_scores` | list of float |" in (tmp_path / "hub/tiny-triplets/README.md").read_text()


def test_a_published_model_embeds_as_the_trained_one_and_answers(tmp_path: Path, tiny_model: Path) -> None:
    from sentence_transformers import SentenceTransformer

    target = tmp_path / "hub/tiny-embed"
    recipe, run = model_run(tmp_path, tiny_model, publish={"folder": str(target), "ask": "pain in the chest"})
    record = stages.perform("publish", recipe, run)
    texts = ["chest pain", "fever"]
    published, trained = SentenceTransformer(str(target)), SentenceTransformer(str(tiny_model))
    assert np.allclose(published.encode_query(texts), trained.encode_query(texts), atol=1e-6)
    asked = record.facts["asked"]
    assert asked["query"] == "pain in the chest" and len(asked["passages"]) == 3
    assert asked["passages"][0] == {
        "score": asked["passages"][0]["score"],
        "title": "Case 0",
        "text": "acute chest pain",
    }
    assert sorted(record.facts["files"]) == sorted(push.files_of(target))
    assert "results/" in "".join(push.files_of(target))


def test_a_model_of_late_interaction_is_proved_and_asked_by_its_own_similarity(
    tmp_path: Path, tiny_model: Path
) -> None:
    from medembed import models
    from medembed.recipe import Model

    late = models.load(Model(model=str(tiny_model)), device="cpu", method="late-interaction")
    late.save_pretrained(str(tmp_path / "late"), create_model_card=False)
    target = tmp_path / "hub/tiny-colbert"
    recipe, run = model_run(tmp_path, tmp_path / "late", publish={"folder": str(target), "ask": "knee"})
    record = stages.perform("publish", recipe, run)
    assert record.facts["loaded_back"] == {"sentences": 4, "equal_within": 1e-5}
    scores = [passage["score"] for passage in record.facts["asked"]["passages"]]
    assert len(scores) == 3 and 1 < scores[2] <= scores[0] <= 3  # MaxSim over [CLS], knee and [SEP]
    assert (target / "1_Dense/model.safetensors").is_file()


def test_nothing_that_a_trainer_wrote_about_its_data_is_published(tmp_path: Path, tiny_model: Path) -> None:
    target = tmp_path / "hub/tiny-embed"
    recipe, run = model_run(tmp_path, tiny_model, publish={"folder": str(target)})
    stages.perform("publish", recipe, run)
    assert not [path for path in push.files_of(target) if "checkpoint" in path]
    for file in push.files_of(target).values():
        assert SECRET_TEXT.encode() not in file.read_bytes()
        assert str(tmp_path).encode() not in file.read_bytes()


def test_the_snippet_of_a_published_card_runs_where_it_is_published(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, run = model_run(tmp_path, tiny_model, publish={"folder": str(tmp_path / "hub/tiny-embed")})
    stages.perform("publish", recipe, run)
    snippet = (tmp_path / "hub/tiny-embed/README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path / "hub")
    exec(snippet, {})
    assert "tensor" in capsys.readouterr().out


def test_publishing_again_changes_nothing_and_a_lost_folder_is_published_again(tmp_path: Path) -> None:
    target = tmp_path / "hub/tiny-triplets"
    recipe, run = dataset_run(tmp_path, publish={"folder": str(target)})
    first = stages.perform("publish", recipe, run)
    before = {path: (file.stat().st_ino, file.stat().st_mtime_ns) for path, file in push.files_of(target).items()}
    skipped: list[Any] = []
    stages.perform("publish", recipe, run, skipped.append)
    assert len(skipped) == 1
    run.path("publish", "record.json").unlink()  # as if it had been killed before the record was written
    assert stages.perform("publish", recipe, run).outputs == first.outputs
    assert before == {p: (f.stat().st_ino, f.stat().st_mtime_ns) for p, f in push.files_of(target).items()}
    shutil.rmtree(target)
    stages.perform("publish", recipe, run)
    assert before.keys() == push.files_of(target).keys()


def test_the_same_run_makes_the_same_bytes_in_any_folder(tmp_path: Path) -> None:
    published = []
    for place in ("one", "two"):
        recipe, run = dataset_run(tmp_path / place, publish={"folder": str(tmp_path / place / "hub/tiny-triplets")})
        stages.perform("publish", recipe, run)
        published.append(push.files_of(tmp_path / place / "hub/tiny-triplets"))
    assert published[0].keys() == published[1].keys()
    for path in published[0].keys() - {"provenance.json"}:
        assert published[0][path].read_bytes() == published[1][path].read_bytes()
    told = [json.loads(files["provenance.json"].read_text()) | {"measured": None} for files in published]
    assert told[0] == told[1]


@pytest.mark.parametrize("foreign", ["a file of somebody", "another artifact", "a broken manifest"])
def test_a_folder_that_is_not_this_artifact_is_refused_and_left_alone(tmp_path: Path, foreign: str) -> None:
    target = tmp_path / "hub"
    target.mkdir()
    content = {"a broken manifest": "{", "another artifact": '{"kind": "model", "name": "other"}'}.get(foreign, "mine")
    name = "thesis.txt" if foreign == "a file of somebody" else "provenance.json"
    (target / name).write_text(content)
    recipe, run = dataset_run(tmp_path, publish={"folder": str(target)})
    with pytest.raises(InputError, match="holds"):
        stages.perform("publish", recipe, run)
    assert {path: file.read_text() for path, file in push.files_of(target).items()} == {name: content}


def _deliver(folder: Path, target: Path) -> None:
    with push.candidate(folder, target, MINE):
        push.promote(folder, target, MINE)


def test_a_place_that_cannot_be_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        _deliver(_artifact(tmp_path / "v1", "one"), tmp_path / "file")
    with pytest.raises(InputError, match="is a file"):
        _deliver(tmp_path / "v1", tmp_path / "file" / "below")


def test_a_candidate_that_is_not_proved_leaves_what_was_published(tmp_path: Path) -> None:
    old, new, target = _artifact(tmp_path / "v1", "one"), _artifact(tmp_path / "v2", "two"), tmp_path / "hub"
    _deliver(old, target)
    with pytest.raises(RunError, match="no proof"), push.candidate(new, target, MINE) as candidate:
        assert _texts(Path(candidate.name)) == _texts(new)
        raise RunError.of("no proof")
    assert _texts(target) == _texts(old)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hub", "v1", "v2"]


def test_a_new_version_replaces_the_old_one_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "hub"
    _deliver(_artifact(tmp_path / "v1", "one", "dropped later"), target)
    _deliver(_artifact(tmp_path / "v2", "two"), target)
    assert _texts(target) == _texts(tmp_path / "v2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hub", "v1", "v2"]


def test_a_delivery_that_was_cut_off_is_put_right_by_the_next(tmp_path: Path) -> None:
    old, new, target = _artifact(tmp_path / "v1", "one"), _artifact(tmp_path / "v2", "two"), tmp_path / "hub"
    shutil.copytree(old, tmp_path / ".hub.outgoing")  # killed between the two renames: the old one is aside
    (tmp_path / ".hub.incoming").mkdir()
    (tmp_path / ".hub.incoming" / "half").write_text("")
    _deliver(new, target)
    assert _texts(target) == _texts(new)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hub", "v1", "v2"]


def test_a_plan_tells_each_file_and_writes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "hub/tiny-triplets"
    recipe, run = dataset_run(tmp_path, publish={"folder": str(target)})
    before = sorted(tmp_path.rglob("*"))
    planned = publish.plan(recipe, run)
    assert {action for _, _, action in planned} == {"add"}
    assert sorted(tmp_path.rglob("*")) == before
    stages.perform("publish", recipe, run)
    assert {path: size for path, size, _ in planned} == {p: f.stat().st_size for p, f in push.files_of(target).items()}
    (target / "README.md").write_text("changed by hand")
    actions = {path: action for path, _, action in publish.plan(recipe, run)}
    assert (actions["README.md"], actions["provenance.json"]) == ("replace", "keep")


def test_files_of_somebody_else_in_the_published_folder_are_never_removed(tmp_path: Path) -> None:
    target = tmp_path / "hub/tiny-triplets"
    recipe, run = dataset_run(tmp_path, publish={"folder": str(target)})
    stages.perform("publish", recipe, run)
    (target / ".git").mkdir()
    (target / ".git" / "HEAD").write_text("mine")
    changed = recipe.model_copy(update={"publish": recipe.publish.model_copy(update={"about": "changed"})})
    with pytest.raises(InputError, match=r"did not put there: \.git/HEAD"):
        stages.perform("publish", changed, run)
    assert (target / ".git" / "HEAD").read_text() == "mine"


def test_a_stage_that_was_not_done_is_named(tmp_path: Path) -> None:
    recipe, run = dataset_run(tmp_path, publish={"folder": str(tmp_path / "hub")})
    with pytest.raises(InputError, match="`generate` has not been done"):
        publish.inputs(recipe, Run(recipe, tmp_path / "elsewhere"))
    run.path("mine", "record.json").unlink()
    with pytest.raises(InputError, match="`mine` has not been done"):
        publish.inputs(recipe, run)


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
    assert stages.perform("publish", after, run).facts["loaded_back"]["config"] == "triplets"


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


def test_a_card_that_cannot_be_written_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medembed import resources

    (tmp_path / "dataset.md.jinja").write_text("{{ m.name | no_such_filter }}")
    monkeypatch.setattr(resources, "folder", lambda name: tmp_path)
    recipe, run = dataset_run(tmp_path, publish={"folder": str(tmp_path / "hub")})
    with pytest.raises(Exception, match="the card cannot be written"):
        stages.perform("publish", recipe, run)
    assert not (tmp_path / "hub").exists() and not run.path("publish", "repo").exists()


def _artifact(folder: Path, *texts: str) -> Path:
    folder.mkdir()
    names = [f"{i}.txt" for i in range(len(texts))]
    (folder / "provenance.json").write_text(json.dumps(MINE | {"files": [*names, "provenance.json"]}))
    for name, text in zip(names, texts, strict=True):
        (folder / name).write_text(text)
    return folder


def _texts(folder: Path) -> dict[str, str]:
    return {path: file.read_text() for path, file in push.files_of(folder).items()}


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
