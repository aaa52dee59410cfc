"""Tables as docker's: no lines, widths that fit a terminal, whole where they are piped.

Together with `--format` and `--json`. Figures and status words, which others print too, have
modules of their own.
"""

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from docker_job.cli.output.template_functions import as_json
from docker_job.cli.output.templates import Labels, Template, camel, plain
from docker_job.cli.terminal import safe

if TYPE_CHECKING:  # rich takes longer to import than all else; what is piped needs none of it
    from rich.console import Console
    from rich.text import Text

Row = Mapping[str, Any]
GAP = 2
CHOSEN_BY_USERS = frozenset({"labels", "env_vars", "secrets", "resources", "budgets"})
"""Fields of documents whose keys differ from one to the next."""


@dataclass(frozen=True)
class Column:
    """A column: its heading, and how a document is shown in it."""

    heading: str
    text: Callable[[Row], str]
    style: Callable[[Row], str] | None = None
    symbol: Callable[[Row], str] | None = None
    is_right: bool = False
    narrowest: int = 0
    """The width to which it may be cut on a terminal; 0: it is never cut."""
    is_main: bool = False
    """It is cut only when no other column can give way any more."""
    name: str = ""
    """The field in templates, where it is not the heading."""

    @property
    def field(self) -> str:
        """Return the name in templates: `ID`, `Name`, `CostUSD`."""
        return self.name or ("ID" if self.heading == "ID" else self.heading.title())


@dataclass(frozen=True)
class Format:
    """The form of an answer."""

    kind: str
    """`table`, `ids`, `json` (one array), `lines` (a JSON document on each line) or `template`."""
    template: Template | None = None

    @classmethod
    def chosen(cls, given: str | None, *, is_json: bool = False, ids: bool = False) -> "Format":
        """Return the form that the options ask for. Raises TemplateError."""
        if given is not None and given.startswith("table "):
            return cls("table", Template.parse(given.removeprefix("table ").strip()))
        if given not in (None, "table", "json"):
            return cls("template", Template.parse(given))
        if is_json or given == "json":
            return cls("lines" if given == "json" else "json")
        return cls("ids" if ids else "table")


def show(
    rows: Iterable[Row],
    columns: Sequence[Column],
    form: Format,
    console: "Console",
    *,
    is_cut: bool = True,
    key: str = "id",
) -> None:
    """Print documents in the form that was asked for: each as it comes, but for a table."""
    if form.kind == "table":
        printed = list(rows)
        if form.template is not None:
            table_of(form, printed, columns, console)
        else:
            table(printed, columns, console, is_cut=is_cut)
        return
    if form.kind == "json":
        write_array(rows, console)
        return
    for row in rows:
        write(console, f"{row[key]}\n" if form.kind == "ids" else line_of(row, columns, form))


def line_of(row: Row, columns: Sequence[Column], form: Format) -> str:
    """Render one document on a line, as JSON or by the template."""
    if form.template is None:
        return as_json(row) + "\n"
    return form.template.render(fields(row, columns) if columns else named(row)) + "\n"


def write_array(rows: Iterable[Row], console: "Console") -> None:
    """Write documents as one JSON array, a document on each line."""
    before = "[\n"
    for row in rows:
        write(console, before + as_json(row))
        before = ",\n"
    write(console, "[]\n" if before == "[\n" else "\n]\n")


def write(console: "Console", text: str) -> None:
    """Write *text* as it is: no markup, no colour, no wrapping."""
    console.file.write(text)


def fields(row: Row, columns: Sequence[Column]) -> dict[str, Any]:
    """Return what a template finds: the columns as they are shown, then the document's fields.

    A column hides the field of its name; the status as a constant is `.State`.
    """
    shown: dict[str, Any] = {each.field: each.text(row) for each in columns}
    if "status" in row:
        shown["State"] = row["status"]
    taken = {plain(name) for name in shown}
    return shown | {name: value for name, value in named(row).items() if plain(name) not in taken}


def named(row: Row) -> dict[str, Any]:
    """Return the document's fields; in those whose keys users choose none is missing."""
    return {
        name: Labels(value) if name in CHOSEN_BY_USERS and isinstance(value, Mapping) else value
        for name, value in row.items()
    }


class _Headings(Labels):
    def missing(self, name: str) -> str:
        return name.upper()


