"""What a model has made of a block of texts, on disk: a file under the hash of what made it, which ends with its own checksum.

Nothing stale or damaged is read, and a killed run goes on from the last whole block.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from medembed.run import replacing

log = logging.getLogger(__name__)

_DIGEST = hashlib.sha256().digest_size


def place(cache: Path, made_by: Any, suffix: str) -> Path:
    """Where in `cache` the block lies that was `made_by` this (anything that JSON can say: model, settings, texts)."""
    return cache / f"{hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:32]}.{suffix}"


def read(path: Path) -> bytes | None:
    """The block at `path`; none when there is none or not what was written."""
    if not path.exists():
        return None
    content = path.read_bytes()
    body, checksum = content[:-_DIGEST], content[-_DIGEST:]
    if checksum != _checksum(path, body):
        log.warning("%s: a damaged block of a model's work; it is made again", path)
        return None
    return body


def write(path: Path, body: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(body + _checksum(path, body))


def _checksum(path: Path, body: bytes) -> bytes:
    return hashlib.sha256(path.name.encode() + body).digest()
