"""What is written, loaded as its users load it: a runtime and a tokenizer, nothing of ours, and pooling where the user wants it."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from medembed.errors import InputError
from medembed.export import files, graph
from medembed.export.runtimes import exported
from medembed.retrieval.batches import encoded
from medembed.run import sha256
from tests.export.conftest import KINDS

TEXTS = ["", "chest pain", "how is asthma treated", "fever and cough " * 40, "İ 漢字 😷"]
FORMATS = list(files.BY_FORMAT)


@pytest.fixture(scope="module")
def written(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    files.write(lambda: SentenceTransformer(str(tiny_model), device="cpu"), FORMATS, folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_any_batch_and_length_gives_what_the_model_gives(kind: str, kinds: dict[str, Path], tmp_path: Path) -> None:
    model = SentenceTransformer(str(kinds[kind]), device="cpu")
    graph.write(SentenceTransformer(str(kinds[kind]), device="cpu"), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for texts in (TEXTS, TEXTS[:1], TEXTS[3:4]):
        tokens, embeddings = session.run(None, _tokenized(kinds[kind], texts, session))
        np.testing.assert_allclose(embeddings, model.encode(texts), atol=1e-5)
        theirs = model.encode(texts, output_value="token_embeddings")
        for ours, expected in zip(tokens, theirs, strict=True):
            np.testing.assert_allclose(ours[: len(expected)], expected, atol=1e-5)


def test_who_pools_beside_the_graph_gets_the_embedding_too(written: Path, tiny_model: Path) -> None:
    session = onnxruntime.InferenceSession(written / "onnx/model.onnx")
    assert [it.name for it in session.get_outputs()] == ["last_hidden_state", "sentence_embedding"]
    inputs = _tokenized(tiny_model, TEXTS, session)
    tokens, embeddings = session.run(None, inputs)
    mask = inputs["attention_mask"][:, :, None]
    pooled = (tokens * mask).sum(axis=1) / mask.sum(axis=1)
    np.testing.assert_allclose(pooled / np.linalg.norm(pooled, axis=1, keepdims=True), embeddings, atol=1e-5)


@pytest.mark.parametrize("name", ["onnx/model.onnx", "openvino/openvino_model.xml"])
def test_an_export_is_measured_on_several_cores_at_once(name: str, written: Path, tiny_model: Path) -> None:
    model = SentenceTransformer(str(tiny_model), device="cpu")
    texts = [f"chest pain {'and fever ' * (n % 9)}{n}" for n in range(120)]
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        found = encoded(exported(model, written / name), "encode", texts, 2)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(np.stack(found), model.encode(texts), atol=1e-5)


def test_every_file_lies_where_libraries_look_for_it(written: Path, tiny_model: Path) -> None:
    expected = SentenceTransformer(str(tiny_model), device="cpu").encode(TEXTS)
    names = {str(path.relative_to(written)) for path in written.rglob("*") if path.is_file()}
    assert names == {
        "onnx/model.onnx",
        "onnx/model_O2.onnx",
        "onnx/model_quint8_avx2.onnx",
        "onnx/model_quantized.onnx",
        "onnx/model_qint8_avx512_vnni.onnx",
        "onnx/model_qint8_arm64.onnx",
        "openvino/openvino_model.xml",
        "openvino/openvino_model.bin",
        "openvino/openvino_model_qint8_quantized.xml",
        "openvino/openvino_model_qint8_quantized.bin",
    }
    for name in sorted(names):
        if name.endswith(".onnx"):
            session = onnxruntime.InferenceSession(written / name)
            found = session.run(["sentence_embedding"], _tokenized(tiny_model, TEXTS, session))[0]
            least = 0.95 if "int8" in name or "quantized" in name else 0.99999
            assert (found * expected).sum(axis=1).min() > least, name


@pytest.mark.parametrize("name", ["openvino_model", "openvino_model_qint8_quantized"])
def test_openvino_reads_its_two_files(name: str, written: Path, tiny_model: Path) -> None:
    from medembed.export.openvino import library

    openvino = library()
    model = openvino.Core().compile_model(written / "openvino" / f"{name}.xml", "CPU")
    named = {it.any_name for it in model.inputs}
    inputs = {k: v for k, v in _all_inputs(tiny_model, TEXTS).items() if k in named}
    found = model(inputs)["sentence_embedding"]
    expected = SentenceTransformer(str(tiny_model), device="cpu").encode(TEXTS)
    assert (found * expected).sum(axis=1).min() > (0.99 if "int8" in name else 0.9999)


def test_weights_for_avx2_have_seven_bits_and_the_others_eight(written: Path) -> None:
    reach = {name: _reach(written / "onnx" / f"model_{name}.onnx") for name in ("quint8_avx2", "qint8_avx512_vnni")}
    assert reach == {"quint8_avx2": 64, "qint8_avx512_vnni": 127}
    assert sha256(written / "onnx/model_quantized.onnx") == sha256(written / "onnx/model_quint8_avx2.onnx")


def test_int8_is_about_a_quarter_of_the_weights(written: Path) -> None:
    """Of a model this small the graph itself is most of a file: weights alone are counted."""
    whole, small = (_bytes_of_weights(written / "onnx" / name) for name in ("model.onnx", "model_quint8_avx2.onnx"))
    assert small < 0.4 * whole


def test_the_same_model_gives_the_same_bytes(written: Path, tiny_model: Path, tmp_path: Path) -> None:
    files.write(lambda: SentenceTransformer(str(tiny_model), device="cpu"), FORMATS, tmp_path)
    for path in sorted(p for p in written.rglob("*") if p.is_file()):
        assert sha256(tmp_path / path.relative_to(written)) == sha256(path), path.name


def test_no_file_tells_of_the_machine(written: Path, tiny_model: Path) -> None:
    for path in (p for p in written.rglob("*") if p.is_file()):
        content = path.read_bytes()
        assert not any(str(it).encode() in content for it in (written, tiny_model, Path.home(), Path(sys.prefix))), path


def test_what_stands_is_not_made_again_and_what_was_begun_is_made_anew(tiny_model: Path, tmp_path: Path) -> None:
    loaded = 0

    def load() -> SentenceTransformer:
        nonlocal loaded
        loaded += 1
        return SentenceTransformer(str(tiny_model), device="cpu")

    files.write(load, ["onnx", "openvino"], tmp_path)
    stood = (tmp_path / files.PLAIN).stat().st_mtime_ns
    (tmp_path / files.OPENVINO).unlink()  # a kill came between the two files
    (tmp_path / ".unfinished").mkdir()
    (tmp_path / ".unfinished" / "openvino_model.bin").write_bytes(b"half")
    files.write(load, ["onnx", "openvino"], tmp_path)
    files.write(load, ["onnx", "openvino"], tmp_path)
    assert loaded == 2
    assert (tmp_path / files.PLAIN).stat().st_mtime_ns == stood
    assert (tmp_path / files.OPENVINO).exists() and not (tmp_path / ".unfinished").exists()


def test_a_model_too_large_for_one_file_is_told_before_it_is_traced(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "LARGEST", 10_000)
    with pytest.raises(InputError, match="a file of ONNX holds 2"):
        graph.write(SentenceTransformer(str(tiny_model), device="cpu"), tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_openvino_tells_nobody_that_it_was_used(written: Path) -> None:
    assert sys.modules["openvino_telemetry"] is None


def _tokenized(model: Path, texts: list[str], session: onnxruntime.InferenceSession) -> dict[str, Any]:
    wanted = {it.name for it in session.get_inputs()}
    return {name: value for name, value in _all_inputs(model, texts).items() if name in wanted}


def _all_inputs(model: Path, texts: list[str]) -> dict[str, Any]:
    """By the tokenizer's file alone, as libraries in other languages do it."""
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_truncation(64)
    tokenizer.enable_padding()
    found = tokenizer.encode_batch(texts)
    by_name = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    return {name: np.array([getattr(it, key) for it in found], dtype=np.int64) for name, key in by_name.items()}


def _weights(path: Path) -> list[Any]:
    return [onnx.numpy_helper.to_array(it) for it in onnx.load(path).graph.initializer]


def _reach(path: Path) -> int:
    return max(int(abs(it.astype(np.int32)).max()) for it in _weights(path) if it.dtype == np.int8 and it.ndim == 2)


def _bytes_of_weights(path: Path) -> int:
    return sum(it.nbytes for it in _weights(path) if it.ndim == 2)
