"""Publishing to a local folder: whole or not at all, loaded back by the libraries that people use."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from medembed import publish, stages
from medembed.errors import InputError, RunError
from medembed.publish import proof, push
from medembed.run import Run
from tests.publish.runs import SECRET_TEXT, dataset_run, model_run

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
    assert record.facts["loaded_back"] == {
        "rows": {"corpus": {"train": 6}, "pairs": {"train": 5, "dev": 1}, "triplets": {"train": 5, "dev": 1}}
    }
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


def test_each_config_of_a_dataset_must_load_as_it_was_written(tmp_path: Path) -> None:
    recipe, run = dataset_run(tmp_path, publish={"folder": str(tmp_path / "hub")})
    stages.perform("publish", recipe, run)
    rows = {"triplets": {"train": 5, "dev": 1}, "corpus": {"train": 6}}
    delivered = push.Delivered(str(tmp_path / "hub"))
    assert proof.prove_dataset(rows, delivered, tmp_path) == {"loaded_back": {"rows": rows}}
    corpus = tmp_path / "hub/corpus/train-00000-of-00001.parquet"
    pq.write_table(pq.read_table(corpus).slice(1), corpus)
    with pytest.raises(RunError, match="has other corpus than were written"):
        proof.prove_dataset(rows, delivered, tmp_path)
