"""What the Hub's errors say to the user: a line of words, and never a token."""

import httpx2
import pytest
from huggingface_hub.errors import HfHubHTTPError

from medembed.hub import in_words


def refused(words: str) -> HfHubHTTPError:
    response = httpx2.Response(403, request=httpx2.Request("GET", "http://127.0.0.1/api"))
    return HfHubHTTPError(words, response=response, server_message=words)


def test_no_token_is_quoted_whoever_it_belongs_to(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    (tmp_path / "token").write_text("logged-in-token\n")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_TOKEN", "my-own-token\n")
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "my-old-token")
    said = in_words(
        refused(
            "my-own-token,  my-old-token, logged-in-token and hf_somebodyElses.Token.of.thirty.letters are not allowed: hf_transfer is"
        )
    )
    assert said == "the Hub answers 403: …, …, … and … are not allowed: hf_transfer is"


def test_a_job_that_may_ask_the_hub_for_a_token_does_not_do_so_to_tell_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_OIDC_RESOURCE", "org/model")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: pytest.fail("a token was asked for"))
    assert in_words(refused("no access")) == "the Hub answers 403: no access"
    monkeypatch.setenv("HF_TOKEN", " ")
    assert in_words(refused("no access")) == "the Hub answers 403: no access"
