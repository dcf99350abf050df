"""The page as a Space on the Hub: whole or not at all, by one commit, and nothing of others is touched."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from medembed.errors import InputError
from medembed.leaderboard.space import plan
from tests.fixtures.hub import READER, WRITER, Hub
from tests.publish.forked import Forge

SPACE = "medembed/board"


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with (
        Hub(tmp_path_factory.mktemp("hub")) as hub,
        Forge(hub, ("medembed.cli", "medembed.leaderboard.space")) as forge,
    ):
        yield forge


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """What `leaderboard build` writes, in small."""
    files = {
        "README.md": "---\ntitle: Board\nsdk: static\napp_file: index.html\n---\n",
        "index.html": "<!doctype html>\n<p>the board</p>\n",
        "tasks/NFCorpus.html": "<!doctype html>\n",
        "assets/page.css": "p { margin: 0; }\n",
        "results/org__model/0123/NFCorpus.json": "{}\n",
    }
    for path, text in files.items():
        (tmp_path / "space" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "space" / path).write_text(text)
    return tmp_path / "space"


def test_a_page_becomes_a_space_by_one_commit_and_the_next_replaces_it_whole(forge: Forge, page: Path) -> None:
    forge.hub.reset()
    push = ("leaderboard", "push", "--to", SPACE, "--page", str(page))
    for text, commits in (("the board", 2), ("the board", 2), ("a newer board", 3)):
        (page / "index.html").write_text(text)
        code, said = forge.medembed(*push)
        repo = forge.hub.repos["space", SPACE]
        assert code == 0 and f"{SPACE}@{repo.at('main').oid}" in said, said
        assert len(repo.history()) == commits and list(repo.branches) == ["main"]
        assert repo.read("index.html").decode() == text
        assert "style.css" not in repo.at("main").files  # what the Hub puts into a new Space
    (page / "tasks/NFCorpus.html").unlink()
    code, said = forge.medembed(*push, "--dry-run")
    assert code == 0 and "remove     tasks/NFCorpus.html" in said and "keep       index.html" in said
    assert len(repo.history()) == 3


def test_a_space_of_somebody_else_or_without_the_right_is_left_alone(forge: Forge, page: Path) -> None:
    forge.hub.reset()
    push = ("leaderboard", "push", "--to", SPACE, "--page", str(page))
    assert forge.medembed(*push, HF_TOKEN=READER)[0] == 2 and not forge.hub.repos
    api = HfApi(endpoint=forge.hub.url, token=WRITER)
    api.create_repo(SPACE, repo_type="space", space_sdk="static")
    api.upload_file(path_or_fileobj=b"mine", path_in_repo="app.js", repo_id=SPACE, repo_type="space")
    code, said = forge.medembed(*push)
    assert code == 2 and "did not put there" in said
    assert forge.hub.repos["space", SPACE].read("app.js") == b"mine"


def test_what_is_no_page_or_holds_other_files_is_not_pushed(page: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no page"):
        plan(tmp_path / "empty", SPACE)
    (page / "notes.jsonl").write_text("{}")
    with pytest.raises(InputError, match=r"notes\.jsonl"):
        plan(page, SPACE)


def test_a_job_that_proves_who_it_is_pushes_to_the_space_that_trusts_it(forge: Forge, page: Path) -> None:
    forge.hub.reset()
    HfApi(endpoint=forge.hub.url, token=WRITER).create_repo(SPACE, repo_type="space", space_sdk="static")
    forge.hub.api.trusted.add(f"spaces/{SPACE}")
    job = {"HF_TOKEN": ""} | forge.hub.job()
    code, said = forge.medembed("leaderboard", "push", "--to", SPACE, "--page", str(page), **job)
    assert code == 0, said
    assert forge.hub.repos["space", SPACE].read("index.html").decode().endswith("the board</p>\n")
