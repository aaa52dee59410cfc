"""`scheduled_for`: the time that each form means."""

import re
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import pytest

from services.api.submission.when import BadTime, next_occurrence, time_of, zone

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
BERLIN = zone("Europe/Berlin")
WORLD = zone("UTC")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("now", "2026-01-01T12:00:00Z"),
        ("  now ", "2026-01-01T12:00:00Z"),
        ("+0s", "2026-01-01T12:00:00Z"),
        ("+90s", "2026-01-01T12:01:30Z"),
        ("+10m", "2026-01-01T12:10:00Z"),
        ("+2h", "2026-01-01T14:00:00Z"),
        ("+3d", "2026-01-04T12:00:00Z"),
        ("+3660d", "2036-01-09T12:00:00Z"),
        ("13:00", "2026-01-01T13:00:00Z"),
        ("13:00:05", "2026-01-01T13:00:05Z"),
        ("9:30", "2026-01-02T09:30:00Z"),
        ("00:00", "2026-01-02T00:00:00Z"),
        ("23:59:59", "2026-01-01T23:59:59Z"),
        ("2026-11-24T10:00:00+01:00", "2026-11-24T09:00:00Z"),
        ("2026-11-24T10:00:00Z", "2026-11-24T10:00:00Z"),
        ("2026-11-24t10:00:00Z", "2026-11-24T10:00:00Z"),
        ("2026-11-24 10:00:00-0330", "2026-11-24T13:30:00Z"),
        ("2026-11-24T10:00:00z", "2026-11-24T10:00:00Z"),
        ("2026-11-24t10:00z", "2026-11-24T10:00:00Z"),
        ("2026-11-24T10:00:00+01", "2026-11-24T09:00:00Z"),
        ("2026-11-24T10:00:00+0100", "2026-11-24T09:00:00Z"),
        ("2026-11-24T10:00:00-00:00", "2026-11-24T10:00:00Z"),
        ("2026-11-24T10:00:00,5Z", "2026-11-24T10:00:00.5Z"),
        ("2026-11-24T10:00:00.123456789Z", "2026-11-24T10:00:00.123456Z"),
        ("2026-W48-2T10:00", "2026-11-24T10:00:00Z"),
        ("2026w482t10z", "2026-11-24T10:00:00Z"),
        ("2026-11-24T10", "2026-11-24T10:00:00Z"),
        ("2026-11-24T10:00", "2026-11-24T10:00:00Z"),
        ("2026-11-24T10:00:00.250", "2026-11-24T10:00:00.250Z"),
        ("20261124T100000", "2026-11-24T10:00:00Z"),
        ("2035-12-31T00:00", "2035-12-31T00:00:00Z"),
    ],
)
def test_each_form_means_one_time(text: str, meant: str) -> None:
    assert time_of(text, WORLD, NOW) == at(meant)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("10:00", "2026-01-02T09:00:00Z"),
        ("13:30", "2026-01-01T12:30:00Z"),
        ("2026-07-01T10:00", "2026-07-01T08:00:00Z"),
        ("2026-07-01T10:00Z", "2026-07-01T10:00:00Z"),
    ],
)
def test_a_time_without_an_offset_is_the_zones_own(text: str, meant: str) -> None:
    assert time_of(text, BERLIN, NOW) == at(meant)


@pytest.mark.parametrize(
    "text",
    [
        "24:00",
        "10:60",
        "10:00:60",
        "1000",
        "10:0",
        ":30",
        "10:00 pm",
        "-5:00",
        "noon",
        "Now",
        "+",
        "+5",
        "+5w",
        "+ 5m",
        "-5m",
        "+1.5h",
        "\N{ARABIC-INDIC DIGIT ONE}0:00",
        "+\N{ARABIC-INDIC DIGIT ONE}s",
        "2026-13-01T00:00",
        "2026-02-30T00:00",
        "2026-11-24T25:00",
        "2026-11-24T24:00",
        "2026-11-24T23:59:60Z",
        "2026-11-24T10:60",
        "2026-W54-1T10:00",
        "2026-328T10:00",
        "2026-11T10:00",
        "2026-11-24T10.5",
        "2026-11-24T10:00.5",
        "2026-11-24T10:00:00.",
        "2026-11-24T10:00:00Z+01:00",
        "2026-11-24T10:00:00+1:00",
        "2026-11-24T10:00:00+24:00",
        "2026-11-24T10:00:00+99",
        "2026-11-24T10:00:00+05:60",
        "20261124T100000-0099",
        "2026-11-24T10:00:00 +01:00",
        "2026-11-24T10:00:00+01:00:30",
        "2026-11-24T10:00:00+01:00[Europe/Berlin]",
        "2026-11-24x10:00",
        "2026-11-24_10:00",
        "2026-11-24\n10:00",
        "2026-11-24T1\u06600:00",
        "\uff12026-11-24T10:00",
        "2026-11-24T10:00:00\u212a",
        "10:00\0",
        "\n",
        "T",
        "🕙",
    ],
)
def test_a_text_that_is_no_time_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(BadTime, match=r"^scheduled_for .* is not a time: write 'now'"):
        time_of(text, WORLD, NOW)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2026-11-24T24:00", "hours go to 23, minutes and seconds to 59"),
        ("2026-11-24T23:59:60Z", "hours go to 23, minutes and seconds to 59"),
        ("2026-11-24T10:00+24:00", "hours go to 23, minutes and seconds to 59"),
        ("2026-11-24T10:00-05:99", "hours go to 23, minutes and seconds to 59"),
        ("2026-02-30T00:00", "day is out of range for month"),
    ],
)
def test_a_time_that_no_clock_shows_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(BadTime) as raised:
        time_of(text, WORLD, NOW)
    assert str(raised.value).endswith(f"({reason})")


