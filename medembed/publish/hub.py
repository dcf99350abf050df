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
from typing import TYPE_CHECKING, Literal

from medembed.errors import InputError, MedEmbedError, RunError
from medembed.publish.push import (
    PROVENANCE,
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
    from huggingface_hub.errors import HfHubHTTPError

log = logging.getLogger(__name__)

HUBS_OWN = frozenset({".gitattributes"})
ATTEMPTS = 4


@dataclass(frozen=True)
class Place:
    """A repository to publish to, and which artifact may stand there."""

    repo: str
    kind: Literal["model", "dataset"]
    name: str
    private: bool
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
        api = _api()
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
    api, artifact = _api(), files_of(folder)
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".download-") as cache, told(place.repo):
        commit = _steadily(place, lambda: _propose(api, place, artifact))
        _download(api, place, commit, artifact, Path(cache))
        yield Delivered(place.repo, commit, Path(cache))


def promote(folder: Path, place: Place) -> str:
    """Make main hold what `folder` holds by one commit, and the place's tag stand for it; the commit's hash.

    What a killed run has done of this is found and not done again. A tag is never moved.

    Raises:
        InputError, RunError: as `on_hub`.
    """
    api, artifact = _api(), files_of(folder)
    with told(place.repo):
        return _steadily(place, lambda: _promote(api, place, artifact))


def _propose(api: "HfApi", place: Place, artifact: Mapping[str, Path]) -> str:
    """The commit that holds the artifact: main's own if that does, else the one on its branch."""
    api.create_repo(place.repo, repo_type=place.kind, private=place.private or None, exist_ok=True)
    _refuse_taken_tag(api, place, artifact)
    head, there = _look(api, place)
    if not needed(artifact, there):
        return head
    branch = _branch(artifact)
    api.create_branch(place.repo, branch=branch, revision=head, repo_type=place.kind, exist_ok=True)
    return _commit(api, place, artifact, branch, f"Candidate of {place.name}")


def _promote(api: "HfApi", place: Place, artifact: Mapping[str, Path]) -> str:
    _refuse_taken_tag(api, place, artifact)
    commit = _commit(api, place, artifact, "main", f"Publish {place.name}{f' {place.tag}' if place.tag else ''}")
    refs = api.list_repo_refs(place.repo, repo_type=place.kind)
    if place.tag and place.tag not in (tag.name for tag in refs.tags):
        api.create_tag(place.repo, tag=place.tag, revision=commit, repo_type=place.kind)
    if (branch := _branch(artifact)) in (each.name for each in refs.branches):
        api.delete_branch(place.repo, branch=branch, repo_type=place.kind)
    if place.collection:
        api.add_collection_item(place.collection, place.repo, item_type=place.kind, exists_ok=True)
    return commit


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


def _download(api: "HfApi", place: Place, commit: str, artifact: Mapping[str, Path], cache: Path) -> None:
    """Bring every file back and compare it: the client itself checks sizes alone."""
    wrong: list[str] = []
    for attempt in range(2):
        folder = api.snapshot_download(
            place.repo,
            repo_type=place.kind,
            revision=commit,
            cache_dir=cache,
            allow_patterns=list(artifact),
            force_download=attempt > 0,
        )
        wrong = [path for path, sent in artifact.items() if sha256(Path(folder, path)) != sha256(sent)]
        if not wrong:
            return
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
            if not _may_pass(error):
                raise
            log.info("publish: %s; looking at %s again", _say(error), place.repo)
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
    elif found.keys() - {"README.md"}:
        refuse_foreign(None, place.mine, place.repo)
    return head, found


def _api() -> "HfApi":
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        mend = "Set HF_TOKEN to a token with write access, or log in once with `hf auth login`."
        raise InputError.of("publishing to the Hub needs a token, and there is none", mend=mend)
    return HfApi(library_name="medembed")


# ---- what the Hub's errors say to the user ---------------------------------------------------------------------------

_AGAIN = "Run the same command again: it looks at the repository first, and sends nothing twice."
_MENDS = {
    400: "The Hub does not accept the files as they are; its own words are above.",
    401: "The token is not valid (or no longer): set HF_TOKEN, or log in with `hf auth login`.",
    403: "The token must have write access to this namespace.",
    404: "Check `publish.repo`: the namespace must exist and the token must be allowed to see it.",
    409: "Another operation on this repository is under way, or its name is taken. Wait a little and run it again.",
    412: "Somebody else commits to this repository at the same time. Run the same command again when they are done.",
    429: "The Hub's rate limit is reached. Run the same command again later.",
}


@contextmanager
def told(where: str) -> Iterator[None]:
    """Turn what the Hub's client raises into errors that say what happened and what to do."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        yield
    except MedEmbedError:
        raise
    except OfflineModeIsEnabled as error:
        raise InputError.of("the Hub cannot be reached: HF_HUB_OFFLINE is set", where, "Unset it.") from error
    except Exception as error:
        status = _status(error)
        if status is None and not _broken(error):
            raise
        kind = InputError if status in (400, 401, 403, 404) else RunError
        raise kind.of(_say(error), where, _MENDS.get(status or 0, _AGAIN)) from error


def _say(error: BaseException) -> str:
    """What went wrong, in one line; the token, should the Hub's words quote it, is left out."""
    from huggingface_hub import get_token

    if (answer := _answer(error)) is None:
        return "the connection to the Hub broke"
    words = " ".join((answer.server_message or "").split())[:200]
    if words and (token := get_token()):
        words = words.replace(token, "…")
    return f"the Hub answers {_status(error)}{f': {words}' if words else ''}"


def _may_pass(error: BaseException) -> bool:
    status = _status(error)
    return _broken(error) if status is None else status in (408, 409, 412, 429) or status >= 500


def _status(error: BaseException) -> int | None:
    answer = _answer(error)
    return answer.response.status_code if answer and answer.response is not None else None


def _answer(error: BaseException) -> "HfHubHTTPError | None":
    from huggingface_hub.errors import HfHubHTTPError

    return next((e for e in _causes(error) if isinstance(e, HfHubHTTPError)), None)


def _broken(error: BaseException) -> bool:
    import httpx2

    return any(isinstance(e, httpx2.TransportError) for e in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what caused it: the client wraps those of an upload."""
    while error is not None:
        yield error
        error = error.__cause__
