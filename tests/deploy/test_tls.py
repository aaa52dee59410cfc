"""TLS is the default: what is open to whom, what is printed, and that the printed line works."""

import io
import json
import re
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploy.face import MARGIN, OPEN, plain_http
from deploy.source import pack
from tests.deploy.conftest import ROOT, MotoCloud, certificate
from tests.support.deploy.iam import resolve, template
from tests.support.servers.tls_files import TlsFiles

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse")

ALLOW = ("--allow", "203.0.113.0/24")
KEY = "djk_0a1b2c3d_of-the-start-script"
IN_CLEAR = "API keys and secrets travel in clear"
CIDRS = (
    "0.0.0.0/0",
    "203.0.113.0/24",
    "203.0.113.7/32",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.1.5/32",
    "127.0.0.1/32",
    "169.254.0.0/16",
)
NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
DAY = 86_400


def leave(aws: MotoCloud, name: str, value: str, kind: str = "String") -> None:
    """Leave a parameter, as the instance's start script does."""
    aws.client("ssm").put_parameter(
        Name=f"/docker-job/docker-job/{name}", Type=kind, Value=value, Overwrite=True
    )


def opened(aws: MotoCloud) -> set[tuple[int, str]]:
    """Return the port and the source of each rule of the groups of ours that lets in."""
    groups = aws.client("ec2").describe_security_groups()["SecurityGroups"]
    names = {each["GroupId"]: each["Description"].partition(" - ")[0] for each in groups}
    return {
        (rule["FromPort"], source)
        for group in groups
        if group["Description"].startswith("docker-job")
        for rule in group["IpPermissions"]
        for source in (
            *(each["CidrIp"] for each in rule["IpRanges"]),
            *(names[each["GroupId"]] for each in rule["UserIdGroupPairs"]),
        )
    }


def settings_of(aws: MotoCloud) -> str:
    from tests.deploy.test_stack import user_data  # noqa: PLC0415

    return user_data(aws)


def parameters(aws: MotoCloud) -> dict[str, str]:
    [stack] = aws.client("cloudformation").describe_stacks(StackName="docker-job")["Stacks"]
    return {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}


JOBS = "docker-job job instances"


def test_by_default_tls_alone_is_open_to_the_network_and_to_job_instances(aws: MotoCloud) -> None:
    run = aws.deploy(*ALLOW)
    assert run.returncode == 0, run.stderr
    assert run.stderr == "", "nothing to warn of"
    assert opened(aws) == {(8443, "203.0.113.0/24"), (8443, JOBS)}
    assert "PLAIN_HTTP=\n" in settings_of(aws)
    assert "Address:  https://" in run.stdout
    assert "http://" not in run.stdout
    assert "KeyName" not in json.dumps(aws.client("ec2").describe_instances(), default=str)


@pytest.mark.parametrize("cidr", CIDRS)
def test_insecure_warns_in_the_plan_whatever_the_network_is(aws: MotoCloud, cidr: str) -> None:
    run = aws.deploy("--dry-run", "--insecure", "--allow", cidr)
    assert run.returncode == 0, run.stderr
    [line] = run.stderr.splitlines()
    assert IN_CLEAR in line
    assert cidr in line
    assert "PLAIN HTTP" in run.stdout
    without = aws.deploy("--dry-run", "--allow", cidr)
    assert (without.returncode, without.stderr) == (0, "")
    assert "PLAIN HTTP" not in without.stdout


def test_insecure_opens_plain_http_warns_at_the_end_too_and_is_not_kept(aws: MotoCloud) -> None:
    run = aws.deploy(*ALLOW, "--insecure")
    assert run.returncode == 0, run.stderr
    assert IN_CLEAR in run.stderr
    assert IN_CLEAR in run.stdout.splitlines()[-1]
    assert "In clear: http://" in run.stdout
    assert "Address:  https://" in run.stdout, "agents and whoever verifies use TLS all the same"
    network = "203.0.113.0/24"
    assert opened(aws) == {(8443, network), (8000, network), (8443, JOBS), (8000, JOBS)}
    assert "PLAIN_HTTP=open\n" in settings_of(aws)

    update = aws.deploy()
    assert update.returncode == 0, update.stderr
    assert update.stderr == ""
    assert "from job instances alone" in update.stdout
    # moto evaluates conditions and user data at the creation alone: the next test reads them.
    assert parameters(aws)["PlainHttp"].startswith("20")


