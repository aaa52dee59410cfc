"""docs/reliability.md names a test for each promise: each of them exists."""

from tests.support.docs import NAMED, ROOT, missing_tests, rows_of_tables

PAGE = (ROOT / "docs" / "reliability.md").read_text()


def test_each_test_that_the_page_names_is_there() -> None:
    assert len(NAMED.findall(PAGE)) > 100
    assert missing_tests(PAGE) == []


def test_each_row_of_a_table_names_a_test() -> None:
    before, _, _ = PAGE.partition("## Not shown yet")
    assert [row for row in rows_of_tables(before) if not NAMED.search(row)] == []
