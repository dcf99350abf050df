"""What SIGTERM does to a training: it waits for the end of a step, not for the measuring of a checkpoint that stands."""

import os
import signal
from collections.abc import Iterator

import pytest

from medembed.errors import Stopped
from medembed.train import stopping


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(stopping._Sigterm, "heard", False)
    stopping.listen()
    yield
    signal.signal(signal.SIGTERM, before)


def test_sigterm_waits_for_the_end_of_a_step(listening: None) -> None:
    with stopping.after_the_step():
        assert not stopping.asked()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.asked()


def test_sigterm_ends_the_measuring_of_a_checkpoint_at_once(listening: None) -> None:
    with pytest.raises(Stopped, match="goes on from here"), stopping.after_the_step(), stopping.at_once():
        os.kill(os.getpid(), signal.SIGTERM)
    assert not stopping._Sigterm.may_wait


def test_nothing_is_measured_after_sigterm_was_heard_in_the_step(listening: None) -> None:
    with stopping.after_the_step():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped), stopping.at_once():
            raise AssertionError("measured")
