"""Training in real processes of `accelerate launch`: the same result however many they are."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from safetensors.numpy import load_file
from sentence_transformers import SentenceTransformer
from transformers import DataCollatorWithFlattening

from medembed import models, resources
from medembed.errors import InputError
from medembed.processes import processes
from medembed.recipe import Train
from medembed.recipe_file import load
from medembed.run import OWNER, sha256
from medembed.train import checks, data
from medembed.train.launch import launch
from medembed.train.trainer import fit, prompts_by_column
from tests.train.conftest import NEGATIVES, ROWS, Bench, environment

STEPS = 18


@pytest.fixture(scope="module")
def one(bench: Bench) -> Bench:
    """The bench, with an undisturbed run of one process in `one`."""
    done = bench.train(run="one")
    assert done.returncode == 0, done.stderr[-3000:]
    return bench


@pytest.fixture(scope="module")
def two(one: Bench) -> Bench:
    """The bench, with an undisturbed run of two processes in `two`."""
    _measured_before(one, "two")
    done = one.train(run="two", processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    return one


@pytest.mark.slow
def test_training_lowers_the_loss_and_records_what_it_did(one: Bench) -> None:
    record, losses = one.record("one"), one.losses("one")
    assert len(losses) == record.facts["steps"] == STEPS
    assert np.mean(losses[-4:]) < np.mean(losses[:4]) - 0.3
    assert record.facts["compared_with"].endswith("24 passages: its own, 7 of other queries, 16 hard negatives")
    assert record.facts["pairs"] == STEPS * 8
    assert record.counts == {"rows in": ROWS, "rows": ROWS, "rows of an epoch": ROWS}
    assert record.facts["dataset"]["provenance"] == {"name": "made-by-hand"}
    assert record.outputs["model/model.safetensors"] == sha256(one.weights("one"))
    assert {"model/config.json", "model/modules.json", "losses.json"} < set(record.outputs)


@pytest.mark.slow
def test_the_base_is_measured_before(one: Bench) -> None:
    assert list((one.folder / "one" / "measured").rglob("scores.parquet"))


@pytest.mark.slow
def test_two_processes_train_as_one(one: Bench, two: Bench) -> None:
    assert two.record("two").measured["processes"] == 2
    np.testing.assert_allclose(one.losses("one"), two.losses("two"), atol=1e-5)
    ours, theirs = load_file(one.weights("one")), load_file(two.weights("two"))
    for name, tensor in ours.items():
        np.testing.assert_allclose(tensor, theirs[name], atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_two_processes_train_with_a_guide_which_the_record_names(one: Bench, tiny_model: Path) -> None:
    _measured_before(one, "guided")
    said = [f"train.guide.model={tiny_model}", "train.symmetric=true", "train.max_steps=2"]
    done = one.train(*said, run="guided", processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    facts = one.record("guided").facts
    assert facts["guide"]["revision"] == sha256(tiny_model / "model.safetensors")[:40]
    assert 0 <= facts["guide"]["left_out"] < 0.25
    assert facts["compared_with"].endswith("with 8 queries; less what the guide holds for right")
    assert one.record("one").facts["guide"] is None


@pytest.mark.slow
def test_the_model_is_the_base_with_new_weights(one: Bench, tiny_model: Path) -> None:
    model, base = (
        SentenceTransformer(str(one.weights("one").parent), device="cpu"),
        load_file(tiny_model / "model.safetensors"),
    )
    assert model.max_seq_length == 48  # base.max_length, not train.max_length
    assert model.prompts == {"query": "what: ", "document": "the: "}
    assert any(not np.array_equal(tensor, base[name]) for name, tensor in load_file(one.weights("one")).items())
    tokenizer = (one.weights("one").parent / "tokenizer.json").read_bytes()
    assert tokenizer == (tiny_model / "tokenizer.json").read_bytes()


@pytest.mark.slow
def test_done_is_done_in_all_processes(two: Bench) -> None:
    record = two.folder / "two" / "train" / "record.json"
    before = record.stat().st_mtime_ns
    done = two.train(run="two", processes=2)
    assert done.returncode == 0
    train, following = done.stdout.splitlines()  # by the main process alone, and no more than that
    assert train.startswith("train ") and f"{STEPS} steps" in train and "done before" in train
    assert following == f"next       medembed evaluate {two.recipe} --run-dir {two.folder / 'two'}"
    assert record.stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_fault_in_the_training_process_comes_back_with_its_kind(
    bench: Bench, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"{ROWS} rows fill no batch of 100") as error:
        launch(bench.recipe, ("train.batch_size=100",), bench.folder / "faulty")
    assert error.value.faults[0].where == "train.batch_size"
    assert "Traceback" not in capfd.readouterr().err


def test_mini_batches_change_memory_and_not_the_result(bench: Bench, tmp_path: Path) -> None:
    losses = [_trained(bench, tmp_path / str(n), "train.max_steps=4", f"train.mini_batch_size={n}") for n in (4, 512)]
    np.testing.assert_allclose(*losses, atol=1e-5)


def test_the_recipe_says_in_which_precision_and_whether_compiled_whatever_the_launcher_says(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = _trained(bench, tmp_path / "plain", "train.max_steps=4")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "EAGER")
    assert _trained(bench, tmp_path / "launched", "train.max_steps=4") == plain
    state = AcceleratorState()
    assert (state.mixed_precision, state.dynamo_plugin.backend) == ("no", "NO")


def test_texts_are_padded_whatever_attention_the_base_asks_for(bench: Bench, tmp_path: Path) -> None:
    recipe = load(bench.recipe, ("train.max_steps=1",))
    rows = data.read(data.find(recipe.data, bench.run("unused")), recipe.data, NEGATIVES, 0)
    model = models.load(recipe.base, device="cpu")
    model[0].can_flatten_inputs, model[0]._flatten_position_offset = True, 0  # as flash attention makes it
    model[0].data_collator = DataCollatorWithFlattening(return_flash_attn_kwargs=True)
    assert "cu_seq_lens_q" in model.preprocess(["chest pain", "fever"])
    trained = fit(model, rows, checks.batches_of(rows, recipe.train), recipe.train, tmp_path / "padded", None)
    assert trained.losses == _trained(bench, tmp_path / "plain", "train.max_steps=1")


def test_each_column_is_trained_with_the_prompt_that_it_is_used_with(tiny_model: Path) -> None:
    model, columns = SentenceTransformer(str(tiny_model), device="cpu"), ["query", "positive", "negative_1"]
    assert prompts_by_column(model, columns) == {}
    model.prompts = {"query": "q: ", "document": ""}
    assert prompts_by_column(model, columns) == {"query": "q: "}
    model.prompts = {"query": "q: ", "passage": "p: "}
    assert prompts_by_column(model, columns) == {"query": "q: ", "positive": "p: ", "negative_1": "p: "}


def test_accelerate_takes_every_launch_config() -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    files = sorted(resources.folder("recipes").glob("accelerate/*.yaml"))
    configs = {file.stem: load_config_from_file(str(file)) for file in files}  # unknown keys raise
    assert list(configs) == ["cpu", "ddp", "fsdp", "multi_node", "single_gpu"]
    assert [config.distributed_type for config in configs.values()] == ["NO", "MULTI_GPU", "FSDP", "MULTI_GPU", "NO"]


def test_rows_that_fill_no_batch_are_said(bench: Bench) -> None:
    recipe = load(bench.recipe)
    rows = data.read(data.find(recipe.data, bench.run("unused")), recipe.data, None, 0)
    with pytest.raises(InputError, match=f"{ROWS} rows fill no batch of 70"):
        checks.batches_of(rows, Train(batch_size=70))


def test_processes_that_would_train_apart_and_precisions_that_do_not_exist_are_said_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    processes()  # as those of a launcher find them: there are none that this one could look for
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(InputError) as error:
        checks.processes_fit(Train(precision="fp16"))
    assert [fault.where for fault in error.value.faults] == ["accelerate", "accelerate", "train.precision"]


def test_adapters_are_refused_where_weights_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    processes()
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(InputError) as error:
        checks.processes_fit(Train.model_validate({"lora": {}}))
    fault = error.value.faults[-1]
    assert fault.where == "train.lora" and "shared out (FSDP)" in fault.what and "ddp.yaml" in fault.mend


def _trained(bench: Bench, folder: Path, *values: str) -> list[float]:
    """The losses of each step."""
    recipe = load(bench.recipe, values)
    rows = data.read(data.find(recipe.data, bench.run("unused")), recipe.data, NEGATIVES, 0)
    model, batches = models.load(recipe.base, device="cpu"), checks.batches_of(rows, recipe.train)
    return fit(model, rows, batches, recipe.train, folder, None).losses


def _measured_before(one: Bench, run: str) -> None:
    """Give `run` the measurement of the base that the run `one` has made: it takes most of a short run."""
    shutil.copytree(one.folder / "one" / "measured", one.folder / run / "measured")
    shutil.copy(one.folder / "one" / OWNER, one.folder / run / OWNER)
