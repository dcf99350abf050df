"""One endpoint among several: how many requests it is given at once, and whether it is given any.

Outcomes of attempts come in, the window of requests in flight goes out. It follows what the endpoint shows it can take (AIMD): a
little more after each round of answers, less in proportion to what was refused.
"""

import time

from medembed.llm.outcomes import Failure, Reply
from medembed.llm.servers import Server

UNSTATED = 32  # requests at once to begin with, where a server does not state how many it takes
MOST = 512  # and so many at most, if the recipe sets no limit either
TOLERATED = 0.05  # share of a round's attempts: fewer refusals cost less than the room that would be given up for them
IN_A_ROW = 3  # failures with which an endpoint is set aside


class Window:
    """Additive increase, multiplicative decrease; both at most once a round, which is as many outcomes as the window is wide.

    So when all of 50 requests in flight are refused at the same moment, the window is halved once. As in DCTCP (RFC 8257) the
    decrease is in proportion to the share that was refused: what is refused by chance hardly matters.
    """

    def __init__(self, start: int, most: int) -> None:
        self.size = float(min(start, most))
        self._most = most
        self._step = max(1.0, self.size / 8)
        self._outcomes = self._refused = 0
        self._was_full = False

    def used(self, places: int) -> None:
        """Note how much of the window is used. It grows only after it was full: room that nobody uses proves nothing."""
        self._was_full = self._was_full or places >= int(self.size)

    def count(self, *, refused: bool) -> None:
        """Take one outcome into account."""
        self._outcomes += 1
        self._refused += refused
        if self._outcomes < self.size:
            return
        share = self._refused / self._outcomes
        if share > TOLERATED:
            self.size = max(1.0, self.size * (1 - share / 2))
        elif self._was_full:
            self.size = min(self._most, self.size + self._step)
        self._outcomes = self._refused = 0
        self._was_full = False


class Endpoint:
    """A server, the requests that it has in flight, and how it does at the moment."""

    def __init__(self, server: Server, concurrency: int | None, among: int) -> None:
        self.server = server
        takes = server.identity.takes
        # More than it states a server refuses, so nothing is to be found there; one `among` several clients takes its share.
        most = max(1, min([n for n in (takes, concurrency) if n] or [MOST]) // among)
        self._window = Window(takes or UNSTATED, most)
        self.in_flight = 0
        # Places of failed attempts, which stay taken for the time of a pause: else who fails at once gets most.
        self.held = 0
        self.set_aside = False
        self.times_aside = 0  # since the last answer
        self.rests_until = 0.0  # on the monotonic clock, as the server wished
        self.last_answer = time.monotonic()
        self.silent_since: float | None = None  # when it began to rest after its last answer
        self._failures = 0  # in a row

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def window(self) -> int:
        return int(self._window.size)

    @property
    def resting(self) -> bool:
        return self.set_aside or self.rests_until > time.monotonic()

    @property
    def room(self) -> float:
        """The share of the window that is free."""
        return 0.0 if self.resting else 1 - (self.in_flight + self.held) / self.window

    def sent(self) -> None:
        self.in_flight += 1
        self._window.used(self.in_flight + self.held)

    def ended(self, outcome: Reply | Failure) -> None:
        """Learn from how an attempt ended that was in flight."""
        self.in_flight -= 1
        if isinstance(outcome, Reply) or outcome.permanent:
            self._window.count(refused=False)
            self._failures = self.times_aside = 0
            self.is_alive()
            return
        if outcome.overload:
            self._window.count(refused=True)
        self._failures += 1
        self.rests_until = max(self.rests_until, time.monotonic() + outcome.retry_after)
        # Who refuses some of many requests is busy with the others; who refuses even the last one in flight is away.
        busy = outcome.overload and self.in_flight > 0
        gone = outcome.not_taken and not outcome.overload
        if gone or (self._failures >= IN_A_ROW and not busy):
            self.set_aside = True
        if self.silent_since is None and self.resting:
            self.silent_since = time.monotonic()

    def is_alive(self) -> None:
        self.last_answer, self.silent_since = time.monotonic(), None
