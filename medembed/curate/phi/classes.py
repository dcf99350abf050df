"""The classes of personal health information: the HIPAA Safe Harbor list, 45 CFR 164.514(b)(2)(i), as far as text can hold it.

Direct identifiers are those that a limited data set must not hold, 45 CFR 164.514(e)(2). Biometric identifiers and photographs are
not text, and no class of ours.
"""

from typing import Literal, get_args

PhiClass = Literal[
    "name",  # (A)
    "address",  # (B) street, box
    "place",  # (B) city, county, ZIP code, facility
    "date",  # (C)
    "age",  # (C) over 89
    "fax",  # (E)
    "phone",  # (D)
    "e-mail",  # (F)
    "SSN",  # (G)
    "record",  # (H) medical record number
    "health plan",  # (I)
    "account",  # (J)
    "licence",  # (K) certificates and licences, passports among them
    "vehicle",  # (L)
    "device",  # (M)
    "URL",  # (N)
    "IP",  # (O)
    "other number",  # (R) orders, specimens, cases, claims
]
CLASSES: tuple[PhiClass, ...] = get_args(PhiClass)
INDIRECT: frozenset[PhiClass] = frozenset({"place", "date", "age", "other number"})
DIRECT = tuple(each for each in CLASSES if each not in INDIRECT)


def surrogate(name: PhiClass, number: int) -> str:
    """What stands for the note's `number`-th value of a class: `[NAME-1]`, `[HEALTH-PLAN-2]`."""
    return f"[{name.upper().replace(' ', '-')}-{number}]"
