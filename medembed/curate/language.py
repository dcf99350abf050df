"""The filter `language`: passages and queries in the recipe's languages. What cannot be told is kept.

py3langid's naive Bayes over bytes gives a probability for each of its languages. It takes much clinical shorthand («s/p CABG POD3
fever w/u») for something else, but is hardly ever sure of it; of a sentence in another language it is. So a text goes only when all
other languages together have `SURE`.
"""

from collections.abc import Callable

from medembed.curate.sieve import Row, Sieve, Stored, installed
from medembed.errors import InputError
from medembed.rows import passage_input

SURE = 0.999
READ = 2000  # characters of a text that are looked at
NO_LANGUAGE = "zxx"  # ISO 639's code for what is none, such as a table of values


def sieve(setting: list[str], stored: Stored) -> Sieve:
    foreign = identifier(setting)

    def passage(row: Row) -> Row | str:
        return "another language" if foreign(passage_input(row["title"], row["text"])) else row

    def pair(row: Row) -> Row | str:
        return "query in another language" if foreign(row["query"]) else row

    return Sieve(pair, passage)


def reads(setting: list[str]) -> str:
    """
    Raises:
        InputError: a language that the identifier does not know, or no identifier.
    """
    package = installed("py3langid")
    identifier(setting)
    return package


def identifier(languages: list[str]) -> Callable[[str], bool]:
    """Whether a text is surely in none of `languages` (ISO 639-1 codes).

    Raises:
        InputError: a language that the identifier does not know.
    """
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    probabilities = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    if unknown := sorted(set(languages) - set(probabilities.labels)):
        known = ", ".join(label for label in sorted(probabilities.labels) if len(label) == 2)
        raise InputError.of(f"unknown language {', '.join(unknown)}", "curate.language", f"Known are {known}.")
    ours = {*languages, NO_LANGUAGE}

    def foreign(text: str) -> bool:
        ranked = probabilities.rank(text[:READ])
        return bool(sum(share for language, share in ranked if language not in ours) >= SURE)

    return foreign
