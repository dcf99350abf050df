"""Delivery to the Hub: a finished folder in; a candidate on a branch of its own, proved by its caller; then one commit on main, and a tag.

Look, act, look: the client never repeats a commit, since its answer may be lost after the work was done. So after every failure that
may pass the repository is looked at again, and nothing is done that stands there already. Whoever downloads main has the old release or
the new one, whole.
"""

import hashlib
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medembed.errors import InputError, RunError
from medembed.hub import Kind, in_words, may_pass, told, writer
from medembed.provenance import PROVENANCE
from medembed.publish.push import (
    Artifact,
    Delivered,
    Stored,
    files_of,
    needed,
    parsed,
    put_there,
    refuse_foreign,
)
from medembed.run import sha256

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = logging.getLogger(__name__)

HUBS_OWN = frozenset({".gitattributes"})
# What the Hub itself puts into a new repository, and publishing may replace.
BLANK = {
    "model": frozenset({"README.md"}),
    "dataset": frozenset({"README.md"}),
    "space": frozenset({"README.md", "index.html", "style.css"}),
}
ATTEMPTS = 4


@dataclass(frozen=True)
class Place:
    """A repository to publish to, and which artifact may stand there."""

    repo: str
    kind: Kind
    name: str
    private: bool = False
    tag: str | None = None
    collection: str | None = None  # its slug, to which the repository is added

    @property
    def mine(self) -> dict[str, str]:
        return {"kind": self.kind, "name": self.name}


def on_hub(place: Place, artifact: Artifact | None = None) -> dict[str, Stored]:
    """The files of a repository; none when it does not exist yet. With an `artifact`, also whether its tag is free for it.

    Raises:
        InputError: no or a wrong token, no right to see it, it holds something other than this artifact, or the tag stands for other
            files.
        RunError: the Hub cannot be reached or fails.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    with told(place.repo):
        api = writer(place.repo, place.kind)
        try:
            if artifact is not None:
                _refuse_taken_tag(api, place, artifact)
            return _look(api, place)[1]
        except RepositoryNotFoundError:
            return {}


@contextmanager
def candidate(folder: Path, place: Place, scratch: Path) -> Iterator[Delivered]:
    """What `folder` holds as a commit beside main, downloaded again into an empty cache under `scratch`, and compared by hash.

    Raises:
        InputError, RunError: as `on_hub`; RunError also when what comes back is not what was sent.
    """
    artifact = files_of(folder)
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".download-") as cache, told(place.repo):
        api = writer(place.repo, place.kind)
        commit = _steadily(place, lambda: _propose(api, place, artifact))
        sent = {path: Stored(sha256(file)) for path, file in artifact.items()}
        _download(api, place, commit, sent, Path(cache))
        yield Delivered(place.repo, commit, Path(cache))


@contextmanager
def fetched(place: Place, commit: str, scratch: Path) -> Iterator[tuple[Delivered, Path]]:
    """A candidate that stands on the Hub at `commit`, downloaded as above; also the folder with just its files.

    Once the candidate has gone with its branch, it is what the place's tag stands for.

    Raises:
        InputError, RunError: as `on_hub`; RunError also when what comes is not what the Hub has.
    """
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".download-") as cache, told(f"{place.repo}@{commit}"):
        api = writer(place.repo, place.kind)
        stand = (
            each for each in (commit, place.tag) if each and api.revision_exists(place.repo, each, repo_type=place.kind)
        )
        head, there = _look(api, place, next(stand, commit))
        yield Delivered(place.repo, head, Path(cache)), _download(api, place, head, there, Path(cache))


def promote(folder: Path, place: Place) -> str:
    """Make main hold what `folder` holds by one commit, and the place's tag stand for it; the commit's hash.

    What a killed run has done of this is found and not done again. A tag is never moved. The candidate's branch goes last: as long as
    it is there, something may be left to do.

    Raises:
        InputError, RunError: as `on_hub`.
    """
    artifact = files_of(folder)
    with told(place.repo):
        api = writer(place.repo, place.kind)
        return _steadily(place, lambda: _promote(api, place, artifact))


def stands(place: Place, commit: str) -> bool:
    """Whether a release is still there, under its tag. A Hub that cannot be asked is no reason to doubt it."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        with told(place.repo):
            found = HfApi().repo_info(place.repo, repo_type=place.kind, revision=place.tag or commit)
            return bool(found.sha == commit)
    except (InputError, RunError) as error:
        if isinstance(error.__cause__, RepositoryNotFoundError | RevisionNotFoundError):
            return False
        log.warning("publish: whether the release still stands cannot be told: %s", error.faults[0].what)
        return True


