"""The dry run: what asking would take, without asking."""

import pytest

from medembed.errors import InputError
from medembed.generate.estimate import estimate
from medembed.run import Run
from medembed.tokens import count
from tests.fixtures.tgi import TGI


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_without_a_server_all_notes_count_and_nothing_is_written(make_recipe, tmp_path):
    recipe = make_recipe(6, endpoints=["http://127.0.0.1:9"], price={"input": 1, "output": 4}, max_tokens=1000)
    made = estimate(recipe, Run(recipe, tmp_path / "run"), tokens_per_second=100)
    assert (made.notes, made.requests) == (6, 6) and not (tmp_path / "run").exists()
    said = str(made)
    assert "none counts: no server says which model it serves" in said and "estimated, since no tokenizer" in said
    assert "6,000 at most (1,000 a reply)" in said
    assert f"{(made.tokens_in + 4 * 6000) / 1e6:.2f} at most" in said
    assert "0.02 at most (1,000 a reply), at 100 tokens/s" in said  # 60 seconds


def test_what_the_journal_knows_is_left_out_and_its_replies_tell_the_mean(make_recipe, generate, tmp_path):
    with TGI(seconds=0.05) as tgi:
        generate(make_recipe(8, endpoints=[tgi.url], limit=3))
        asked = len(tgi.asked)
        recipe = make_recipe(8, endpoints=[tgi.url])
        made = estimate(recipe, Run(recipe, tmp_path / "run"))
        assert (made.notes, made.requests, made.replies, len(tgi.asked)) == (8, 5, 3, asked)
        _, run = generate(recipe)
    sent = sum(count(message["content"]) for body in tgi.asked[asked:] for message in body["messages"])
    assert made.tokens_in == sent
    mean = made.tokens_replied / 3
    assert f"{5 * mean:,.0f} at the journal's mean of {mean:,.0f} a reply" in str(made)
    assert "the journal's rate with 4 in flight" in str(made) and tgi.model in made.whose
    without = estimate(recipe, run)  # the server is gone
    assert without.requests == 0 and "the journal's only one" in without.whose


def test_what_cannot_be_known_is_said_with_the_mend(make_recipe, tmp_path):
    recipe = make_recipe(2, endpoints=["http://127.0.0.1:9"])
    said = str(estimate(recipe, Run(recipe, tmp_path / "run")))
    assert "set `generate.price`" in said and "pass --tokens-per-second" in said


def test_a_source_that_cannot_be_used_is_told(make_recipe, tmp_path):
    recipe = make_recipe([], endpoints=["http://127.0.0.1:9"])
    with pytest.raises(InputError, match="is empty"):
        estimate(recipe, Run(recipe, tmp_path / "run"))
