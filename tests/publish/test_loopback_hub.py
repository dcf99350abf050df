"""The loopback Hub is as strict as the Hub: what the other tests prove with it is worth no more than this."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.fixtures.hub import OUTSIDER, READER, WRITER, Hub

REPO = "medembed/some-model"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def api(hub: Hub) -> HfApi:
    api = HfApi(endpoint=hub.url, token=WRITER)
    api.create_repo(REPO)
    return api


def _add(api: HfApi, path: str, content: bytes, parent: str | None = None) -> str:
    operations = [CommitOperationAdd(path, content)]
    return api.create_commit(REPO, operations, commit_message=f"add {path}", parent_commit=parent).oid


def _status(error: pytest.ExceptionInfo[HfHubHTTPError]) -> int:
    return error.value.response.status_code


def test_files_come_back_as_they_were_committed(api: HfApi, hub: Hub, tmp_path: Path) -> None:
    large = b"weights" * 1000
    _add(api, "model.safetensors", large)
    commit = _add(api, "sub/config.json", b"{}")
    files = {file.path: file for file in api.list_repo_tree(REPO, recursive=True) if hasattr(file, "blob_id")}
    assert files["model.safetensors"].lfs.sha256 == hashlib.sha256(large).hexdigest()
    assert files["sub/config.json"].lfs is None
    assert [entry.path for entry in api.list_repo_tree(REPO)] == [".gitattributes", "model.safetensors", "sub"]
    assert [info.path for info in api.get_paths_info(REPO, ["sub/config.json", "none"])] == ["sub/config.json"]
    for path, content in {"model.safetensors": large, "sub/config.json": b"{}"}.items():
        got = api.hf_hub_download(REPO, path, revision=commit, cache_dir=tmp_path / "cache")
        assert Path(got).read_bytes() == content
    assert api.verify_repo_checksums(REPO, revision=commit, cache_dir=tmp_path / "cache").mismatches == []


def test_a_range_of_a_large_file_can_be_asked_for(api: HfApi, hub: Hub) -> None:
    _add(api, "model.safetensors", b"0123456789")
    url = f"{hub.url}/{REPO}/resolve/main/model.safetensors"
    got = httpx2.get(url, headers={"Range": "bytes=2-4"}, follow_redirects=True)
    assert (got.status_code, got.content, got.headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")


def test_accounts_may_do_what_their_role_allows(api: HfApi, hub: Hub) -> None:
    assert api.whoami()["name"] == "writer"
    with pytest.raises(HfHubHTTPError) as refused:
        HfApi(endpoint=hub.url, token="hf_wrong").whoami()
    assert _status(refused) == 401
    for token in (READER, OUTSIDER):
        with pytest.raises(HfHubHTTPError) as refused:
            _add(HfApi(endpoint=hub.url, token=token), "a.txt", b"")
        assert _status(refused) == 403
        with pytest.raises(HfHubHTTPError) as refused:
            HfApi(endpoint=hub.url, token=token).create_repo("medembed/new")
        assert _status(refused) == 403
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_repo(REPO)
    assert _status(refused) == 409


def test_a_private_repository_is_seen_by_members_alone(api: HfApi, hub: Hub) -> None:
    api.create_repo("medembed/secret", private=True, repo_type="dataset")
    assert HfApi(endpoint=hub.url, token=READER).dataset_info("medembed/secret").private
    for token in (OUTSIDER, False):
        with pytest.raises(RepositoryNotFoundError):
            HfApi(endpoint=hub.url, token=token).dataset_info("medembed/secret")


def test_a_stale_parent_is_refused(api: HfApi) -> None:
    first = api.model_info(REPO).sha
    _add(api, "a.txt", b"a", parent=first)
    with pytest.raises(HfHubHTTPError) as refused:
        _add(api, "b.txt", b"b", parent=first)
    assert _status(refused) == 412


def test_an_object_that_was_not_uploaded_or_is_another_is_refused(api: HfApi, hub: Hub) -> None:
    headers = {"Authorization": f"Bearer {WRITER}"}
    oid = hashlib.sha256(b"right").hexdigest()
    line = f'{{"key": "lfsFile", "value": {{"path": "a.bin", "algo": "sha256", "oid": "{oid}", "size": 5}}}}'
    commit = f'{{"key": "header", "value": {{"summary": "x"}}}}\n{line}\n'
    assert httpx2.post(f"{hub.url}/api/models/{REPO}/commit/main", content=commit, headers=headers).status_code == 400
    batch = {"operation": "upload", "hash_algo": "sha256", "objects": [{"oid": oid, "size": 5}]}
    asked = httpx2.post(f"{hub.url}/{REPO}.git/info/lfs/objects/batch", json=batch, headers=headers).json()
    href = asked["objects"][0]["actions"]["upload"]["href"]
    assert httpx2.put(href, content=b"wrong").status_code == 400
    assert httpx2.put(href.replace("signature=", "signature=0"), content=b"right").status_code == 403
    assert httpx2.put(href, content=b"right").status_code == 200
    assert httpx2.post(f"{hub.url}/api/models/{REPO}/commit/main", content=commit, headers=headers).status_code == 200


def test_branches_and_tags_stay_where_they_were_set(api: HfApi) -> None:
    first = api.model_info(REPO).sha
    api.create_branch(REPO, branch="candidate")
    api.create_tag(REPO, tag="v1", revision="main")
    second = _add(api, "a.txt", b"a")
    refs = api.list_repo_refs(REPO)
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": second, "candidate": first}
    assert {ref.name: ref.target_commit for ref in refs.tags} == {"v1": first}
    assert api.model_info(REPO, revision="v1").sha == first
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_tag(REPO, tag="v1", revision=second)
    assert _status(refused) == 409
    api.delete_tag(REPO, tag="v1")
    api.delete_branch(REPO, branch="candidate")
    with pytest.raises(RevisionNotFoundError):
        api.model_info(REPO, revision="v1")


def test_what_is_not_there_is_said_with_its_code(api: HfApi, tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("medembed/none")
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download(REPO, "none.txt", cache_dir=tmp_path)
    with pytest.raises(HfHubHTTPError) as refused:
        api.create_commit(REPO, [CommitOperationDelete("none.txt")], commit_message="x")
    assert _status(refused) == 404


def test_a_card_with_bad_metadata_is_refused_at_the_commit(api: HfApi, hub: Hub) -> None:
    with pytest.raises(ValueError, match="license"):
        _add(api, "README.md", b"---\nlicense: none of them\n---\n")
    assert hub.requests("POST", "/commit/") == 0


def test_harm_is_done_as_ordered(api: HfApi, hub: Hub) -> None:
    hub.fail("POST", "/commit/", status=503, nth=2)
    hub.fail("POST", "/commit/", "lost", nth=3)
    _add(api, "a.txt", b"a")
    with pytest.raises(HfHubHTTPError) as refused:
        _add(api, "b.txt", b"b")
    assert _status(refused) == 503
    with pytest.raises(httpx2.TransportError):
        _add(api, "c.txt", b"c")
    assert [commit.title for commit in hub.repos["model", REPO].history()] == [
        "add c.txt",
        "add a.txt",
        "initial commit",
    ]
    hub.fail("GET", f"/api/models/{REPO}$", "truncated")
    with pytest.raises(httpx2.TransportError):
        api.model_info(REPO)
