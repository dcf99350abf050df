"""Delivery: an artifact in, the same files at the place of publication out, whole or not at all. Here: a local folder; hub.py: the Hub.

Both do it in two steps: a candidate beside what stands there, which is compared by hash and proved by the caller; then it is promoted.
A place is looked at before it is written, so that a second run writes nothing twice. What is not an artifact of the same kind and name
is never overwritten.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medembed.errors import InputError, RunError
from medembed.provenance import PROVENANCE
from medembed.run import sha256

Artifact = Mapping[str, Path | bytes]
"""Path in the repository → the file, or its content."""


@dataclass(frozen=True)
class Stored:
    """A file as it stands at the place of publication: by sha256, or by git's blob id for small files on the Hub."""

    sha256: str | None
    blob: str | None = None


@dataclass(frozen=True)
class Delivered:
    """Where an artifact can be loaded from: a folder, or a repository of the Hub at a commit, which `cache` has already."""

    name: str
    commit: str | None = None
    cache: Path | None = None


def changes(artifact: Artifact, there: Mapping[str, Stored]) -> dict[str, str]:
    """What delivering `artifact` does to each file: add, replace, keep or remove."""
    done = {}
    for path, content in artifact.items():
        done[path] = "add" if path not in there else "keep" if _equal(content, there[path]) else "replace"
    return done | {path: "remove" for path in there if path not in artifact}


def _equal(content: Path | bytes, stored: Stored) -> bool:
    if stored.sha256 is not None:
        digest = sha256(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()
        return digest == stored.sha256
    data = content.read_bytes() if isinstance(content, Path) else content
    return hashlib.sha1(b"blob %d\0%b" % (len(data), data), usedforsecurity=False).hexdigest() == stored.blob


def needed(artifact: Artifact, there: Mapping[str, Stored]) -> dict[str, str]:
    return {path: action for path, action in changes(artifact, there).items() if action != "keep"}


def put_there(manifest: Any) -> set[str]:
    """The files that an artifact's manifest lists as its own; all others are somebody else's, and are left alone."""
    listed = manifest.get("files") if isinstance(manifest, dict) else None
    return {str(path) for path in listed} if isinstance(listed, list) else set()


def refuse_foreign(owner: Any, mine: Mapping[str, str], where: str) -> None:
    """`owner`: the manifest that stands there, or None."""
    theirs = owner if isinstance(owner, dict) else {}
    if {key: theirs.get(key) for key in ("kind", "name")} != mine:
        what = f"holds another artifact: {theirs['kind']} {theirs['name']}" if {"kind", "name"} <= theirs.keys() else ""
        mend = "Publish to another place, or empty this one yourself."
        raise InputError.of(what or "holds something that `medembed publish` did not put there", where, mend)


def parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


# ---- a local folder --------------------------------------------------------------------------------------------------


def in_folder(target: Path, mine: Mapping[str, str]) -> dict[str, Stored]:
    """The files of a folder to publish to; none when it does not stand yet.

    Raises:
        InputError: it cannot be written, or holds something other than the artifact `mine` (kind and name).
    """
    nearest = next(place for place in (target, *target.parents) if place.exists())
    if not nearest.is_dir():
        raise InputError.of("is a file, not a folder", str(nearest))
    if not os.access(nearest, os.W_OK):
        raise InputError.of("cannot be written", str(nearest), "Choose another folder.")
    files = {p.relative_to(target).as_posix(): p for p in sorted(target.rglob("*")) if p.is_file()}
    if files:
        manifest = parsed(files[PROVENANCE].read_bytes()) if PROVENANCE in files else None
        refuse_foreign(manifest, mine, str(target))
        if strangers := sorted(files.keys() - put_there(manifest)):
            what = f"holds files that `medembed publish` did not put there: {', '.join(strangers[:3])}"
            raise InputError.of(
                what, str(target), "Move them, or publish to another folder: this one is replaced whole."
            )
    return {path: Stored(sha256(file)) for path, file in files.items()}


@contextmanager
def candidate(folder: Path, target: Path, mine: Mapping[str, str]) -> Iterator[Delivered]:
    """What `folder` holds, written beside `target` and compared; gone after the block unless it was promoted.

    Raises:
        InputError: as `in_folder`, or the place cannot be written.
        RunError: what stands there afterwards is not what was sent.
    """
    if (outgoing := _beside(target, "outgoing")).exists() and not target.exists():
        outgoing.rename(target)  # `promote` was cut off between its two renames
    in_folder(target, mine)
    artifact, incoming = files_of(folder), _beside(target, "incoming")
    try:
        with _writing(target):
            write(artifact, incoming)
        if wrong := needed(artifact, in_folder(incoming, mine)):
            raise RunError.of(
                f"{len(wrong)} files are not what was written", str(target), "Check the disk; run it again."
            )
        yield Delivered(str(incoming))
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def promote(folder: Path, target: Path, mine: Mapping[str, str]) -> None:
    """Put the candidate in the place of `target`, as a whole; nothing is done where the same files stand already.

    Raises:
        InputError: the place cannot be written.
    """
    outgoing = _beside(target, "outgoing")
    if not needed(files_of(folder), in_folder(target, mine)):
        return
    with _writing(target):
        shutil.rmtree(outgoing, ignore_errors=True)
        if target.exists():
            target.rename(outgoing)
        _beside(target, "incoming").rename(target)
        shutil.rmtree(outgoing, ignore_errors=True)


def _beside(target: Path, name: str) -> Path:
    return target.with_name(f".{target.name}.{name}")


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise InputError.of(f"cannot be written: {error.strerror}", str(target), "Choose another folder.") from error


def write(artifact: Artifact, folder: Path) -> None:
    """Make a folder with the artifact's files, from scratch: what an interrupted run left there is never trusted."""
    shutil.rmtree(folder, ignore_errors=True)
    for path, content in artifact.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, folder / path)
        else:
            (folder / path).write_bytes(content)


def files_of(folder: Path) -> dict[str, Path]:
    return {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
