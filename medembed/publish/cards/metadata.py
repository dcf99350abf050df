"""What the YAML heads of both kinds of cards have in common; https://huggingface.co/docs/hub/model-cards has the keys."""

import re
from collections.abc import Mapping
from typing import Any

from medembed import licences
from medembed.recipe import is_local


def licence(name: str) -> dict[str, str]:
    """The metadata of a licence: the Hub wants a name for one that it does not know."""
    if name in licences.HUB_IDS:
        return {"license": name}
    slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")
    return {"license": "other", "license_name": slug if slug not in ("", "other") else "see-card"}


def languages(manifest: Mapping[str, Any] | None) -> list[str]:
    """Those that the filter `language` of a dataset let pass; English where there was none."""
    recipe = (manifest or {}).get("recipe")
    filters = recipe.get("curate") if isinstance(recipe, Mapping) else None
    named = [each["language"] for each in filters or [] if isinstance(each, Mapping) and "language" in each]
    last = named[-1] if named and isinstance(named[-1], list) else []
    codes = [code for code in map(str, last) if re.fullmatch("[a-z]{2,3}", code)]
    return codes or ["en"]


def is_on_hub(name: Any) -> bool:
    """Whether this names a repository."""
    return isinstance(name, str) and bool(re.fullmatch(r"[\w.-]+/[\w.-]+", name)) and not is_local(name)
