"""Trained weights → a model folder that embeds elsewhere as it does here: all that changes an embedding is saved in it."""

import shutil
from typing import Any

from medembed import models
from medembed.recipe import ModelRecipe
from medembed.run import Run, write_json
from medembed.train.checkpoints import full_disk_is_seen
from medembed.train.trainer import Trained


def save(trained: Trained, recipe: ModelRecipe, run: Run) -> dict[str, Any]:
    """Write the base with its new weights: tokenizer, prompts, pooling and max length are the base's, not those of training.

    What embeds: the modules in their order, with all that another library has to do alike.
    """
    model = models.load(recipe.base, device="cpu", method=recipe.train.method)
    model.load_state_dict(trained.weights)
    # Of an earlier use; libraries that read it (fastembed) would cut texts there, and not at the model's length.
    model.tokenizer.init_kwargs.pop("max_length", None)
    temporary, final = run.path("train", ".model.tmp"), run.path("train", "model")
    shutil.rmtree(temporary, ignore_errors=True)
    with full_disk_is_seen(run.path("train")):
        model.save_pretrained(str(temporary), create_model_card=False)
    (temporary / "README.md").write_text(f"{recipe.name}: `medembed publish` writes the card.\n", encoding="utf-8")
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    write_json(run.path("train", "losses.json"), trained.losses)
    return _told(model)


def _told(model: Any) -> dict[str, Any]:
    """`pooling` is that of a dense model whose prompts are pooled too; none of any other."""
    pooled = [module for module in model if getattr(module, "include_prompt", False)]
    lengths = {side: getattr(model[0], f"{side}_length", None) for side in ("query", "document")}
    return {
        "modules": [type(module).__name__ for module in model],
        "pooling": pooled[0].pooling_mode if pooled else None,
        "prompts": model.prompts,
        "max_length": model.max_seq_length,
        "lengths": {side: length for side, length in lengths.items() if length},
        "similarity": model.similarity_fn_name,
    }
