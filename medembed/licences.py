"""Licences of rows: what a source says, in whatever spelling, in; the Hub's identifier, what it asks, and what follows from several, out.

A licence that is not recognised counts as unknown, and so as not open: nothing is assumed in favour of publishing.
"""

import re
from collections.abc import Iterable
from typing import Any

UNKNOWN = "unknown"
OTHER = "other"  # the Hub's word for terms of one's own
AGREEMENT = "data-use-agreement"  # the user has signed not to pass the data on: MIMIC, eICU, i2b2/n2c2 and the like
PUBLIC_DOMAIN = "public-domain"  # not a licence; the Hub has no identifier for it
HUB_IDS = frozenset(
    """afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc0-1.0 cc-by-2.0
    cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 ecl-2.0
    epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 gemma gfdl gpl-2.0 gpl-3.0 isc lgpl-2.1 lgpl-3.0 llama2 llama3 llama3.1 llama3.2
    llama3.3 llama4 mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openrail osl-3.0 pddl postgresql unlicense wtfpl zlib""".split()  # noqa: SIM905
)
"""Identifiers that the Hub knows, of those that data and models in this field carry."""

ATTRIBUTION, SHARE_ALIKE = "attribution", "share-alike"
NON_COMMERCIAL, NO_DERIVATIVES, NO_SHARING = "non-commercial", "no-derivatives", "no-sharing"
CLOSING = frozenset({NON_COMMERCIAL, NO_DERIVATIVES, NO_SHARING})  # what is made of it goes to no public repository

_ASKS: dict[str, frozenset[str]] = {
    **dict.fromkeys(("cc0-1.0", PUBLIC_DOMAIN, "pddl", "unlicense"), frozenset()),
    **dict.fromkeys(
        """apache-2.0 mit isc zlib bsd-2-clause bsd-3-clause odc-by cdla-permissive-1.0 cdla-permissive-2.0 etalab-2.0""".split(),  # noqa: SIM905
        frozenset({ATTRIBUTION}),
    ),
    **dict.fromkeys(
        """odbl cdla-sharing-1.0 c-uda gfdl gpl-2.0 gpl-3.0 agpl-3.0 lgpl-2.1 lgpl-3.0""".split(),  # noqa: SIM905
        frozenset({ATTRIBUTION, SHARE_ALIKE}),
    ),
    AGREEMENT: frozenset({ATTRIBUTION, NO_SHARING}),
}
"""What each licence asks of who passes the work on, Creative Commons aside: their names say it. One that is missing here has terms
that nobody has looked at (or, as Llama's, rules for the use) and is not open."""

_CC = re.compile(r"cc-by(?P<nc>-nc)?(?:(?P<nd>-nd)|(?P<sa>-sa))?(?:-(?P<version>\d\.\d))?")
_CC_ELEMENTS = {"nc": NON_COMMERCIAL, "nd": NO_DERIVATIVES, "sa": SHARE_ALIKE}

_MIMIC = r"(?<![a-z])mimic(?!(ry|ries|s|k[a-z]*)(?![a-z]))"  # mimic3, MIMIC-IV-Note, mimicsql; not mimicry, mimics, mimicking

_SIGNED = re.compile(
    r"physionet (credentialed|restricted|contributor)|credentialed health data|data use (agreement|certification)|\bdua\b"
    rf"|\b(eicu|i2b2|n2c2)\b|{_MIMIC}"
)
"""Licences that are agreements: PhysioNet's (physionet.org/about/licenses), the i2b2/n2c2 challenges' (portal.dbmi.hms.harvard.edu)."""

_SIGNED_SOURCE = re.compile(
    rf"{_MIMIC}|(?<![a-z])(i2b2|n2c2|eicu|hirid|physionet|mednli|emrqa|radgraph|amsterdamumcdb)(?![a-z])"
)
"""Sources that can only be had by such an agreement, or are made of one: whatever licence a copy of theirs claims."""

_LINKS = {
    "cc0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "odc-by": "https://opendatacommons.org/licenses/by/1-0/",
    "odbl": "https://opendatacommons.org/licenses/odbl/1-0/",
    "pddl": "https://opendatacommons.org/licenses/pddl/1-0/",
    "etalab-2.0": "https://www.etalab.gouv.fr/licence-ouverte-open-licence/",
    "cdla-permissive-2.0": "https://cdla.dev/permissive-2-0/",
    "cdla-sharing-1.0": "https://cdla.dev/sharing-1-0/",
    "apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "mit": "https://opensource.org/license/mit",
}


# ---- one licence -----------------------------------------------------------------------------------------------------


def identify(text: str | None, source: str | None = None) -> str:
    """The identifier of the licence that `text` names: «CC BY 4.0», its URL, its SPDX and its Hub identifier are one; else `unknown`.

    What comes from a `source` that is known to be under a data use agreement is so, whatever the text says.
    """
    said = " ".join((text or "").lower().split())
    if _SIGNED_SOURCE.search((source or "").lower().replace("_", "-")) or _SIGNED.search(re.sub(r"[\W_]+", " ", said)):
        return AGREEMENT
    found = _identify(said)
    narrowed = re.search(r"non-?\s?commercial|research (use|purposes) only|no[- ]?deriv", said)
    return UNKNOWN if narrowed and is_open(found) else found


