"""A recipe's file → a `Recipe`, or every fault in it at once, each with file and line and in plain words.

YAML is composed to nodes first, so that each key keeps its line; overrides (`key.subkey=value`) are put in; then pydantic judges.
"""

import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from medembed.errors import Fault, InputError
from medembed.recipe import DatasetRecipe, ModelRecipe, Recipe, is_local

MAX_BYTES = 1_000_000
PATH_KEYS = {
    "source",
    "model",
    "recorded",
    "dataset",
    "tasks",
    "retriever",
    "base",
    "tokenizer",
    "compare",
}  # they may hold a local path
_Loader = getattr(
    yaml, "CSafeLoader", yaml.SafeLoader
)  # the one in C, where PyYAML has it: `validate` is to answer at once
_SCALARS = yaml.SafeLoader("")


class Lines:
    """Where in its file each key of a value stands."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._lines: dict[tuple[Any, ...], str] = {}

    def add(self, loc: tuple[Any, ...], line: int) -> None:
        self._lines[loc] = f"{self.file}:{line}"

    def overridden(self, loc: tuple[Any, ...], text: str) -> None:
        self._lines[loc] = text

    def where(self, loc: tuple[Any, ...]) -> str:
        """The place of `loc`, or of the nearest key above it that the file has."""
        while loc and loc not in self._lines:
            loc = loc[:-1]
        return self._lines.get(loc, self.file)


def load(path: str | Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """The recipe in the file at `path`, with `key.subkey=value` overrides.

    Raises:
        InputError: with one fault for each mistake in the file and in the overrides.
    """
    data, lines, faults = _read(Path(path), overrides)
    kinds: dict[str, type[DatasetRecipe] | type[ModelRecipe]] = {"dataset": DatasetRecipe, "model": ModelRecipe}
    if (kind := kinds.get(str(data.get("kind")))) is None:
        raise InputError(*faults, Fault("`kind` is neither `dataset` nor `model`", lines.where(("kind",))))
    recipe, found = _validate(kind, data)
    faults += [Fault(what, lines.where(loc)) for loc, what in found]
    if faults or recipe is None:
        raise InputError(*faults)
    return recipe


def dataset_recipe_of(path: Path, overrides: tuple[str, ...] = ()) -> Path | None:
    """The dataset's recipe that a model's recipe names under `data`, however faulty either is; None when it names none.

    Raises:
        InputError: the file is no YAML.
    """
    named = _read(path, overrides)[0].get("data")
    named = named.get("dataset") if isinstance(named, dict) else None
    return Path(named) if isinstance(named, str) and named.endswith(".yaml") and Path(named).exists() else None


def _read(path: Path, overrides: tuple[str, ...]) -> tuple[dict[str, Any], Lines, list[Fault]]:
    """What the file and the overrides say, with local paths made absolute."""
    data, lines = parse_yaml(path)
    faults = _override(data, lines, overrides)
    _resolve(data, path.parent)
    return data, lines, faults


def _override(data: dict[str, Any], lines: Lines, overrides: tuple[str, ...]) -> list[Fault]:
    """Put `key.subkey=value` into `data`; values are read as YAML, local paths taken from the current folder."""
    faults: list[Fault] = []
    for text in overrides:
        key, _, value = text.partition("=")
        try:
            parsed = parse_yaml(value, source=f"{key}=…")[0]
        except InputError as error:
            faults += error.faults
            continue
        node: Any = data
        *parents, last = [int(part) if part.isascii() and part.isdigit() else part for part in key.split(".")]
        holder = {last: parsed}
        _resolve(holder, Path.cwd())
        try:
            for part in parents:
                node = node.setdefault(part, {}) if isinstance(node, dict) else node[part]
            node[last] = holder[last]
        except (IndexError, TypeError, AttributeError):
            faults.append(Fault("the recipe has nothing of this name that could be set", f"{key}=…"))
        lines.overridden((*parents, last), f"{key}=…")  # not the value: it may hold what was never meant to be shown
    return faults


def _resolve(node: Any, folder: Path) -> None:
    """Make the local paths under the keys that may hold one absolute, in place."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        if key in PATH_KEYS and isinstance(value, str):
            node[key] = _absolute(value, folder)
        elif key in PATH_KEYS and isinstance(value, list):
            node[key] = [_absolute(item, folder) if isinstance(item, str) else item for item in value]
            _resolve(node[key], folder)
        elif key not in ("where", "columns"):  # those hold names of columns and patterns
            _resolve(value, folder)


