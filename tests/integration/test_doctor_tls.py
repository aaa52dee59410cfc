"""The doctor asks the API as agents do: by the authority that its settings name."""

from pathlib import Path

import pytest

from operations.doctor.checks.api import api
from operations.doctor.installation import read_installation
from shared.findings import Finding
from shared.settings import BadSetting, Settings
from tests.support.servers.scripted_api import Answer, scripted_api
from tests.support.servers.tls_files import TlsFiles

HEALTHY = Answer(200, "{}")


async def answer_of(url: str, ca: str) -> Finding:
    environ = {
        "DOCKER_JOB_API_URL": url,
        "DOCKER_JOB_DATABASE_URL": "postgresql://postgres/docker_job",
        "DOCKER_JOB_API_CA_FILE": ca,
    }
    found = await api(read_installation(Settings(environ), environ), ("127.0.0.1",))
    [answer] = [each for each in found if each.name == "API's answer"]
    return answer


async def test_the_named_authority_verifies_the_api_and_another_one_is_a_fault(
    tmp_path: Path,
) -> None:
    files, others = TlsFiles(tmp_path / "tls"), TlsFiles(tmp_path / "others")
    with scripted_api(HEALTHY, HEALTHY, tls=files.server) as served:
        assert (await answer_of(served.url, str(files.ca_file))).status == "ok"
        fault = await answer_of(served.url, str(others.ca_file))
    assert fault.status == "fail"
    assert "unable to get local issuer certificate" in fault.found
    assert "DOCKER_JOB_API_CA_FILE" in fault.do


def test_an_authority_that_is_none_or_has_its_key_beside_it_is_refused(tmp_path: Path) -> None:
    files = TlsFiles(tmp_path / "tls")
    damaged = tmp_path / "damaged.pem"
    damaged.write_text("no certificate")
    for path, why in ((damaged, "in PEM"), (files.directory / "authority.pem", "a private key")):
        environ = {"DOCKER_JOB_API_CA_FILE": str(path), "DOCKER_JOB_API_URL": "https://api"}
        with pytest.raises(BadSetting, match=f"DOCKER_JOB_API_CA.*{why}"):
            read_installation(Settings(environ), environ)
