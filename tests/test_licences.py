"""What a source says of its licence, and what follows for what is made of it."""

import pytest

from medembed.licences import identify, is_open, of_all


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("cc-by-4.0", "cc-by-4.0"),
        ("CC BY 4.0", "cc-by-4.0"),
        ("Creative Commons - Attribution - https://creativecommons.org/licenses/by/4.0/", "cc-by-4.0"),
        ("https://creativecommons.org/licenses/by-nc-sa/4.0/", "cc-by-nc-sa-4.0"),
        ("CC BY-NC-SA", "cc-by-nc-sa"),
        ("CC0", "cc0-1.0"),
        ("CC0 1.0", "cc0-1.0"),
        ("Public Domain", "public-domain"),
        ("Apache-2.0", "apache-2.0"),
        ("all rights reserved", "unknown"),
        ("The patient was seen on Monday.", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_one_licence_in_many_spellings_is_one(said: str | None, means: str) -> None:
    assert identify(said) == means


def test_non_commercial_no_derivatives_and_unknown_are_not_open() -> None:
    closed = ("cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-sa-4.0", "unknown", "other", "llama3.1")
    assert not any(map(is_open, closed))
    assert all(map(is_open, ("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by", "public-domain", "apache-2.0")))


def test_one_licence_stays_and_several_are_other() -> None:
    assert of_all(["cc-by-4.0", "cc-by-4.0"]) == "cc-by-4.0"
    assert of_all(["cc-by-4.0", "cc0-1.0"]) == "other"
    assert of_all(["public-domain"]) == "other"  # the Hub has no identifier for it
