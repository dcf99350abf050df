"""Licences of rows: what a source says, in whatever spelling, in; the Hub's identifier, and what follows from several, out.

A licence that is not recognised counts as unknown, and so as not open: nothing is assumed in favour of publishing.
"""

import re
from collections.abc import Iterable

UNKNOWN = "unknown"
OTHER = "other"  # the Hub's word for terms of one's own
HUB_IDS = frozenset(
    """afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc0-1.0 cc-by-2.0
    cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 ecl-2.0
    epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 gemma gfdl gpl-2.0 gpl-3.0 isc lgpl-2.1 lgpl-3.0 llama2 llama3 llama3.1 llama3.2
    llama3.3 llama4 mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openrail osl-3.0 pddl postgresql unlicense wtfpl zlib""".split()  # noqa: SIM905
)
"""Identifiers that the Hub knows, of those that data and models in this field carry."""

_OPEN = re.compile(
    r"cc0-1\.0|cc-by(-sa)?(-\d\.\d)?|public-domain|pddl|odc-by|odbl|cdla-(permissive|sharing)-\d\.0|c-uda"
    r"|apache-2\.0|mit|isc|zlib|unlicense|bsd-\d-clause|etalab-2\.0|gfdl"
)


def identify(text: str | None) -> str:
    """The identifier of the licence that `text` names: «CC BY 4.0», its URL and `cc-by-4.0` are one; else `unknown`."""
    said = " ".join((text or "").lower().split())
    if found := re.search(r"creativecommons\.org/licenses/([a-z-]+)/(\d\.\d)", said):
        return f"cc-{found[1]}-{found[2]}"
    if "creativecommons.org/publicdomain/zero" in said or re.fullmatch(r"cc-?0([ -]1\.0)?", said):
        return "cc0-1.0"
    slug = re.sub(r"[\s_-]+", "-", said)
    if slug in HUB_IDS or _OPEN.fullmatch(slug) or re.fullmatch(r"cc-by(-nc)?(-nd|-sa)?(-\d\.\d)?", slug):
        return slug
    return "public-domain" if slug.startswith("public-domain") else UNKNOWN


def is_open(licence: str) -> bool:
    """Whether what is made of it may be shared with everybody: no non-commercial, no-derivatives or unknown terms."""
    return _OPEN.fullmatch(licence) is not None


def of_all(licences: Iterable[str]) -> str:
    """The licence of what several rows make: theirs when it is one and the Hub knows it, else `other`."""
    found = set(licences)
    return found.pop() if len(found) == 1 and found <= HUB_IDS else OTHER
