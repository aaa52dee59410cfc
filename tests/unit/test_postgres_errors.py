"""The classes of Postgres' errors: by SQLSTATE, so that one that nobody has met is in one too."""

import asyncpg
import pytest

from shared.postgres.errors import (
    DatabaseUnavailable,
    advice_of,
    is_breaking,
    is_lost,
    is_not_ours,
    is_read_only,
    is_transient,
    needs_migration,
    trouble_of,
)

SILENT = "does not answer"


def error_of(code: str, text: str = "the server's text") -> asyncpg.PostgresError:
    """Make an error as the client does for a message with this code."""
    error = asyncpg.PostgresError(text)
    error.__dict__["sqlstate"] = code
    return error


WAITS = {
    "08000": SILENT,
    "08006": SILENT,
    "25006": "is read-only",
    "25P03": "fails: ",
    "25P04": "fails: ",
    "28000": "refuses logins: ",
    "28P01": "refuses logins: ",
    "3D000": "is missing: ",
    "3F000": "lacks what the migration creates: ",
    "40001": "fails: ",
    "40P01": "fails: ",
    "42501": "lacks what the migration creates: ",
    "42703": "lacks what the migration creates: ",
    "42704": "lacks what the migration creates: ",
    "42883": "lacks what the migration creates: ",
    "42P01": "lacks what the migration creates: ",
    "42P10": "lacks what the migration creates: ",
    "53100": "has no disk space left: ",
    "53300": "has no free connection: ",
    "55000": "accepts no connections: ",
    "55P03": "fails: ",
    "57014": "fails: ",
    "57P01": SILENT,
    "57P02": SILENT,
    "57P03": "is starting or stopping: ",
    "57P04": "is missing: ",
    "57P05": SILENT,
    "58030": "cannot read or write its files: ",
}
FOR_GOOD = ("22P02", "23505", "23514", "25P02", "42601", "42804", "54001", "P0001", "XX000")
"""The fault of the statement, of the data, or of ours."""


@pytest.mark.parametrize("code", WAITS)
def test_what_the_database_itself_is_the_cause_of_may_be_repeated(code: str) -> None:
    assert is_transient(error_of(code))
    assert trouble_of(error_of(code)).startswith(WAITS[code])


@pytest.mark.parametrize("code", FOR_GOOD)
def test_what_would_fail_again_is_not_repeated(code: str) -> None:
    error = error_of(code)
    assert not is_transient(error)
    assert not is_lost(error)
    assert not is_not_ours(error)
    assert not is_breaking(error)


@pytest.mark.parametrize("code", ["08006", "57P01", "57P02", "57P04"])
def test_an_ended_connection_is_cut_and_the_others_are_doubted(code: str) -> None:
    assert is_lost(error_of(code))
    assert is_breaking(error_of(code))


@pytest.mark.parametrize("code", ["25006", "40P01", "53300", "55P03", "57014", "42P01", "28P01"])
def test_an_error_of_a_living_connection_says_nothing_about_the_others(code: str) -> None:
    assert not is_lost(error_of(code))


def test_a_time_limit_is_transient_and_not_a_lost_connection() -> None:
    assert is_transient(TimeoutError())
    assert not is_lost(TimeoutError())
    assert is_breaking(TimeoutError())
    assert trouble_of(TimeoutError()) == SILENT


@pytest.mark.parametrize("code", ["28P01", "3D000", "3F000", "42501", "42P01", "42703", "42883"])
def test_what_the_migration_or_an_operator_must_bring_is_not_ours_yet(code: str) -> None:
    assert is_not_ours(error_of(code))
    assert needs_migration(error_of(code)) is (code[:2] in ("3F", "42"))


def test_a_read_only_server_is_known_and_its_connection_is_kept() -> None:
    assert is_read_only(error_of("25006"))
    assert not is_breaking(error_of("25006"))


@pytest.mark.parametrize("text", ["connection is closed", "pool is closing"])
def test_of_the_clients_own_errors_the_closed_ones_pass(text: str) -> None:
    assert is_lost(asyncpg.InterfaceError(text))
    assert not is_transient(asyncpg.InterfaceError("another operation is in progress"))


@pytest.mark.parametrize("code", WAITS)
def test_clients_do_not_see_the_servers_text(code: str) -> None:
    advice = advice_of(error_of(code, 'role "api" of 10.0.0.7'))
    assert advice.startswith("the database ")
    assert "try again" in advice
    assert "api" not in advice


def test_the_trouble_of_an_unavailable_database_is_its_own() -> None:
    error = DatabaseUnavailable("is read-only")
    assert (str(error), trouble_of(error)) == ("the database is read-only", "is read-only")
    assert is_transient(error)
