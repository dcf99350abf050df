"""Real data: the score that is known of it."""

from pathlib import Path

import pytest

from medembed.evaluate.alone import measure_alone, summary


@pytest.mark.realdata
def test_bm25_scores_on_nfcorpus_what_it_is_known_to(real_data: Path, tmp_path: Path) -> None:
    task = str(real_data / "eval" / "nfcorpus-dev")
    found = summary(measure_alone("bm25", [task], tmp_path, languages=["eng"], batch_size=32))["nfcorpus-dev"]
    assert (found["queries"], found["passages"]) == (324, 3633)
    assert found["ndcg_at_10"] == pytest.approx(0.2893, abs=1e-4)
