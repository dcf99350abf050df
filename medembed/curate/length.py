"""The filter `length`: queries and positives within the recipe's numbers of tokens.

A query of one token names no need, a positive longer than the model reads is trained on by its beginning alone. Passages stay in the
corpus whatever their length: a search has to tell them apart as well.
"""

from typing import Any

from medembed import tokens
from medembed.curate.sieve import Row, Sieve, Stored
from medembed.recipe import Length
from medembed.run import sha256


def sieve(setting: Length, stored: Stored) -> Sieve:
    """
    Raises:
        InputError: there is no such tokenizer.
    """
    count = tokens.counter(setting.tokenizer, setting.revision)

    def pair(row: Row) -> Row | str:
        for name, (least, most) in (("query", setting.query), ("positive", setting.positive)):
            if not least <= (found := count(row[name])) <= most:
                return f"{name} too {'short' if found < least else 'long'}"
        return row

    return Sieve(pair)


def reads(setting: Length) -> Any:
    return sha256(tokens.tokenizer_file(setting.tokenizer, setting.revision)) if setting.tokenizer else None
