"""Publishing to the Hub: main is the old release or the new one, by one commit and one tag, whatever breaks on the way."""

import copy
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medembed.provenance import manifest
from tests.fixtures.hub import OUTSIDER, READER, WRITER, Hub
from tests.fixtures.hub_store import Repo
from tests.publish.runs import dataset_run, model_run

REPO = "medembed/tiny"
DELIVER = """if True:
    import json, logging, sys
    from pathlib import Path
    from medembed.errors import MedEmbedError
    from medembed.publish.hub import Place, candidate, promote
    logging.basicConfig(level="INFO")
    folder, repo, private, tag, collection = sys.argv[1:]
    place = Place(repo, "dataset", "tiny", private == "private", tag or None, collection or None)
    try:
        with candidate(Path(folder), place, Path(folder).parent) as delivered:
            print("CANDIDATE", delivered.commit)
            print("COMMIT", promote(Path(folder), place))
    except MedEmbedError as error:
        print(error)
        sys.exit(error.exit_code)
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return _artifact(tmp_path / "artifact", "rows")


def _artifact(folder: Path, rows: str) -> Path:
    (folder / "pairs").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: cc0-1.0\n---\n# tiny\n")
    (folder / "provenance.json").write_text(json.dumps({"kind": "dataset", "name": "tiny", "rows": rows}))
    (folder / "pairs" / "train-0.parquet").write_text(rows)
    _list_files(folder)
    return folder


def _list_files(folder: Path) -> None:
    """Have the manifest list the artifact's files, as it does."""
    manifest = json.loads((folder / "provenance.json").read_text())
    manifest["files"] = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    (folder / "provenance.json").write_text(json.dumps(manifest))


