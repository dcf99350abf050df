"""What is told before the first step: what cannot end well stops the run, what may be meant so is a warning, all at once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from sentence_transformers import SentenceTransformer

from medembed import models
from medembed.errors import InputError
from medembed.recipe import Data, Model, ModelRecipe, Train
from medembed.run import Run, sha256
from medembed.train import checks, data
from medembed.train.contamination import shared_with
from medembed.train.trainer import fit, lengths_in_training
from tests.fixtures.beir import PASSAGES, QUERIES, write_beir
from tests.fixtures.models import WORDS, make_tiny_colbert
from tests.train.conftest import publish

OURS = {"query": "what is raised {}", "positive": "the {} dose", "negative_1": "no {}"}


def table(**changed: list[str]) -> pa.Table:
    """Sixteen rows of three columns, of texts that stand nowhere else; `changed` replaces the first texts of a column."""
    columns = {name: [form.format(word) for word in WORDS[20:36]] for name, form in OURS.items()}
    for name, texts in changed.items():
        columns[name][: len(texts)] = texts
    return pa.table(columns)


def looked_at(folder: Path, model: Path, rows: pa.Table, manifest: object = None, **train: object) -> dict[str, object]:
    """The figures for a dataset of these rows, with the BEIR folder of the fixtures as the task."""
    place = publish(folder / "dataset", rows)
    (place / "provenance.json").unlink() if manifest is None else (place / "provenance.json").write_text(
        json.dumps(manifest)
    )
    recipe = ModelRecipe.model_validate(
        {
            "kind": "model",
            "name": "m",
            "base": str(model),
            "data": {"dataset": str(place)},
            "train": {"batch_size": 8} | train,
            "evaluate": {"tasks": [str(write_beir(folder / "task"))]},
            "publish": {"folder": "unused"},
        }
    )
    found = data.find(recipe.data, Run(recipe, folder / "run"))
    read = data.read(found, recipe.data, recipe.train.negatives, 0)
    return checks.before_the_first_step(recipe, found, read, checks.batches_of(read, recipe.train))


def test_a_sound_run_is_looked_at_in_silence(
    tmp_path: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    figures = looked_at(tmp_path, tiny_model, table())
    assert not caplog.records
    assert figures == {
        "loss": {"passages": 16, "lowest": 0.0},
        "rows": {"rows": 16, "left_out": 0},
        "dimensions": 32,
        "teacher": None,
        "distillation": None,
        "lengths": {
            "max_length": 64,
            "query_length": 64,
            "cut": {"query": 0, "positive": 0, "negative_1": 0},
            "keeps_95%": 6,
            "sample": 16,
        },
        "manifest": "none",
        "tasks": {"task": {"queries": 0, "passages": 0}},
    }


def test_a_dimension_that_the_embeddings_do_not_have_stops_the_run(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(InputError, match="the embeddings have 32 dimensions: there are no first 64"):
        looked_at(tmp_path, tiny_model, table(), matryoshka=[64, 16])


@pytest.mark.parametrize(
    ("logits", "told"),
    [
        ([0.03, 0.02, 0.01], "a probability of 0.34 in the mean, hardly more than a guess"),
        ([9.0, -9.0, np.nan], "a probability of 1.00 in the mean"),
        ([2.0, 0.0, -1.0], None),
    ],
)
def test_a_teacher_that_is_never_or_always_sure_is_told(logits: list[float], told: str | None) -> None:
    train = Train.model_validate({"losses": {"distil": 1}})
    looked = checks.teacher_tells_apart(train, np.array([logits] * 4, np.float32))
    assert [told in warning.what for warning in looked.warnings if told] == ([True] if told else [])
    assert looked.figures["best_is_the_positive"] == 1
    softer = Train.model_validate({"losses": {"distil": 1}, "teacher_temperature": 0.01 if logits[0] < 1 else 9})
    assert not checks.teacher_tells_apart(softer, np.array([logits] * 4, np.float32)).warnings


def test_a_missing_negative_counts_as_no_text(tmp_path: Path, tiny_model: Path) -> None:
    rows = table(negative_1=["fever " * 90])
    rows = rows.append_column("negative_2", pa.array(["cough " * 90, *[None] * 15]))
    figures: object = looked_at(tmp_path, tiny_model, rows, truncated=0.99)["lengths"]
    assert isinstance(figures, dict) and figures["cut"]["negative_1"] == 0.062 and figures["cut"]["negative_2"] == 1


def test_all_that_cannot_end_well_is_told_at_once(tmp_path: Path, tiny_model: Path) -> None:
    other = {"stages": {"mine": {"outputs": {"triplets-train.parquet": "0" * 64}}}}
    rows = table(query=["WHAT  causes chest pain?"])
    with pytest.raises(InputError) as error:
        looked_at(tmp_path, tiny_model, rows, manifest=other, temperature=1.0)
    told = {fault.where: fault.what for fault in error.value.faults}
    assert list(told) == ["train.temperature", "dataset", "evaluate.tasks: task"]
    assert "the loss cannot fall below" in told["train.temperature"]
    assert "another train-00000-of-00001.parquet" in told["dataset"]
    assert told["evaluate.tasks: task"] == "1 training rows ask queries of this task"
    assert "chest" not in str(error.value)


@pytest.mark.parametrize(
    ("temperature", "passages", "said"),
    [
        (1.0, 64, "stops"),
        (0.5, 8192, "stops"),
        (0.5, 64, "warns"),
        (0.2, 8192, "passes"),
        (0.05, 8, "warns"),
        (0.02, 64, "passes"),
    ],
)
def test_a_temperature_at_which_cosines_cannot_tell_right_from_wrong(
    temperature: float, passages: int, said: str
) -> None:
    train = Train(temperature=temperature)
    if said == "stops":
        with pytest.raises(InputError, match="the loss cannot fall below"):
            checks.loss_can_learn(train, passages)
    else:
        assert bool(checks.loss_can_learn(train, passages).warnings) == (said == "warns")


SHARP = np.array([[8, -2, -3, -4, -5, -6, -7, -8]] * 4, np.float32)


@pytest.mark.parametrize(
    ("loss", "temperature", "teacher", "said"),
    [
        ("distil", 1.0, SHARP, "stops"),
        ("distil", 0.5, SHARP, "warns"),
        ("distil", 0.05, SHARP, "passes"),
        ("distil", 1.0, SHARP / 20, "passes"),
        ("distil", 1.0, SHARP * 0, "passes"),
        ("margin_mse", 1.0, SHARP, "stops"),
        ("margin_mse", 0.2, SHARP, "warns"),
        ("margin_mse", 0.05, SHARP, "passes"),
    ],
)
def test_a_temperature_at_which_cosines_cannot_follow_the_teacher(
    loss: str, temperature: float, teacher: data.Floats, said: str
) -> None:
    train = Train.model_validate({"losses": {loss: 1}, "temperature": temperature})
    if said == "stops":
        with pytest.raises(InputError, match=f"`{loss}` cannot fall below"):
            checks.teacher_can_be_followed(train, teacher)
    else:
        assert bool(checks.teacher_can_be_followed(train, teacher).warnings) == (said == "warns")


def test_the_least_divergence_is_what_a_search_finds() -> None:
    draw = np.random.default_rng(0)
    wanted = torch.from_numpy(draw.normal(scale=3, size=(6, 5)))
    wanted[0, 4] = torch.nan
    there = ~wanted.isnan()
    teacher = wanted.masked_fill(~there, -torch.inf).softmax(1)
    cosines = torch.zeros_like(wanted, requires_grad=True)
    optimizer = torch.optim.Adam([cosines], lr=0.02)
    for _ in range(2000):
        student = (cosines.clamp(-1, 1) / 0.8).masked_fill(~there, -torch.inf).log_softmax(1).masked_fill(~there, 0)
        loss = torch.nn.functional.kl_div(student, teacher, reduction="none").sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert checks.least_divergence(wanted.numpy(), 2 / 0.8) == pytest.approx(loss.item(), abs=2e-3)
    assert checks.least_divergence(wanted.numpy(), 100) == pytest.approx(0, abs=1e-9)


def test_the_lowest_loss_is_the_one_of_perfect_embeddings() -> None:
    scores = np.full(8, -1 / 0.5)
    scores[0] = 1 / 0.5
    perfect = np.log(np.exp(scores).sum()) - scores[0]
    lowest = checks.loss_can_learn(Train(temperature=0.5), 8).figures["lowest"]
    assert lowest == pytest.approx(perfect / np.log(8), abs=1e-4)


def test_texts_that_are_cut_are_told_by_column_with_the_length_that_keeps_them(
    tmp_path: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = [" ".join(WORDS[n : n + 12]) for n in range(8)]
    figures = looked_at(tmp_path, tiny_model, table(positive=long), max_length=10)
    assert figures["lengths"] == {
        "max_length": 10,
        "query_length": 10,
        "cut": {"query": 0, "positive": 0.5, "negative_1": 0},
        "keeps_95%": 14,
        "sample": 16,
    }
    [warning] = caplog.records
    assert "10 tokens cut 50% of positive" in warning.message
    assert "`train.max_length: 14` would keep 95%" in warning.message


def test_the_prompt_counts_as_part_of_the_text(tmp_path: Path, tiny_model: Path) -> None:
    prompted = SentenceTransformer(str(tiny_model), device="cpu")
    prompted.prompts = {"query": "what is the plan for ", "document": ""}
    prompted.save_pretrained(str(tmp_path / "prompted"), create_model_card=False)
    figures = looked_at(tmp_path, tmp_path / "prompted", table(), max_length=8)
    assert figures["lengths"]["cut"] == {"query": 1, "positive": 0, "negative_1": 0}


def test_queries_of_late_interaction_are_cut_to_the_length_that_the_model_expands_them_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = [" ".join(WORDS[n : n + 20]) for n in range(8)]
    base, late = make_tiny_colbert(tmp_path / "late"), {"method": "late-interaction", "max_length": 24}
    figures: Any = looked_at(tmp_path, base, table(query=long), **late)["lengths"]
    assert (figures["query_length"], figures["max_length"]) == (12, 24)
    assert figures["cut"] == {"query": 0.5, "positive": 0, "negative_1": 0} and figures["keeps_95%"] < 12
    [warning] = [it for it in caplog.records if "tokens cut" in it.message]
    assert "12 tokens cut 50% of query" in warning.message and "train.max_length" not in warning.message


def test_training_reads_as_much_of_a_text_as_is_checked_and_no_library_remarks_on_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Model(model=str(make_tiny_colbert(tmp_path / "late")))
    train = Train(method="late-interaction", max_length=24, batch_size=8, max_steps=1)
    long = [" ".join(WORDS[n : n + 30]) for n in range(8)]
    folder = publish(tmp_path / "dataset", table(query=long, positive=long[::-1]))
    rows = data.read(data.Found("d", "r", sorted(folder.rglob("*.parquet")), None), Data(dataset=str(folder)), None, 0)
    model, read = models.load(base, device="cpu", method=train.method), {}
    preprocess = model.preprocess

    def noting(texts: list[str], *settings: Any, **named: Any) -> Any:
        features = preprocess(texts, *settings, **named)
        read[named["task"]] = max(read.get(named["task"], 0), features["input_ids"].shape[1])
        return features

    monkeypatch.setattr(model, "preprocess", noting)
    fit(model, rows, checks.batches_of(rows, train), train, tmp_path / "run" / "checkpoints", None)
    assert read == lengths_in_training(model, train) == {"query": 12, "document": 24}
    assert "is ignored" not in caplog.text


def test_passages_of_a_task_among_the_rows_are_a_warning(
    tmp_path: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, title, text = PASSAGES[0]
    shared = [f"{title.upper()}: {text}", "asthma treatment, with daily (oral) steroid"]
    figures = looked_at(tmp_path, tiny_model, table(positive=shared[:1], negative_1=["none", shared[1]]))
    assert figures["tasks"] == {"task": {"queries": 0, "passages": 2}}
    assert "2 of 16 training rows hold passages of this task" in caplog.text
    assert "asthma" not in caplog.text


def test_development_tasks_are_looked_at_and_those_that_cannot_be_had_are_told(
    tmp_path: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chosen_by = write_beir(tmp_path / "chosen-by", queries=[("q1", "what is raised dose"), *QUERIES[1:]])
    with pytest.raises(InputError, match=r"train\.development\.tasks: chosen-by"):
        looked_at(tmp_path, tiny_model, table(query=["What is raised dose"]), development={"tasks": [str(chosen_by)]})
    [shared] = shared_with(["NoSuchTask"], data.Dataset(table()))
    assert "mteb has no task 'NoSuchTask'" in shared.why_not


def test_a_manifest_that_tells_of_the_file_is_believed(tmp_path: Path, tiny_model: Path) -> None:
    file = publish(tmp_path / "first", table()) / "triplets" / "train-00000-of-00001.parquet"
    told = {"stages": {"mine": {"outputs": {"triplets-train.parquet": sha256(file)}}}}
    assert looked_at(tmp_path, tiny_model, table(), manifest=told)["manifest"] == "matches"


@pytest.mark.parametrize(
    "hostile", [[], "x", {"stages": []}, {"stages": {"mine": None}}, {"stages": {"mine": {"outputs": 3}}}]
)
def test_a_manifest_of_any_form_is_looked_at_without_harm(tmp_path: Path, hostile: object) -> None:
    place = publish(tmp_path, table())
    found = data.Found("d", "r", sorted(place.rglob("*.parquet")), hostile)  # type: ignore[arg-type]
    assert checks.manifest_matches(found, Data(dataset=str(tmp_path)).config).figures in (
        "none",
        "says nothing of the file",
    )


def test_rows_that_find_no_place_are_told() -> None:
    assert not checks.rows_find_a_place(96, 100).warnings
    [warning] = checks.rows_find_a_place(60, 100).warnings
    assert "40 of 100 rows (40%) are left out" in warning.what
