"""Files that come along: recipes, card templates, prompts. In a wheel they lie in the package, in a checkout beside it."""

import shutil
from pathlib import Path

from medembed.errors import InputError

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


def copy_recipe(name: str, to: Path) -> Path:
    """Copy a recipe by its name, or a folder of them with its data; a recipe that stands on data brings its folder."""
    known = recipes()
    folders = {recipe.rpartition("/")[0]: path.parent for recipe, path in known.items()}
    if (source := (known | folders).get(name.strip("/"))) is None:
        raise InputError.of(f"there is no recipe {name!r}", mend="`medembed recipes list` shows them.")
    if any(path.suffix != ".yaml" for path in source.parent.iterdir()):
        source = source.parent if source.is_file() else source
    target = to / source.name
    if target.exists():
        raise InputError.of("stands already", str(target), "Remove it, or copy to another folder.")
    try:
        to.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target))
    except OSError as error:
        raise InputError.of(f"cannot be written: {error.strerror}", str(to), "Copy to another folder.") from error


def prompts() -> list[str]:
    """The versions of the generator's prompt."""
    return sorted(p.stem for p in (_PACKAGE / "generate" / "prompts").glob("*.jinja"))
