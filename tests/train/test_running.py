"""Training that is interrupted, harmed or watched learns what it would have learned: the same losses and weights to the last bit."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from safetensors.torch import load

from medembed.errors import InputError
from medembed.recipe import Train
from medembed.recipe_file import load as load_recipe
from medembed.run import read_json, sha256, write_json
from medembed.train.callbacks import Progress, check_reporters
from medembed.train.checkpoints import COMPLETE, last_checkpoint
from tests.fixtures.hub import Hub
from tests.fixtures.models import make_tiny_model
from tests.train.conftest import SECRET, Bench, environment
from tests.train.forked import Done, Forge

STEPS = 18
KILL, TERM = signal.SIGKILL, signal.SIGTERM
SHORT = "train.max_steps=6"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with Hub(tmp_path_factory.mktemp("hub")) as server:
        yield server


@pytest.fixture(scope="module")
def forge(bench: Bench, hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """Trains the bench's recipe with dropout, so that every generator of random numbers has a say."""
    folder = tmp_path_factory.mktemp("forge")
    recipe = yaml.safe_load(bench.recipe.read_text(encoding="utf-8"))
    recipe["base"]["model"] = str(make_tiny_model(folder / "dropout", dropout=0.1))
    recipe["publish"] = {"repo": "medembed/tiny", "license": "apache-2.0"}  # of data whose licence nobody tells
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    with Forge(folder / "recipe.yaml", folder, environment() | hub.env() | {"HF_HUB_OFFLINE": "0"}) as forge:
        yield forge


