"""Certificates of an authority of the tests' own, made by the product's own command."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

from operations.make_certificate import make_certificate
from shared.runtime.tls import Certificate


class TlsFiles:
    """A directory with an authority, and a certificate for *names*."""

    def __init__(
        self, directory: Path, *names: str, now: datetime | None = None, keep: bool = False
    ) -> None:
        directory.mkdir(exist_ok=keep)
        self.directory = directory
        self.ca_file = directory / "ca.pem"
        self.chain, self.key = directory / "certificate.pem", directory / "key.pem"
        make_certificate(directory, names or ("127.0.0.1", "localhost"), now or datetime.now(UTC))

    @property
    def ca(self) -> str:
        """The authority's certificate, in PEM."""
        return self.ca_file.read_text()

    @property
    def certificate(self) -> Certificate:
        """The certificate that a server of ours serves."""
        return Certificate(self.chain, self.key)

    @property
    def client(self) -> ssl.SSLContext:
        """A context that trusts this authority alone."""
        return ssl.create_default_context(cafile=str(self.ca_file))

    @property
    def server(self) -> ssl.SSLContext:
        """A context for a server of another library."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        return context
