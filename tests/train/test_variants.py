"""Every variant that is published trains from end to end, in two processes of `accelerate launch`, by its own recipe made small."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medembed import models, resources
from medembed.recipe import Model, ModelRecipe
from medembed.recipe_file import load
from medembed.rows import triplets_schema
from medembed.run import Run
from tests.fixtures.beir import QUERIES, write_beir
from tests.fixtures.models import make_tiny_colbert, make_tiny_model
from tests.train.conftest import environment, triplets

NEGATIVES, STEPS = 7, 4
ADAPTED = " with adapters"
ADAPTERS = ["train.lora={rank: 4, alpha: 8}", "train.learning_rate=1e-3"]  # as the large recipe offers them
VARIANTS = [name for name in resources.recipes() if name.startswith("models/")]
VARIANTS += ["models/medembed-large-v1" + ADAPTED, "notes/continue"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What recipes name, made tiny: bases, a dataset with seven negatives, a teacher's scores and a dev split, tasks."""
    folder = tmp_path_factory.mktemp("variants")
    make_tiny_model(folder / "dense", dropout=0.1)
    make_tiny_colbert(folder / "late")
    rows = triplets().to_pylist()
    for at, row in enumerate(rows):
        row |= {f"negative_{n}": f"no answer {(at + n) % 30} {row['positive'][-20:]}" for n in range(1, NEGATIVES + 1)}
        row |= {"positive_teacher_score": 4.0, "negative_teacher_scores": [-float(n) for n in range(NEGATIVES)]}
    (folder / "dataset" / "triplets").mkdir(parents=True)
    for split, some in {"train": rows[:56], "dev": rows[56:]}.items():
        table = pa.Table.from_pylist(some, schema=triplets_schema(NEGATIVES))
        pq.write_table(table, folder / "dataset" / "triplets" / f"{split}-00000-of-00001.parquet")
    write_beir(folder / "test")
    write_beir(folder / "dev", queries=[(query_id, f"history of {text}") for query_id, text in QUERIES])
    return folder


def made_small(recipe: ModelRecipe, place: Path) -> list[str]:
    """The overrides that leave a recipe its strategy and take its size: tiny base and data, few steps of small batches."""
    base = place / ("late/colbert" if recipe.train.method == "late-interaction" else "dense/model")
    values = [f"base.model={base}", "base.revision=null", "base.weights=null", "base.max_length=48"]
    values += [f"data.dataset={place}/dataset", f"evaluate.tasks=[{place}/test]"]
    values += ["publish.repo=null", f"publish.folder={place}/published"]
    values += ["train.batch_size=8", "train.mini_batch_size=4", "train.max_length=24", "train.precision=fp32"]
    values += [f"train.max_steps={STEPS}", "train.save_steps=2"]
    values += ["train.matryoshka=[16, 8]"] if recipe.train.matryoshka else []
    values += [f"train.guide.model={base}"] if recipe.train.guide else []
    assert recipe.train.development
    return values + ([f"train.development.tasks=[dev, {place}/dev]"] if recipe.train.development.others else [])


@pytest.fixture(scope="module")
def codes(place: Path) -> dict[str, list[int]]:
    """All variants trained in one launch, to import everything but once: variant → the exit code of each process."""
    orders = []
    for name in VARIANTS:
        path, values = variant(name, place)
        arguments = [str(path), *values, "--run-dir", str(place / "runs" / name)]
        orders.append([arguments, str(_log(place, name)), _free_port()])
    (place / "orders.json").write_text(json.dumps(orders), encoding="utf-8")
    launch = "-m accelerate.commands.launch --multi_gpu --num_processes=2 --num_machines=1 --mixed_precision=no"
    launch += " --dynamo_backend=no --quiet -m tests.train.variants"
    command = [sys.executable, *launch.split(), str(place / "orders.json")]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    each = [json.loads((place / f"orders.json.{rank}").read_text()) for rank in (0, 1)]
    return {name: list(both) for name, *both in zip(VARIANTS, *each, strict=True)}


def variant(name: str, place: Path) -> tuple[Path, list[str]]:
    path = resources.recipes()[name.removesuffix(ADAPTED)]
    recipe = load(path)
    assert isinstance(recipe, ModelRecipe)
    return path, made_small(recipe, place) + (ADAPTERS if name.endswith(ADAPTED) else [])


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_trains_in_two_processes_as_its_recipe_says(
    place: Path, codes: dict[str, list[int]], name: str
) -> None:
    assert codes[name] == [0, 0], _log(place, name).read_text()[-3000:]
    path, values = variant(name, place)
    recipe = load(path, tuple(values))
    run = Run(recipe, place / "runs" / name)
    record = run.finished("train")
    assert (record.facts["steps"], record.measured["processes"]) == (STEPS, 2)
    assert np.isfinite(json.loads(run.path("train", "losses.json").read_text())).all()

    told, averaging = record.facts["development"], recipe.train.development.averaging
    assert list(told["checkpoints"]) == ["2", "4"]
    assert {it["base"] for it in told["candidates"]} == {0.0, *averaging.base}
    assert max(len(it["steps"]) for it in told["candidates"]) == 2  # the mean of both
    assert told["chosen"] in told["candidates"]

    model = models.load(Model(model=str(run.path("train", "model"))), device="cpu")
    base = models.load(recipe.base, device="cpu", method=recipe.train.method)
    assert models.is_late(model) == (recipe.train.method == "late-interaction")
    assert model.state_dict().keys() == base.state_dict().keys()
    assert model.prompts == base.prompts and model.max_seq_length == base.max_seq_length == 48
    one, other = (each.encode_document(["chest pain"])[0] for each in (model, base))
    assert one.shape == other.shape and 1e-6 < abs(one - other).max() < 2


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _log(place: Path, name: str) -> Path:
    return place / f"{Path(name).name}.log"
