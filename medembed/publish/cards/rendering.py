"""A template and what it may tell in, Markdown out. Whatever a server, a user's column or a stranger's manifest says stays a text.

Every value that a template prints is made one line in which nothing is markup, unless a filter has made Markdown of it; so a template
says where it means otherwise, and cannot forget to say where it does not.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import yaml
from markupsafe import Markup

from medembed import resources
from medembed.errors import InputError
from medembed.publish.cards.metadata import is_on_hub
from medembed.rows import encodable

NOT_RECORDED = Markup("not recorded")
SOURCE = "https://github.com/medembed/medembed"
LONGEST = 160  # characters of one value
SPELT = {
    "@": "&#64;",
    ":": "&#58;",
    ".": "&#46;",
}  # in a line that cannot be code, since a bar would have to be escaped in a table
LINKS = re.compile(
    r"://|www\.|(?<!\w)@\w|\w@[\w-]+\.\w", re.IGNORECASE
)  # what pages make links and mentions of by themselves
FOLDERS = ("model_cards", "dataset_cards")


def templates() -> list[Path]:
    """The files that cards are made with."""
    return [path for name in FOLDERS for path in sorted(resources.folder(name).glob("*.jinja"))]


def render(kind: str, manifest: Mapping[str, Any], **known: Any) -> str:
    """The card of a `kind`, from its template, the manifest as `m`, and what else is `known`.

    Raises:
        InputError: a template is broken.
    """
    repo, commit = manifest["recipe"]["publish"].get("repo"), manifest["medembed"]["commit"]
    try:
        template = _environment().get_template(f"{kind}.md.jinja")
        card = template.render(
            m=manifest,
            absent=None,
            recipe=as_yaml(manifest["recipe"]),
            repo=repo,
            loaded_from=repo or f"./{manifest['name']}",
            source=Markup(SOURCE),
            commit=(commit or "").removesuffix("-dirty"),
            changed=(commit or "").endswith("-dirty"),
            **known,
        )
    except Exception as error:  # a template is a program: whatever it may raise
        mend = "Mend the template. Nothing was published; the model and its results are untouched."
        raise InputError.of(f"the card cannot be written: {type(error).__name__}", _where(error, kind), mend) from error
    return encodable(card).strip("\n") + "\n"


def as_yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([resources.folder(name) for name in FOLDERS]),
        undefined=jinja2.ChainableUndefined,
        finalize=_printed,
        keep_trailing_newline=True,
        autoescape=True,  # so that what filters and macros return is told from what a value says
        trim_blocks=True,
        lstrip_blocks=True,
    )
    texts: list[Callable[..., Any]] = [text, code, verbatim, python, fenced, linked, on_hub]
    several: list[Callable[..., Any]] = [counted, listed, versions, entries, objects, settings]
    numbers: list[Callable[..., Any]] = [
        points,
        signed,
        difference,
        p_value,
        number,
        percent,
        exact,
        size,
        bytes_of_a_million,
    ]
    environment.filters |= {each.__name__: each for each in (*texts, *several, *numbers)}
    return environment


def _where(error: Exception, kind: str) -> str:
    """The line of a template that an error comes from."""
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f"{error.name or kind}:{error.lineno}"
    lines, trace = [f"{kind}.md.jinja"], error.__traceback__
    while trace:
        if (file := trace.tb_frame.f_code.co_filename).endswith(".jinja"):
            lines.append(f"{Path(file).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return lines[-1]


def _printed(value: Any) -> Markup:
    if isinstance(value, Markup):
        return value
    return text(value)


# ---- text ------------------------------------------------------------------------------------------------------------


def is_absent(value: Any) -> bool:
    return value is None or isinstance(value, jinja2.Undefined)


def text(value: Any, longest: int = LONGEST) -> Markup:
    """One line of at most `longest` characters in which nothing is Markdown or HTML, and which no page makes a link or a mention of."""
    if is_absent(value):
        return NOT_RECORDED
    line = f"{value:.4g}" if isinstance(value, float) else _line(value, longest)
    if LINKS.search(line) and "|" not in line:
        return code(line, longest)
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))", r"\\\1", line)
    return Markup(LINKS.sub(lambda it: "".join(SPELT.get(c, c) for c in it[0]), line))


def code(value: Any, longest: int = LONGEST) -> Markup:
    """A span of code, also within a table."""
    if is_absent(value) or not (line := _line(value, longest).replace("|", "\\|")):
        return NOT_RECORDED
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if "`" in (line[0], line[-1]) else ""
    return Markup(f"{fence}{space}{line}{space}{fence}")


def verbatim(value: str) -> Markup:
    """What is Markdown already: ours, or its author's own words on their own page."""
    return Markup(value)


