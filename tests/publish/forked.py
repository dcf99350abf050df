"""Deliveries and commands at a loopback Hub, each in a process forked from one that has all imported: it takes a moment, and can be killed.

`Forge` starts that one, and gives it orders, a line of JSON each. Its clock runs fast: nobody waits for a pause between two attempts.
"""

import contextlib
import json
import logging
import os
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.fixtures.hub import READER, WRITER, Hub


@dataclass
class Forge:
    """`imports`: modules that the processes need, imported once for all of them."""

    hub: Hub
    imports: tuple[str, ...] = ("huggingface_hub.hf_api", "medembed.publish.hub")

    def __enter__(self) -> "Forge":
        command, pipe = [sys.executable, "-m", "tests.publish.forked", *self.imports], subprocess.PIPE
        environment = self.hub.env(None, self.hub.folder / "home")
        self._process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def start(
        self,
        folder: Path,
        repo: str = "medembed/tiny",
        *,
        token: str | None = WRITER,
        private: bool = False,
        **said: Any,
    ) -> int:
        """Begin to deliver a dataset; the id of the process."""
        place = {"repo": repo, "kind": "dataset", "name": "tiny", "private": private} | said
        return self._begin({"folder": str(folder), "place": place, "environment": {"HF_TOKEN": token or ""}})

    def wait(self) -> tuple[int, str]:
        """The exit code of what was begun last, negative when it was killed, and what it said; never the token."""
        code, said = self._heard(), self._log.read_text()
        assert WRITER not in said and READER not in said
        return code, said

    def deliver(self, folder: Path, repo: str = "medembed/tiny", **said: Any) -> tuple[int, str]:
        self.start(folder, repo, **said)
        return self.wait()

    def medembed(self, *words: str, **environment: str) -> tuple[int, str]:
        """Run a command, as the writer unless told otherwise."""
        self._begin({"command": words, "environment": {"HF_TOKEN": WRITER} | environment})
        return self.wait()

    def _begin(self, order: dict[str, Any]) -> int:
        assert self._process.stdin
        self._log = self.hub.folder / "said.log"
        self._process.stdin.write(json.dumps(order | {"log": str(self._log)}) + "\n")
        self._process.stdin.flush()
        return self._heard()

    def _heard(self) -> int:
        assert self._process.stdout
        return int(self._process.stdout.readline())


def serve() -> None:
    """Fork a process for each order; tell its number, and how it ended."""
    for module in sys.argv[1:]:
        import_module(module)
    clock = time.sleep
    time.sleep = lambda seconds: clock(seconds / 100)
    for line in sys.stdin:
        if (process := os.fork()) == 0:
            os._exit(_obey(json.loads(line)))
        print(process, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


def _obey(order: dict[str, Any]) -> int:
    os.environ |= order["environment"]
    with Path(order["log"]).open("w") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        try:
            return _command(order["command"]) if "command" in order else _deliver(Path(order["folder"]), order["place"])
        except BaseException:
            traceback.print_exc()
            return 70


def _command(words: list[str]) -> int:
    from medembed.cli import main

    sys.argv = ["medembed", *words]
    try:
        main()
    except SystemExit as left:
        return int(left.code or 0)
    return 0


def _deliver(folder: Path, place: dict[str, Any]) -> int:
    from medembed.errors import MedEmbedError
    from medembed.publish.hub import Place, candidate, promote

    logging.basicConfig(level="INFO")
    try:
        with candidate(folder, Place(**place), folder.parent) as delivered:
            print("CANDIDATE", delivered.commit)
            print("COMMIT", promote(folder, Place(**place)))
    except MedEmbedError as error:
        print(error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    serve()
