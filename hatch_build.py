"""What the build adds to a wheel and a source archive: `medembed/COMMIT`, the commit they are made of, where git can tell."""

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class WriteCommit(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return  # it runs from the checkout, and asks git
        sys.path.insert(0, self.root)
        from medembed.commit import of_checkout

        if found := of_checkout(Path(self.root)):
            self._written = Path(self.directory) / ".COMMIT"
            self._written.parent.mkdir(parents=True, exist_ok=True)
            self._written.write_text(found + "\n", encoding="ascii")
            build_data["force_include"][str(self._written)] = "medembed/COMMIT"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        (Path(self.directory) / ".COMMIT").unlink(missing_ok=True)
