"""Repositories of the Hub, named exactly: a branch, a tag or nothing in; the commit that it stands for out."""

import re
from typing import Literal

from medembed.errors import InputError


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
