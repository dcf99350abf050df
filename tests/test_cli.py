"""The commands around recipes, and what `publish --to` means."""

import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medembed import __version__, resources
from medembed.cli import _going_to, app
from medembed.errors import InputError
from medembed.recipe_file import load


def said(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_version_is_told() -> None:
    assert re.fullmatch(rf"medembed {re.escape(__version__)} \([0-9a-f]{{40}}(-dirty)?\)", said("--version").strip())


def test_recipes_are_listed_with_what_they_do() -> None:
    lines = said("recipes", "list").splitlines()
    assert [line.split()[0] for line in lines] == list(resources.recipes())
    assert all(len(line.split()) > 5 for line in lines)


@pytest.mark.parametrize(
    ("name", "recipe"), [("notes", "notes/model.yaml"), ("quickstart/model", "quickstart/model.yaml")]
)
def test_a_copied_recipe_comes_with_the_files_that_it_names(tmp_path: Path, name: str, recipe: str) -> None:
    said("recipes", "copy", name, str(tmp_path / "mine"))
    load(tmp_path / "mine" / recipe)


def test_a_recipe_that_stands_alone_is_copied_alone(tmp_path: Path) -> None:
    said("recipes", "copy", "models/medembed-small-v1", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["medembed-small-v1.yaml"]


@pytest.mark.parametrize("name", ["no-such", "../tests", "/etc/hostname", "."])
def test_what_is_no_recipe_is_not_copied(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="there is no recipe"):
        said("recipes", "copy", name, str(tmp_path))


def test_nothing_is_overwritten_by_a_copy(tmp_path: Path) -> None:
    said("recipes", "copy", "pairs", str(tmp_path))
    with pytest.raises(InputError, match="stands already"):
        said("recipes", "copy", "pairs", str(tmp_path))


@pytest.mark.parametrize("option", ["--tasks", "--tokens-per-second"])
def test_an_option_of_generate_that_would_do_nothing_is_refused(option: str) -> None:
    recipe = str(resources.recipes()["quickstart/dataset"])
    with pytest.raises(InputError, match=f"{option}: does nothing alone"):
        said("generate", recipe, option, "2")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["MODEL.yaml", "--overwrite", "--costs"], "--overwrite, --costs: does nothing with a recipe"),
        (["MODEL.yaml", "--batch-size", "8"], r"--batch-size: does nothing(.|\n)*evaluate.batch_size=8"),
        (["--model", "bm25", "--benchmark", "MTEB(Medical, v1)", "--languages", "eng"], "--languages: does nothing"),
        (["--model", "bm25", "--tasks", "NFCorpus", "--dimensions", "64"], "--dimensions: does nothing alone"),
        (["--model", "bm25", "--tasks", "NFCorpus", "--costs", "--dimensions", "64,a"], "--dimensions: are numbers"),
        (["--model", "bm25", "--tasks", "NFCorpus", "--costs", "--dimensions", "64,-1"], "--dimensions: are numbers"),
    ],
)
def test_an_option_of_evaluate_that_would_do_nothing_is_refused(options: list[str], what: str) -> None:
    with pytest.raises(InputError, match=what):
        said("evaluate", *options)


def test_an_executor_whose_package_is_not_there_is_told_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datatrove", reason="needs the extra `executors`: pip install 'medembed[executors]'")
    monkeypatch.setitem(sys.modules, "ray", None)
    recipe = str(resources.recipes()["quickstart/dataset"])
    with pytest.raises(InputError, match=r"package ray is not installed(.|\n)*medembed\[ray\]"):
        said("generate", recipe, "--endpoint", "http://127.0.0.1:9", "--executor", "ray")


def test_a_place_is_a_folder_when_it_begins_like_a_path() -> None:
    assert _going_to("org/name") == ["publish.repo=org/name", "publish.folder=null"]
    assert _going_to("./out") == ["publish.repo=null", "publish.folder=./out"]
