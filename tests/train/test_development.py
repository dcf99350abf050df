"""Development data: which queries are asked, among which passages, and what must not be among them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from medembed.errors import InputError
from medembed.recipe import Data, Development, Evaluate, ModelRecipe, Train
from medembed.rows import triplets_schema
from medembed.stages import check
from medembed.train import data, development, inputs
from medembed.train.development import Ranking
from tests.fixtures.beir import write_beir
from tests.fixtures.hub import Hub
from tests.fixtures.hub_tasks import publish as publish_task
from tests.fixtures.hub_tasks import query_of
from tests.train.conftest import Bench, publish, triplets


def row(query: str, positive: str, *negatives: str) -> dict[str, str]:
    return {"query": query, "positive": positive, **{f"negative_{n}": text for n, text in enumerate(negatives, 1)}}


def dataset(folder: Path, dev: list[dict[str, str]], name: str = "dev-00000-of-00001.parquet") -> Path:
    folder = publish(folder, triplets())
    pq.write_table(pa.Table.from_pylist(dev, schema=triplets_schema(2)), folder / "triplets" / name)
    return folder


def read(bench: Bench, folder: Path, evaluate: list[str] | None = None, **said: Any) -> Ranking:
    found = data.find(Data(dataset=str(folder)), bench.run("unused"))
    (ranking,) = development.read(Development(**said), found, Evaluate(tasks=evaluate or [str(bench.folder / "task")]))
    return ranking


def texts(ranking: Ranking) -> dict[str, set[str]]:
    """query → the passages that answer it."""
    return {ranking.queries[query]: {ranking.passages[it] for it in ids} for query, ids in ranking.relevant.items()}


DEV = [row("acne?", "retinoid", "statin", "insulin"), row("Acne ?", "benzoyl"), row("gout?", "colchicine", "statin")]


def test_a_dev_split_is_asked_among_its_passages_and_those_of_training(bench: Bench, tmp_path: Path) -> None:
    ranking = read(bench, dataset(tmp_path / "d", DEV))
    assert texts(ranking) == {"acne?": {"retinoid", "benzoyl"}, "gout?": {"colchicine"}}  # one query, spelt in two ways
    own = {"retinoid", "benzoyl", "statin", "insulin", "colchicine"}
    assert set(ranking.passages.values()) == own | set(triplets()["positive"].to_pylist())


def test_what_is_asked_is_bounded_and_the_same_whatever_else_there_is(bench: Bench, tmp_path: Path) -> None:
    said = {"queries": 1, "passages": 9}
    one = read(bench, dataset(tmp_path / "a", DEV), **said)
    other = read(bench, dataset(tmp_path / "b", DEV[::-1]), **said)
    assert len(one.queries) == 1 and len(one.passages) == 9
    assert (sorted(one.passages), one.relevant) == (sorted(other.passages), other.relevant)


def test_what_training_or_evaluation_asks_is_left_out_of_a_dev_split(bench: Bench, tmp_path: Path) -> None:
    trained = triplets()["query"][0].as_py()
    folder = dataset(tmp_path / "d", [*DEV, row(trained.upper(), "x")])
    task = write_beir(tmp_path / "test", queries=[("q1", "GOUT")], judgments=[("q1", "d1", 1)])
    assert texts(read(bench, folder, [str(task)])) == {"acne?": {"retinoid", "benzoyl"}}


PROGRAM = """
import json, logging, sys
from pathlib import Path
from medembed.errors import InputError
from medembed.recipe import Data, Development, Evaluate
from medembed.train import data, development
logging.basicConfig(format="%(message)s")
evaluate, found = Evaluate(tasks=["NFCorpus", "SciFact"]), data.find(Data(dataset=sys.argv[1]), None)
(split,) = development.read(Development(), found, evaluate)
print(json.dumps(list(split.queries.values())))
try:
    development.read(Development(tasks=[sys.argv[2]]), found, evaluate)
except InputError as error:
    print(error)
