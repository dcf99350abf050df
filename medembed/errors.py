"""The errors that a user can mend: what is wrong, where, and what to do about it.

Everything else is a bug and keeps its traceback. No message carries the text of a note, a query or a reply.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: `what` happened, `where`, and the `mend`."""

    what: str
    where: str = ""
    mend: str = ""

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n    {self.mend}" if self.mend else head


class MedEmbedError(Exception):
    """One or several faults. The CLI prints them all and leaves with `exit_code`."""

    exit_code = 1

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults
        super().__init__("\n".join(str(fault) for fault in faults))

    def __reduce__(self) -> tuple[type["MedEmbedError"], tuple[Fault, ...]]:
        return type(self), self.faults  # an error of another process arrives whole

    @classmethod
    def of(cls, what: str, where: str = "", mend: str = "") -> "MedEmbedError":
        return cls(Fault(what, where, mend))


class InputError(MedEmbedError):
    """Bad input (recipe, file, option), found before expensive work starts."""

    exit_code = 2


class RunError(MedEmbedError):
    """The work could not be finished: a server gone, a disk full. The same command goes on from where it stopped."""


class Stopped(BaseException):
    """SIGTERM was heard, and the work is put down in good order: the same command goes on from there.

    No Exception, as KeyboardInterrupt is none: what a library takes for a failure of its own would go on.
    """

    exit_code = 128 + 15  # as the shell says it of SIGTERM


def all_told(looks: Iterable[Callable[[], object]]) -> None:
    """Look at several things and raise the faults of all together.

    Raises:
        InputError: at least one of the `looks` did.
    """
    faults: list[Fault] = []
    for look in looks:
        try:
            look()
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(*dict.fromkeys(faults))
