#!/bin/sh
# docker-job: what an instance does first. It holds no secret.
set -u
say() { echo "docker-job: $*"; }
off() { say "$1"; shutdown -h now || poweroff -f; exit 1; }

if ! shutdown -h +2 'docker-job: maximum lifetime'; then
  (sleep 120; poweroff -f) > /dev/null 2>&1 &
fi

for bridge in docker0 br-+; do
  iptables -w -t raw -I PREROUTING -i "$bridge" -d 169.254.169.254 -j DROP \
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

agent=/opt/docker-job/docker_job_agent.pyz
mkdir -p /opt/docker-job
python3 -I - http://api.invalid/agent/agent.py abababababababababababababababababababababababababababababababab "$agent" <<'END' || off 'no agent that can be trusted'
import hashlib, http.client, sys, time, urllib.request
url, sha256, path = sys.argv[1:]
pause = 0.5
while True:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            agent = answer.read(4 << 20)
            missing = answer.length  # `read` with a size does not say that it was cut off
        if missing:
            raise OSError("the answer was cut off")
        if agent[:2] == b"PK":
            break
        raise OSError("the answer is no zip file, so it is not the API's")
    except (OSError, http.client.HTTPException) as error:
        # Until the lifetime ends: an API that is away does not cost an instance. One that is up
        # ends an instance without a claim.
        print("docker-job: no agent from", url, "yet:", error, flush=True)
        time.sleep(pause)
        pause = min(2 * pause, 15)
found = hashlib.sha256(agent).hexdigest()
if found != sha256:
    sys.exit("docker-job: the agent was altered: its SHA-256 is " + found)
with open(path, "wb") as file:
    file.write(agent)
END

export DOCKER_JOB_API_URL=http://api.invalid
export DOCKER_JOB_DEPLOYMENT=test
export DOCKER_JOB_IDENTITY=sts
export DOCKER_JOB_METADATA=ec2
export DOCKER_JOB_POWER_OFF=shutdown
export DOCKER_JOB_RUNTIME=docker
export DOCKER_JOB_MAX_LIFETIME_SECONDS=120
python3 -I -S "$agent"
off "the agent has ended with status $?"
