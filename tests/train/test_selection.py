"""What is saved in the end: the checkpoint, mean or mixture that ranks best on the development data; and after a kill the same."""

import json
import subprocess
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from medembed import models
from medembed.recipe_file import load
from medembed.rows import triplets_schema
from medembed.train.development import Ranking, ndcg
from medembed.train.selection import Selection, mixed
from tests.fixtures.models import make_tiny_model
from tests.train.conftest import NEGATIVES, Bench, environment, publish, triplets

QUERIES = ["chest pain", "insulin dose", "knee exam", "oral antibiotic"]
PASSAGES = ["pain in the chest", "daily insulin dose", "left knee exam normal", "antibiotic stop", "fever", "labs low"]
RANKING = Ranking(
    "dev",
    {f"q{n}": text for n, text in enumerate(QUERIES)},
    {f"p{n}": text for n, text in enumerate(PASSAGES)},
    {f"q{n}": {f"p{n}"} for n in range(len(QUERIES))},
)


@given(st.integers(1, 4), st.floats(0, 0.9))
def test_a_mixture_is_the_sum_of_the_weights_by_their_shares(checkpoints: int, base: float) -> None:
    weights = [{"w": torch.full((3,), float(n)), "ids": torch.tensor([n])} for n in range(checkpoints + 1)]
    share = (1 - base) / checkpoints
    total = mixed([*((share, it) for it in weights[:-1]), (base, weights[-1])])
    expected = share * sum(range(checkpoints)) + base * checkpoints
    assert torch.allclose(total["w"], torch.full((3,), expected), atol=1e-5)
    assert total["ids"].tolist() == [0]  # no mean of position ids
    assert torch.equal(weights[-1]["w"], torch.full((3,), float(checkpoints)))  # nothing changed in place


def test_one_checkpoint_alone_is_itself_to_the_last_bit() -> None:
    weights = {"w": torch.randn(1000)}
    assert torch.equal(mixed([(1.0, weights)])["w"], weights["w"])


def selection(bench: Bench, folder: Path, *said: str) -> Selection:
    values = ("train.development.averaging.checkpoints=2", "train.development.averaging.base=[0.0,0.5]", *said)
    return Selection(load(bench.recipe, values), [RANKING], folder / "development")


def checkpoint(bench: Bench, folder: Path, step: int) -> Path:
    """A checkpoint of the tiny base, moved at random: the further, the later."""
    model = models.load(load(bench.recipe).base, device="cpu")
    torch.manual_seed(step)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.03 * step * torch.randn_like(parameter))
    model.save_pretrained(str(folder / f"checkpoint-{step}"), create_model_card=False)
    return folder / f"checkpoint-{step}"


