"""What README, CONTRIBUTING, cards' sources and recipes tell a reader to type or to open is there."""

import re
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from medembed import resources
from medembed.cli import app

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *resources.folder("recipes").rglob("*.yaml")]


def commands() -> list[tuple[str, str]]:
    """(file, command line) of each `medembed …` in the documents, joined over continued lines."""
    found = []
    for path in DOCS:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        lines = re.findall(r"(?:^[ #>]*|`|  or  +)(?:\S*/bin/)?(medembed [a-z][^`\n]*)", text, re.MULTILINE)
        found += [(path.name, re.split(r"\s{3,}", line)[0].strip()) for line in lines]
    return found


def test_there_are_commands_to_check() -> None:
    assert len(commands()) > 20


@pytest.mark.parametrize(("file", "line"), commands())
def test_a_command_exists_with_its_options_and_recipes(file: str, line: str) -> None:
    group = get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    _, name, *words = line.split()
    command = group.commands[name.rstrip(".,:;")]
    if isinstance(command, typer.core.TyperGroup) and words:
        command = command.commands[words.pop(0).rstrip(".,:;")]
    options = {option for parameter in command.params for option in parameter.opts}
    for word in words:
        if word.startswith("--"):
            assert word.rstrip(".,:;") in options, f"{file}: {name} has no {word}"
        if word.startswith("recipes/"):
            assert (ROOT / word).exists(), f"{file}: there is no {word}"


def test_every_path_of_the_file_tree_is_there() -> None:
    tree = (ROOT / "README.md").read_text(encoding="utf-8").split("## Files")[1].split("```")[1]
    for line in tree.strip().splitlines():
        first, *more = re.split(r", ", re.split(r"\s{2,}", line)[0])
        for path in (first, *more):
            assert (ROOT / path).exists() or (ROOT / Path(first).parent / path).exists(), path
    for path in (ROOT / "medembed").iterdir():
        known = path.name in tree or path.name.startswith("__")
        assert known, f"{path.name} is not in the README's file tree"


def test_make_targets_of_the_documents_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for path in DOCS[:2]:
        for target in re.findall(r"^make (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{path.name}: make {target}"


def test_the_readmes_table_and_the_recipe_tell_the_same_score() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    base, tuned = re.findall(r"^\| nDCG@10 \| ([\d.]+) \| ([\d.]+) \|", readme, re.MULTILINE)[0]
    assert f"nDCG@10 {base} → {tuned}" in (ROOT / "recipes/quickstart/model.yaml").read_text(encoding="utf-8")