@pytest.fixture(scope="module")
def undisturbed(forge: Forge) -> dict[int, Done]:
    """Runs of one and of two processes."""
    runs = {n: forge.train(run=f"undisturbed-{n}", processes=n) for n in (1, 2)}
    assert [run.codes for run in runs.values()] == [[0], [0, 0]], runs[1].stderr + runs[2].stderr
    return runs


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_stopped_at_many_steps_it_ends_with_the_same_weights(
    forge: Forge, undisturbed: dict[int, Done], processes: int
) -> None:
    def interrupted(**harm: int) -> Done:
        return forge.train(run=f"killed-{processes}", processes=processes, rank=processes - 1, **harm)

    assert interrupted(step=2, signal=KILL).checkpoints == []
    assert interrupted(step=5, signal=KILL).checkpoints == ["checkpoint-3"]
    stopped = interrupted(step=4, signal=TERM)  # in one process, and both end after step 7
    assert stopped.codes == [143] * processes
    assert f"stopped after step 7 of {STEPS}" in stopped.told[0]
    assert stopped.checkpoints == ["checkpoint-6", "checkpoint-7"]
    weights = stopped.folder / "train" / "checkpoints" / "checkpoint-7" / "model.safetensors"
    flipped = bytearray(weights.read_bytes())
    flipped[-1] ^= 1
    weights.write_bytes(flipped)
    resumed = interrupted(save=1, signal=KILL)  # while a checkpoint is written
    assert "checkpoint-7 is not whole (changed since: model.safetensors)" in resumed.stderr
    assert "goes on from checkpoint-6" in resumed.stderr
    assert interrupted(step=10, signal=KILL).checkpoints == ["checkpoint-12", "checkpoint-15"]
    files = [path for path in resumed.folder.rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    last = interrupted()
    assert last.codes == [0] * processes, last.stderr
    assert last.losses == undisturbed[processes].losses
    assert last.weights == undisturbed[processes].weights


@pytest.mark.slow
def test_the_same_recipe_has_the_same_losses_to_the_last_digit_also_when_the_model_is_measured_meanwhile(
    forge: Forge, undisturbed: dict[int, Done]
) -> None:
    measured = forge.train(run="measured", processes=2, measure=True, rank=-1)
    assert (measured.folder / "measured").read_text().split() == ["3", "6", "9", "12", "15", "18"]
    assert measured.losses == undisturbed[2].losses
    assert measured.weights == undisturbed[2].weights


@pytest.mark.slow
def test_a_run_that_ended_within_an_epoch_takes_no_further_step_when_it_is_resumed(forge: Forge) -> None:
    first, again = (forge.train(SHORT, run="ended") for _ in range(2))
    assert len(first.losses) == 6
    assert again.losses == first.losses
    assert again.weights == first.weights


@pytest.mark.slow
def test_accumulated_batches_are_those_of_single_steps_and_steps_are_counted_as_the_optimizer_takes_them(
    forge: Forge, tiny_model: Path
) -> None:
    still = (f"base.model={tiny_model}", "train.learning_rate=1e-12", "train.epochs=1")  # one without dropout
    single, summed = forge.train(*still, run="single"), forge.train(*still, "train.accumulation=3", run="summed")
    assert len(single.losses) == 9 and len(summed.losses) == 3
    means = [np.mean(single.losses[at : at + 3]) for at in (0, 3, 6)]
    np.testing.assert_allclose(summed.losses, means, atol=1e-5)
    stopped = forge.train(*still, "train.accumulation=3", run="summed-stopped", step=2, signal=TERM)
    assert "stopped after step 2 of 3" in stopped.told[0]
    assert forge.train(*still, "train.accumulation=3", run="summed-stopped").weights == summed.weights


@pytest.mark.slow
def test_a_loss_that_is_not_a_number_is_told_by_its_step_and_rows_and_nothing_of_it_is_kept(forge: Forge) -> None:
    spoilt = forge.train(run="spoilt", processes=2, nan=4)
    assert spoilt.codes == [1, 1]
    assert spoilt.told[0].startswith("train: the loss is nan at step 5; its batch: row ")
    assert spoilt.told[0] == spoilt.told[1]
    listed = read_json(spoilt.folder / "train" / "not-finite.json")
    assert listed["step"] == 5 and len(set(listed["rows"])) == 8
    assert all(row in spoilt.told[0] for row in listed["rows"])
    assert SECRET not in spoilt.told[0] + spoilt.stderr
    assert spoilt.checkpoints == ["checkpoint-3"]


@pytest.mark.slow
def test_memory_that_does_not_suffice_in_one_process_is_told_with_what_to_lower(forge: Forge) -> None:
    starved = forge.train(run="starved", processes=2, starve=2, rank=1)
    assert starved.codes == [1, 1]
    assert "another of the processes has ended" in starved.told[0]
    assert starved.told[1].startswith("train, process 1 of 2: out of memory")
    settings = ("mini_batch_size` (4)", "activation_checkpointing: true", "max_length` (24)", "lora")
    places = [starved.told[1].index(name) for name in settings]
    assert places == sorted(places)


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_checkpoint_and_the_same_command_goes_on_when_there_is_space(
    forge: Forge, undisturbed: dict[int, Done]
) -> None:
    if not forge.can_mount:
        pytest.skip("needs a mount namespace, for a small disk of its own")
    full = forge.train(run="full", space=900)
    assert full.codes == [1]
    assert "no space left on the device" in full.told[0] and "Free some space" in full.told[0]
    more = forge.train(run="full", space=9000)
    assert "goes on from checkpoint-" in more.stderr
    assert more.weights == undisturbed[1].weights


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_loaded_is_told_with_what_wrote_it(forge: Forge) -> None:
    stopped = forge.train(run="foreign", step=4, signal=TERM)
    checkpoint = stopped.folder / "train" / "checkpoints" / "checkpoint-4"
    (checkpoint / "optimizer.pt").write_bytes(b"of another version")
    mark = read_json(checkpoint / COMPLETE)
    mark["files"]["optimizer.pt"] = sha256(checkpoint / "optimizer.pt")
    mark["by"]["torch"] = "9.9"
    write_json(checkpoint / COMPLETE, mark)
    resumed = forge.train(run="foreign")
    assert resumed.codes == [1]
    assert "written by others (torch 9.9, now" in resumed.stderr
    assert str(checkpoint) in resumed.told[0] and "torch 9.9" in resumed.told[0]
    assert checkpoint.exists()  # only its owner can say that it is worth nothing


@pytest.mark.slow
def test_activation_checkpointing_and_lower_precision_learn_the_same_within_their_precision(
    forge: Forge, undisturbed: dict[int, Done]
) -> None:
    plain = undisturbed[1].losses[:6]
    recomputed = forge.train(SHORT, "train.warmup=0", "train.activation_checkpointing=true", run="recomputed")
    half = forge.train(SHORT, "train.warmup=0", "train.precision=bf16", run="half")
    full = forge.train(SHORT, "train.warmup=0", run="full-precision")
    assert recomputed.codes == half.codes == full.codes == [0], recomputed.stderr + half.stderr
    np.testing.assert_allclose(recomputed.losses, full.losses, atol=1e-5)
    np.testing.assert_allclose(half.losses, full.losses, atol=0.05)
    assert half.losses != full.losses
    assert {str(tensor.dtype) for tensor in load(half.weights).values()} == {"torch.float32"}
    assert plain[0] == full.losses[0]


@pytest.mark.long
def test_a_compiled_model_learns_the_same_and_is_saved_as_a_plain_one(bench: Bench) -> None:
    for compiled in ("false", "true"):
        done = bench.train(SHORT, f"train.compile={compiled}", run=f"compiled-{compiled}")
        assert done.returncode == 0, done.stderr
    plain, ours = (load(bench.weights(f"compiled-{it}").read_bytes()) for it in ("false", "true"))
    np.testing.assert_allclose(bench.losses("compiled-true"), bench.losses("compiled-false"), atol=1e-4)
    assert {name: tensor.shape for name, tensor in ours.items()} == {name: it.shape for name, it in plain.items()}
    assert max(float((ours[name] - plain[name]).abs().max()) for name in plain) < 1e-3


@pytest.mark.slow
def test_checkpoints_are_pushed_to_a_branch_each_once_whatever_the_hub_does(forge: Forge, hub: Hub) -> None:
    branch = ("train.max_steps=12", "train.checkpoint_branch=checkpoints")
    hub.fail("POST", "/commit/checkpoints", status=503)  # the first push
    stopped = forge.train(*branch, run="pushed", step=8, signal=TERM)
    assert stopped.codes == [143], stopped.stderr
    assert "checkpoint-3 is not pushed, the next one is tried: " in stopped.stderr
    done = forge.train(*branch, run="pushed")
    assert done.codes == [0], done.stderr
    repo = hub.repos["model", "medembed/tiny"]
    titles = [commit.title for commit in repo.history("checkpoints")]
    assert len(titles) == len(set(titles)) and titles[0] == "Step 12 of the training of tiny"
    files = repo.at("checkpoints").files
    assert {"model.safetensors", "modules.json", "tokenizer.json"} < set(files)
    assert not any(name.startswith(("optimizer", "rng_state", "scheduler")) for name in files)
    assert set(repo.at("main").files) <= {".gitattributes"}
    assert files["model.safetensors"].path.read_bytes() != b""


def test_the_last_whole_checkpoint_is_taken_and_torn_ones_are_removed_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert last_checkpoint(tmp_path) is None
    for step in (9, 30, 100, 200, 300):
        _checkpoint(tmp_path / f"checkpoint-{step}")
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-300"
    (tmp_path / "checkpoint-300" / COMPLETE).unlink()
    (tmp_path / "checkpoint-200" / COMPLETE).write_text("{")
    (tmp_path / "checkpoint-100" / "optimizer.pt").unlink()
    (tmp_path / "checkpoint-30" / "optimizer.pt").write_bytes(b"weig")
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-9"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-9"]
    assert caplog.text.count("is not whole") == 4