def linked(label: Any, address: Any) -> Markup:
    """A link, where `address` is one of the web."""
    if not isinstance(address, str) or not address.startswith("https://"):
        return text(label)
    return Markup("[{}]({})").format(text(label), Markup(quote(address, safe="/:@#?=&%+,.~-")))


def on_hub(name: Any, kind: str = "") -> Markup:
    """The name of a repository with a link to it; of anything else the name."""
    return linked(name, f"https://huggingface.co/{kind}{name}" if is_on_hub(name) else None)


def fenced(value: Any, language: str = "") -> Markup:
    """A block of code, behind a fence that is longer than any in it."""
    if is_absent(value):
        return NOT_RECORDED
    inside = str(value).strip("\n")
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", inside)), default=0))
    return Markup(f"{fence}{language}\n{inside}\n{fence}")


def python(value: Any) -> Markup:
    """A literal of Python."""
    return Markup(json.dumps(value, ensure_ascii=False))


def _line(value: Any, longest: int = LONGEST) -> str:
    """What can be printed of a value, on one line."""
    line = "".join(c for c in " ".join(str(value).split()) if c.isprintable())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


# ---- several ---------------------------------------------------------------------------------------------------------


def objects(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list in a manifest that may be anybody's."""
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def entries(value: Any) -> Iterator[tuple[str, Any]]:
    """The items of an object, likewise."""
    yield from value.items() if isinstance(value, Mapping) else ()


def counted(counts: Any) -> Markup:
    """What was counted, by name; «none» where all counts are zero."""
    if not isinstance(counts, Mapping):
        return NOT_RECORDED
    found = [Markup("{} {}").format(text(name), number(n)) for name, n in counts.items() if n]
    return Markup(", ").join(found) or Markup("none")


def listed(values: Any) -> Markup:
    """The values of a list, or the names of an object."""
    if isinstance(values, list | Mapping):
        return Markup(", ").join(map(text, values)) or Markup("none")
    return text(values)


def versions(of: Any) -> Markup:
    return Markup(", ").join(
        Markup("{} {}").format(text(name), text(version)) for name, version in entries(of)
    ) or text(None)


# ---- numbers ---------------------------------------------------------------------------------------------------------


def points(score: Any) -> str:
    """A score between 0 and 1 in hundredths."""
    return f"{100 * score:.1f}" if _is_number(score) else NOT_RECORDED


def signed(change: Any) -> str:
    """A difference of scores, in hundredths."""
    return f"{100 * change:+.1f}" if _is_number(change) else NOT_RECORDED


def difference(compared: Any) -> Markup:
    """A difference with its interval, in hundredths."""
    ends = [compared.get(key) for key in ("difference", "low", "high")] if isinstance(compared, Mapping) else [None]
    if not all(map(_is_number, ends)):
        return NOT_RECORDED
    return Markup("{} [{}, {}]").format(*map(signed, ends))


def p_value(p: Any) -> str:
    if not _is_number(p):
        return NOT_RECORDED
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def number(value: Any) -> str:
    """A count with its thousands apart."""
    return f"{value:,}" if _is_number(value) else str(text(value))


def percent(share: Any) -> str:
    return f"{100 * share:.1f} %" if _is_number(share) else NOT_RECORDED


def exact(value: Any) -> str:
    return f"{value:.5f}" if _is_number(value) else NOT_RECORDED


def size(count: Any, unit: str = "B") -> str:
    """Bytes (or another unit) in the largest multiple that leaves a whole number: 90 MB, 33 M parameters."""
    if not _is_number(count):
        return NOT_RECORDED
    for factor, prefix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= factor:
            return f"{count / factor:.3g} {prefix}{unit}".rstrip()
    return f"{count} {unit}".rstrip()


def bytes_of_a_million(index: Any) -> float | None:
    """What an index of a million passages takes, by those of the tasks: name → {passages, bytes}."""
    tasks = [task for _, task in entries(index) if isinstance(task, Mapping)]
    passages = sum(task["passages"] for task in tasks)
    return sum(task["bytes"] for task in tasks) * 10**6 / passages if passages else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# ---- settings --------------------------------------------------------------------------------------------------------


def settings(said: Any) -> Markup:
    """A filter's settings in short: names and numbers; a model by its name and the beginning of its revision."""
    if isinstance(said, Mapping) and "model" in said and "policy" not in said:
        return Markup("{} ({})").format(text(said["model"]), text(said.get("revision"))[:12])
    if isinstance(said, Mapping):
        return Markup("; ").join(_setting(name, value) for name, value in said.items())
    if isinstance(said, list):
        bounds = len(said) == 2 and all(isinstance(each, int) for each in said)
        return Markup(" to " if bounds else ", ").join(map(settings, said))
    return Markup("–") if said is True else text(said)


def _setting(name: str, value: Any) -> Markup:
    if isinstance(value, bool):
        return text(name) if value else Markup("not {}").format(text(name))
    return Markup("{} {}").format(text(name), settings(value))