@pytest.mark.parametrize("text", ["2026-11-24", "20261124", "2026-W48-2", "2026-w482"])
def test_a_date_alone_is_refused(text: str) -> None:
    with pytest.raises(BadTime, match="has no time of day"):
        time_of(text, WORLD, NOW)


@pytest.mark.parametrize(
    "text",
    ["2026-01-01T11:58:59Z", "2026-01-01T12:00+01:00", "1970-01-01T00:00", "0001-01-01T00:00Z"],
)
def test_the_past_is_refused(text: str) -> None:
    with pytest.raises(BadTime, match=r"in the past \(it is 2026-01-01T12:00:00Z now\)"):
        time_of(text, WORLD, NOW)


@pytest.mark.parametrize("text", ["2026-01-01T11:59:00Z", "2026-01-01T11:59:59.999Z"])
def test_a_minute_past_still_counts_as_now(text: str) -> None:
    assert time_of(text, WORLD, NOW) == at(text)


@pytest.mark.parametrize(
    "text",
    [
        *("+3661d", "+999999999d", "+999999999h", "+1234567890s", f"+{'9' * 5000}m"),
        *("2036-01-10T00:00Z", "9999-12-31T23:59:59Z"),
    ],
)
def test_what_is_more_than_ten_years_away_is_refused(text: str) -> None:
    with pytest.raises(BadTime, match="more than ten years away"):
        time_of(text, WORLD, NOW)


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00+12:00"])
def test_what_utc_cannot_say_is_refused(text: str) -> None:
    with pytest.raises(BadTime, match="out of range"):
        time_of(text, WORLD, NOW)


def test_a_message_quotes_a_long_text_in_short() -> None:
    with pytest.raises(BadTime) as raised:
        time_of("x" * 100_000, WORLD, NOW)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("seconds", [0, 1, 59])
def test_the_next_occurrence_is_after_now_and_never_now_itself(seconds: int) -> None:
    now = NOW + timedelta(seconds=seconds)
    assert next_occurrence(12, 0, 0, WORLD, now) == at("2026-01-02T12:00:00Z")
    assert next_occurrence(12, 1, 0, WORLD, now) == at("2026-01-01T12:01:00Z")


def test_a_microsecond_before_its_time_is_before_it() -> None:
    assert next_occurrence(12, 0, 0, WORLD, NOW - timedelta(microseconds=1)) == NOW


def test_the_next_occurrence_is_of_the_zones_day() -> None:
    tokyo = zone("Asia/Tokyo")
    now = at("2026-01-01T23:30:00Z")  # 08:30 of the 2nd in Tokyo
    assert next_occurrence(8, 0, 0, tokyo, now) == at("2026-01-02T23:00:00Z")
    assert next_occurrence(9, 0, 0, tokyo, now) == at("2026-01-02T00:00:00Z")


# Berlin, 2026: on 29 March 02:00 becomes 03:00, on 25 October 03:00 becomes 02:00.


@pytest.mark.parametrize("text", ["02:30", "2026-03-29T02:30"])
@pytest.mark.parametrize("now", ["2026-03-28T23:00:00Z", "2026-03-29T00:45:00Z"])
def test_a_time_that_the_clock_skips_is_read_with_the_offset_before(text: str, now: str) -> None:
    assert time_of(text, BERLIN, at(now)) == at("2026-03-29T01:30:00Z")  # the clock shows 03:30