def _start(
    hub: Hub, folder: Path, *, token: str | None = WRITER, private: bool = False, tag: str = "", collection: str = ""
) -> "subprocess.Popen[str]":
    said = ["private" if private else "public", tag, collection]
    command = [sys.executable, "-c", DELIVER, str(folder), REPO, *said]
    env, pipe = hub.env(token, hub.folder / "home"), subprocess.PIPE
    return subprocess.Popen(command, env=env, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def _deliver(hub: Hub, folder: Path, *, token: str | None = WRITER, **said: Any) -> tuple[int, str]:
    process = _start(hub, folder, token=token, **said)
    out, _ = process.communicate(timeout=120)
    assert token is None or token not in out
    return process.returncode, out


def _published_once(hub: Hub, folder: Path, *, tag: str = "") -> bool:
    """One commit after the first one, just the files of the folder, the tag at this commit, and no branch left."""
    repo = hub.repos["dataset", REPO]
    titles = [commit.title for commit in repo.history()]
    once = titles == [f"Publish tiny {tag}".rstrip(), "initial commit"] and list(repo.branches) == ["main"]
    return once and _holds(repo, folder) and repo.tags == ({tag: repo.at("main").oid} if tag else {})


def _holds(repo: Repo, folder: Path, revision: str = "main") -> bool:
    files = {path: repo.read(path, revision) for path in repo.at(revision).files if path != ".gitattributes"}
    return files == {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_run_again_makes_no_second_commit(hub: Hub, artifact: Path) -> None:
    code, first = _deliver(hub, artifact)
    assert code == 0 and _published_once(hub, artifact)
    again = _deliver(hub, artifact)
    assert again[0] == 0 and _published_once(hub, artifact)
    assert first.splitlines()[-1] == again[1].splitlines()[-1] == f"COMMIT {hub.repos['dataset', REPO].at('main').oid}"


def test_a_new_version_is_one_commit_that_also_removes(hub: Hub, artifact: Path, tmp_path: Path) -> None:
    _deliver(hub, artifact)
    newer = _artifact(tmp_path / "newer", "other rows")
    (newer / "pairs" / "train-0.parquet").rename(newer / "pairs" / "train-1.parquet")
    _list_files(newer)
    assert _deliver(hub, newer)[0] == 0
    repo = hub.repos["dataset", REPO]
    assert len(repo.history()) == 3
    assert sorted(repo.at("main").files) == [".gitattributes", "README.md", "pairs/train-1.parquet", "provenance.json"]


@pytest.mark.parametrize(
    ("method", "path", "how"),
    [
        ("POST", "/commit/", "lost"),  # the answer is lost, the commit stands
        ("POST", "/commit/", "truncated"),
        ("PUT", "/objects/", "reset"),
    ],
)
def test_a_connection_that_breaks_is_no_second_commit(
    hub: Hub, artifact: Path, method: str, path: str, how: str
) -> None:
    hub.fail(method, path, how)  # type: ignore[arg-type]
    code, out = _deliver(hub, artifact)
    assert (code, _published_once(hub, artifact)) == (0, True), out


@pytest.mark.parametrize("branch", ["candidate-", "main"])
@pytest.mark.parametrize(("status", "times"), [(500, 2), (412, 1)])
def test_what_passes_is_waited_for(hub: Hub, artifact: Path, branch: str, status: int, times: int) -> None:
    hub.fail("POST", f"/commit/{branch}", status=status, times=times)
    code, out = _deliver(hub, artifact)
    assert (code, _published_once(hub, artifact)) == (0, True), out
    assert hub.requests("POST", f"/commit/{branch}") == times + 1


def test_what_does_not_pass_is_told_and_the_same_command_goes_on(hub: Hub, artifact: Path) -> None:
    hub.fail("POST", "/commit/", status=500, times=4)
    code, out = _deliver(hub, artifact)
    assert code == 1 and "the Hub answers 500: Harm was ordered for Bearer …" in out
    assert "Run the same command again" in out
    assert _deliver(hub, artifact)[0] == 0 and _published_once(hub, artifact)


def test_somebody_who_commits_all_the_time_is_told_of(hub: Hub, artifact: Path) -> None:
    hub.fail("POST", "/commit/", status=412, times=4)
    code, out = _deliver(hub, artifact)
    assert code == 1 and "412" in out and "Somebody else commits" in out


@pytest.mark.slow
def test_killed_at_each_request_of_a_release_main_is_the_old_or_the_new_one_and_the_next_run_makes_it_one(
    hub: Hub, artifact: Path, tmp_path: Path
) -> None:
    """For each request that changes something: the client is killed before it and after it, then the same command is run."""
    hub.api.store.collections["medembed/models"] = []
    said = {"tag": "v2", "collection": "medembed/models"}
    steps = [
        ("POST", "/repos/create"),
        ("POST", "/branch/"),
        ("POST", "/preupload/"),
        ("PUT", "/objects/"),
        ("POST", "/commit/candidate-"),
        ("GET", "/resolve/"),
        ("POST", "/commit/main"),
        ("POST", "/tag/"),
        ("DELETE", "/branch/"),
        ("POST", "/collections/"),
    ]
    newer = _artifact(tmp_path / "newer", "other rows")
    assert _deliver(hub, artifact, tag="v1")[0] == 0
    released = copy.deepcopy(hub.repos["dataset", REPO])
    old = released.at("main").oid
    for method, path in steps:
        for how in ("reset", "lost"):
            repo = hub.repos["dataset", REPO] = copy.deepcopy(released)
            hub.api.store.collections["medembed/models"].clear()
            process: list[subprocess.Popen[str]] = []
            hub.fail(method, path, how, call=lambda: os.kill(process[0].pid, signal.SIGKILL))  # type: ignore[arg-type]  # noqa: B023
            process.append(_start(hub, newer, **said))
            process[0].communicate(timeout=120)
            where = f"{method} {path} {how}"
            assert process[0].returncode == -signal.SIGKILL, where
            assert _holds(repo, artifact) or _holds(repo, newer), where
            assert repo.tags["v1"] == old and repo.tags.get("v2") in (None, repo.at("main").oid), where
            code, out = _deliver(hub, newer, **said)
            assert code == 0 and _holds(repo, newer), f"{where}: {out}"
            assert [commit.title for commit in repo.history()][:-1] == ["Publish tiny v2", "Publish tiny v1"], where
            assert repo.tags == {"v1": old, "v2": repo.at("main").oid} and list(repo.branches) == ["main"], where
            assert hub.api.store.collections["medembed/models"] == [("dataset", REPO)], where


def test_a_tag_is_never_moved_and_is_told_before_anything_is_sent(hub: Hub, artifact: Path, tmp_path: Path) -> None:
    assert _deliver(hub, artifact, tag="v1")[0] == 0 and _published_once(hub, artifact, tag="v1")
    assert _deliver(hub, artifact, tag="v1")[0] == 0 and _published_once(hub, artifact, tag="v1")
    code, out = _deliver(hub, _artifact(tmp_path / "newer", "other rows"), tag="v1")
    assert code == 2 and "a tag is never moved" in out and _published_once(hub, artifact, tag="v1")
    assert hub.requests("POST", "/commit/candidate-") == 1


def test_nobody_sees_a_candidate_that_did_not_come_back_whole(hub: Hub, artifact: Path) -> None:
    hub.fail("GET", "/objects/.*", "flipped", times=9)
    code, out = _deliver(hub, artifact, tag="v1")
    repo = hub.repos["dataset", REPO]
    assert code == 1 and "come back from the Hub damaged" in out
    assert [commit.title for commit in repo.history()] == ["initial commit"] and not repo.tags
    hub.harms.clear()
    hub.fail("GET", "/objects/.*", "flipped")
    code, out = _deliver(hub, artifact, tag="v1")
    assert code == 0 and "downloading again" in out and _published_once(hub, artifact, tag="v1")


def test_a_token_that_expires_on_the_way_leaves_main_as_it_was(hub: Hub, artifact: Path) -> None:
    hub.fail("POST", "/commit/main", status=401, times=9)
    code, out = _deliver(hub, artifact)
    assert code == 2 and "The token is not valid" in out
    assert [commit.title for commit in hub.repos["dataset", REPO].history()] == ["initial commit"]
    hub.harms.clear()
    assert _deliver(hub, artifact)[0] == 0 and _published_once(hub, artifact)
    assert hub.requests("POST", "/commit/candidate-") == 1


@pytest.mark.parametrize(
    ("token", "says"),
    [
        (None, "needs a token"),
        ("hf_aWrongToken", "401"),
        (READER, "403"),
        (OUTSIDER, "403"),
    ],
)
def test_a_token_that_may_not_is_told_and_never_shown(hub: Hub, artifact: Path, token: str | None, says: str) -> None:
    code, out = _deliver(hub, artifact, token=token)
    assert code == 2 and says in out and "oken" in out
    assert not hub.repos


def test_a_hub_that_is_not_there_is_told(hub: Hub, artifact: Path) -> None:
    hub.fail("POST", "/repos/create", "reset", times=4)
    code, out = _deliver(hub, artifact)
    assert code == 1 and "the connection to the Hub broke" in out


def test_a_repository_of_something_else_is_left_alone(hub: Hub, artifact: Path) -> None:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.url, token=WRITER)
    api.create_repo(REPO, repo_type="dataset")
    api.upload_file(path_or_fileobj=b"x", path_in_repo="data.csv", repo_id=REPO, repo_type="dataset")
    code, out = _deliver(hub, artifact)
    assert code == 2 and "did not put there" in out
    assert sorted(hub.repos["dataset", REPO].at("main").files) == [".gitattributes", "data.csv"]


def test_private_data_goes_to_no_public_repository(hub: Hub, artifact: Path) -> None:
    from huggingface_hub import HfApi

    HfApi(endpoint=hub.url, token=WRITER).create_repo(REPO, repo_type="dataset")
    code, out = _deliver(hub, artifact, private=True)
    assert code == 2 and "is public" in out
    assert len(hub.repos["dataset", REPO].history()) == 1


def test_a_dry_run_shows_what_would_be_sent_and_sends_nothing(hub: Hub, tmp_path: Path) -> None:
    _, run = dataset_run(tmp_path, publish={"repo": REPO})
    path = tmp_path / "tiny-triplets.yaml"
    command = [sys.executable, "-m", "medembed", "publish", str(path), "--run-dir", str(run.folder), "--dry-run"]
    dry = subprocess.run(command, env=hub.env(), capture_output=True, text=True, check=False)
    assert dry.returncode == 0, dry.stderr
    assert [line.split()[0] for line in dry.stdout.splitlines()] == ["add"] * 7
    assert not hub.repos and {method for method, _, _ in hub.log} == {"GET"}


@pytest.mark.slow
def test_from_the_command_line_to_the_hub_and_back_by_name(hub: Hub, tmp_path: Path, tiny_model: Path) -> None:
    recipe, run = dataset_run(tmp_path / "d", publish={"repo": "medembed/tiny-triplets", "private": True})
    upstream = manifest(recipe, run)
    _, its_run = model_run(tmp_path / "m", tiny_model, publish={"repo": "medembed/tiny-embed"}, upstream=upstream)
    for folder, made in ((tmp_path / "d", run), (tmp_path / "m", its_run)):
        path = folder / f"{made.recipe.name}.yaml"
        command = [sys.executable, "-m", "medembed", "publish", str(path), "--run-dir", str(made.folder)]
        done = subprocess.run(command, env=hub.env(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        record, repo = made.record("publish"), hub.repos[made.recipe.kind, f"medembed/{made.recipe.name}"]
        assert record is not None and record.facts["where"] == f"{repo.id}@{repo.at('main').oid}"
        assert record.facts["where"] in done.stdout and record.facts["loaded_back"]
    assert (
        hub.repos["dataset", "medembed/tiny-triplets"].private and not hub.repos["model", "medembed/tiny-embed"].private
    )
    # The model was loaded by its name and commit, in an empty cache, by `medembed publish` itself.
    assert hub.requests("GET", "/objects/medembed/tiny-embed/") == 1
    code = 'from datasets import load_dataset as load; print(len(load("medembed/tiny-triplets", "triplets", split="train")))'
    for token, rows in ((READER, "5"), (OUTSIDER, "")):
        command, env = [sys.executable, "-c", code], hub.env(token)
        assert subprocess.run(command, env=env, capture_output=True, text=True, check=False).stdout.strip() == rows
    assert [entry for entry in hub.log if entry[2] >= 500] == []