def _absolute(value: str, folder: Path) -> str:
    if not is_local(value):
        return value
    return os.path.normpath(folder.absolute() / os.path.expanduser(value))  # noqa: PTH111 (never raises)


def _validate(
    kind: type[DatasetRecipe] | type[ModelRecipe], data: dict[str, Any]
) -> tuple[Recipe | None, list[tuple[tuple[Any, ...], str]]]:
    """Validate; on errors drop what is wrong and validate again, so that the rules between keys speak in the same report."""
    found: dict[tuple[Any, ...], str] = {}
    while True:
        try:
            return kind.model_validate(data), list(found.items())
        except ValidationError as error:
            new = {(loc := _loc(e, data)): _say(e, loc) for e in error.errors(include_url=False)}
        # What a section says once a wrong value of it was dropped may be but an echo: only unknown keys drop without one.
        echoes = {loc[:i] for loc, what in found.items() if "unknown key" not in what for i in range(1, len(loc) + 1)}
        new = {loc: what for loc, what in new.items() if loc not in echoes}
        found |= new
        dropped = [loc for loc in new if _drop(data, loc)]
        if not dropped:
            return None, list(found.items())


def _loc(error: Any, data: Any) -> tuple[Any, ...]:
    """The error's place in the file; pydantic adds parts of its own for unions and keys, which the file lacks."""
    loc: list[Any] = []
    for number, part in enumerate(error["loc"], start=1):
        if (isinstance(data, dict) and part in data) or (
            isinstance(data, list) and isinstance(part, int) and part < len(data)
        ):
            data = data[part]
        elif error["type"] != "missing" or number < len(error["loc"]):
            continue
        loc.append(part)
    return tuple(loc)


def _say(error: Any, loc: tuple[Any, ...]) -> str:
    key = ".".join(map(str, loc))
    if error["type"] == "extra_forbidden":
        return f"unknown key `{key}`"
    if error["type"] == "missing":
        return f"`{key}` is missing"
    message = error["msg"].removeprefix("Value error, ")
    return f"`{key}`: {message[:1].lower()}{message[1:]}" if key else message


def _drop(data: Any, loc: tuple[Any, ...]) -> bool:
    """Remove the value at `loc`; False when there is none to remove (a missing key) or it is the whole."""
    if not loc:
        return False
    for part in loc[:-1]:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return False
    if isinstance(data, dict):
        return data.pop(loc[-1], None) is not None
    return False


# ---- YAML with lines -----------------------------------------------------------------------------------------------


def parse_yaml(text: str | Path, source: str | None = None) -> tuple[Any, Lines]:
    """The value that a YAML file (a `Path`, which must hold a mapping) or a text holds, and its lines.

    Raises:
        InputError: not readable, not UTF-8, not YAML, a key twice, aliases, or no mapping in a file.
    """
    file = source or str(text)
    lines = Lines(file)
    try:
        if isinstance(text, Path):
            if text.is_dir():
                raise InputError.of("is a folder, not a recipe", file, "Name the YAML file in it.")
            if text.stat().st_size > MAX_BYTES:
                raise InputError.of("is too large for a recipe", file)
            content = text.read_text(encoding="utf-8")
        else:
            content = text
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(content, Loader=_Loader)):
            raise ValueError("it has aliases (*name), which recipes do without")
        node = yaml.compose(content, Loader=_Loader)
        value = _construct(node, (), lines) if node is not None else None
    except FileNotFoundError as error:
        raise InputError.of(
            "there is no such recipe", file, "`medembed recipes list` shows those that come along."
        ) from error
    except OSError as error:
        raise InputError.of(f"cannot be read: {error.strerror}", file) from error
    except UnicodeDecodeError as error:
        raise InputError.of("is not UTF-8 text", file) from error
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else file
        raise InputError.of(f"is not YAML: {getattr(error, 'problem', None) or error}", where) from error
    if isinstance(text, Path) and not isinstance(value, dict):
        raise InputError.of("is not a recipe: it holds no mapping of keys to values", file)
    return value, lines


def _construct(node: yaml.Node, loc: tuple[Any, ...], lines: Lines) -> Any:
    lines.add(loc, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        value: dict[Any, Any] = {}
        for key_node, child in node.value:
            key = _SCALARS.construct_object(key_node)
            if key in value:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark)
            value[key] = _construct(child, (*loc, key), lines)
            lines.add((*loc, key), key_node.start_mark.line + 1)
        return value
    if isinstance(node, yaml.SequenceNode):
        return [_construct(child, (*loc, i), lines) for i, child in enumerate(node.value)]
    return _SCALARS.construct_object(node)
