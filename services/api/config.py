"""The API's settings."""

from dataclasses import dataclass
from datetime import timedelta
from typing import cast, get_args
from urllib.parse import urlsplit

from services.api.agents.settings import AgentsConfig, AgentSettings
from services.api.agents.sts_identity import IdentityConfig, read_role
from services.api.audit.sweeps import keep_audit_days
from services.api.engine_settings import EngineSettings, read_engine
from services.api.http.addresses import Addresses, read_proxies
from services.api.http.settings import HttpConfig, read_body_bounds, read_hosts
from services.api.jobs.fields import MAX_RETRIES
from services.api.jobs.model import JobRules
from services.api.jobs.retention import RetentionSettings
from services.api.keys.rates import read_rate
from services.api.secrets.sealing import SecretKeys, read_keys
from services.api.submission import when
from services.api.submission.request import Bounds
from shared.aws_domains import domain_of
from shared.events import cost_tags
from shared.events.requirements import Architecture, Capacity
from shared.messaging.retention import keep_dead
from shared.quota_settings import NO_QUOTAS, Quotas, read_quotas
from shared.runtime.http_room import CONNECTIONS
from shared.settings import PREFIX, BadSetting, Settings

REBALANCE = ("note", "replace")


@dataclass(frozen=True)
class ApiConfig:
    """All of the API's settings, read once, by package.

    *compute* is the scheme of the instances' `COMPUTE_URL`; None: it is not known here.
    """

    rules: JobRules
    bounds: Bounds
    agents: AgentsConfig
    http: HttpConfig
    secret_keys: SecretKeys | None
    retention: RetentionSettings
    keep_changes: timedelta
    engine: EngineSettings
    quotas: Quotas = NO_QUOTAS
    compute: str | None = None
    keep_dead: timedelta | None = None


def default_config() -> ApiConfig:
    """Return the settings of a deployment that sets none."""
    return from_settings(Settings({}), deployment="docker-job", token_key="")


def from_settings(
    settings: Settings,
    *,
    deployment: str,
    token_key: str,
    secrets_key: str | None = None,
    have_role: bool = True,
    compute_url: str = "",
) -> ApiConfig:
    """Read the settings. Raises `BadSetting`.

    *secrets_key* and *compute_url* are defaults; *have_role*: instances have a role, as on EC2.
    """
    secret_keys = _secret_keys(settings, deployment, secrets_key)
    lifetime = settings.integer("MAX_LIFETIME_SECONDS", 86_400, least=60)
    grace = settings.integer("STOP_GRACE_SECONDS", 10)
    heartbeat = settings.number("HEARTBEAT_SECONDS", 5, least=0.1)
    rules = _rules(settings, lifetime, grace, heartbeat, compute_url)
    engine = read_engine(settings, compute_url)
    return ApiConfig(
        rules=rules,
        bounds=_bounds(settings, lifetime, secret_keys, engine, have_role=have_role),
        agents=AgentsConfig(
            deployment=deployment,
            token_key=token_key,
            rules=rules,
            agent=_for_agents(settings, heartbeat, grace, engine),
            identity=_identity(settings, deployment),
            secret_keys=secret_keys,
        ),
        http=_http(settings, token_key),
        secret_keys=secret_keys,
        retention=_retention(settings),
        engine=engine,
        compute=urlsplit(settings.text("COMPUTE_URL", compute_url)).scheme or None,
        keep_changes=_keep_changes(settings),
        quotas=read_quotas(settings),
        keep_dead=keep_dead(settings),
    )


def _keep_changes(settings: Settings) -> timedelta:
    return timedelta(hours=settings.number("CHANGES_KEEP_HOURS", 24, least=0.1, most=8760))


def _retention(settings: Settings) -> RetentionSettings:
    return RetentionSettings(
        jobs_days=settings.days("KEEP_JOBS_DAYS"),
        logs_days=settings.days("KEEP_LOGS_DAYS"),
        audit_days=keep_audit_days(settings),
    )


def _bounds(
    settings: Settings,
    lifetime: int,
    secret_keys: SecretKeys | None,
    engine: EngineSettings,
    *,
    have_role: bool,
) -> Bounds:
    try:
        timezone = when.zone(settings.text("TIMEZONE", "UTC")).key
    except when.BadTime as error:
        raise BadSetting(f"{PREFIX}TIMEZONE: {error}") from None
    return Bounds(
        default_timezone=timezone,
        max_lifetime_seconds=lifetime,
        default_capacity=_capacity(settings),
        default_architecture=_default_architecture(settings),
        default_retries=settings.integer("RETRIES", 0, most=MAX_RETRIES),
        keeps_secrets=secret_keys is not None,
        region=_compute_region(settings),
        have_role=have_role,
        cost_tags=cost_tags.read_names(settings),
        registries=engine.registries,
    )


def _http(settings: Settings, token_key: str) -> HttpConfig:
    return HttpConfig(
        token_key=token_key,
        body=read_body_bounds(settings),
        hosts=read_hosts(settings),
        addresses=Addresses(read_proxies(settings)),
        requests=read_rate(settings, "REQUESTS", 50, 200),
        limits_open=settings.text("REQUESTS_PER_SECOND") is not None,
        failures=read_rate(settings, "FAILURES", 1, 30),
        connections=settings.integer("CONNECTIONS", CONNECTIONS, least=100),
    )


