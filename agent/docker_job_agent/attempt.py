"""The flow of one attempt."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from .api import Api, call_until_answered, read_attempt_over
from .aws import make_aws
from .container import Container
from .decisions import Outcome, decide_exit_callback, decide_final_callback
from .docker_container import DockerContainer
from .engine import choose_runtime
from .environment import Config
from .errors import (
    CouldNotRunError,
    PullFailedError,
    StoppedBeforeRunningError,
    Terminated,
    UnreachableError,
)
from .http_client import Answer, Http
from .identity import PROOF_TRIES, Proof
from .instance_dir import InstanceDirectory
from .job import Job, Settings, read_claim, read_wait
from .job_secrets import with_secrets
from .lifetime import Lifetime
from .log import log, now_utc
from .metadata import METADATA_TIMEOUT_SECONDS, Metadata, parse_notice
from .notices import NoticeWatcher
from .reporter import Reporter
from .retries import backoff_seconds, jitter
from .simulated_container import SimulatedContainer
from .situation import INTERRUPTED, OVER, Situation

KILL_SECONDS = 15.0  # from SIGKILL until we no longer wait to see the container gone
LAST_LINES_SECONDS = 10.0  # for the last lines and the exit code of an attempt that is over


class Agent:
    """The flow of one attempt, in the main thread."""

    def __init__(self, config: Config, home: InstanceDirectory, lifetime: Lifetime) -> None:
        self._config = config
        self._home = home
        self._lifetime = lifetime
        self._situation = Situation()
        self._aws = make_aws(config)
        # 256 bits, as secrets.token_hex(32) takes them, made before the claim: see the protocol.
        self._api = Api(config, os.urandom(32).hex())
        self._container_may_exist = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_terminate)

    def run(self, bootstrap_token: str) -> str:
        """Run the attempt to its end; returns why it ended, in words."""
        runtime_name = choose_runtime(self._config.runtime)
        answer = self._claim(bootstrap_token, runtime_name)
        if answer.status != 200:
            return f"the claim was refused with status {answer.status}"
        try:
            self._learn_attempt(answer.json())
            job, settings = read_claim(answer.json())
        except CouldNotRunError as error:
            return self._call_back({"failed": "", "error_message": str(error)})
        reporter = Reporter(self._api.for_another_thread(), settings, self._situation.record_over)
        reporter.start()
        watcher = self._start_watcher(settings)
        container = self._make_container(runtime_name, job, settings, reporter)
        cause, outcome = self._run_container(container)
        if watcher:
            watcher.close()
        return self._send_final_callback(cause, outcome, container)

    def _claim(self, bootstrap_token: str, runtime: str) -> Answer:
        """Ask for the job until it is given or refused, for as long as it takes.

        SIGTERM and the maximum lifetime end this, nothing else: whoever is told to wait may be
        needed at any second.
        """
        proof = Proof(self._aws, self._config.deployment) if self._aws else None
        look = self._make_look()
        refusals, interrupted, waiting = 0, False, False

        def ask() -> Answer:
            if self._config.identity == "sts" and proof is not None:
                return self._api.claim_by_role(proof.bound_to, runtime, interrupted=interrupted)
            return self._api.claim(bootstrap_token, runtime, interrupted=interrupted)

        while True:
            answer = call_until_answered("claim", ask, pause_for) or Answer(0, "")
            if answer.status == 401 and proof is not None and refusals < PROOF_TRIES:
                refusals += 1
                proof.renew()
                pause_for(backoff_seconds(refusals + 3, jitter()))
                continue
            if answer.status != 202:
                return answer
            if not waiting:
                log("told to wait")
                waiting = True
            pause_for(read_wait(answer.json()))
            interrupted = look()

    def _make_look(self) -> Callable[[], bool]:
        """For who waits: has this instance had its notice? Asked every few seconds at most."""
        url, asked_at, seen = self._config.metadata_url, 0.0, False
        metadata = Metadata(Http(url, METADATA_TIMEOUT_SECONDS)) if url else None

        def look() -> bool:
            nonlocal asked_at, seen
            due = time.monotonic() - asked_at >= Settings().metadata_poll_seconds
            if metadata is None or seen or not due:
                return seen
            asked_at = time.monotonic()
            with contextlib.suppress(UnreachableError):
                seen = parse_notice(metadata.get(Metadata.NOTICE_PATH) or "", now_utc()) is not None
            if seen:
                log("interruption notice while waiting")
            return seen

        return look

    def _learn_attempt(self, answer: object) -> None:
        """Whose instance this is, where only the claim's answer tells."""
        if self._config.identity != "sts":
            return
        try:
            body: Any = answer
            self._config = self._config._replace(
                job_id=int(body["job"]["id"]),
                attempt=int(body["attempt"]),
                instance_id=str(body["instance_id"]),
            )
        except (KeyError, TypeError, ValueError):
            raise CouldNotRunError("the claim's answer does not say whose it is") from None
        self._api = self._api.of_attempt(self._config)
        log("attempt learned", job=self._config.job_id, attempt=self._config.attempt)

    def _start_watcher(self, settings: Settings) -> NoticeWatcher | None:
        if self._config.metadata_url is None:
            return None
        metadata = Metadata(Http(self._config.metadata_url, METADATA_TIMEOUT_SECONDS))
        api = self._api.for_another_thread()
        watcher = NoticeWatcher(metadata, api, settings, self._situation)
        watcher.start()
        return watcher

    def _make_container(
        self, name: str, job: Job, settings: Settings, reporter: Reporter
    ) -> Container:
        if name == "docker":
            return DockerContainer(
                self._config, job, settings, reporter, self._situation, self._home
            )
        return SimulatedContainer(self._config, job, settings, reporter, self._situation)

    def _run_container(self, container: Container) -> tuple[str | None, Outcome]:
        """Run it under supervision; returns what it was stopped for, if so, and how it ended."""
        stopped_for = None
        self._container_may_exist = True
        self._lifetime.destroy_container = lambda: void(container.destroy())
        try:
            if not self._situation.cause_not_to_start():
                container.job = with_secrets(container.job, self._aws)
                container.prepare()
                container.start()
                container.reporter.report_phase("running")
                log("container runs")
                stopped_for = self._supervise(container)
                outcome = container.outcome()
            else:
                outcome = Outcome(None)
        except StoppedBeforeRunningError:
            outcome = Outcome(None)
        except PullFailedError as error:
            outcome = Outcome(None, str(error), pull="refused" if error.permanent else "failed")
        except CouldNotRunError as error:
            outcome = Outcome(None, str(error))
        except Exception as error:  # noqa: BLE001 - a fault of ours too must end in a word
            log("agent fault", error=type(error).__name__)
            outcome = Outcome(None, f"the agent failed: {type(error).__name__}", stopped=False)
        finally:
            destroyed = container.destroy()
            self._container_may_exist = False
        return self._situation.final_cause(stopped_for), outcome._replace(
            stopped=outcome.stopped or destroyed
        )

    def _supervise(self, container: Container) -> str | None:
        """Wait until the container ends, and stop it if there is a cause; returns that cause."""
        limit = container.job.timeout_seconds
        timeout_at = None if limit is None else time.monotonic() + limit
        while not container.has_ended():
            now = time.monotonic()
            cause = self._situation.cause_to_stop(timeout_at, now)
            if cause:
                self._stop(container, cause)
                return cause
            # An exit of the client that the engine has not confirmed is asked about again each
            # second.
            latest = now + (1.0 if container.child and container.child.exited else 3600.0)
            moments = (timeout_at, self._situation.stop_for_notice_at, latest)
            self._situation.wait(min(at for at in moments if at is not None) - now)
        return None

    def _stop(self, container: Container, cause: str) -> None:
        """SIGTERM, grace, SIGKILL. Whoever ends the agent meanwhile shortens the grace."""
        log("stopping the container", cause=cause)
        container.reporter.report_phase("stopping")
        situation = self._situation
        container.send(signal.SIGTERM)
        if not situation.terminated:
            situation.wait_until(
                lambda: container.has_ended() or situation.terminated,
                container.settings.stop_grace_seconds,
            )
        if situation.terminated:
            situation.wait_until(container.has_ended, self._config.terminate_grace_seconds)
        if not container.has_ended():
            log("killing the container")
            container.reporter.end_back_pressure()
            container.send(signal.SIGKILL)
            situation.wait_until(container.has_ended, KILL_SECONDS)

    def _send_final_callback(
        self, cause: str | None, outcome: Outcome, container: Container
    ) -> str:
        reporter = container.reporter
        word = decide_final_callback(cause, outcome, reporter.tail(), container.job.timeout_seconds)
        if cause == OVER:
            return self._add_exit_code(outcome, reporter)
        if word is None:
            return f"no last word: {cause}"
        # A taken instance has seconds left, and the word matters more than the lines.
        reporter.finish(5.0 if cause == INTERRUPTED else None)
        if self._situation.over:  # the last report's answer may have said so
            return self._add_exit_code(outcome, reporter)
        return self._call_back(word)

    def _add_exit_code(self, outcome: Outcome, reporter: Reporter) -> str:
        """Report the last lines and the exit code of an attempt that is over, within seconds.

        The instance is terminated soon, whether they are heard or not.
        """
        deadline = time.monotonic() + LAST_LINES_SECONDS
        reporter.finish(LAST_LINES_SECONDS)
        word = decide_exit_callback(outcome)
        if word is None or reporter.has_ended:
            return f"no last word: {OVER}"

        def pause(seconds: float) -> bool:
            time.sleep(max(0.0, min(seconds, deadline - time.monotonic())))
            return time.monotonic() >= deadline

        answer = call_until_answered("exit code", lambda: self._api.callback(word), pause)
        kept = answer is not None and read_attempt_over(answer.json())[1]
        return f"the attempt was over, its exit code was {'kept' if kept else 'not kept'}"

    def _call_back(self, word: dict[str, Any]) -> str:
        # Until the maximum lifetime ends us.
        answer = call_until_answered("callback", lambda: self._api.callback(word), pause_for)
        status = answer.status if answer else 0
        return f"last word {'/'.join(word)} heard with status {status}"

    def _on_terminate(self, _number: int, _frame: object) -> None:
        """SIGTERM: the main thread stops the container; without one, nothing is to wait for."""
        self._situation.record_terminated()
        if not self._container_may_exist:
            raise Terminated


def void(_value: object) -> None:
    """Drop a value."""


def pause_for(seconds: float) -> None:
    """Sleep, and say "go on" to `call_until_answered`."""
    time.sleep(seconds)