def test_every_rule_for_plain_http_is_by_the_parameter_and_only_open_is_for_users() -> None:
    resources = template()["Resources"]
    rules = {
        name: resolve(each["Properties"])
        for name, each in resources.items()
        if each["Type"] in ("AWS::EC2::SecurityGroupIngress", "AWS::EC2::SecurityGroupEgress")
        and resolve(each["Properties"])["FromPort"] == 8000
    }
    conditions = {name: resources[name].get("Condition") for name in rules}
    assert conditions == {
        "ApiFromPeopleInClear": "WithOpenPlainHttp",
        "ApiFromEarlierJobs": "WithPlainHttp",
        "EarlierJobsToApi": "WithPlainHttp",
    }
    assert "CidrIp" not in rules["ApiFromEarlierJobs"]
    evaluated = template()["Conditions"]
    assert evaluated["WithOpenPlainHttp"] == {"Fn::Equals": [{"Ref": "PlainHttp"}, OPEN]}


def test_a_load_balancer_and_insecure_exclude_each_other(aws: MotoCloud) -> None:
    arn = certificate(aws, "jobs.example.com")
    https = ("--domain", "jobs.example.com", "--certificate", arn)
    run = aws.deploy("--dry-run", *ALLOW, "--insecure", *https)
    assert run.returncode == 1
    assert "Leave --insecure out" in run.stderr


def test_with_a_load_balancer_it_and_the_agents_reach_the_api_by_tls(aws: MotoCloud) -> None:
    arn = certificate(aws, "jobs.example.com")
    https = ("--domain", "jobs.example.com", "--certificate", arn)
    run = aws.deploy(*ALLOW, *https)
    assert run.returncode == 0, run.stderr
    balancer = "docker-job load balancer"
    assert opened(aws) == {(443, "203.0.113.0/24"), (8443, balancer), (8443, JOBS)}
    [group] = aws.client("elbv2").describe_target_groups()["TargetGroups"]
    assert (group["Protocol"], group["Port"]) == ("HTTPS", 8443)
    assert group["HealthCheckProtocol"] == "HTTPS"
    assert "--cacert" not in run.stdout, "its certificate is a public authority's"


def test_a_domain_alone_is_in_the_certificate_of_the_deployments_authority(aws: MotoCloud) -> None:
    run = aws.deploy(*ALLOW, "--domain", "jobs.example.com")
    assert run.returncode == 0, run.stderr
    assert "Address:  https://jobs.example.com:8443" in run.stdout
    assert "make jobs.example.com an A record of " in run.stdout
    assert "DOMAIN=jobs.example.com\n" in settings_of(aws)
    assert opened(aws) == {(8443, "203.0.113.0/24"), (8443, JOBS)}


# -- an update of a stack of plain HTTP


@pytest.mark.parametrize(
    ("before", "insecure", "after"),
    [
        ({}, False, ""),
        ({}, True, OPEN),
        ({"AllowedCidr": "10.0.0.0/8"}, False, f"{NOW + timedelta(days=1) + MARGIN:%FT%TZ}"),
        ({"AllowedCidr": "10.0.0.0/8"}, True, OPEN),
        ({"PlainHttp": OPEN}, False, f"{NOW + timedelta(days=1) + MARGIN:%FT%TZ}"),
        ({"PlainHttp": ""}, False, ""),
        ({"PlainHttp": "2026-12-02T00:00:00Z"}, False, "2026-12-02T00:00:00Z"),
        ({"PlainHttp": "2026-12-01T12:00:00Z"}, False, ""),
    ],
)
def test_a_stack_that_served_plain_http_serves_it_to_running_instances_until_the_last_ends(
    before: dict[str, str],
    insecure: bool,  # noqa: FBT001 - a case's field
    after: str,
) -> None:
    assert plain_http(before, DAY, NOW, insecure=insecure) == after


# -- the printed line


