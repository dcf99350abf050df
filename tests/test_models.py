"""Models as recipes name them: what the files declare is what is loaded, whole, whichever layout they have."""

import json
from pathlib import Path

import pytest
import torch
from sentence_transformers import MultiVectorEncoder, SentenceTransformer

from medembed import models
from medembed.errors import InputError
from medembed.recipe import Model
from tests.fixtures.models import make_tiny_colbert

TEXTS = ["chest pain, left knee", "insulin for diabetes", "no fever"]


@pytest.fixture(scope="module")
def colbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_colbert(tmp_path_factory.mktemp("colbert"))


def load(folder: Path, method: models.Method | None = None, **said: object) -> SentenceTransformer | MultiVectorEncoder:
    return models.load(Model.model_validate({"model": str(folder), **said}), device="cpu", method=method)


def test_a_colbert_of_stanford_is_loaded_as_one_with_markers_expansion_and_projection(colbert: Path) -> None:
    model = load(colbert)
    assert models.is_late(model)
    assert model.prompts["query"] == "[unused0] " and model.prompts["document"] == "[unused1] "
    queries, passages = model.encode_query(TEXTS), model.encode_document(TEXTS)
    assert {tuple(query.shape) for query in queries} == {(12, 128)}  # every query is expanded to `query_maxlen`
    assert passages[0].shape == (4 + 3, 128)  # chest, pain, left, knee; [CLS], [unused1], [SEP]; the comma is masked
    tokens = model.tokenizer.tokenize("[unused0] chest pain")
    assert tokens == ["[unused0]", "chest", "pain"]


def test_a_dense_model_becomes_one_of_late_interaction_with_the_same_projection_every_time(tiny_model: Path) -> None:
    torch.manual_seed(1)
    one = load(tiny_model, "late-interaction")
    state = torch.random.get_rng_state()
    other = load(tiny_model, "late-interaction")
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's chance is touched
    assert models.is_late(one) and one.get_embedding_dimension() == 128
    assert torch.equal(one[1].linear.weight, other[1].linear.weight)
    assert not models.is_late(load(tiny_model)) and not models.is_late(load(tiny_model, "dense"))


def test_late_interaction_where_one_vector_a_text_is_needed_is_refused(colbert: Path) -> None:
    with pytest.raises(InputError, match="one vector a text is needed"):
        load(colbert, "dense")


def test_max_length_cuts_passages_and_leaves_the_expansion_of_queries(colbert: Path) -> None:
    model = load(colbert, max_length=6)
    assert model.encode_document(["insulin " * 30])[0].shape[0] == 6
    assert model.encode_query(["insulin " * 30])[0].shape[0] == 12


def test_prompts_of_the_recipe_take_the_place_of_the_models(tiny_model: Path) -> None:
    assert load(tiny_model, prompts={"query": "what: "}).prompts == {"query": "what: ", "document": ""}


def test_what_is_no_embedding_model_is_said(tmp_path: Path, tiny_model: Path) -> None:
    other = _copy(tiny_model, tmp_path / "other")
    said = json.loads((other / "config_sentence_transformers.json").read_text())
    (other / "config_sentence_transformers.json").write_text(json.dumps(said | {"model_type": "CrossEncoder"}))
    with pytest.raises(InputError, match="but a CrossEncoder"):
        load(other)
    (other / "config_sentence_transformers.json").write_text("{")
    with pytest.raises(InputError, match=r"config_sentence_transformers\.json cannot be read"):
        load(other)
    torn = _copy(tiny_model, tmp_path / "torn")
    (torn / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(InputError, match="cannot be loaded as an embedding model"):
        load(torn)


def test_code_that_a_repository_brings_is_never_run(tmp_path: Path, tiny_model: Path) -> None:
    folder, ran = _copy(tiny_model, tmp_path / "bad"), tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nfrom torch import nn\nclass Evil(nn.Module): pass\n")
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "evil.Evil"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InputError, match="cannot be loaded as an embedding model"):
        load(folder)
    assert not ran.exists()


def test_a_weight_anywhere_in_a_model_is_part_of_its_identity(tmp_path: Path, tiny_model: Path) -> None:
    late = tmp_path / "late"
    load(tiny_model, "late-interaction").save_pretrained(str(late), create_model_card=False)
    before = models.weights_hash(late)
    projection = late / "1_Dense" / "model.safetensors"
    projection.write_bytes(projection.read_bytes()[:-1] + b"\x01")
    assert models.weights_hash(late) != before
    sharded = tmp_path / "sharded"
    SentenceTransformer(str(tiny_model), device="cpu")[0].auto_model.save_pretrained(sharded, max_shard_size="10KB")
    shards = sorted(sharded.glob("model-*.safetensors"))
    assert len(shards) > 1
    before = models.weights_hash(sharded)
    shards[-1].write_bytes(shards[-1].read_bytes()[:-1] + b"\x01")
    assert models.weights_hash(sharded) != before


def test_a_model_that_is_published_as_adapters_is_loaded_as_a_plain_one_and_both_its_files_identify_it(
    tmp_path: Path, tiny_model: Path
) -> None:
    peft = pytest.importorskip("peft")
    adapted = SentenceTransformer(str(tiny_model), device="cpu")
    adapted.add_adapter(peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    adapted.save_pretrained(str(tmp_path / "lora"), create_model_card=False)
    plain = load(tmp_path / "lora")
    assert plain.state_dict().keys() == load(tiny_model).state_dict().keys()
    assert torch.allclose(
        plain.encode(TEXTS, convert_to_tensor=True), adapted.encode(TEXTS, convert_to_tensor=True), atol=1e-6
    )
    before = models.weights_hash(tmp_path / "lora")
    config = tmp_path / "lora" / "adapter_config.json"
    config.write_text(config.read_text().replace('"lora_alpha": 8', '"lora_alpha": 16'))
    assert models.weights_hash(tmp_path / "lora") != before


def _copy(folder: Path, to: Path) -> Path:
    import shutil

    return Path(shutil.copytree(folder, to))
