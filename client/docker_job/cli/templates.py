r"""Templates of `--format`, as Docker's users write them: `{{.ID}}\t{{.Status}}`. Pure.

The part of Go's templates that formats of one line use: fields (`.Labels.team`), functions and
pipes (`upper .Name`, `.Name | upper`), `if`, `else`, `with`, `range`, `end`, and `{{-`, `-}}`. A
field is found by any spelling: `.ExitCode`, `.exit_code` and `.exitcode` are one.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from docker_job.cli.app import USAGE, Failure
from docker_job.cli.template_functions import FUNCTIONS, as_text


class TemplateError(Failure):
    """A template that cannot be used: why, and perhaps what can be."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(f"--format: {what}.", hint, USAGE)


ACTION = re.compile(r"\{\{(-\s)?(.*?)(\s-)?\}\}", re.DOTALL)
TOKEN = re.compile(
    r'\s*("(?:[^"\\]|\\.)*"|`[^`]*`|\$?\.[\w.\-]*|\$|-?\d+|\w+|\)(?:\.[\w.\-]*)?|[|(])'
)
ESCAPES = {r"\t": "\t", r"\n": "\n", r"\r": "\r", "\\\\": "\\"}
SPELLED = {"id": "ID", "usd": "USD", "mib": "MiB"}
OPENING = ("if", "with", "range")


@dataclass
class Block:
    """An `if`, `with` or `range` with what it holds."""

    kind: str
    condition: str
    body: list["str | Action | Block"] = field(default_factory=list)
    otherwise: list["str | Action | Block"] = field(default_factory=list)


@dataclass(frozen=True)
class Action:
    """An expression whose value is shown."""

    expression: str


Nodes = list[str | Action | Block]


@dataclass(frozen=True)
class Template:
    """A template that was read."""

    source: str
    nodes: Nodes

    @classmethod
    def parse(cls, source: str) -> "Template":
        """Read a template. Raises TemplateError."""
        pieces = _pieces(re.sub(r"\\[tnr\\]", lambda found: ESCAPES[found.group()], source))
        nodes, end = _block(pieces)
        if end is not None:
            raise TemplateError(f"{{{{{end}}}}} without an if, with or range before it")
        return cls(source, nodes)

    def render(self, value: Any) -> str:
        """Render *value*, whose fields are meant by `.Field`. Raises TemplateError."""
        return "".join(_render(self.nodes, value, value))


def _pieces(source: str) -> Iterator[str | Action]:
    at, is_trimmed = 0, False
    for found in ACTION.finditer(source):
        text = source[at : found.start()]
        text = text.lstrip() if is_trimmed else text
        yield text.rstrip() if found.group(1) else text
        if "{{" in found.group(2):
            break
        yield Action(found.group(2).strip())
        at, is_trimmed = found.end(), bool(found.group(3))
    rest = source[at:]
    if "{{" in rest:
        raise TemplateError(f"an action is not closed with }}}}: {rest[rest.index('{{') :]}")
    yield rest.lstrip() if is_trimmed else rest


def _block(pieces: Iterator[str | Action]) -> tuple[Nodes, str | None]:
    """Read up to the `end` or `else` of this block, or all; return the nodes and that word."""
    nodes: Nodes = []
    for piece in pieces:
        if isinstance(piece, str):
            nodes += [piece] if piece else []
            continue
        word, _, condition = piece.expression.partition(" ")
        if word in ("end", "else"):
            return nodes, piece.expression
        nodes.append(_opened(word, condition, pieces) if word in OPENING else piece)
    return nodes, None


def _opened(kind: str, condition: str, pieces: Iterator[str | Action]) -> Block:
    block = Block(kind, condition.strip())
    block.body, end = _block(pieces)
    if end is not None and end.startswith("else "):  # `else if`: a block within, with one `end`
        word, _, condition = end.removeprefix("else").strip().partition(" ")
        block.otherwise = [_opened(word, condition, pieces)]
        return block
    if end == "else":
        block.otherwise, end = _block(pieces)
    if end != "end":
        raise TemplateError(f"{{{{{kind} {condition}}}}} has no {{{{end}}}}")
    return block


def _render(nodes: Nodes, value: Any, root: Any) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, str):
            yield node
        elif isinstance(node, Action):
            yield as_text(_evaluate(node.expression, value, root))
        else:
            yield from _render_block(node, value, root)


def _render_block(block: Block, value: Any, root: Any) -> Iterator[str]:
    found = _evaluate(block.condition, value, root)
    if not found:
        yield from _render(block.otherwise, value, root)
    elif block.kind == "range":
        for each in found.values() if isinstance(found, Mapping) else found:
            yield from _render(block.body, each, root)
    else:
        yield from _render(block.body, found if block.kind == "with" else value, root)