def test_the_day_after_a_skipped_time_is_as_any_other() -> None:
    assert time_of("02:30", BERLIN, at("2026-03-29T01:30:00Z")) == at("2026-03-30T00:30:00Z")


@pytest.mark.parametrize("text", ["02:30", "2026-10-25T02:30"])
@pytest.mark.parametrize(
    ("now", "meant"),
    [
        ("2026-10-24T23:00:00Z", "2026-10-25T00:30:00Z"),
        ("2026-10-25T00:45:00Z", "2026-10-25T01:30:00Z"),
    ],
)
def test_a_time_that_comes_twice_is_the_first_that_is_not_past(
    text: str, now: str, meant: str
) -> None:
    assert time_of(text, BERLIN, at(now)) == at(meant)


def test_the_day_after_a_doubled_time_is_as_any_other() -> None:
    assert time_of("02:30", BERLIN, at("2026-10-25T01:30:00Z")) == at("2026-10-26T01:30:00Z")


def test_what_is_skipped_at_midnight_is_found_from_both_sides() -> None:
    beirut = zone("Asia/Beirut")  # 2026-03-29 00:00 becomes 01:00
    assert next_occurrence(0, 30, 0, beirut, at("2026-03-28T21:00:00Z")) == at(
        "2026-03-28T22:30:00Z"
    )


def test_the_next_occurrence_is_within_25_hours_at_any_minute_of_a_change() -> None:
    for day in ("2026-03-28T00:00:00Z", "2026-10-24T00:00:00Z"):
        for minute in range(0, 3 * 24 * 60, 7):
            now = at(day) + timedelta(minutes=minute)
            found = next_occurrence(2, 30, 0, BERLIN, now)
            assert now < found <= now + timedelta(hours=25)
            assert found.astimezone(BERLIN).strftime("%H:%M") in ("02:30", "03:30")


@pytest.mark.parametrize(
    "name",
    ["Mars/Olympus", "", "Europe", "../../etc/passwd", "/etc/passwd", "UTC\0", "a" * 5000, "CET\n"],
)
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    assert_no_zone(name)


@pytest.fixture
def machine_zones(tmp_path: Path) -> Iterator[Path]:
    """Make *tmp_path* the machine's directory of zones."""
    zoneinfo.reset_tzpath([tmp_path])
    yield tmp_path
    zoneinfo.reset_tzpath()


@pytest.mark.parametrize(
    "name",
    [
        *("localtime", "posixrules", "Factory", "right/Europe/Berlin", "posix/UTC", "tzdata.zi"),
        *("SystemV/EST5", "US/Pacific-New", "EST5", "PST", "local", "+01:00", "UTC+1"),
    ],
)
def test_what_a_machine_has_beside_the_zones_is_refused(name: str, machine_zones: Path) -> None:
    of_machine = machine_zones / name
    of_machine.parent.mkdir(parents=True, exist_ok=True)
    of_machine.write_bytes((files("tzdata.zoneinfo") / "UTC").read_bytes())
    assert zoneinfo.ZoneInfo(name).key == name  # Python takes it
    assert_no_zone(name)


@pytest.mark.parametrize("name", ["./UTC", "Europe/../UTC", "Europe//Berlin", "UTC/", " UTC"])
def test_a_path_is_no_time_zone(name: str) -> None:
    assert_no_zone(name)


def test_a_zone_needs_no_file_of_the_machine(machine_zones: Path) -> None:
    assert not list(machine_zones.iterdir())
    assert zone("Pacific/Kanton").key == "Pacific/Kanton"


@pytest.mark.parametrize(
    "name", ["utc", "UTC", "Utc", "Etc/UTC", "Zulu", "EST5EDT", "GMT+0", "Asia/Calcutta", "EST"]
)
def test_the_names_of_iana_are_zones_and_utc_is_so_in_any_case(name: str) -> None:
    assert zone(name).key == ("UTC" if name.upper() == "UTC" else name)


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("europe/berlin", "Europe/Berlin"),
        ("AMERICA/NEW_YORK", "America/New_York"),
        ("America/New York", "America/New_York"),
        ("est5edt", "EST5EDT"),
        ("etc/gmt+1", "Etc/GMT+1"),
    ],
)
def test_a_name_in_another_case_is_refused_with_the_right_one(name: str, right: str) -> None:
    with pytest.raises(BadTime, match=f"did you mean {re.escape(repr(right))}") as raised:
        zone(name)
    assert repr(name) in str(raised.value)


def assert_no_zone(name: str) -> None:
    with pytest.raises(BadTime, match="is not an IANA time zone") as raised:
        zone(name)
    assert len(str(raised.value)) < 200
