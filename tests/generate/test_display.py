"""What is seen while servers are asked: all that one wants to know, on a terminal and without one, and no text of a note."""

import asyncio
import logging
import os
import pty
import re
import subprocess
import sys
import time

import pytest

from medembed.generate import display
from medembed.generate.display import State, shown
from medembed.generate.replies import Reading
from medembed.llm.outcomes import Reply
from medembed.recipe import Price
from medembed.rows import Reject
from tests.fixtures.tgi import TGI
from tests.generate.test_killed import SCRIPT


class Busy:
    url, in_flight, window, resting = "http://one", 7, 32, False


class Away:
    url, in_flight, window, resting = "http://two", 0, 4, True


def state() -> State:
    made = State([Busy(), Away()], total=1000, price=Price(input=1, output=3), known=100)  # type: ignore[list-item]
    made.started = time.monotonic() - 60
    reading = Reading(pairs=[None, None], rejects=[("truncated", None), ("not JSON", "text of a note")])  # type: ignore[list-item]
    for _ in range(50):
        made.tell(Reply("text of a note", "stop", {"prompt_tokens": 10_000, "completion_tokens": 600}), reading)
    return made


def test_it_says_notes_pairs_rejects_by_reason_windows_rate_cost_and_time_left():
    made = state()
    assert made.said() == [
        "150 of 1,000 notes",
        "100 known before",
        "100 pairs",
        "500 tokens/s",
        "cost 0.59",  # 500,000 tokens in at 1, 30,000 out at 3 a million
        "0:17:00 left",  # 50 requests took a minute, 850 are left
    ]
    assert made.rejected() == "100 rejected: truncated 50, not JSON 50"
    assert made.servers() == ["http://one 7/32 in flight", "http://two resting"]


def test_without_a_terminal_there_is_a_line_at_the_end_and_now_and_then(monkeypatch, caplog):
    monkeypatch.setattr(display, "LOGGED_EVERY", 0.2)
    caplog.set_level(logging.INFO)

    async def asking() -> None:
        async with shown(state()):
            await asyncio.sleep(0.5)

    asyncio.run(asking())
    lines = [record.getMessage() for record in caplog.records]
    assert 2 <= len(lines) <= 4 and all("150 of 1,000 notes; 100 known before; 100 pairs" in line for line in lines)
    assert "text of a note" not in caplog.text


def test_on_a_terminal_there_is_a_picture_that_lives(make_recipe, tmp_path):
    with TGI(seconds=0.1) as tgi:
        recipe = make_recipe(24, endpoints=[tgi.url])
        (tmp_path / "recipe.json").write_text(recipe.model_dump_json(exclude={"curate"}))
        script = f"import logging; logging.basicConfig(); logging.getLogger('medembed').setLevel('INFO')\n{SCRIPT}"
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "recipe.json"), str(tmp_path / "run")],
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
        )
        os.close(theirs)
        seen = read_all(ours)
        assert process.wait(30) == 0
    drawn = re.findall(r"([\d,]+) of 24 notes", seen)
    assert len(set(drawn)) > 2 and drawn[-1] == "24"
    assert f"{tgi.url} " in seen and "in flight" in seen and "144 pairs" in seen
    assert "HPI" not in seen and "ankle" not in seen


def read_all(terminal: int) -> str:
    seen = b""
    try:
        while piece := os.read(terminal, 65536):
            seen += piece
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(terminal)
    return seen.decode()


def test_rows_that_give_no_note_are_done_too_and_rejected_by_their_reason():
    made = State([], total=3, price=None, known=1)
    for _ in range(2):
        made.unusable(Reject("duplicate note", "notes.jsonl:2", "text of a note"))
    assert made.said()[0] == "3 of 3 notes" and made.rejected() == "2 rejected: duplicate note 2"


@pytest.mark.parametrize("total", [None, 0])
def test_where_the_number_of_notes_is_not_known_no_time_left_is_invented(total):
    made = state()
    made.total = total
    assert made.said()[0] == "150 notes" and not any("left" in said for said in made.said())
