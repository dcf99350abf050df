"""The table to the letter, and its place in a README."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medembed.errors import InputError
from medembed.leaderboard import markdown
from medembed.leaderboard.results import EXTERNAL, Facts
from medembed.leaderboard.tasks import HEADLINE
from tests.leaderboard.test_board import all_tasks, of, result

SMALL = Facts(parameters=33_000_000, licence="mit", released="2024-01-02", trained_on=())


def test_the_table_to_the_letter() -> None:
    results = [*all_tasks("org/base", 0.5), *all_tasks("org/tuned", 0.4567)]
    results += [result("huge model", task, 0.8, EXTERNAL) for task in HEADLINE if task != "ArguAna"]
    tuned = SMALL.model_copy(
        update={"base": "org/base", "trained_on": ("ArguAna",), "licence": "https://own.org/terms"}
    )
    text = markdown.table(of(results, base=SMALL, tuned=tuned).rows)
    assert text == (
        "| model | parameters | ArguAna | MedicalQA | NFCorpus | PublicHealth | TREC-COVID | mean | Medical | zero-shot |"
        " licence | revision | released |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- | --- |\n"
        "| **≤ 50M** |  |  |  |  |  |  |  |  |  |  |  |  |\n"
        "| [org/base](https://huggingface.co/org/base) | 33M | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | **50.0** | 50.0 | 100 % |"
        " mit | 0123456 | 2024-01-02 |\n"
        "| ↳ [org/tuned](https://huggingface.co/org/tuned) | 33M | 45.7 | 45.7 | 45.7 | 45.7 | 45.7 | **45.7** (−4.3) | 45.7 |"
        " 92 % | own | 0123456 | 2024-01-02 |\n"
        "| **size not declared** |  |  |  |  |  |  |  |  |  |  |  |  |\n"
        "| huge model | ? | – | 80.0 | 80.0 | 80.0 | 80.0 | 4/5 | 4/12 | ? | ? | external | ? |"
    )


@given(st.text(min_size=1))
@settings(deadline=None)
def test_a_name_can_neither_leave_its_cell_nor_be_more_than_text(name: str) -> None:
    cell = markdown.escaped(name)
    assert "\n" not in cell and "\r" not in cell and "<" not in cell and ">" not in cell
    assert cell.replace("\\|", "").count("|") == 0
    assert "](" not in cell.replace("\\]", "")


def test_a_hostile_name_is_one_cell_and_no_link() -> None:
    name = "a|b](javascript:alert(1))<script>"
    line = markdown.table(of([result(name, "NFCorpus", 0.5)]).rows).splitlines()[-1]
    assert line.startswith("| a\\|b\\](javascript:alert(1))&lt;script&gt; | ? |")


def test_the_table_takes_its_place_between_the_markers_and_leaves_the_rest(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"# Before\n\n{markdown.BEGIN}\nold\n{markdown.END}\n\nAfter.\n", encoding="utf-8")
    markdown.put(readme, "new")
    markdown.put(readme, "new")
    assert readme.read_text(encoding="utf-8") == f"# Before\n\n{markdown.BEGIN}\nnew\n{markdown.END}\n\nAfter.\n"


@pytest.mark.parametrize(
    "text", ["", markdown.BEGIN, f"{markdown.END}{markdown.BEGIN}", f"{markdown.BEGIN}{markdown.END}" * 2]
)
def test_a_readme_without_one_pair_of_markers_is_an_error_and_stays_as_it_is(tmp_path: Path, text: str) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="has no place"):
        markdown.put(readme, "new")
    assert readme.read_text(encoding="utf-8") == text


def test_the_short_table_has_ours_the_well_known_and_the_best_of_each_size() -> None:
    results = [it for number in range(5) for it in all_tasks(f"org/m{number}", 0.1 * number)]
    results.append(result("nvidia/NV-Embed-v2", "NFCorpus", 0.1))
    board = of(results, **{f"m{number}": SMALL for number in range(5)})
    assert {row.model for row in markdown.short(board)} == {"org/m2", "org/m3", "org/m4", "nvidia/NV-Embed-v2"}
