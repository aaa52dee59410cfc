"""The deployment's own authority, and the API's certificate of it."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509 import load_pem_x509_certificate
from cryptography.x509.verification import PolicyBuilder, Store

from operations.make_certificate import (
    AUTHORITY_DAYS,
    BACKDATED,
    SERVER_DAYS,
    WRITTEN,
    make_certificate,
    read_names,
)
from shared.settings import BadSetting

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
NAMES = ("api.docker-job.docker-job.internal", "203.0.113.5", "10.0.0.5", "localhost")
BOTH = ["the authority", "the API's certificate"]


def served(directory: Path) -> x509.Certificate:
    return load_pem_x509_certificate((directory / "certificate.pem").read_bytes())


def verify(certificate: x509.Certificate, ca: bytes, name: str, now: datetime) -> None:
    """Verify as a client does. Raises VerificationError."""
    builder = PolicyBuilder().store(Store([load_pem_x509_certificate(ca)])).time(now)
    builder.build_server_verifier(x509.DNSName(name)).verify(certificate, [])


def test_the_first_run_makes_both_and_the_next_one_changes_nothing(tmp_path: Path) -> None:
    assert make_certificate(tmp_path, NAMES, NOW) == BOTH
    before = {name: (tmp_path / name).read_bytes() for name in WRITTEN}
    assert make_certificate(tmp_path, NAMES, NOW + timedelta(days=100)) == []
    assert {name: (tmp_path / name).read_bytes() for name in WRITTEN} == before
    verify(served(tmp_path), before["ca.pem"], NAMES[0], NOW)


def test_keys_are_for_their_owner_alone_and_the_public_certificate_holds_none(
    tmp_path: Path,
) -> None:
    make_certificate(tmp_path, NAMES, NOW)
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in WRITTEN}
    assert modes == {
        "authority.pem": 0o400,
        "ca.pem": 0o444,
        "certificate.pem": 0o400,
        "key.pem": 0o400,
    }
    assert "PRIVATE" not in (tmp_path / "ca.pem").read_text()


def test_a_certificate_is_renewed_when_half_of_its_time_is_over(tmp_path: Path) -> None:
    make_certificate(tmp_path, NAMES, NOW)
    ca, first = (tmp_path / "ca.pem").read_bytes(), served(tmp_path)
    later = NOW + timedelta(days=SERVER_DAYS / 2)
    assert make_certificate(tmp_path, NAMES, later - timedelta(days=2)) == []
    assert make_certificate(tmp_path, NAMES, later) == ["the API's certificate"]
    assert served(tmp_path) != first
    assert (tmp_path / "ca.pem").read_bytes() == ca
    verify(served(tmp_path), ca, NAMES[0], later)


def test_run_once_a_day_it_never_serves_an_expired_certificate(tmp_path: Path) -> None:
    days = [NOW + timedelta(days=each) for each in range(0, 3 * AUTHORITY_DAYS, 30)]
    for day in days:
        make_certificate(tmp_path, NAMES, day)
        ca = (tmp_path / "ca.pem").read_bytes()
        assert served(tmp_path).not_valid_after_utc - day > timedelta(days=150)
        verify(served(tmp_path), ca, NAMES[0], day)
    print(f"{len(days)} of {len(days)} days in {len(days) * 30 // 365} years verified")


def test_who_keeps_the_authoritys_former_certificate_goes_on_verifying(tmp_path: Path) -> None:
    make_certificate(tmp_path, NAMES, NOW)
    former = (tmp_path / "ca.pem").read_bytes()
    later = NOW + timedelta(days=AUTHORITY_DAYS / 2 + 1)
    assert make_certificate(tmp_path, NAMES, later) == BOTH
    assert (tmp_path / "ca.pem").read_bytes() != former
    verify(served(tmp_path), former, NAMES[0], later)


def test_other_names_make_another_certificate_of_the_same_authority(tmp_path: Path) -> None:
    make_certificate(tmp_path, NAMES, NOW)
    ca = (tmp_path / "ca.pem").read_bytes()
    assert make_certificate(tmp_path, ("jobs.example.com",), NOW) == ["the API's certificate"]
    assert (tmp_path / "ca.pem").read_bytes() == ca
    verify(served(tmp_path), ca, "jobs.example.com", NOW)
    with pytest.raises(x509.verification.VerificationError):
        verify(served(tmp_path), ca, NAMES[0], NOW)


def test_a_client_whose_clock_is_an_hour_late_verifies_too(tmp_path: Path) -> None:
    make_certificate(tmp_path, NAMES, NOW)
    ca = (tmp_path / "ca.pem").read_bytes()
    verify(served(tmp_path), ca, NAMES[0], NOW - BACKDATED + timedelta(minutes=1))


def test_an_authority_that_cannot_be_read_is_not_replaced(tmp_path: Path) -> None:
    make_certificate(tmp_path, NAMES, NOW)
    path = tmp_path / "authority.pem"
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:500])
    damaged = path.read_bytes()
    with pytest.raises(BadSetting, match=r"authority\.pem must be the authority's certificate and"):
        make_certificate(tmp_path, NAMES, NOW)
    assert path.read_bytes() == damaged


def test_a_damaged_certificate_is_made_again(tmp_path: Path) -> None:
    make_certificate(tmp_path, NAMES, NOW)
    (tmp_path / "key.pem").unlink()
    assert make_certificate(tmp_path, NAMES, NOW) == ["the API's certificate"]


@pytest.mark.parametrize("name", ["", "two names", "*.example.com", "a..b", "-a.example.com", "ü"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(BadSetting, match="no host name or address"):
        read_names([name])


def test_openssl_takes_the_authority(tmp_path: Path) -> None:
    make_certificate(tmp_path, NAMES, NOW)
    context = ssl.create_default_context(cadata=(tmp_path / "ca.pem").read_text())
    [found] = context.get_ca_certs()
    assert "docker-job authority" in str(found["subject"])