@pytest.fixture(scope="module")
def checkpoints(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return [checkpoint(bench, folder, step) for step in (3, 6, 9, 12)]


def test_the_best_of_checkpoints_mean_and_mixtures_is_chosen_and_every_score_told(
    bench: Bench, checkpoints: list[Path], tmp_path: Path
) -> None:
    chooser = selection(bench, tmp_path)
    for it in checkpoints[:-1]:
        chooser.take(it)
    weights, told = chooser.choose(checkpoints[-1])
    best = max(told["checkpoints"], key=told["checkpoints"].__getitem__)
    tried = [(tuple(it["steps"]), it["base"]) for it in told["candidates"]]
    assert tried == [((int(best),), 0.0), ((9, 12), 0.0), ((int(best),), 0.5), ((9, 12), 0.5)]
    assert told["chosen"]["ndcg_at_10"] == max(it["ndcg_at_10"] for it in told["candidates"])
    assert told["rankings"] == {"dev": {"queries": 4, "passages": 6}}
    model = models.load(load(bench.recipe).base, device="cpu")
    assert ndcg(model, [RANKING], 4) == told["base"]
    model.load_state_dict(weights)
    assert ndcg(model, [RANKING], 4) == told["chosen"]["ndcg_at_10"]


def test_a_score_is_that_of_the_model_as_it_would_be_used(
    bench: Bench, checkpoints: list[Path], tmp_path: Path
) -> None:
    chooser = selection(bench, tmp_path)
    chooser.take(checkpoints[0])
    _, told = chooser.choose(checkpoints[0])
    model = models.load(load(bench.recipe).base, device="cpu")
    model.load_state_dict(
        {f"0.model.{k}": v for k, v in load_file(checkpoints[0] / "model.safetensors").items()}, strict=False
    )
    assert told["checkpoints"] == {"3": ndcg(model, [RANKING], 4)}


def test_the_best_weights_stay_whole_while_the_trainer_removes_its_checkpoints(
    bench: Bench, checkpoints: list[Path], tmp_path: Path
) -> None:
    chooser = selection(bench, tmp_path)
    for it in checkpoints:
        chooser.take(it)
    _, told = chooser.choose(checkpoints[-1])
    kept = {int(path.stem) for path in (tmp_path / "development").glob("*.pt")}
    assert {max(told["checkpoints"], key=told["checkpoints"].__getitem__)} <= {str(step) for step in kept}
    assert {9, 12} <= kept and len(kept) <= 3


def test_what_was_measured_before_a_kill_is_taken_up_and_the_choice_is_the_same(
    bench: Bench, checkpoints: list[Path], tmp_path: Path
) -> None:
    undisturbed = selection(bench, tmp_path / "a")
    for it in checkpoints:
        undisturbed.take(it)
    weights, told = undisturbed.choose(checkpoints[-1])
    for it in checkpoints:
        again = selection(bench, tmp_path / "b")  # a new process after each checkpoint, which takes the last one again
        again.take(it)
        before = (tmp_path / "b" / "development" / "scores.json").stat().st_mtime_ns
        selection(bench, tmp_path / "b").take(it)
        assert (tmp_path / "b" / "development" / "scores.json").stat().st_mtime_ns == before
    others, told_again = selection(bench, tmp_path / "b").choose(checkpoints[-1])
    assert told_again == told
    assert all(torch.equal(others[name], tensor) for name, tensor in weights.items())


def test_checkpoints_between_two_measurements_are_passed_over(
    bench: Bench, checkpoints: list[Path], tmp_path: Path
) -> None:
    chooser = selection(bench, tmp_path, "train.development.steps=6")
    for it in checkpoints:
        chooser.take(it)
    _, told = chooser.choose(checkpoints[-1])
    assert list(told["checkpoints"]) == ["6", "12"]


@pytest.mark.long
def test_two_processes_killed_between_checkpoints_choose_the_weights_of_an_undisturbed_run(
    bench: Bench, tmp_path: Path
) -> None:
    dataset = publish(tmp_path / "dataset", triplets())
    dev = [row | {"query": row["query"].replace(" q", " dev")} for row in triplets().to_pylist()[40:]]
    pq.write_table(pa.Table.from_pylist(dev, schema=triplets_schema(NEGATIVES)), dataset / "triplets" / "dev-0.parquet")
    base = make_tiny_model(tmp_path / "base", dropout=0.1)
    values = [f"data.dataset={dataset}", f"base.model={base}"]
    values += ["train.development.averaging={checkpoints: 2, base: [0.0, 0.5]}", "train.lora={rank: 4, dropout: 0.1}"]
    here = Bench(bench.recipe, tmp_path)
    done = here.train(*values, run="whole", processes=2)
    assert done.returncode == 0, done.stderr[-3000:]

    started = subprocess.Popen(
        here.command(*values, run="killed", processes=2), env=environment(), stderr=subprocess.DEVNULL
    )
    scores = tmp_path / "killed" / "train" / "checkpoints" / "development" / "scores.json"
    deadline = time.monotonic() + 300
    while not scores.exists() or len(json.loads(scores.read_text())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    for process in [psutil.Process(started.pid), *psutil.Process(started.pid).children(recursive=True)]:
        process.kill()
    started.wait()
    assert not (tmp_path / "killed" / "train" / "record.json").exists()
    done = here.train(*values, run="killed", processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert here.record("killed").facts == here.record("whole").facts
    assert here.record("killed").outputs == here.record("whole").outputs
    assert len(here.record("whole").facts["development"]["checkpoints"]) == 6