def _evaluate(expression: str, value: Any, root: Any) -> Any:
    tokens = _tokens(expression)
    result = _pipeline(tokens, value, root)
    if tokens:
        raise TemplateError(f"{{{{{expression}}}}}: {tokens[0]} is not expected there")
    return result


def _tokens(expression: str) -> list[str]:
    tokens, at = [], 0
    while expression[at:].strip():
        found = TOKEN.match(expression, at)
        if found is None:
            raise TemplateError(f"{{{{{expression}}}}} cannot be read at {expression[at:].strip()}")
        tokens.append(found.group(1))
        at = found.end()
    if not tokens:
        raise TemplateError("{{}} is empty: name a field, like {{.ID}}")
    return tokens


def _pipeline(tokens: list[str], value: Any, root: Any) -> Any:
    result = _command(tokens, value, root, ())
    while tokens and tokens[0] == "|":
        del tokens[0]
        result = _command(tokens, value, root, (result,))
    return result


def _command(tokens: list[str], value: Any, root: Any, piped: tuple[Any, ...]) -> Any:
    """Read a function with its arguments, or one value. What was piped is the last argument."""
    if tokens and re.fullmatch(r"[a-z]\w*", tokens[0]) and tokens[0] not in ("true", "false"):
        function = _function(tokens.pop(0))
        arguments = []
        while tokens and tokens[0][0] not in "|)":
            arguments.append(_operand(tokens, value, root))
        try:
            return function(*arguments, *piped)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise TemplateError(f"a function cannot be used so: {error}") from error
    if piped:
        raise TemplateError(f"after | comes a function: {', '.join(sorted(FUNCTIONS))}")
    return _operand(tokens, value, root)


def _function(name: str) -> Callable[..., Any]:
    if name not in FUNCTIONS:
        known = ", ".join(sorted(FUNCTIONS))
        hint = f"A field has a point before it: .{name}. The functions are {known}."
        raise TemplateError(f"there is no function {name!r}", hint)
    return FUNCTIONS[name]


def _operand(tokens: list[str], value: Any, root: Any) -> Any:
    if not tokens:
        raise TemplateError("a value is missing")
    token = tokens.pop(0)
    if token == "(":  # noqa: S105 - a parenthesis
        inner = _pipeline(tokens, value, root)
        if not tokens or tokens[0][0] != ")":
            raise TemplateError("a parenthesis is not closed")
        return follow(inner, _path(tokens.pop(0)[1:]))
    if token[0] in '"`':
        return token[1:-1].replace('\\"', '"')
    if token in ("true", "false"):
        return token == "true"  # noqa: S105 - a truth value
    if token.startswith("$"):
        return follow(root, _path(token[1:]))
    if token.startswith("."):
        return follow(value, _path(token))
    if token.lstrip("-").isdecimal():
        return int(token)
    raise TemplateError(f"{token!r} is not expected there")


def _path(token: str) -> list[str]:
    return [name for name in token.split(".") if name]


def follow(value: Any, path: Sequence[str]) -> Any:
    """Return the field of a field … of *value*. Raises TemplateError, with the fields there are."""
    for name in path:
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise TemplateError(f"there is no field .{name} in {as_text(value)!r}")
        value = _field(value, name)
    return value


def _field(value: Mapping[str, Any], name: str) -> Any:
    if name in value:
        return value[name]
    by_spelling = {plain(key): key for key in reversed(list(value))}
    if plain(name) in by_spelling:
        return value[by_spelling[plain(name)]]
    if isinstance(value, Labels):
        return value.missing(name)
    fields = ", ".join(f".{camel(key)}" for key in value)
    raise TemplateError(f"there is no field .{name}", f"The fields are {fields or 'none'}.")


class Labels(dict[str, Any]):
    """A mapping whose keys users choose: one that is missing is empty, and no mistake."""

    def missing(self, name: str) -> str:  # noqa: ARG002 - headings, which derive from it, use it
        """Return what stands for a key that there is not."""
        return ""


def plain(name: str) -> str:
    """Return the name without its spelling: one for `ExitCode` and `exit_code`."""
    return name.replace("_", "").replace("-", "").lower()


def camel(name: str) -> str:
    """Return the spelling that Go's templates use: `exit_code` is `ExitCode`."""
    words = name.split("_")
    return "".join(SPELLED.get(word, word[:1].upper() + word[1:]) for word in words)
