"""The built page → a static Space on the Hub, as releases go there: a candidate, downloaded and compared, then one commit on main."""

import json
import tempfile
from pathlib import Path

from medembed import __version__
from medembed.commit import commit
from medembed.errors import InputError
from medembed.leaderboard.page import is_page
from medembed.provenance import PROVENANCE
from medembed.publish import gates, hub, push

NAME = "medical-leaderboard"


def plan(page: Path, repo: str) -> dict[str, str]:
    """What pushing would do to each file of the Space: add, replace, keep or remove. Writes nothing.

    Raises:
        InputError: `page` is none, or holds what must not be published; the Space cannot be written or is somebody else's.
        RunError: the Hub cannot be reached.
    """
    artifact = _artifact(page)
    return push.changes(artifact, hub.on_hub(_place(repo), artifact))


def push_page(page: Path, repo: str) -> str:
    """Make the Space show the page; the commit of its main.

    Raises:
        InputError, RunError: as `plan`; RunError also when what comes back is not what was sent.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "space"
        push.write(_artifact(page), folder)
        with hub.candidate(folder, _place(repo), Path(scratch)):
            return hub.promote(folder, _place(repo))


def _place(repo: str) -> hub.Place:
    return hub.Place(repo, "space", NAME)


def _artifact(page: Path) -> push.Artifact:
    """The page's files, and a manifest that lists them: by it the next push knows what it may replace."""
    if not (page / "index.html").is_file() or not is_page(page):
        raise InputError.of("is no page of the leaderboard", str(page), "Run `medembed leaderboard build` first.")
    files = push.files_of(page)
    manifest = {
        "kind": "space",
        "name": NAME,
        "medembed": {"version": __version__, "commit": commit()},
        "files": sorted([PROVENANCE, *files]),
    }
    artifact: push.Artifact = {**files, PROVENANCE: (json.dumps(manifest, indent=2) + "\n").encode()}
    gates.holds_what_is_expected("space", artifact)
    return artifact