def _propose(api: "HfApi", place: Place, artifact: Mapping[str, Path]) -> str:
    """The commit that holds the artifact: main's own if that does, else the one on its branch."""
    if not api.repo_exists(place.repo, repo_type=place.kind):  # a token for one repository may create none
        sdk = "static" if place.kind == "space" else None
        api.create_repo(place.repo, repo_type=place.kind, private=place.private or None, space_sdk=sdk, exist_ok=True)
    _refuse_taken_tag(api, place, artifact)
    head, there = _look(api, place)
    if not (todo := needed(artifact, there)):
        return head
    branch = _branch(artifact)
    for path, action in todo.items():  # the plan, before anything is sent
        log.info(
            "publish: %-8s %13s  %s", action, f"{artifact[path].stat().st_size:,}" if path in artifact else "", path
        )
    api.create_branch(place.repo, branch=branch, revision=head, repo_type=place.kind, exist_ok=True)
    return _commit(api, place, artifact, branch, f"Candidate of {place.name}")


def _promote(api: "HfApi", place: Place, artifact: Mapping[str, Path]) -> str:
    _refuse_taken_tag(api, place, artifact)
    refs = api.list_repo_refs(place.repo, repo_type=place.kind)
    released = next((str(tag.target_commit) for tag in refs.tags if tag.name == place.tag), None)
    # What is released already stays where it is: main may hold a later release.
    commit = released or _commit(
        api, place, artifact, "main", f"Publish {place.name}{f' {place.tag}' if place.tag else ''}"
    )
    if place.tag and not released:
        api.create_tag(place.repo, tag=place.tag, revision=commit, repo_type=place.kind)
    if place.collection:
        _list(api, place.collection, place)
    if (branch := _branch(artifact)) in (each.name for each in refs.branches):
        api.delete_branch(place.repo, branch=branch, repo_type=place.kind)
    return commit


def _list(api: "HfApi", collection: str, place: Place) -> None:
    """Have the collection list the repository. A token for one repository alone, such as a CI job's, cannot: that ends no release."""
    from huggingface_hub.errors import HfHubHTTPError

    items = api.get_collection(collection).items
    if any((item.item_type, item.item_id) == (place.kind, place.repo) for item in items):
        return
    try:
        api.add_collection_item(collection, place.repo, item_type=place.kind, exists_ok=True)
    except HfHubHTTPError as error:
        if error.response.status_code != 403:
            raise
        log.warning(
            "publish: this token may not change the collection %s: add %s to it by hand", collection, place.repo
        )


