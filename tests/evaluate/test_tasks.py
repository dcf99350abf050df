"""Tasks by name and by folder, looked at before anything starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medembed.errors import InputError
from medembed.evaluate import check_tasks
from medembed.recipe import Evaluate
from tests.fixtures.beir import write_beir


def faults_of(*tasks: str, languages: tuple[str, ...] = ("eng",)) -> list[str]:
    with pytest.raises(InputError) as caught:
        check_tasks(Evaluate(tasks=list(tasks), languages=list(languages)))
    return [str(fault) for fault in caught.value.faults]


def test_tasks_of_mteb_and_good_folders_pass(tmp_path: Path) -> None:
    check_tasks(Evaluate(tasks=["NFCorpus", "ArguAna", "PublicHealthQA", str(write_beir(tmp_path / "mine"))]))


def test_the_faults_of_names_and_folders_come_together(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "mine")
    (folder / "queries.jsonl").write_text("{\n")
    unknown, broken, *rest = faults_of("NFCorpsu", str(folder))
    assert "mteb has no task 'NFCorpsu'" in unknown
    assert "NFCorpus" in unknown.split("Near names: ")[1]
    assert "queries.jsonl:1: is not JSON" in broken
    assert len(rest) == 1  # the judged queries, which the file lacks


def test_a_language_that_a_task_lacks_and_one_that_does_not_exist_are_faults() -> None:
    assert "NFCorpus has nothing in deu" in faults_of("NFCorpus", languages=("deu",))[0]
    assert "NFCorpus has nothing in english" in faults_of("NFCorpus", languages=("english",))[0]


def test_a_task_that_ranks_nothing_is_a_fault() -> None:
    assert "is no text retrieval task but Clustering" in faults_of("MedrxivClusteringP2P.v2")[0]


def test_two_tasks_of_one_name_are_a_fault(tmp_path: Path) -> None:
    first, second = (str(write_beir(tmp_path / place / "mine")) for place in "ab")
    (told,) = faults_of(first, second)
    assert told.startswith("evaluate.tasks: tasks of the same name: mine")


def test_a_local_folder_is_checked_without_importing_torch_or_mteb(tmp_path: Path) -> None:
    program = (
        "import sys; from medembed.evaluate import check_tasks; from medembed.recipe import Evaluate;"
        f"check_tasks(Evaluate(tasks=[{str(write_beir(tmp_path / 'mine'))!r}]));"
        "sys.exit(any(name in sys.modules for name in ('torch', 'mteb', 'datasets')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, env=dict(os.environ)).returncode == 0


def test_data_that_the_hub_does_not_give_is_told(tmp_path: Path) -> None:
    program = "from medembed.tasks import registry; registry.load('NFCorpus', ['eng'])"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    said = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, env=environment)
    assert "RunError: mteb/nfcorpus: the data of NFCorpus cannot be loaded" in said.stderr


@pytest.mark.parametrize(
    "task, languages, listed",
    [
        ("NFCorpus", ["eng"], ("mteb/nfcorpus", "NFCorpus")),
        ("PublicHealthQA", ["eng"], ("xhluca/publichealth-qa", "PublicHealthQA_english_test")),
        ("PublicHealthQA", [], ("xhluca/publichealth-qa", "PublicHealthQA")),
    ],
)
def test_a_score_is_known_to_the_hub_by_the_task_or_by_the_part_that_was_measured(
    task: str, languages: list[str], listed: tuple[str, str]
) -> None:
    from medembed.tasks import registry

    found = registry.benchmark(task, languages)
    assert found is not None and (found["dataset"], found["task_id"]) == listed


def test_some_of_a_tasks_parts_have_no_name_on_the_hub() -> None:
    from medembed.tasks import registry

    assert registry.benchmark("PublicHealthQA", ["eng", "fra"]) is None
