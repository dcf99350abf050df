"""The commit that runs: git's where this is a checkout, else the one that the build has written into the package."""

import subprocess
from pathlib import Path

_PACKAGE = Path(__file__).parent


def commit() -> str | None:
    """40 digits, with `-dirty` after them if files differ from it; None where neither git nor the build tells."""
    written = _PACKAGE / "COMMIT"
    if written.is_file():
        return written.read_text(encoding="ascii").strip()
    return of_checkout(_PACKAGE.parent)


def of_checkout(folder: Path) -> str | None:
    """The commit of a checkout of this project; None for any other folder."""
    if not (folder / ".git").exists() or not (folder / "pyproject.toml").exists():
        return None
    try:
        command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
