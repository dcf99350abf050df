"""A recipe is read strictly, and every fault in it is told at once, with its line."""

import subprocess
import sys
from pathlib import Path

import pytest

from medembed import resources
from medembed.errors import InputError
from medembed.jobs import chain
from medembed.recipe import DatasetRecipe, ModelRecipe
from medembed.recipe_file import load

DATASET = """\
kind: dataset
name: triplets
pairs:
  - {source: ./pairs.jsonl, license: cc0-1.0}
mine: {retriever: org/model, negatives: 2}
publish: {folder: hub/triplets}
"""


@pytest.fixture
def write(tmp_path: Path):
    (tmp_path / "pairs.jsonl").write_text('{"query": "q", "positive": "p"}\n')

    def write(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return path

    return write


def faults(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        load(path, overrides)
    return [str(fault) for fault in caught.value.faults]


def test_three_mistakes_are_three_faults_each_with_its_line(write) -> None:
    path = write(DATASET.replace("negatives: 2", "negativs: 2").replace("./pairs", "./no") + "split: {dev: lots}\n")
    told = faults(path)
    assert len(told) == 3
    assert any(f"{path}:4" in fault and "there is no" in fault for fault in told)
    assert any(f"{path}:5" in fault and "unknown key `mine.negativs`" in fault for fault in told)
    assert any(f"{path}:7" in fault and "valid number" in fault for fault in told)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("evidences", "a filter is one of evidence, duplicates"),
        ("{copy: 0.9}", "a filter is one of evidence, duplicates"),
        ("{copies: 0.9, language: [en]}", "a filter is one of evidence, duplicates"),
        ("round_trip", "`round_trip` needs settings: `round_trip: {retriever: …}`"),
        ("{phi: remove}", "`phi: remove` is not known; a word for it is report or redact or block"),
        ("{decontaminate: NFCorpus}", "`decontaminate: NFCorpus` is not known; a word for it is default"),
    ],
)
def test_a_filter_that_is_none_is_told_once_with_what_there_is(write, said: str, says: str) -> None:
    (told,) = faults(write(DATASET + f"curate: [{said}]\n"))
    assert says in told


def test_redaction_before_decontamination_is_told(write) -> None:
    for redact in ("phi", "{phi: redact}", "{phi: {policy: redact}}"):
        (told,) = faults(write(DATASET + f"curate: [{redact}, length, decontaminate]\n"))
        assert "put `decontaminate` before `phi: redact`" in told
    for curate in ("decontaminate, phi", "{phi: block}, decontaminate", "{phi: report}, decontaminate"):
        assert load(write(DATASET + f"curate: [{curate}]\n"))


def test_a_contradiction_is_told_beside_an_unknown_key_of_the_same_section(write) -> None:
    told = faults(write(DATASET.replace("negatives: 2", "negatives: 9, ranks: [1, 3], foo: 1")))
    assert len(told) == 2
    assert any("hold fewer candidates than negatives" in fault for fault in told)


def test_a_wrong_value_is_told_once_without_an_echo(write) -> None:
    text = DATASET + "notes: [{source: ./pairs.jsonl, license: cc0-1.0}]\ngenerate: {endpoints: [ftp://x]}\n"
    told = faults(write(text))
    assert len(told) == 1
    assert "an endpoint is a URL" in told[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kind: dataset\nkind: model\n", "stands twice"),
        ("a: [1,\n", "is not YAML"),
        ("- a\n- b\n", "holds no mapping"),
        ("", "holds no mapping"),
        ("name: x\n", "`kind` is neither"),
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("? [a]\n: 1\n", "is not YAML"),
    ],
)
def test_broken_yaml_is_told_plainly(write, text: str, says: str) -> None:
    assert says in faults(write(text))[0]


def test_a_recipe_that_is_not_there_a_folder_or_not_utf8(tmp_path: Path) -> None:
    assert "no such recipe" in faults(tmp_path / "no.yaml")[0]
    assert "is a folder" in faults(tmp_path)[0]
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    assert "not UTF-8" in faults(tmp_path / "latin.yaml")[0]


def test_an_override_sets_nested_values_and_list_items(write) -> None:
    recipe = load(write(DATASET), ("mine.negatives=3", "mine.relative_margin=9e-1", "pairs.0.limit=7", "split.dev=0.5"))
    assert isinstance(recipe, DatasetRecipe) and recipe.mine
    assert (recipe.mine.negatives, recipe.mine.relative_margin, recipe.pairs[0].limit, recipe.split.dev) == (
        3,
        0.9,
        7,
        0.5,
    )


def test_a_wrong_override_is_told_by_its_own_text(write) -> None:
    told = faults(write(DATASET), "mine.negatives=many", "pairs.5.limit=1", "nonsense=1")
    assert [fault.split(":")[0] for fault in told] == ["pairs.5.limit=…", "mine.negatives=…", "nonsense=…"]