class Answering(BaseHTTPRequestHandler):
    """Notes the requests to schedule, and accepts them."""

    received: list[tuple[str, str | None, Any]] = []  # noqa: RUF012 - of the one test

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.received.append((self.path, self.headers["Authorization"], body))
        self.send_response(201)
        self.send_header("Content-Length", "8")
        self.end_headers()
        self.wfile.write(b'{"id":1}')

    def log_message(self, *_args: object) -> None:
        pass


def tls_server(files: TlsFiles) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    server.socket = files.server.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def run_line(line: str, home: Path, address: str, port: int) -> "subprocess.CompletedProcess[str]":
    """Run the printed line, word for word; curl's own file leads the address to this machine."""
    (home / ".curlrc").write_text(f'connect-to = "{address}:{port}"\nsilent\nshow-error\n')
    return subprocess.run(
        ["bash", "-c", line],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("domain", [(), ("--domain", "jobs.example.com")])
def test_the_printed_curl_works_word_for_word_and_refuses_another_authority(
    aws: MotoCloud, tmp_path: Path, domain: tuple[str, ...]
) -> None:
    assert aws.deploy(*ALLOW, *domain).returncode == 0
    [address] = aws.client("ec2").describe_addresses()["Addresses"]
    name = domain[-1] if domain else address["PublicIp"]
    ours, others = TlsFiles(tmp_path / "ours", name), TlsFiles(tmp_path / "others", name)
    leave(aws, "ca_certificate", ours.ca.strip())
    leave(aws, "first_api_key", KEY, "SecureString")
    run = aws.deploy()
    found = re.search(r"Try: +(curl .*)", run.stdout)
    assert found, run.stdout
    line = found[1]
    assert line.startswith("curl --cacert /")
    Answering.received.clear()
    for files, works in ((ours, True), (others, False)):
        serving = tls_server(files)
        port = next(serving)
        done = run_line(line, tmp_path, f"{name}:8443:127.0.0.1", port)
        assert (done.returncode == 0) is works, done.stderr
        assert works or "certificate" in done.stderr
        next(serving, None)
    job = {"docker_image": "alpine", "scheduled_for": "now"}
    assert Answering.received == [("/schedule", f"Bearer {KEY}", job)]
    print("1 of 1 printed lines worked, 1 of 1 other authorities refused before the key was sent")


def test_others_get_the_authority_by_the_printed_command(aws: MotoCloud, tmp_path: Path) -> None:
    files = TlsFiles(tmp_path / "tls")
    leave(aws, "ca_certificate", files.ca.strip())
    run = aws.deploy(*ALLOW)
    assert "for others: aws ssm get-parameter --region us-east-1 --name" in run.stdout
    [name] = re.findall(r"--name (\S+)", run.stdout)
    kept = aws.client("ssm").get_parameter(Name=name)["Parameter"]
    assert (kept["Value"] + "\n", kept["Type"]) == (files.ca, "String")
    [path] = re.findall(r"CA: +(/\S+),", run.stdout)
    assert Path(path).read_text() == files.ca


def test_a_directory_that_cannot_be_written_and_a_missing_authority_are_reported(
    aws: MotoCloud, tmp_path: Path
) -> None:
    assert "CA:       is not in SSM" in aws.deploy(*ALLOW).stdout
    leave(aws, "ca_certificate", "a certificate")
    (tmp_path / "file").touch()
    run = aws.deploy(XDG_CONFIG_HOME=str(tmp_path / "file"))
    assert run.returncode == 0, run.stderr
    assert "cannot be written to" in run.stdout
    assert "curl --cacert ca.pem " in run.stdout


def test_no_script_of_the_deployment_turns_verification_off() -> None:
    for path in (ROOT / "deploy").rglob("*"):
        if path.suffix in (".sh", ".py", ".yaml"):
            text = path.read_text()
            assert not re.search(r"curl [^\n]*(-k|--insecure)\b", text), path
            assert "CERT_NONE" not in text, path


def test_the_source_has_every_compose_file_that_the_start_script_names() -> None:
    start = (ROOT / "deploy" / "instance" / "start.sh").read_text()
    named = set(re.findall(r"\$release_dir/(\S+?\.yaml)", start))
    assert len(named) == 4
    with tarfile.open(fileobj=io.BytesIO(pack().body)) as archive:
        assert named <= {each.removeprefix("./") for each in archive.getnames()}
