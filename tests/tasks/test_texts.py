"""The texts of tasks, from folders and through mteb's own classes from a loopback Hub."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medembed.errors import InputError
from medembed.tasks.texts import look, tasks_meant, texts_of
from tests.fixtures.beir import JUDGMENTS, PASSAGES, QUERIES, write_beir
from tests.fixtures.hub import Hub
from tests.fixtures.hub_tasks import passage_of, publish, query_of

ASK = """
import json, sys
from medembed.errors import InputError
from medembed.tasks.texts import look, tasks_meant, texts_of
told = {}
for task in tasks_meant(sys.argv[1:]):
    try:
        look(task)
        it = texts_of(task)
        told[task] = [it.revision, list(it.queries), list(it.passages)]
    except InputError as error:
        told[task] = str(error)
print(json.dumps(told))
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(tmp_path / "hub") as hub:
        yield hub


def ask(env: dict[str, str], *tasks: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", ASK, *tasks], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_folder_gives_judged_queries_and_all_passages_with_their_titles(tmp_path: Path) -> None:
    found = texts_of(str(write_beir(tmp_path / "mine", judgments=JUDGMENTS[:2])))
    assert (found.name, found.queries) == ("mine", [QUERIES[0][1]])
    assert list(found.passages)[:2] == [f"Chest pain {PASSAGES[0][2]}", PASSAGES[1][2]]
    assert len(found.revision) == 16


def test_a_folder_is_looked_at_without_mteb(tmp_path: Path) -> None:
    folder = str(write_beir(tmp_path / "mine"))
    program = f"import sys; from medembed.tasks.texts import look; look({folder!r}); sys.exit('mteb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    (tmp_path / "mine" / "queries.jsonl").write_text("{\n")
    with pytest.raises(InputError, match="is not JSON"):
        look(folder)


def test_default_is_the_headline_and_the_medical_benchmark_as_mteb_has_it_today() -> None:
    import mteb

    meant = tasks_meant(["default", "./mine", "NFCorpus"])
    assert meant[:5] == ["ArguAna", "MedicalQARetrieval", "NFCorpus", "PublicHealthQA", "TRECCOVID"]
    assert {task.metadata.name for task in mteb.get_benchmark("MTEB(Medical, v1)").tasks} < set(meant)
    assert meant[-1] == "./mine" and len(meant) == len(set(meant))
    assert tasks_meant(["SciFact", "SciFact"]) == ["SciFact"]


def test_what_cannot_be_a_list_of_texts_is_told() -> None:
    for name, what in {
        "NFCorpsu": "mteb has no task 'NFCorpsu'",
        "CQADupstackRetrieval": "is made of other tasks",
        "CIFAR10": "has no text, but image",
    }.items():
        with pytest.raises(InputError, match=what):
            texts_of(name)


def test_a_task_is_read_from_the_hub_at_its_pinned_revision_and_then_from_the_cache(hub: Hub, tmp_path: Path) -> None:
    revision = "ec0fa4fe99da2ff19ca1214b7966684033a58814"
    publish(hub, "NFCorpus", "mteb/nfcorpus", revision)
    env = hub.env(home=tmp_path / "home")
    first = ask(env, "NFCorpus", "SciFact")
    assert first["NFCorpus"] == [revision, [query_of("NFCorpus")], [f"NFCorpus {passage_of('NFCorpus')}"]]
    assert "the texts of SciFact (mteb/scifact) cannot be loaded" in first["SciFact"]
    assert "Name a copy of it as a local BEIR folder" in first["SciFact"]
    assert ask(env | {"HF_HUB_OFFLINE": "1"}, "NFCorpus")["NFCorpus"] == first["NFCorpus"]


@pytest.mark.slow
def test_every_task_of_default_gives_its_texts_in_whatever_form_mteb_has_it(hub: Hub) -> None:
    import mteb

    pinned = {task: mteb.get_task(task).metadata.dataset for task in tasks_meant(["default"])}
    for task, at in pinned.items():
        publish(hub, task, at["path"], at["revision"])
    told = ask(hub.env(), "default")
    assert list(told) == list(pinned)
    assert not [it for it in told.values() if isinstance(it, str)]
    for task, (revision, queries, passages) in told.items():
        assert revision == pinned[task]["revision"]
        assert set(queries) == (set() if task.startswith("MedrxivClustering") else {query_of(task)})
        assert any(passage_of(task) in passage for passage in passages)
        assert not any("oncology" in passage for passage in passages)  # labels are no texts