def _commit(api: "HfApi", place: Place, artifact: Mapping[str, Path], branch: str, message: str) -> str:
    """The commit at the tip of `branch` that holds the artifact: the one that stands there, or a new one on top of it."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    tip, there = _look(api, place, branch)
    if not (todo := needed(artifact, there)):
        return tip
    log.info("publish: %d files to %s@%s", len(todo), place.repo, branch)
    operations = [
        CommitOperationDelete(path) if action == "remove" else CommitOperationAdd(path, str(artifact[path]))
        for path, action in todo.items()
    ]
    made = api.create_commit(
        place.repo, operations, repo_type=place.kind, revision=branch, commit_message=message, parent_commit=tip
    )
    if wrong := needed(artifact, _look(api, place, made.oid)[1]):
        what = f"{len(wrong)} files on the Hub are not what was sent: {', '.join(sorted(wrong)[:3])}"
        raise RunError.of(what, f"{place.repo}@{made.oid}", "Run the same command again.")
    return str(made.oid)


def _download(api: "HfApi", place: Place, commit: str, wanted: Mapping[str, Stored], cache: Path) -> Path:
    """The folder with every file that is wanted, brought and compared: the client itself checks sizes alone."""
    wrong: dict[str, str] = {}
    for attempt in range(2):
        folder = api.snapshot_download(
            place.repo,
            repo_type=place.kind,
            revision=commit,
            cache_dir=cache,
            allow_patterns=list(wanted),
            force_download=attempt > 0,
        )
        if not (wrong := needed({path: Path(folder, path) for path in wanted}, wanted)):
            return Path(folder)
        log.info("publish: %d files came back damaged; downloading again", len(wrong))
    what = f"{len(wrong)} files come back from the Hub damaged: {', '.join(sorted(wrong)[:3])}"
    raise RunError.of(what, f"{place.repo}@{commit}", "main is as it was. Run the same command again.")


def _refuse_taken_tag(api: "HfApi", place: Place, artifact: Artifact) -> None:
    """
    Raises:
        InputError: the tag stands for other files; it is never moved.
    """
    if place.tag is None:
        return
    tags = {tag.name for tag in api.list_repo_refs(place.repo, repo_type=place.kind).tags}
    if place.tag in tags and needed(artifact, _look(api, place, place.tag)[1]):
        what = f"the tag {place.tag} stands for other files, and a tag is never moved"
        raise InputError.of(what, place.repo, "Choose the next one.")


def _branch(artifact: Mapping[str, Path]) -> str:
    """The candidate's branch, named by its content: who runs again finds what was sent."""
    content = "".join(f"{path} {sha256(file)}\n" for path, file in sorted(artifact.items()))
    return f"candidate-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def _steadily(place: Place, step: Callable[[], str]) -> str:
    """Do a step that looks before it acts; again, after a failure that may pass."""
    for attempt in range(ATTEMPTS - 1):
        try:
            return step()
        except Exception as error:
            if not may_pass(error):
                raise
            log.info("publish: %s; looking at %s again", in_words(error), place.repo)
            time.sleep(2**attempt)
    return step()


def _look(api: "HfApi", place: Place, revision: str = "main") -> tuple[str, dict[str, Stored]]:
    """The commit that `revision` names, and its files, which must be those of this artifact."""
    from huggingface_hub.hf_api import RepoFile

    info = api.repo_info(place.repo, repo_type=place.kind, revision=revision)
    if place.private and not info.private:
        mend = "Make it private in its settings on the Hub, or publish to another one."
        raise InputError.of("is public, and the recipe says `private: true`", place.repo, mend)
    head = str(info.sha)
    tree = api.list_repo_tree(place.repo, repo_type=place.kind, revision=head, recursive=True)
    found = {
        file.path: Stored(file.lfs.sha256 if file.lfs else None, file.blob_id)
        for file in tree
        if isinstance(file, RepoFile) and file.path not in HUBS_OWN
    }
    if PROVENANCE in found:
        with tempfile.TemporaryDirectory() as cache:
            file = api.hf_hub_download(place.repo, PROVENANCE, repo_type=place.kind, revision=head, cache_dir=cache)
            manifest = parsed(Path(file).read_bytes())
        refuse_foreign(manifest, place.mine, place.repo)
        found = {path: stored for path, stored in found.items() if path in put_there(manifest)}
    elif found.keys() - BLANK[place.kind]:
        refuse_foreign(None, place.mine, place.repo)
    return head, found
