"""The rules of the house: small files and functions, one name for one thing, the field's words."""

import ast
import io
import re
import subprocess
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = (
    *("services", "shared", "embedded", "operations", "agent", "fake_aws"),
    *("rehearsal", "drill", "deploy", "bench", "examples"),
    "client",
)
PROSE = (
    *(*PRODUCT, "docs", "README.md", "CONTRIBUTING.md", "compose.yaml", ".env.example"),
    "Makefile",
)
HISTORY = ("docs/adr/", "bench/results/", "docs/asyncapi.json", "docs/openapi.json")
"""What was written then stays as it was; documents made from code are held by that code."""

LONGEST_FILE, LONGEST_FUNCTION = 300, 40
REASON = "# long: "
"""In a file or function that is longer, before the reason."""

COLUMNS = {"told", "told_at", "delay_told_at", "instance_gone_at", "heard_at", "heard_through"}
"""Of tables that exist: a field of a row bears its column's name."""

IDENTIFIER = re.compile(
    r"(^|_)(told|tells?|tellings?|hears?|heard|desks?|books?|strangers?|epitaphs?|misfortunes?|"
    r"people|persons?|nobody|somebody|anew)(_|$)"
    r"|(?-i:(Desk|Book|Stranger|Epitaph|Misfortune|Moment)([A-Z]|$)|^Case$)",
    re.IGNORECASE,
)
PHRASE = re.compile(
    r"is nobody's|somebody's|wants it no more|the hand behind|made anew|taken back|misfortune|"
    r"could not be had|dress rehearsal|last words?\b|what it lacks|\bpeople\b|\ba person\b|"
    r"\b(?:is|are|was|were|been|be) told\b|\b(?:is|are|was|been) heard\b|"
    r"(?<!FROM )(?<!UPDATE )\btellings?\b|"  # the name of a table
    r"\bepitaph|\bstrangers?\b",
    re.IGNORECASE,
)
QUESTION = re.compile(r"(What|Who|Whom|Whose|Which|How|When|Where|Why|Whether|Whatever|Whoever)\b")


@cache
def tracked(*places: str) -> tuple[str, ...]:
    """The files of *places* that git knows or will know."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *places],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(f for f in sorted(set(listed.stdout.split())) if (ROOT / f).is_file())


def sources(*places: str) -> list[str]:
    """The Python files of *places*."""
    return [file for file in tracked(*places) if file.endswith(".py")]


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method in *tree*."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("room", PRODUCT)
def test_no_file_and_no_function_is_long_without_a_reason(room: str) -> None:
    long = []
    for file in sources(room):
        text = (ROOT / file).read_text(encoding="utf-8")
        lines = text.splitlines()
        if len(lines) > LONGEST_FILE and REASON not in text:
            long.append(f"{file}: {len(lines)} lines")
        for node in functions(ast.parse(text)):
            end = node.end_lineno or node.lineno
            own = lines[node.lineno - 1 : end]
            if len(own) > LONGEST_FUNCTION and not any(REASON in line for line in own):
                long.append(f"{file}:{node.lineno} {node.name}: {len(own)} lines")
    assert long == []


def test_no_two_classes_of_services_and_shared_have_one_name() -> None:
    places = defaultdict(list)
    for file in sources("services", "shared"):
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{file}:{node.lineno}")
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


@pytest.mark.parametrize("room", PRODUCT)
def test_identifiers_are_terms_of_the_field(room: str) -> None:
    wrong = set()
    for file in sources(room):
        source = io.StringIO((ROOT / file).read_text(encoding="utf-8"))
        for token in tokenize.generate_tokens(source.readline):
            name = token.string
            if token.type == tokenize.NAME and name not in COLUMNS and IDENTIFIER.search(name):
                wrong.add(f"{file}:{token.start[0]} {name}")
    assert sorted(wrong) == []


@pytest.mark.parametrize("room", PROSE)
def test_prose_has_none_of_the_phrases_that_the_glossary_replaces(room: str) -> None:
    wrong = []
    for file in tracked(room):
        if file.startswith(HISTORY) or file.endswith(
            ".sql"
        ):  # a released migration is never edited
            continue
        try:
            lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        wrong += [
            f"{file}:{number} {found.group()}"
            for number, line in enumerate(lines, 1)
            if (found := PHRASE.search(line))
        ]
    assert wrong == []


@pytest.mark.parametrize("room", PRODUCT)
def test_no_docstring_begins_with_a_question_word(room: str) -> None:
    wrong = []
    for file in sources(room):
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        nodes = [
            tree,
            *(n for n in ast.walk(tree) if isinstance(n, ast.ClassDef)),
            *functions(tree),
        ]
        wrong += [
            f"{file}:{getattr(node, 'lineno', 1)}"
            for node in nodes
            if QUESTION.match(ast.get_docstring(node) or "")
        ]
    assert wrong == []
