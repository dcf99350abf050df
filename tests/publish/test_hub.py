"""Publishing to the Hub: main is the old release or the new one, by one commit and one tag, whatever breaks on the way."""

import copy
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from medembed.provenance import manifest
from tests.fixtures.hub import OUTSIDER, READER, WRITER, Hub
from tests.fixtures.hub_store import Repo
from tests.publish.forked import Forge
from tests.publish.runs import dataset_run, model_run

REPO = "medembed/tiny"
COLLECTION = "medembed/models"
V2 = {"tag": "v2", "collection": COLLECTION}
WRITES = ("POST", "PUT", "DELETE")


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with Hub(tmp_path_factory.mktemp("hub")) as hub, Forge(hub) as forge:
        yield forge


@pytest.fixture
def hub(forge: Forge) -> Hub:
    forge.hub.reset()
    return forge.hub


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


def _published_once(hub: Hub, folder: Path, *, tag: str = "") -> bool:
    """One commit after the first one, just the files of the folder, the tag at this commit, and no branch left."""
    repo = hub.repos["dataset", REPO]
    titles = [commit.title for commit in repo.history()]
    once = titles == [f"Publish tiny {tag}".rstrip(), "initial commit"] and list(repo.branches) == ["main"]
    return once and _holds(repo, folder) and repo.tags == ({tag: repo.at("main").oid} if tag else {})


def _holds(repo: Repo, folder: Path, revision: str = "main") -> bool:
    files = {path: repo.read(path, revision) for path in repo.at(revision).files if path != ".gitattributes"}
    return files == {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_run_again_makes_no_second_commit(hub: Hub, forge: Forge, artifact: Path) -> None:
    code, first = forge.deliver(artifact)
    assert code == 0 and _published_once(hub, artifact)
    again = forge.deliver(artifact)
    assert again[0] == 0 and _published_once(hub, artifact)
    assert first.splitlines()[-1] == again[1].splitlines()[-1] == f"COMMIT {hub.repos['dataset', REPO].at('main').oid}"


def test_a_new_version_is_one_commit_that_also_removes(hub: Hub, forge: Forge, artifact: Path, tmp_path: Path) -> None:
    forge.deliver(artifact)
    newer = _artifact(tmp_path / "newer", "other rows")
    (newer / "pairs" / "train-0.parquet").rename(newer / "pairs" / "train-1.parquet")
    _list_files(newer)
    assert forge.deliver(newer)[0] == 0
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
    hub: Hub, forge: Forge, artifact: Path, method: str, path: str, how: str
) -> None:
    hub.fail(method, path, how)  # type: ignore[arg-type]
    code, out = forge.deliver(artifact)
    assert (code, _published_once(hub, artifact)) == (0, True), out


@pytest.mark.parametrize("branch", ["candidate-", "main"])
@pytest.mark.parametrize(("status", "times"), [(500, 2), (412, 1)])
def test_what_passes_is_waited_for(
    hub: Hub, forge: Forge, artifact: Path, branch: str, status: int, times: int
) -> None:
    hub.fail("POST", f"/commit/{branch}", status=status, times=times)
    code, out = forge.deliver(artifact)
    assert (code, _published_once(hub, artifact)) == (0, True), out
    assert hub.requests("POST", f"/commit/{branch}") == times + 1


def test_what_does_not_pass_is_told_and_the_same_command_goes_on(hub: Hub, forge: Forge, artifact: Path) -> None:
    hub.fail("POST", "/commit/", status=500, times=4)
    code, out = forge.deliver(artifact)
    assert code == 1 and "the Hub answers 500: Harm was ordered for Bearer …" in out
    assert "Run the same command again" in out
    assert forge.deliver(artifact)[0] == 0 and _published_once(hub, artifact)


def test_somebody_who_commits_all_the_time_is_told_of(hub: Hub, forge: Forge, artifact: Path) -> None:
    hub.fail("POST", "/commit/", status=412, times=4)
    code, out = forge.deliver(artifact)
    assert code == 1 and "412" in out and "Somebody else commits" in out


