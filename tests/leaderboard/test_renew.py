"""A checkout of the results repository → a snapshot, with what mteb's registry says of the models."""

import subprocess
from pathlib import Path

import mteb
import pytest

from medembed.errors import InputError
from medembed.leaderboard import board, snapshot
from medembed.leaderboard.results import Found, read
from tests.leaderboard.files import COMMIT, write, write_meta, write_result


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with a model that mteb's registry has, one that it does not have, and a torn file."""
    folder = tmp_path / "checkout"
    write_result(folder, "BAAI/bge-small-en-v1.5", "NFCorpus", 0.34)
    write_result(folder, "org/unknown", "NFCorpus", 0.2)
    write_meta(folder, "org/unknown", n_parameters=5)
    write(folder, "org/unknown", "ArguAna", "{torn")
    git = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "results", "--date", "2026-08-20T00:00:00"]):
        subprocess.run([*git, *command], check=True)
    return folder


def test_a_checkout_becomes_a_snapshot_with_facts_of_the_registry(checkout: Path, tmp_path: Path) -> None:
    made, rejects = snapshot.renew(checkout, tmp_path / "made.json.gz")
    loaded = snapshot.load(tmp_path / "made.json.gz")
    known = loaded.facts["BAAI/bge-small-en-v1.5"]
    assert (known.licence, known.dimensions, known.trained_on) == ("mit", 384, ())
    assert known.revision == mteb.get_model_meta("BAAI/bge-small-en-v1.5", fetch_from_hf=False).revision
    assert loaded.facts["org/unknown"].parameters == 5 and loaded.facts["org/unknown"].trained_on is None
    assert rejects["not a result file of mteb"] == 1
    assert [it for it in loaded.results if "abhinand" not in it.model] == made.results and len(made.results) == 2


def test_a_page_is_built_from_a_clone_too_and_its_figures_are_not_ours(checkout: Path) -> None:
    made = board.make(snapshot.load(checkout), Found())
    rows = {row.model: row for row in made.rows}
    assert rows["org/unknown"].scores["NFCorpus"].value == 0.2 and not rows["org/unknown"].ours


def test_the_same_checkout_gives_the_same_bytes(checkout: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.gz", tmp_path / "two.gz"
    snapshot.renew(checkout, one)
    snapshot.renew(checkout, two)
    assert one.read_bytes() == two.read_bytes()


def test_a_folder_that_is_no_checkout_is_an_error(tmp_path: Path) -> None:
    write_result(tmp_path, "org/model", "NFCorpus", 0.3)
    with pytest.raises(InputError, match="no checkout"):
        snapshot.renew(tmp_path, tmp_path / "made.json.gz")


def test_a_torn_snapshot_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "torn.json.gz").write_bytes(snapshot.PUBLISHED.read_bytes()[:500])
    with pytest.raises(InputError, match="no snapshot"):
        snapshot.load(tmp_path / "torn.json.gz")


def test_what_mtebs_own_cache_wrote_scores_as_mteb_scores_it(tmp_path: Path) -> None:
    cache = mteb.ResultCache(tmp_path)
    task = mteb.get_task("PublicHealthQA")
    scores = {"test": {subset: {"main_score": 0.1 * n} for n, subset in enumerate(task.hf_subsets)}}
    result = mteb.TaskResult.from_task_results(task, scores, evaluation_time=1.0)
    cache.save_to_cache(result, "org__model", COMMIT)
    made = board.make(snapshot.Snapshot([], {}, []), read([tmp_path]))
    assert made.rows[0].scores["PublicHealthQA"].value == pytest.approx(result.get_score())
