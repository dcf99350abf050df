"""The whole build, offline: what it writes, that it writes it twice alike, and that it spoils nothing of others."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import medembed.leaderboard as leaderboard
from medembed.errors import InputError, RunError
from medembed.leaderboard import charts, markdown, page
from medembed.leaderboard.cli import app
from medembed.leaderboard.results import Found, Result
from medembed.leaderboard.snapshot import PUBLISHED
from medembed.leaderboard.tasks import TASKS
from tests.leaderboard.files import write_meta, write_result
from tests.leaderboard.test_board import of, result

HOSTILE = "</script><img src=x onerror=alert(1)>/'\"&{{7*7}}"


def build(folder: Path, *options: str) -> str:
    """Build with a result of ours, tuned from a published base; what the command says."""
    for task in TASKS:
        write_result(folder / "run", "org/ours", task, 0.7)
    write_meta(
        folder / "run", "org/ours", n_parameters=33_000_000, embed_dim=384, adapted_from="BAAI/bge-small-en-v1.5"
    )
    (folder / "README.md").write_text(f"# Project\n\n{markdown.BEGIN}\n{markdown.END}\n", encoding="utf-8")
    words = ["build", str(folder / "run"), "--to", str(folder / "out"), "--readme", str(folder / "README.md"), *options]
    outcome = CliRunner().invoke(app, words, catch_exceptions=False)
    assert outcome.exit_code == 0
    return outcome.output


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    speeds = {"device": "one core", "embeddings_per_second": {"org/ours": 300.0, "BAAI/bge-small-en-v1.5": 310.0}}
    (folder / "speeds.json").write_text(json.dumps(speeds))
    said = build(folder, "--speeds", str(folder / "speeds.json"))
    assert "384 models" in said
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_tables_pictures_and_page_are_written(built: Path) -> None:
    names = set(files(built / "out"))
    pictures = {
        f"pictures/{name}-{theme}.{form}"
        for name in ("sizes", "head-to-head", "speed", "dimensions")
        for theme in ("light", "dark")
        for form in ("svg", "png")
    }
    assert pictures | {"README.md", "space/README.md", "space/index.html"} <= names
    assert {f"space/tasks/{task}.html" for task in TASKS} <= names


def test_the_readmes_show_ours_below_its_base_with_the_difference(built: Path) -> None:
    for readme in (built / "README.md", built / "out/README.md"):
        text = readme.read_text(encoding="utf-8")
        assert re.search(r"\| \[BAAI/bge-small-en-v1\.5\].*\n(.*\n)?\| ↳ \[org/ours\].*\*\*70\.0\*\* \(\+7\.7\)", text)
        assert "f4cc6c8b" in text and "CC0-1.0" in text


def test_the_page_holds_our_result_files_and_all_its_links_lead_somewhere(built: Path) -> None:
    space = built / "out/space"
    for path in [space / "index.html", *(space / "tasks").iterdir()]:
        for link in re.findall(r'(?:href|src)="([^"#]+)"', path.read_text(encoding="utf-8")):
            if not link.startswith(("https://", "data:")):
                assert (path.parent / link).is_file(), link
    assert len(list(space.glob("results/org__ours/*/*.json"))) == len(TASKS)


def test_the_page_is_a_static_space(built: Path) -> None:
    head = (built / "out/space/README.md").read_text(encoding="utf-8").split("---")[1]
    assert "sdk: static" in head and "app_file: index.html" in head


@pytest.mark.slow
def test_building_again_gives_the_same_bytes_and_removes_what_is_no_longer_there(built: Path) -> None:
    before = files(built)
    (built / "out/space/stale.html").write_text("old")
    build(built, "--speeds", str(built / "speeds.json"))
    assert files(built) == before


NAMES = st.text(min_size=1, max_size=20)
RESULTS = st.lists(
    st.builds(result, NAMES, st.sampled_from(list(TASKS)), st.floats(0, 1), st.sampled_from(["a", "b", "external"])),
    min_size=1,
    max_size=12,
    unique_by=lambda it: (it.model, it.task, it.revision),
)


@given(results=RESULTS, data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_same_results_in_any_order_give_the_same_tables_and_pages(
    results: list[Result], data: st.DataObject
) -> None:
    one, two = of(results), of(data.draw(st.permutations(results)))
    assert markdown.brief(one) == markdown.brief(two)
    assert page.pages(one, charts.charts(one)) == page.pages(two, charts.charts(two))


def test_a_hostile_name_is_text_wherever_it_stands() -> None:
    board = of([result(HOSTILE, task, 0.5) for task in TASKS])
    for path, text in page.pages(board, charts.charts(board)).items():
        assert "<img" not in text and "</script><" not in text, path


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="something else"):
        page.write(of([result("org/a", "NFCorpus", 0.5)]), [], Found(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_faults_are_told_together_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "one.md").write_text("")
    with pytest.raises(InputError) as told:
        leaderboard.build([], tmp_path / "out", [tmp_path / "one.md", tmp_path / "two.md"], PUBLISHED, None)
    assert len(told.value.faults) == 2 and not (tmp_path / "out").exists()


FAULTY = [
    "",
    "{}",
    '{"device": "x", "embeddings_per_second": {}}',
    '{"device": "x", "embeddings_per_second": {"a": "b"}}',
]


@pytest.mark.parametrize("text", FAULTY)
def test_a_faulty_file_of_speeds_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "speeds.json").write_text(text)
    with pytest.raises(InputError, match="no file of speeds"):
        leaderboard.build([], tmp_path / "out", [], PUBLISHED, tmp_path / "speeds.json")


def test_a_module_is_made_a_script_and_another_bundle_is_an_error() -> None:
    assert "window.jQuery = $q;" in page.classic("let $q=1;export{a as ITable,$q as jQuery};/* licence */")
    for other in ("let a=1;", "export{a as b};", "export{a as jQuery};export{b as jQuery};"):
        with pytest.raises(RunError, match="another bundle"):
            page.classic(other)


def test_who_wins_is_counted_over_what_both_have() -> None:
    results = [result("org/a", "NFCorpus", 0.5), result("org/a", "ArguAna", 0.4), result("org/a", "SciFact", 0.9)]
    results += [result("org/b", "NFCorpus", 0.4), result("org/b", "ArguAna", 0.4)]
    one, other = sorted(of(results).rows, key=lambda row: row.model)
    assert charts.won(one, other) == (1.5, 2) and charts.won(other, one) == (0.5, 2)
