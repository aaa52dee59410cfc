"""docs/security.md names a test beside each line of its tables: each of them exists."""

import pytest

from tests.support.docs import NAMED, ROOT, missing_tests, rows_of_tables

PAGE = (ROOT / "docs" / "security.md").read_text()
SECTIONS = PAGE.split("\n## ")


def test_each_test_that_the_page_names_is_there() -> None:
    named = NAMED.findall(PAGE)
    print(f"{len(named)} tests are named in {len(rows_of_tables(PAGE))} rows")
    assert len(named) > 100
    assert missing_tests(PAGE) == []


def test_each_row_of_a_table_names_a_test() -> None:
    rows = rows_of_tables(PAGE)
    assert len(rows) > 60
    assert [row for row in rows if not NAMED.search(row)] == []


@pytest.mark.parametrize("section", [each for each in SECTIONS[1:] if "|---" in each])
def test_each_table_has_an_attack_what_happens_and_its_tests(section: str) -> None:
    header = next(line for line in section.splitlines() if line.startswith("| "))
    assert header == "| attack | what happens | test |"
    for row in rows_of_tables(section):
        attack, happens, tests = row.strip("| ").split(" | ")
        assert attack, row
        assert happens, row
        assert NAMED.match(tests), row


def test_the_page_names_what_is_not_defended_and_what_to_do_before_exposing_it() -> None:
    titles = [section.splitlines()[0] for section in SECTIONS[1:]]
    assert titles[-2:] == ["Not defended", "Before you expose it"]
    assert SECTIONS[-2].count("\n- **") > 10
    assert SECTIONS[-1].count("`") > 10, "commands"