def _identify(said: str) -> str:
    if found := re.search(r"creativecommons\.org/licenses/([a-z-]+)/(\d\.\d)", said):
        return _known(f"cc-{found[1]}-{found[2]}")
    if "creativecommons.org/publicdomain/zero" in said or re.fullmatch(r"cc-?0([ -]1\.0)?( universal)?", said):
        return "cc0-1.0"
    slug = re.sub(r"[\s_-]+", "-", said)
    for long, short in _SPELLINGS:
        slug = re.sub(long, short, slug)
    return PUBLIC_DOMAIN if slug.startswith("public-domain") else _known(slug)


_SPELLINGS = (
    (r"-(international|unported|generic|igo|public-licen[cs]e|licen[cs]e|only|or-later)\b", ""),
    (r"-v(?=\d)", "-"),
    (r"^(creative-commons|cc)-attribution", "cc-by"),
    (r"-non-?commercial", "-nc"),
    (r"-no-?deriv(ative)?s?", "-nd"),
    (r"-share-?alike", "-sa"),
    (r"^(odc-by|odbl|pddl)-1\.0$", r"\1"),
)
"""Long names and SPDX's endings: «Creative Commons Attribution-NonCommercial 4.0 International», «GPL-3.0-only», «ODC-By-1.0»."""


def _known(slug: str) -> str:
    return slug if slug in HUB_IDS or slug in _ASKS or _CC.fullmatch(slug) else UNKNOWN


def asks(licence: str) -> frozenset[str] | None:
    """What a licence asks: attribution, share-alike, non-commercial, no-derivatives, no-sharing; None for one that we do not know."""
    if found := _CC.fullmatch(licence):
        return frozenset({ATTRIBUTION} | {element for name, element in _CC_ELEMENTS.items() if found[name]})
    return _ASKS.get(licence)


def is_open(licence: str) -> bool:
    """Whether what is made of it may be shared with everybody: no non-commercial, no-derivatives, signed or unknown terms."""
    asked = asks(licence)
    return asked is not None and not asked & CLOSING


# ---- several ---------------------------------------------------------------------------------------------------------


def of_all(licences: Iterable[str]) -> str:
    """The licence of what several rows make; `other` where no single one serves, or the Hub does not know it.

    1. One licence is itself.
    2. Works of the public domain bind nobody: beside others they do not count.
    3. Of Creative Commons licences, the one with the elements of all and the newest version, as the adapter's chart of Creative Commons
       has it (creativecommons.org/faq, «Can I combine material under different Creative Commons licenses in my work?»). So CC BY and
       CC BY-SA make CC BY-SA; CC BY and CC BY-NC make CC BY-NC.
    4. What is share-alike stays under its very licence, version included: passages stand unchanged in a dataset, and so the right to
       move adaptations to a later version does not help. CC BY-SA with any non-commercial licence fits nothing.
    5. What allows no derivatives, and all that is not Creative Commons, is joined with nothing but the public domain.
    """
    found = set(licences)
    binding = {licence for licence in found if asks(licence) != frozenset()} if len(found) > 1 else found
    if not binding:
        return "cc0-1.0" if "cc0-1.0" in found else OTHER
    made = binding.copy().pop() if len(binding) == 1 else _of_creative_commons(binding)
    return made if made in HUB_IDS else OTHER


def covers(said: str, licences: Iterable[str]) -> bool:
    """Whether the licence `said`, however spelt, asks at least what each of `licences` asks; one that we do not know asks nothing."""
    asked = asks(identify(said)) or frozenset()
    return all((asks(licence) or frozenset()) <= asked for licence in licences)


def _of_creative_commons(licences: set[str]) -> str:
    parts = [_CC.fullmatch(licence) for licence in licences]
    known = [part for part in parts if part]
    if len(known) < len(parts) or any(part["nd"] for part in known):
        return OTHER
    elements = "".join(f"-{it}" for it in ("nc", "sa") if any(part[it] for part in known))
    version = max(part["version"] or "" for part in known)
    made = f"cc-by{elements}-{version}"
    return made if all(part[0] == made for part in known if part["sa"]) else OTHER


def attributions(origins: dict[str, list[dict[str, Any]]]) -> list[dict[str, str | None]]:
    """Whom a card must name, from a manifest's `origins`: each source under a licence that asks for it (or that we do not know).

    `link` is the source's page, None for a local file; `terms` the licence's, where we know it.
    """
    told = dict.fromkeys(
        (str(row.get("source")), str(row.get("license", UNKNOWN))) for rows in origins.values() for row in rows
    )
    return [
        {"source": source, "license": licence, "link": _page(source), "terms": terms(licence)}
        for source, licence in sorted(told)
        if (asked := asks(licence)) is None or asked
    ]


def _page(source: str) -> str | None:
    is_repo = re.fullmatch(r"[\w.-]+/[\w.-]+", source) is not None
    return f"https://huggingface.co/datasets/{source}" if is_repo else None


def terms(licence: str) -> str | None:
    """The address of a licence's text."""
    if (found := _CC.fullmatch(licence)) and found["version"]:
        name = licence.removeprefix("cc-").removesuffix(f"-{found['version']}")
        return f"https://creativecommons.org/licenses/{name}/{found['version']}/"
    return _LINKS.get(licence)