"""


@pytest.mark.slow
def test_nothing_that_a_task_of_mteb_asks_is_asked_and_one_that_cannot_be_had_is_told(tmp_path: Path) -> None:
    import mteb

    asked = query_of("NFCorpus")
    folder = dataset(tmp_path / "d", [row(asked.upper(), "x"), row("acne?", "retinoid")])
    task = write_beir(tmp_path / "mine", queries=[("q1", asked)], judgments=[("q1", "d1", 1)])
    with Hub(tmp_path / "hub") as hub:
        at = mteb.get_task("NFCorpus").metadata.dataset
        publish_task(hub, "NFCorpus", at["path"], at["revision"])
        command = [sys.executable, "-c", PROGRAM, str(folder), str(task)]
        done = subprocess.run(command, env=hub.env(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    split, refused = done.stdout.split("\n", 1)
    assert json.loads(split) == ["acne?"]
    assert "1 of the 1 queries of mine default/test are asked in an evaluation task" in refused
    assert "whether development asks what SciFact asks cannot be told: the texts of SciFact" in done.stderr
    assert asked not in done.stderr


def test_a_dataset_without_a_dev_split_is_said(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no dev split with queries of its own"):
        read(bench, publish(tmp_path / "d", triplets()))
    folder = dataset(tmp_path / "torn", DEV)
    (folder / "triplets" / "dev-00000-of-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="the dev split cannot be read"):
        read(bench, folder)


def test_a_task_is_asked_with_all_that_answers_it_and_as_many_others_as_there_is_room_for(
    bench: Bench, tmp_path: Path
) -> None:
    task = write_beir(tmp_path / "mine")
    whole = read(bench, publish(tmp_path / "d", triplets()), tasks=[str(task)])
    bounded = read(bench, tmp_path / "d", tasks=[str(task)], passages=1)
    both = development.read(
        Development(tasks=["dev", str(task)]),
        data.find(Data(dataset=str(dataset(tmp_path / "both", DEV))), bench.run("unused")),
        Evaluate(tasks=[str(bench.folder / "task")]),
    )
    assert [it.name for it in both] == ["dev", "mine default/test"]
    assert whole.name == "mine default/test"
    assert texts(whole) == texts(bounded) and len(texts(whole)) > 0
    assert set(bounded.passages) == set().union(*bounded.relevant.values()) < set(whole.passages)


def test_a_task_that_asks_what_an_evaluation_task_asks_is_refused_before_anything_starts(
    bench: Bench, tmp_path: Path
) -> None:
    one, other = write_beir(tmp_path / "one"), write_beir(tmp_path / "other")
    said = {"kind": "model", "name": "m", "base": str(tmp_path), "data": {"dataset": "org/set"}}
    said |= {"publish": {"folder": str(tmp_path / "out")}, "evaluate": {"tasks": [str(one)]}}
    recipe = ModelRecipe.model_validate(said | {"train": {"development": {"tasks": [str(other)]}}})
    with pytest.raises(InputError, match="queries of other are asked in an evaluation task"):
        development.check(recipe)
    with pytest.raises(InputError, match="queries of other are asked in an evaluation task"):
        check([recipe])
    unknown = ModelRecipe.model_validate(said | {"train": {"development": {"tasks": ["NoSuchTask"]}}})
    with pytest.raises(InputError, match="mteb has no task 'NoSuchTask'") as error:
        development.check(unknown)
    assert error.value.faults[0].where == "train.development.tasks"
    with pytest.raises(ValidationError, match="chosen on its own test"):
        ModelRecipe.model_validate(said | {"train": {"development": {"tasks": [str(one)]}}})


def test_only_checkpoints_are_measured() -> None:
    assert Train(save_steps=50, development=Development(steps=100)).development
    with pytest.raises(ValidationError, match="no multiple of `save_steps`"):
        Train(save_steps=50, development=Development(steps=75))


def test_other_development_data_is_another_training(bench: Bench, tmp_path: Path) -> None:
    from medembed.recipe_file import load

    def read_by(folder: Path) -> Any:
        return inputs(load(bench.recipe, (f"data.dataset={folder}", "train.development={}")), bench.run("unused"))[1]

    one, same, other = (dataset(tmp_path / name / "d", DEV[:n]) for name, n in (("a", 3), ("b", 3), ("c", 2)))
    assert read_by(one) == read_by(same) != read_by(other)
