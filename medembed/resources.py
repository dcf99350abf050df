"""Files that come along: recipes, card templates, prompts. In a wheel they lie in the package, in a checkout beside it."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def folder(name: str) -> Path:
    """The folder `recipes`, `model_cards` or `dataset_cards`, in the wheel or in the checkout."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def recipes() -> dict[str, Path]:
    """The recipes that come along, by their path without suffix: `models/medembed-small-v1`."""
    root = folder("recipes")
    found = sorted(p for p in root.rglob("*.yaml") if p.relative_to(root).parts[0] != "accelerate")
    return {p.relative_to(root).with_suffix("").as_posix(): p for p in found}


def prompts() -> list[str]:
    """The versions of the generator's prompt."""
    return sorted(p.stem for p in (_PACKAGE / "generate" / "prompts").glob("*.jinja"))