@pytest.mark.slow
def test_tensorboard_is_told_loss_and_learning_rate_of_each_step_and_no_text(forge: Forge) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = forge.train(SHORT, "train.report_to=[tensorboard]", run="reported")
    assert done.codes == [0], done.stderr
    folder = done.folder / "train" / "tensorboard"
    told = EventAccumulator(str(folder)).Reload()
    losses, rates = (told.Scalars(f"train/{name}") for name in ("loss", "learning_rate"))
    assert [it.step for it in losses] == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose([it.value for it in losses], done.losses, rtol=1e-6)
    assert max(it.value for it in rates) == pytest.approx(1e-3)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files and not any(SECRET.encode() in path.read_bytes() for path in files)


def test_a_reporter_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    check_reporters(Train())
    monkeypatch.setattr("medembed.train.callbacks.find_spec", lambda name: None)
    with pytest.raises(InputError, match="trackio is not installed") as error:
        check_reporters(Train(report_to=["trackio", "wandb"]))
    assert [fault.mend for fault in error.value.faults] == [
        f"pip install 'medembed[{n}]'" for n in ("trackio", "wandb")
    ]


def test_without_a_terminal_progress_is_a_line_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    progress, state = Progress(pairs=64), SimpleNamespace(global_step=0, max_steps=40)
    progress.on_train_begin(None, state, None)
    for state.global_step in range(1, 41):
        time.sleep(0.001)
        progress.on_log(None, state, None, {"loss": 0.5, "learning_rate": 2e-5})
    progress.on_train_end(None, state, None)
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith("train: step 1 of 40, loss 0.500, lr 2.0e-05, ")
    assert caplog.messages[0].endswith(" left") and " pairs/s, " in caplog.messages[0]


def test_a_branch_for_checkpoints_needs_a_repository_and_whole_models_and_is_not_main(bench: Bench) -> None:
    for values, says in (
        (("train.checkpoint_branch=wip", "train.lora={}", "publish={repo: org/x}"), "drop one of the two"),
        (("train.checkpoint_branch=wip",), "there is none"),
        (("train.checkpoint_branch=main", "publish={repo: org/x}"), "for the finished model"),
    ):
        with pytest.raises(InputError, match=says):
            load_recipe(bench.recipe, values)


def _checkpoint(folder: Path) -> None:
    folder.mkdir()
    (folder / "optimizer.pt").write_bytes(b"weights")
    write_json(folder / COMPLETE, {"files": {"optimizer.pt": sha256(folder / "optimizer.pt")}, "by": {}})


@pytest.mark.slow
def test_shards_learn_what_whole_weights_learn_and_go_on_after_a_stop_and_a_kill(
    forge: Forge, undisturbed: dict[int, Done]
) -> None:
    sharded = forge.train(run="sharded", processes=2, fsdp=1)
    assert sharded.codes == [0, 0], sharded.stderr
    assert np.allclose(undisturbed[2].losses, sharded.losses, atol=1e-4)
    for how, step in ((TERM, 4), (KILL, 8)):
        cut = forge.train(run="sharded-cut", processes=2, fsdp=1, rank=1, step=step, signal=how)
        assert 0 not in cut.codes, cut.stderr
    cut = forge.train(run="sharded-cut", processes=2, fsdp=1)
    assert cut.codes == [0, 0], cut.stderr
    assert cut.losses == sharded.losses
    assert cut.weights == sharded.weights
