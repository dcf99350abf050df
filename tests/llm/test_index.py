"""The index: a dict of names that is small."""

import sys

from hypothesis import given
from hypothesis import strategies as st

from medembed.llm.index import Index


@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8"), max_size=3), st.integers(0, 2**64 - 2))))
def test_it_finds_what_a_dict_would_find(items):
    index, known = Index(), {}
    for name, number in items:
        assert index.get(name) == known.get(name)
        index.put(name, number)
        known[name] = number
    assert len(index) == len(known)
    assert {name: index.get(name) for name, _ in items} == known
    assert "a name that was never put" not in index


def test_it_grows_to_many_names_in_little_memory():
    index = Index()
    assert all(index.add(f"name {n}") for n in range(50_000))
    assert not any(index.add(f"name {n}") for n in range(50_000)) and len(index) == 50_000
    held = sum(sys.getsizeof(held) for held in vars(index).values())
    assert held / 50_000 < 70  # bytes a name, right after it has doubled
