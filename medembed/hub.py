"""The Hub: a repository and a branch or tag in, the commit that it stands for out; its client for writing; what its errors mean.

Tokens are the client's own matter: from the environment or the login, or, in a CI job that may prove who it is, from the Hub itself.
None is ever kept or shown here.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from medembed.errors import InputError, MedEmbedError, RunError

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

Kind = Literal["model", "dataset", "space"]


def commit_of(repo: str, kind: Literal["model", "dataset"], revision: str | None) -> str:
    """The commit hash (40 digits) of `repo` at `revision`, or at main; a hash is taken as it is, without asking.

    Raises:
        InputError: no such repository or revision, no right to see it, or no Hub to ask.
    """
    if revision and re.fullmatch("[0-9a-f]{40}", revision):
        return revision
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    where = f"{repo}@{revision or 'main'}"
    try:
        return str(HfApi().repo_info(repo, repo_type=kind, revision=revision).sha)
    except OfflineModeIsEnabled as error:
        mend = "Pin `revision` to a commit hash of 40 digits, or name a local copy: offline, no branch or tag can be resolved."
        raise InputError.of("cannot be resolved offline", where, mend) from error
    except HfHubHTTPError as error:
        mend = "Check the name and the revision; for a gated or private repository set HF_TOKEN."
        raise InputError.of(f"the Hub answers {error.response.status_code}", where, mend) from error
    except (OSError, httpx2.HTTPError) as error:
        raise InputError.of("the Hub cannot be reached", where, "Check HF_ENDPOINT and the network.") from error


def writer(repo: str, kind: Kind) -> "HfApi":
    """The Hub's client, with a token. A job of GitHub Actions that may prove who it is (`id-token: write`) and was given no token
    gets one from the Hub for this repository alone, for an hour: https://huggingface.co/docs/hub/trusted-publishers.

    Raises:
        InputError: there is no token, or the Hub gives this job none.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import BadRequestError, OIDCError

    if os.environ.get("ACTIONS_ID_TOKEN_REQUEST_URL") and not os.environ.get("HF_TOKEN"):
        # The client's own switch: it exchanges the job's identity for a token, and again before that expires.
        os.environ["HF_OIDC_RESOURCE"] = repo if kind == "model" else f"{kind}s/{repo}"
    try:
        token = get_token()
    except (OIDCError, BadRequestError) as error:
        mend = "Name this workflow under «Trusted Publishers» in the settings of the repository on the Hub."
        raise InputError.of("the Hub gives this job no token", repo, mend) from error
    if token is None:
        mend = "Set HF_TOKEN to a token with write access, or log in once with `hf auth login`."
        raise InputError.of("publishing to the Hub needs a token, and there is none", mend=mend)
    return HfApi(library_name="medembed")


# ---- what the Hub's errors say to the user ---------------------------------------------------------------------------

_AGAIN = "Run the same command again: it looks at the repository first, and sends nothing twice."
_MENDS = {
    400: "The Hub does not accept the files as they are; its own words are above.",
    401: "The token is not valid (or no longer): set HF_TOKEN, or log in with `hf auth login`.",
    403: "The token must have write access to this namespace.",
    404: "Check the name: it must exist, and the token must be allowed to see it.",
    409: "Another operation on this repository is under way, or its name is taken. Wait a little and run it again.",
    412: "Somebody else commits to this repository at the same time. Run the same command again when they are done.",
    429: "The Hub's rate limit is reached. Run the same command again later.",
}


@contextmanager
def told(where: str) -> Iterator[None]:
    """Turn what the Hub's client raises into errors that say what happened and what to do."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        yield
    except MedEmbedError:
        raise
    except OfflineModeIsEnabled as error:
        raise InputError.of("the Hub cannot be reached: HF_HUB_OFFLINE is set", where, "Unset it.") from error
    except Exception as error:
        status = _status(error)
        if status is None and not _broken(error):
            raise
        kind = InputError if status in (400, 401, 403, 404) else RunError
        raise kind.of(in_words(error), where, _MENDS.get(status or 0, _AGAIN)) from error


def in_words(error: BaseException) -> str:
    """What went wrong, in one line; a token, should the Hub's words quote one, is left out."""
    if (answer := _answer(error)) is None:
        return "the connection to the Hub broke"
    words = " ".join((answer.server_message or "").split())
    for said in (os.environ.get("HF_TOKEN"), os.environ.get("HUGGING_FACE_HUB_TOKEN"), _logged_in()):
        if token := (said or "").strip():
            words = words.replace(token, "…")
    words = re.sub(r"\bhf_[\w.-]{30,}", "…", words)[:200]
    return f"the Hub answers {_status(error)}{f': {words}' if words else ''}"


def _logged_in() -> str | None:
    """The token of `hf auth login`. Not `get_token`, which in a job of GitHub Actions asks the Hub for one."""
    from huggingface_hub.constants import HF_TOKEN_PATH

    try:
        return Path(HF_TOKEN_PATH).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed a little later, or after a look at what stands there."""
    status = _status(error)
    return _broken(error) if status is None else status in (408, 409, 412, 429) or status >= 500


def _status(error: BaseException) -> int | None:
    answer = _answer(error)
    return answer.response.status_code if answer and answer.response is not None else None


def _answer(error: BaseException) -> "HfHubHTTPError | None":
    from huggingface_hub.errors import HfHubHTTPError

    return next((e for e in _causes(error) if isinstance(e, HfHubHTTPError)), None)


def _broken(error: BaseException) -> bool:
    import httpx2

    return any(isinstance(e, httpx2.TransportError) for e in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what caused it: the client wraps those of an upload."""
    while error is not None:
        yield error
        error = error.__cause__