def test_a_retriever_that_is_not_there_is_told_as_one_and_once(write) -> None:
    text = DATASET.replace("retriever: org/model", "retriever: [{model: ./nowhere}, bm25]")
    (told,) = faults(write(text))
    assert "`mine.retriever.0.model`: there is no " in told
    (told,) = faults(write(DATASET), "mine.retriever=./nowhere")
    assert "`mine.retriever`: there is no " in told


def test_paths_of_the_recipe_are_relative_to_it_and_those_of_an_override_to_the_current_folder(
    write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(DATASET)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.jsonl").write_text("")
    monkeypatch.chdir(elsewhere)
    assert load(path).pairs[0].source == str(tmp_path / "pairs.jsonl")  # type: ignore[union-attr]
    overridden = load(path, ("pairs.0.source=mine.jsonl",))
    assert overridden.pairs[0].source == str(elsewhere / "mine.jsonl")  # type: ignore[union-attr]


def test_a_source_without_licence_is_refused(write) -> None:
    assert "say the licence" in faults(write(DATASET.replace(", license: cc0-1.0", "")))[0]


def test_a_mapping_of_a_column_that_is_none_of_ours_is_refused(write) -> None:
    text = DATASET.replace("license: cc0-1.0", "license: cc0-1.0, columns: {question: q}")
    assert "`columns` maps question" in faults(write(text))[0]


@pytest.mark.parametrize("url", ["http://u:hush@host", "http://host/v1?api_key=hush", ""])
def test_an_endpoint_with_a_key_in_it_is_refused_and_the_key_not_told(write, url: str) -> None:
    text = DATASET + "notes: [{source: ./pairs.jsonl, license: mit}]\n"
    (told,) = faults(write(text), f'generate.endpoints=["{url}"]')
    assert "keys come from the environment" in told and "hush" not in told


@pytest.mark.parametrize(
    "override", ["mine.²=1", "base.model=~nouser/x", f"mine.retriever=./{'x' * 400}", "kind.x=1", "=1"]
)
def test_odd_overrides_are_faults(write, override: str) -> None:
    assert faults(write(DATASET), override)


def test_only_what_is_a_path_is_taken_for_one(write) -> None:
    path = write(DATASET.replace("license: cc0-1.0", 'license: cc0-1.0, where: {source: "/wiki/"}'))
    recipe = load(path, ("publish.about=See notes.csv",))
    assert isinstance(recipe, DatasetRecipe)
    assert recipe.pairs[0].where == {"source": "/wiki/"} and recipe.publish.about == "See notes.csv"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (["train.negatives=5"], "mines 1 a row"),
        (["train.losses.distil=1"], "the dataset's recipe has no `mine.teacher`"),
        (["data.config=pairs", "train.negatives=null", "train.losses.margin_mse=1"], "has no teacher's scores"),
        (["name=medembed-quickstart-triplets"], "the same name"),
        (["publish.folder=hub/medembed-quickstart-triplets"], "the same folder"),
        (["data.revision=v1"], "this one is local"),
        (["train.development={}", "dataset.split.dev=0"], "splits off no dev rows"),
        (["data.dataset=somewhere"], "org/name"),
        (["dataset.name=other"], "set in its own recipe"),
        (
            [f"data.dataset={resources.folder('recipes')}/models/medembed-small-v1.yaml"],
            "is not the recipe of a dataset",
        ),
    ],
)
def test_a_model_that_contradicts_its_dataset_is_refused(values: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        chain(resources.folder("recipes") / "quickstart" / "model.yaml", values)


def test_every_recipe_that_comes_along_is_valid() -> None:
    found = resources.recipes()
    kinds = {name: type(load(path)) for name, path in found.items()}
    assert len(found) == 14
    assert sum(kind is DatasetRecipe for kind in kinds.values()) == 4
    assert sum(kind is ModelRecipe for kind in kinds.values()) == 10
    for path in found.values():
        assert (
            path.read_text().startswith("# ")
            and f"medembed run recipes/{path.relative_to(resources.folder('recipes'))}" in path.read_text()
        )


@pytest.mark.parametrize(
    "command", [["--help"], ["validate", str(resources.folder("recipes") / "quickstart" / "model.yaml")]]
)
def test_help_and_validate_import_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys; from medembed.cli import main; sys.argv = ['medembed', *sys.argv[1:]]\n"
        "try: main()\nexcept SystemExit as leave: assert not leave.code, leave.code\n"
        "heavy = {'torch', 'transformers', 'datasets', 'mteb', 'pyarrow', 'numpy', 'huggingface_hub'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True)


@pytest.mark.parametrize("path", resources.recipes().values(), ids=list(resources.recipes()))
def test_a_recipe_can_be_written_down_and_read_again(path: Path) -> None:
    recipe = load(path)
    assert type(recipe).model_validate(recipe.model_dump(mode="json", exclude_none=True)) == recipe