@dataclass
class Bench:
    """A repository in which v1 stands, and the files of v2; what is asked of the Hub to release that."""

    forge: Forge
    old: Path
    new: Path
    before: Repo

    def prepare(self) -> Hub:
        """Put everything back as v1 left it."""
        hub = self.forge.hub
        hub.repos["dataset", REPO] = copy.deepcopy(self.before)
        hub.api.store.collections[COLLECTION] = []
        hub.log.clear()
        hub.harms.clear()
        return hub

    def release(self) -> tuple[int, str]:
        return self.forge.deliver(self.new, **V2)

    @property
    def is_whole(self) -> bool:
        """main is one of the two, v1 where it was, and v2 nowhere but at main."""
        repo = self.forge.hub.repos["dataset", REPO]
        tags_stand = repo.tags["v1"] == self.before.tags["v1"] and repo.tags.get("v2") in (None, repo.at("main").oid)
        return tags_stand and (_holds(repo, self.old) or _holds(repo, self.new))

    @property
    def is_released(self) -> bool:
        """By one commit, one tag and one entry in the collection, and nothing else is left."""
        repo = self.forge.hub.repos["dataset", REPO]
        titles = [commit.title for commit in repo.history()]
        return (
            self.is_whole
            and titles == ["Publish tiny v2", "Publish tiny v1", "initial commit"]
            and repo.tags.get("v2") == repo.at("main").oid
            and list(repo.branches) == ["main"]
            and self.forge.hub.api.store.collections[COLLECTION] == [("dataset", REPO)]
        )


@pytest.fixture
def bench(hub: Hub, forge: Forge, artifact: Path, tmp_path: Path) -> Bench:
    assert forge.deliver(artifact, tag="v1")[0] == 0
    return Bench(forge, artifact, _artifact(tmp_path / "newer", "other rows"), hub.repos["dataset", REPO])


@pytest.fixture
def requests(bench: Bench) -> list[tuple[int, str, str]]:
    """Each kind of request that an undisturbed release makes: the number of the first one, its method and path."""
    hub = bench.prepare()
    assert bench.release()[0] == 0 and bench.is_released
    first: dict[tuple[str, str], tuple[int, str, str]] = {}
    for n, (method, path, _) in enumerate(hub.log, start=1):
        first.setdefault((method, re.sub(r"[0-9a-f]{12,}|(?<=/resolve/).*", "#", path)), (n, method, path))
    steps = "/branch/ /preupload/ /objects/batch /objects/datasets/ /commit/candidate- /commit/main /tag/ /items"
    for step in steps.split():
        assert any(method in WRITES and step in path for _, method, path in first.values()), step
    return list(first.values())


@pytest.mark.slow
def test_killed_at_any_request_of_a_release_main_is_whole_and_the_next_run_makes_it_one(
    bench: Bench, requests: list[tuple[int, str, str]]
) -> None:
    """The client is killed before a request is heard, and, where that changes something, after it."""
    for n, method, path in requests:
        for how in ("reset", "lost") if method in WRITES else ("reset",):
            where, process = f"{n}: {method} {path} {how}", [0]
            bench.prepare().fail("", "", how, nth=n, call=lambda: os.kill(process[0], signal.SIGKILL))  # type: ignore[arg-type]  # noqa: B023
            process[0] = bench.forge.start(bench.new, **V2)
            assert bench.forge.wait()[0] == -signal.SIGKILL, where
            assert bench.is_whole, where
            code, out = bench.release()
            assert code == 0 and bench.is_released, f"{where}: {out}"


@pytest.mark.slow
@pytest.mark.parametrize("how", [409, 412, 429, 503, "reset", "lost", "truncated"])
def test_what_passes_breaks_no_release_at_whatever_request(
    bench: Bench, requests: list[tuple[int, str, str]], how: int | str
) -> None:
    for n, method, path in requests:
        if (how in (409, 412, "lost") and method not in WRITES) or (how == 409 and path.endswith("/items")):
            continue  # a read conflicts with nothing; and an item that is there already is what was wanted
        where, hub = f"{n}: {method} {path}", bench.prepare()
        if isinstance(how, int):
            hub.fail("", "", status=how, nth=n)
        else:
            hub.fail("", "", how, nth=n)  # type: ignore[arg-type]
        code, out = bench.release()
        assert bench.is_whole and "Traceback" not in out, f"{where}: {out}"
        if code:
            code, out = bench.release()
        assert code == 0 and bench.is_released, f"{where}: {out}"


@pytest.mark.slow
@pytest.mark.parametrize(("status", "says"), [(401, "token is not valid"), (403, "write access"), (404, "must exist")])
def test_what_does_not_pass_at_whatever_request_is_told_and_leaves_main_whole(
    bench: Bench, requests: list[tuple[int, str, str]], status: int, says: str
) -> None:
    for n, method, path in requests:
        if method in WRITES and not (
            status == 403 and path.endswith("/items")
        ):  # a release without its place in a collection
            where = f"{n}: {method} {path}"
            bench.prepare().fail("", "", status=status, nth=n)
            code, out = bench.release()
            assert code == 2 and says in out and "Traceback" not in out, f"{where}: {out}"
            assert bench.is_whole, where
            assert bench.release()[0] == 0 and bench.is_released, where