def table_of(
    form: Format, rows: Sequence[Row], columns: Sequence[Column], console: "Console"
) -> None:
    """Print the table whose columns are parted by tabs in the template."""
    assert form.template is not None  # noqa: S101 - for the type checker
    headings: dict[str, Any] = {each.field: each.heading for each in columns}
    for row in rows[:1]:
        for name, value in fields(row, columns).items():
            heading = " ".join(camel(part) for part in name.split("_")).upper()
            is_nested = isinstance(value, Mapping)
            headings.setdefault(name, _Headings() if is_nested else heading)
    lines = [form.template.render(headings or _Headings())] if rows or columns else []
    lines += [form.template.render(fields(row, columns)) for row in rows]
    cells = [line.split("\t") for line in lines]
    widths = [
        max((width(line[at]) for line in cells if at < len(line)), default=0)
        for at in range(max(map(len, cells), default=0))
    ]
    for line in cells:
        padded = (_pad(cell, widths[at], is_right=False) for at, cell in enumerate(line))
        write(console, (" " * GAP).join(padded).rstrip() + "\n")


def table(
    rows: Sequence[Row], columns: Sequence[Column], console: "Console", *, is_cut: bool = True
) -> None:
    """Print the table: coloured and cut to the width on a terminal, plain and whole elsewhere."""
    if console.is_terminal:
        for drawn in lines_of(rows, columns, console, is_cut=is_cut):
            console.print(drawn, soft_wrap=True, highlight=False)
        return
    for line in _cells(rows, columns, None, is_terminal=False):
        write(console, (" " * GAP).join(line).rstrip() + "\n")


def lines_of(
    rows: Sequence[Row], columns: Sequence[Column], console: "Console", *, is_cut: bool = True
) -> "list[Text]":
    """Return the lines of a table for a terminal."""
    from rich.text import Text  # noqa: PLC0415 - see above

    space = console.width if is_cut else None
    styles = [["bold"] * len(columns)]
    styles += [[each.style(row) if each.style else "" for each in columns] for row in rows]
    lines = []
    for cells, styled in zip(_cells(rows, columns, space, is_terminal=True), styles, strict=True):
        line = Text()
        for at, (cell, style) in enumerate(zip(cells, styled, strict=True)):
            line.append((" " * GAP if at else "") + cell, style=style)
        line.rstrip()
        lines.append(line)
    return lines


def _cells(
    rows: Sequence[Row], columns: Sequence[Column], space: int | None, *, is_terminal: bool
) -> list[list[str]]:
    """Return the heading and the rows, each cell as wide as its column."""
    cells = [[_cell(each, row, is_terminal=is_terminal) for each in columns] for row in rows]
    widths = [
        max([width(column.heading), *(width(line[at]) for line in cells)])
        for at, column in enumerate(columns)
    ]
    if space is not None:
        widths = fitting(widths, columns, space)
    lines = [[each.heading for each in columns], *cells]
    return [_padded(line, widths, columns) for line in lines]


def fitting(widths: Sequence[int], columns: Sequence[Column], space: int) -> list[int]:
    """Return widths that fit into *space*: the widest column gives way first, a main one last."""
    fitted = list(widths)
    excess = sum(fitted) + GAP * (len(fitted) - 1) - space
    while excess > 0:
        may = [at for at, each in enumerate(columns) if 0 < each.narrowest < fitted[at]]
        if not may:
            break
        fitted[max(may, key=lambda at: (not columns[at].is_main, fitted[at]))] -= 1
        excess -= 1
    return fitted


def width(text: str) -> int:
    """Return how many cells of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(each) else 1 + (unicodedata.east_asian_width(each) in "WF")
        for each in text
    )


def first_line(text: object) -> str:
    """Return the first line of a text; nothing of none."""
    return str(text or "").strip().partition("\n")[0]


def cut(text: str, space: int) -> str:
    """Cut *text* to *space* cells, with a sign that it was cut."""
    if width(text) <= space:
        return text
    while text and width(text) >= space:
        text = text[:-1]
    return f"{text.rstrip()}…"


def _cell(column: Column, row: Row, *, is_terminal: bool) -> str:
    text = safe(column.text(row))
    if is_terminal and column.symbol is not None:
        return f"{column.symbol(row)} {text}"
    return text


def _padded(line: Sequence[str], widths: Sequence[int], columns: Sequence[Column]) -> list[str]:
    return [
        _pad(cut(text, space), space, is_right=column.is_right)
        for text, space, column in zip(line, widths, columns, strict=True)
    ]


def _pad(text: str, space: int, *, is_right: bool) -> str:
    filling = " " * max(0, space - width(text))
    return filling + text if is_right else text + filling
