"""Publishing to the Hub: exactly one commit, whatever breaks on the way, and the same files come back."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medembed.provenance import manifest
from tests.fixtures.hub import OUTSIDER, READER, WRITER, Hub
from tests.publish.runs import dataset_run, model_run

REPO = "medembed/tiny"
DELIVER = """if True:
    import json, logging, sys
    from pathlib import Path
    from medembed.errors import MedEmbedError
    from medembed.publish.hub import Place, to_hub
    logging.basicConfig(level="INFO")
    folder, repo, private = sys.argv[1:]
    try:
        print("COMMIT", to_hub(Path(folder), Place(repo, "dataset", "tiny", private=private == "private")))
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


def _start(hub: Hub, folder: Path, *, token: str | None = WRITER, private: bool = False) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", DELIVER, str(folder), REPO, "private" if private else "public"]
    env, pipe = hub.env(token, hub.folder / "home"), subprocess.PIPE
    return subprocess.Popen(command, env=env, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def _deliver(hub: Hub, folder: Path, *, token: str | None = WRITER, private: bool = False) -> tuple[int, str]:
    process = _start(hub, folder, token=token, private=private)
    out, _ = process.communicate(timeout=120)
    assert token is None or token not in out
    return process.returncode, out


def _published_once(hub: Hub, folder: Path) -> bool:
    """One commit after the first one, and just the files of the folder."""
    repo = hub.repos["dataset", REPO]
    titles = [commit.title for commit in repo.history()]
    files = {path: repo.read(path) for path in repo.at("main").files if path != ".gitattributes"}
    sent = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return titles == ["Publish tiny", "initial commit"] and files == sent


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


@pytest.mark.parametrize(("status", "times"), [(500, 2), (412, 1)])
def test_what_passes_is_waited_for(hub: Hub, artifact: Path, status: int, times: int) -> None:
    hub.fail("POST", "/commit/", status=status, times=times)
    code, out = _deliver(hub, artifact)
    assert (code, _published_once(hub, artifact)) == (0, True), out
    assert hub.requests("POST", "/commit/") == times + 1


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


@pytest.mark.parametrize(
    ("method", "path", "how"),
    [
        ("POST", "/repos/create", "lost"),
        ("PUT", "/objects/", "lost"),
        ("POST", "/commit/", "reset"),
        ("POST", "/commit/", "lost"),
    ],
)
def test_a_kill_at_any_request_and_a_second_run_are_one_commit(
    hub: Hub, artifact: Path, method: str, path: str, how: str
) -> None:
    process: list[subprocess.Popen[str]] = []
    hub.fail(method, path, how, call=lambda: os.kill(process[0].pid, signal.SIGKILL))  # type: ignore[arg-type]
    process.append(_start(hub, artifact))
    process[0].communicate(timeout=120)
    assert process[0].returncode == -signal.SIGKILL
    code, out = _deliver(hub, artifact)
    assert (code, _published_once(hub, artifact)) == (0, True), out


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
