"""The boot script of every instance of a deployment: the same for all, without secrets.

In order, since each step guards against failures of the next: a timer that powers the machine off
at the maximum lifetime, which counts from the launch; a packet filter that keeps containers from
the metadata service; the ECS agent of the image, kept from starting; Docker running; the agent,
fetched from the API, whose certificate and bytes are checked, again and again until it is had; and
when the agent has ended, for whatever reason, the machine is powered off.
"""

import shlex

from msgspec import Struct

MOST_BYTES = 16 * 1024
"""https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html"""

# `raw` comes before all rules of Docker in the packet filter. The hop limit of 1 keeps bridged
# containers out too; this holds where a user has raised it.
SCRIPT = """\
#!/bin/sh
# docker-job: what an instance does first. It holds no secret.
set -u
say() {{ echo "docker-job: $*"; }}
off() {{ say "$1"; shutdown -h now || poweroff -f; exit 1; }}

if ! shutdown -h +{minutes} 'docker-job: maximum lifetime'; then
  (sleep {seconds}; poweroff -f) > /dev/null 2>&1 &
fi

# The seconds since the launch, both times by the metadata service's own clock. Booting may have
# taken minutes; a second `shutdown` replaces the first.
age=$(python3 -I - 2> /dev/null <<'END'
import email.utils, json, os, urllib.request
from datetime import datetime
url = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or "http://169.254.169.254"
def ask(path, method, name, value):
    request = urllib.request.Request(url + path, method=method, headers={{name: value}})
    return urllib.request.urlopen(request, timeout=2)
with ask("/latest/api/token", "PUT", "X-aws-ec2-metadata-token-ttl-seconds", "60") as answer:
    token = answer.read().decode()
document = "/latest/dynamic/instance-identity/document"
with ask(document, "GET", "X-aws-ec2-metadata-token", token) as answer:
    now = email.utils.parsedate_to_datetime(answer.headers["Date"])
    at = datetime.fromisoformat(json.load(answer)["pendingTime"].replace("Z", "+00:00"))
print(max(0, int((now - at).total_seconds())))
END
) || age=0
left=$((({seconds} - age + 59) / 60))
[ "$left" -ge 1 ] || left=1
[ "$left" -ge {minutes} ] || shutdown -h "+$left" 'docker-job: maximum lifetime'

for bridge in docker0 br-+; do
  iptables -w -t raw -I PREROUTING -i "$bridge" -d 169.254.169.254 -j DROP \\
    || off 'containers cannot be kept from the metadata service'
  ip6tables -w -t raw -I PREROUTING -i "$bridge" -d fd00:ec2::254 -j DROP || true
done

systemctl mask --now --no-block ecs.service amazon-ecs-volume-plugin.service 2> /dev/null || true
systemctl start --no-block docker.service
tries=0
until docker version > /dev/null 2>&1; do
  tries=$((tries + 1))
  [ "$tries" -lt 120 ] || off 'Docker does not run'
  sleep 1
done

{session_manager}agent=/opt/docker-job/docker_job_agent.pyz
mkdir -p /opt/docker-job
export DOCKER_JOB_API_CA={api_ca}
python3 -I - {url} {sha256} "$agent" <<'END' || off 'no agent that can be trusted'
import hashlib, http.client, os, ssl, sys, time, urllib.error, urllib.request
url, sha256, path = sys.argv[1:]
tls = ssl.create_default_context(cadata=os.environ["DOCKER_JOB_API_CA"] or None)
def fetch(name):
    with urllib.request.urlopen(url + name, timeout=10, context=tls) as answer:
        agent = answer.read(4 << 20)
        missing = answer.length  # `read` with a size does not say that it was cut off
    if missing:
        raise OSError("the answer was cut off")
    if agent[:2] != b"PK":
        raise OSError("the answer is no zip file, so it is not the API's")
    found = hashlib.sha256(agent).hexdigest()
    if found != sha256:
        raise OSError("it is another release's or was altered: its SHA-256 is " + found)
    return agent
pause = 0.5
while True:
    try:
        try:
            agent = fetch("builds/" + sha256)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            agent = fetch("agent.py")  # an API of an earlier release has no builds
        break
    except (OSError, http.client.HTTPException) as error:
        # Until the lifetime ends: an API that is away, or is of another release until it is
        # upgraded too, does not cost an instance. One that is up ends an instance without a claim.
        print("docker-job: no agent", sha256[:16], "from", url, "yet:", error, flush=True)
        time.sleep(pause)
        pause = min(2 * pause, 15)
with open(path, "wb") as file:
    file.write(agent)
END

export DOCKER_JOB_API_URL={api_url}
export DOCKER_JOB_DEPLOYMENT={deployment}
export DOCKER_JOB_IDENTITY=sts
export DOCKER_JOB_METADATA=ec2
export DOCKER_JOB_POWER_OFF=shutdown
export DOCKER_JOB_RUNTIME=docker
export DOCKER_JOB_MAX_LIFETIME_SECONDS={seconds}
python3 -I -S "$agent"
off "the agent has ended with status $?"
"""


# Amazon Linux's unit; images for ECS have it (packages_al2023 in variables.pkr.hcl of
# https://github.com/aws/amazon-ecs-ami). Without it the instance works, and cannot be logged in to.
SESSION_MANAGER = """\
systemctl unmask amazon-ssm-agent.service 2> /dev/null
systemctl start --no-block amazon-ssm-agent.service || say 'Session Manager has no agent here'
"""


class Boot(Struct, frozen=True, kw_only=True):
    """The values of a deployment in the script."""

    api_url: str
    deployment: str
    agent_sha256: str
    max_lifetime_seconds: int
    session_manager: bool = False
    api_ca: str = ""
    """PEM of the one authority that is trusted for the API; empty: the image's authorities."""


def user_data(boot: Boot) -> str:
    """Build the script for EC2. Raises ValueError if it is too long."""
    script = SCRIPT.format(
        api_url=shlex.quote(boot.api_url),
        deployment=shlex.quote(boot.deployment),
        url=shlex.quote(boot.api_url.rstrip("/") + "/agent/"),
        sha256=shlex.quote(boot.agent_sha256),
        seconds=int(boot.max_lifetime_seconds),
        api_ca=shlex.quote(boot.api_ca),
        session_manager=SESSION_MANAGER if boot.session_manager else "",
        minutes=max(1, -(-int(boot.max_lifetime_seconds) // 60)),
    )
    if len(script.encode()) >= MOST_BYTES:
        raise ValueError(f"user data of {len(script)} bytes: EC2 takes less than {MOST_BYTES}")
    return script
