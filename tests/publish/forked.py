"""Deliveries to a loopback Hub, each in a process forked from one that has the client imported: it takes a moment, and can be killed.

`Forge` starts that one, and gives it orders, a line of JSON each. Its clock runs fast: nobody waits for a pause between two attempts.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.fixtures.hub import WRITER, Hub


@dataclass(frozen=True)
class Order:
    """What is delivered where, as whom; `log` takes what the process says."""

    folder: str
    repo: str
    token: str | None = WRITER
    kind: str = "dataset"
    private: bool = False
    tag: str | None = None
    collection: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    log: str = ""


@dataclass
class Forge:
    hub: Hub

    def __enter__(self) -> "Forge":
        command, pipe = [sys.executable, "-m", "tests.publish.forked"], subprocess.PIPE
        environment = self.hub.env(None, self.hub.folder / "home")
        self._process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def start(self, folder: Path, repo: str = "medembed/tiny", **said: Any) -> int:
        """Begin a delivery; the id of its process."""
        assert self._process.stdin
        self._order = Order(str(folder), repo, log=str(self.hub.folder / "said.log"), **said)
        self._process.stdin.write(json.dumps(asdict(self._order)) + "\n")
        self._process.stdin.flush()
        return self._heard()

    def wait(self) -> tuple[int, str]:
        """The exit code of the delivery that was begun last, negative when it was killed, and what it said; never a token."""
        code, said = self._heard(), Path(self._order.log).read_text()
        assert self._order.token is None or self._order.token not in said
        return code, said

    def deliver(self, folder: Path, repo: str = "medembed/tiny", **said: Any) -> tuple[int, str]:
        self.start(folder, repo, **said)
        return self.wait()

    def _heard(self) -> int:
        assert self._process.stdout
        return int(self._process.stdout.readline())


def serve() -> None:
    """Fork a delivery for each order; tell the number of its process, and how it ended."""
    import huggingface_hub.hf_api  # noqa: F401

    import medembed.publish.hub  # noqa: F401

    clock = time.sleep
    time.sleep = lambda seconds: clock(seconds / 100)
    for line in sys.stdin:
        if (process := os.fork()) == 0:
            os._exit(_deliver(Order(**json.loads(line))))
        print(process, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


def _deliver(order: Order) -> int:
    import logging

    from medembed.errors import MedEmbedError
    from medembed.publish.hub import Place, candidate, promote

    os.environ |= order.environment | ({"HF_TOKEN": order.token} if order.token else {})
    with Path(order.log).open("w") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        logging.basicConfig(level="INFO", stream=log)
        folder = Path(order.folder)
        place = Place(order.repo, order.kind, "tiny", order.private, order.tag, order.collection)  # type: ignore[arg-type]
        try:
            with candidate(folder, place, folder.parent) as delivered:
                print("CANDIDATE", delivered.commit)
                print("COMMIT", promote(folder, place))
        except MedEmbedError as error:
            print(error)
            return error.exit_code
        except BaseException:
            traceback.print_exc()
            return 70
    return 0


if __name__ == "__main__":
    serve()
