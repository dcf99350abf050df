"""Every variant that is published trains from end to end, in two processes of `accelerate launch`, by its own recipe made small."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medembed import models, resources
from medembed.recipe import Model, ModelRecipe
from medembed.recipe_file import load
from medembed.rows import triplets_schema
from tests.fixtures.beir import QUERIES, write_beir
from tests.fixtures.models import make_tiny_colbert, make_tiny_model
from tests.train.conftest import Bench, triplets

NEGATIVES, STEPS = 7, 4
ADAPTERS = ("train.lora={rank: 4, alpha: 8}", "train.learning_rate=1e-3")  # as the large recipe offers them
VARIANTS = [(name, ()) for name in resources.recipes() if name.startswith("models/")]
VARIANTS += [("notes/continue", ()), ("models/medembed-large-v1", ADAPTERS)]


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


@pytest.mark.slow
@pytest.mark.parametrize(("name", "more"), VARIANTS, ids=[name + "".join(more)[5:11] for name, more in VARIANTS])
def test_a_variant_trains_in_two_processes_as_its_recipe_says(place: Path, name: str, more: tuple[str, ...]) -> None:
    path = resources.recipes()[name]
    values = [*made_small(load(path), place), *more]
    recipe, bench, run = load(path, tuple(values)), Bench(path, place), path.stem + "-adapters" * bool(more)
    done = bench.train(*values, run=run, processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    record = bench.record(run)
    assert (record.facts["steps"], record.measured["processes"]) == (STEPS, 2)
    assert np.isfinite(bench.losses(run)).all()

    told, averaging = record.facts["development"], recipe.train.development.averaging
    assert list(told["checkpoints"]) == ["2", "4"]
    assert {it["base"] for it in told["candidates"]} == {0.0, *averaging.base}
    assert max(len(it["steps"]) for it in told["candidates"]) == min(averaging.checkpoints, 2)
    assert told["chosen"] in told["candidates"]

    elsewhere = shutil.copytree(bench.weights(run).parent, place / f"{run}-elsewhere")
    model = models.load(Model(model=str(elsewhere)), device="cpu")
    assert models.is_late(model) == (recipe.train.method == "late-interaction")
    base = models.load(recipe.base, device="cpu", method=recipe.train.method)
    assert model.state_dict().keys() == base.state_dict().keys()
    assert model.prompts == base.prompts and model.max_seq_length == base.max_seq_length == 48
    one, other = (each.encode_document(["chest pain"])[0] for each in (model, base))
    assert one.shape == other.shape and 1e-6 < abs(one - other).max() < 2