def _rules(
    settings: Settings, lifetime: int, grace: int, heartbeat: float, compute_url: str
) -> JobRules:
    silence = settings.integer("SILENCE_SECONDS", 60, least=1)
    if silence < 2 * heartbeat:
        raise BadSetting(
            f"{PREFIX}SILENCE_SECONDS is {silence}: it must be at least twice "
            f"{PREFIX}HEARTBEAT_SECONDS ({heartbeat:g}), or one late heartbeat loses an attempt"
        )
    return JobRules(
        max_lifetime_seconds=lifetime,
        interruption_budget=settings.integer("INTERRUPTION_BUDGET", 20),
        pull_budget=settings.integer("PULL_BUDGET", 3),
        pull_budget_seconds=settings.integer("PULL_BUDGET_SECONDS", 1200),
        pull_refused_budget=settings.integer("PULL_REFUSED_BUDGET", 1),
        retry_first_seconds=settings.number("RETRY_FIRST_SECONDS", 5, most=600),
        boot_seconds=settings.integer("BOOT_SECONDS", 900, least=1),
        boot_limit=settings.integer("BOOT_LIMIT", 2, least=1),
        boot_failures_pause=settings.integer("BOOT_FAILURES_PAUSE", 5, least=1),
        silence_seconds=silence,
        stop_grace_seconds=grace,
        heartbeat_seconds=heartbeat,
        reschedule_delay_seconds=settings.integer("RESCHEDULE_DELAY_SECONDS", 0),
        wipe_secrets=settings.choice("WIPE_SECRETS", "yes", ("yes", "no")) == "yes",
        free_first_hour=_free_first_hour(settings, compute_url),
        replace_on_rebalance=settings.choice("ON_REBALANCE", "note", REBALANCE) == "replace",
        cost_tags=cost_tags.read_names(settings),
    )


def _free_first_hour(settings: Settings, compute_url: str) -> bool:
    """Read whether an instance under notice is left to EC2, which then bills nothing.

    Other computes have no bill. Instances with a role are EC2's, if `COMPUTE_URL` is not set here.
    """
    wanted = settings.choice("FREE_FIRST_HOUR", "on", ("on", "off")) == "on"
    compute = urlsplit(settings.text("COMPUTE_URL", compute_url)).scheme
    return wanted and (compute == "ec2" or bool(settings.text("INSTANCE_ROLE_ARN")))


def _capacity(settings: Settings) -> Capacity:
    return cast("Capacity", settings.choice("CAPACITY", "spot", get_args(Capacity)))


def _default_architecture(settings: Settings) -> Architecture:
    """Read the launcher's setting: the architecture on EC2 of a job that names none."""
    chosen = settings.choice("EC2_ARCHITECTURE", "x86_64", get_args(Architecture))
    return "arm64" if chosen == "arm64" else "x86_64"


def _compute_region(settings: Settings) -> str:
    """Read the region of the instances; empty without EC2."""
    compute = urlsplit(settings.text("COMPUTE_URL", ""))
    return compute.netloc if compute.scheme == "ec2" else ""


def _secret_keys(settings: Settings, deployment: str, default: str | None) -> SecretKeys | None:
    text = settings.text("SECRETS_KEY") or default
    if not text:
        return None
    keys = read_keys(text)
    if keys is None:
        raise BadSetting(
            f"{PREFIX}SECRETS_KEY must be keys of 64 hexadecimal digits each, the newest first"
        )
    return SecretKeys(keys, deployment)


def _identity(settings: Settings, deployment: str) -> IdentityConfig | None:
    """Read how to verify instances' identity; None: by bootstrap tokens, as without EC2."""
    arn = settings.text("INSTANCE_ROLE_ARN")
    if not arn:
        return None
    role = read_role(arn)
    if role is None:
        raise BadSetting(
            f"{PREFIX}INSTANCE_ROLE_ARN is {arn}: it must be the ARN of the instances' IAM role, "
            "like arn:aws:iam::123456789012:role/docker-job-instance"
        )
    region = settings.text("STS_REGION") or _compute_region(settings)
    if not region:
        raise BadSetting(
            f"{PREFIX}STS_REGION is not set: with {PREFIX}INSTANCE_ROLE_ARN set it must name the "
            "instances' region, like us-east-1"
        )
    url = settings.text("STS_URL") or f"https://sts.{region}.{domain_of(region)}"
    return IdentityConfig(sts_url=url, region=region, role=role, deployment=deployment)


def _for_agents(
    settings: Settings, heartbeat: float, grace: int, engine: EngineSettings
) -> AgentSettings:
    return AgentSettings(
        heartbeat_seconds=heartbeat,
        stop_grace_seconds=grace,
        interruption_margin_seconds=settings.integer("INTERRUPTION_MARGIN_SECONDS", 30),
        metadata_poll_seconds=settings.number("METADATA_POLL_SECONDS", 5, least=0.1),
        log_batch_seconds=settings.number("LOG_BATCH_SECONDS", 1, least=0.05),
        log_limit_bytes=settings.integer("LOG_LIMIT_BYTES", 1_048_576),
        error_tail_lines=settings.integer("ERROR_TAIL_LINES", 20, least=1),
        pull_retry_seconds=settings.number("PULL_RETRY_SECONDS", 300),
        local_images=engine.local_images,
        registries_refused=engine.registries.refused_networks,
        registries_allowed=engine.registries.allowed,
    )