def test_killed_before_there_is_a_repository_or_just_after_the_next_run_publishes_once(
    hub: Hub, forge: Forge, artifact: Path
) -> None:
    for how in ("reset", "lost"):
        hub.reset()
        process = [0]
        hub.fail("POST", "/repos/create", how, call=lambda: os.kill(process[0], signal.SIGKILL))  # noqa: B023
        process[0] = forge.start(artifact)
        assert forge.wait()[0] == -signal.SIGKILL
        assert forge.deliver(artifact)[0] == 0 and _published_once(hub, artifact)


def test_a_tag_is_never_moved_and_is_told_before_anything_is_sent(
    hub: Hub, forge: Forge, artifact: Path, tmp_path: Path
) -> None:
    assert forge.deliver(artifact, tag="v1")[0] == 0 and _published_once(hub, artifact, tag="v1")
    assert forge.deliver(artifact, tag="v1")[0] == 0 and _published_once(hub, artifact, tag="v1")
    code, out = forge.deliver(_artifact(tmp_path / "newer", "other rows"), tag="v1")
    assert code == 2 and "a tag is never moved" in out and _published_once(hub, artifact, tag="v1")
    assert hub.requests("POST", "/commit/candidate-") == 1


def test_nobody_sees_a_candidate_that_did_not_come_back_whole(hub: Hub, forge: Forge, artifact: Path) -> None:
    hub.fail("GET", "/objects/.*", "flipped", times=9)
    code, out = forge.deliver(artifact, tag="v1")
    repo = hub.repos["dataset", REPO]
    assert code == 1 and "come back from the Hub damaged" in out
    assert [commit.title for commit in repo.history()] == ["initial commit"] and not repo.tags
    hub.harms.clear()
    hub.fail("GET", "/objects/.*", "flipped")
    code, out = forge.deliver(artifact, tag="v1")
    assert code == 0 and "downloading again" in out and _published_once(hub, artifact, tag="v1")


def test_a_token_that_expires_on_the_way_leaves_main_as_it_was(hub: Hub, forge: Forge, artifact: Path) -> None:
    hub.fail("POST", "/commit/main", status=401, times=9)
    code, out = forge.deliver(artifact)
    assert code == 2 and "The token is not valid" in out
    assert [commit.title for commit in hub.repos["dataset", REPO].history()] == ["initial commit"]
    hub.harms.clear()
    assert forge.deliver(artifact)[0] == 0 and _published_once(hub, artifact)
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
def test_a_token_that_may_not_is_told_and_never_shown(
    hub: Hub, forge: Forge, artifact: Path, token: str | None, says: str
) -> None:
    code, out = forge.deliver(artifact, token=token)
    assert code == 2 and says in out and "oken" in out
    assert not hub.repos


def test_a_hub_that_is_not_there_is_told(hub: Hub, forge: Forge, artifact: Path) -> None:
    hub.fail("POST", "/repos/create", "reset", times=4)
    code, out = forge.deliver(artifact)
    assert code == 1 and "the connection to the Hub broke" in out


def test_a_repository_of_something_else_is_left_alone(hub: Hub, forge: Forge, artifact: Path) -> None:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.url, token=WRITER)
    api.create_repo(REPO, repo_type="dataset")
    api.upload_file(path_or_fileobj=b"x", path_in_repo="data.csv", repo_id=REPO, repo_type="dataset")
    code, out = forge.deliver(artifact)
    assert code == 2 and "did not put there" in out
    assert sorted(hub.repos["dataset", REPO].at("main").files) == [".gitattributes", "data.csv"]


def test_private_data_goes_to_no_public_repository(hub: Hub, forge: Forge, artifact: Path) -> None:
    from huggingface_hub import HfApi

    HfApi(endpoint=hub.url, token=WRITER).create_repo(REPO, repo_type="dataset")
    code, out = forge.deliver(artifact, private=True)
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


def test_a_release_that_was_taken_down_is_noticed_and_made_again(hub: Hub, forge: Forge, tmp_path: Path) -> None:
    _, run = dataset_run(tmp_path, publish={"repo": REPO, "tag": "v1"})
    command = ("publish", str(tmp_path / "tiny-triplets.yaml"), "--run-dir", str(run.folder))
    assert forge.medembed(*command)[0] == 0
    assert "done before" in forge.medembed(*command)[1]
    hub.fail("GET", "/api/datasets/", status=503, times=99)
    code, out = forge.medembed(*command)
    assert code == 0 and "whether the release still stands cannot be told" in out and "done before" in out
    hub.harms.clear()
    for taken_down in (hub.repos["dataset", REPO].tags, hub.repos):
        taken_down.clear()
        code, out = forge.medembed(*command)
        assert code == 0 and "done before" not in out, out
        repo = hub.repos["dataset", REPO]
        assert repo.tags == {"v1": repo.at("main").oid} and len(repo.history()) == 2
