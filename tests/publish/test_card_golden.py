"""Rendered examples of every card stand in tests/publish/cards/, to be read when a template changes."""

import pytest

from tests.fixtures.hub_rules import faults_of_card, faults_of_results
from tests.publish.manifests import CARDS, rendered


def test_a_golden_card_stands_for_each_kind_and_no_other() -> None:
    assert sorted(path.name for path in CARDS.iterdir()) == sorted(rendered())


@pytest.mark.parametrize("name", sorted(rendered()))
def test_cards_are_rendered_as_their_golden_files_have_them(name: str) -> None:
    told = "read the difference; `python -m tests.publish.manifests` renews the golden cards"
    assert rendered()[name] == (CARDS / name).read_text(encoding="utf-8"), told


@pytest.mark.parametrize("name", sorted(rendered()))
def test_the_hub_takes_them(name: str) -> None:
    text = rendered()[name]
    assert (faults_of_results(text) if name.endswith(".yaml") else faults_of_card(text, name.partition("-")[0])) == []


def test_nothing_is_missing_from_the_cards_of_complete_manifests() -> None:
    for name in ("model-dense.md", "dataset-triplets.md"):
        rows = [line for line in rendered()[name].splitlines() if "not recorded" in line]
        assert all("tiny-random/other-embedder" in row for row in rows), rows  # whose speed is that of another machine


def test_no_page_of_nothing_but_a_recipe_claims_anything() -> None:
    card = rendered()["model-nothing-recorded.md"]
    for said in (
        "Whether it is better than its base: not recorded.",
        "| Size | not recorded parameters, not recorded of weights |",
        "| Hardware | not recorded |",
        "| Time | not recorded |",
        "| Energy | not recorded |",
        "Lineage of the dataset: not recorded.",
        "Declared training datasets: not recorded.",
    ):
        assert said in card
    assert "model-index" not in card and "Which to choose" not in card
    dataset = rendered()["dataset-nothing-recorded.md"]
    assert "**nobody has looked**" in dataset and "**not compared with any task**" in dataset
