"""The deployment's own certificate authority, and the API's certificate of it.

    python -m operations.make_certificate DIRECTORY NAME…

Each NAME is a host name or an address at which the API is reached. What is in DIRECTORY is kept
while it serves: `authority.pem` (the authority's certificate and key, for its owner alone),
`ca.pem` (its certificate, public: what clients verify by), `certificate.pem` and `key.pem` (the
API's). Run it at each start and once a day: a certificate is renewed after half of its time, so the
API never serves one that has expired. The authority's is renewed with the same key and name, so
that those who keep its former certificate go on verifying until that one ends.
"""

import ipaddress
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.files import write_whole
from shared.settings import EXIT_SETTING, BadSetting
from shared.terminal import print_line

AUTHORITY_DAYS = 3650
SERVER_DAYS = 397
"""A day less than browsers take of public authorities: https://support.apple.com/en-us/102028."""

BACKDATED = timedelta(days=1)
"""For clients whose clock is late, as that of an instance which has just booted may be."""

LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
WRITTEN = "authority.pem", "ca.pem", "certificate.pem", "key.pem"

Names = list[x509.GeneralName]


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def is_old(self, now: datetime) -> bool:
        """Return whether half of its time is over, or it has not begun."""
        first, last = self.certificate.not_valid_before_utc, self.certificate.not_valid_after_utc
        return not first <= now < first + (last - first) / 2

    @property
    def public_pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The private key."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def make_certificate(directory: Path, names: Sequence[str], now: datetime) -> list[str]:
    """Make or renew what is missing or old in *directory*; return what was made.

    Raises `BadSetting` for a bad name, or an authority's file that cannot be read: a new authority
    would lock out all who trust the former one.
    """
    wanted, made = read_names(names), []
    authority = _read_authority(directory / "authority.pem")
    if authority is None or authority.is_old(now):
        authority = _make_authority(authority, now)
        made.append("the authority")
    server = _read_server(directory)
    if server is None or server.is_old(now) or not _fits(server, authority, wanted):
        server = _make_server(authority, wanted, now)
        made.append("the API's certificate")
    contents = (
        authority.public_pem + authority.key_pem,
        authority.public_pem,
        server.public_pem,
        server.key_pem,
    )
    for name, content in zip(WRITTEN, contents, strict=True):
        path = directory / name
        if not path.exists() or path.read_bytes() != content:
            write_whole(path, content, mode=0o444 if name == "ca.pem" else 0o400)
    return made


def read_names(names: Sequence[str]) -> Names:
    """Read host names and addresses, each once. Raises `BadSetting`."""
    found: Names = []
    for given in dict.fromkeys(names):
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(given)))
        except ValueError:
            if len(given) > 253 or not all(map(LABEL.fullmatch, given.split("."))):
                raise BadSetting(
                    f"{given!r} is no host name or address, like jobs.example.com or 10.0.0.5"
                ) from None
            found.append(x509.DNSName(given.lower()))
    if not found:
        raise BadSetting(
            "name the directory, and one or more host names or addresses of the API after it"
        )
    return found


def _read_authority(path: Path) -> Issued | None:
    """Read the authority; None: there is none yet. Raises `BadSetting`."""
    content = path.read_bytes() if path.exists() else b""
    if not content.strip():
        return None
    try:
        return _issued(content, content)
    except (ValueError, TypeError) as error:
        raise BadSetting(
            f"{path} must be the authority's certificate and its key, in PEM: {error}. Restore it, "
            "or remove it for a new authority, which clients and running agents do not trust yet"
        ) from None


def _read_server(directory: Path) -> Issued | None:
    try:
        certificate, key = (directory / name for name in ("certificate.pem", "key.pem"))
        return _issued(certificate.read_bytes(), key.read_bytes())
    except (OSError, ValueError, TypeError):
        return None


def _issued(certificate: bytes, key: bytes) -> Issued:
    found = Issued(x509.load_pem_x509_certificate(certificate), _private(key))
    if found.certificate.public_key() != found.key.public_key():
        raise ValueError("certificate and key do not belong together")
    return found


def _private(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("the key is not of an elliptic curve")
    return key


def _fits(server: Issued, authority: Issued, wanted: Names) -> bool:
    try:
        server.certificate.verify_directly_issued_by(authority.certificate)
        present = server.certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        ).value
    except Exception:  # noqa: BLE001 - InvalidSignature is no ValueError; whatever it is: not ours
        return False
    return list(present) == wanted


def _make_authority(former: Issued | None, now: datetime) -> Issued:
    key = former.key if former else ec.generate_private_key(ec.SECP256R1())
    name = former.certificate.subject if former else _name("docker-job authority")
    built = (
        _builder(name, name, key, now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )
    return Issued(built.sign(key, hashes.SHA256()), key)


def _make_server(authority: Issued, names: Names, now: datetime) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.key.public_key()
    built = (
        _builder(_name("docker-job API"), authority.certificate.subject, key, now, SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    return Issued(built.sign(authority.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=days) - BACKDATED)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def main() -> int:
    """Run the command line; return the exit status."""
    try:
        made = make_certificate(Path(*sys.argv[1:2]), sys.argv[2:], datetime.now(UTC))
    except (BadSetting, OSError) as error:
        print_line(f"docker-job certificate: {error}", error=True)
        return EXIT_SETTING
    what = " and ".join(made) or "nothing: all is valid"
    print_line(f"docker-job certificate: made {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
