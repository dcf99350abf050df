"""YAML with line numbers: text in, the value and the line of every key out, so that a fault in a recipe can be pointed at."""

from pathlib import Path
from typing import Any

import yaml

from medembed.errors import InputError

MAX_BYTES = 1_000_000


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
        node = yaml.compose(content, Loader=yaml.SafeLoader)
        value = _construct(node, (), lines) if node is not None else None
    except FileNotFoundError as error:
        raise InputError.of("there is no such recipe", file, "`medembed recipes list` shows those that come along.") from error
    except OSError as error:
        raise InputError.of(f"cannot be read: {error.strerror}", file) from error
    except UnicodeDecodeError as error:
        raise InputError.of("is not UTF-8 text", file) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
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
            key = yaml.SafeLoader("").construct_object(key_node)
            if key in value:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark)
            value[key] = _construct(child, (*loc, key), lines)
            lines.add((*loc, key), key_node.start_mark.line + 1)
        return value
    if isinstance(node, yaml.SequenceNode):
        return [_construct(child, (*loc, i), lines) for i, child in enumerate(node.value)]
    return yaml.SafeLoader("").construct_object(node)
