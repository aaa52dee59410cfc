"""The flow of one attempt, from the claim to the final callback."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from .api import Api, call_until_answered, read_attempt_over
from .aws import make_aws
from .claim import Claim, refusal, with_attempt
from .container import Container
from .decisions import (
    INTERRUPTED,
    OVER,
    TIMED_OUT,
    Outcome,
    decide_exit_callback,
    decide_final_callback,
    decide_wait_for_ec2,
)
from .docker_container import DockerContainer
from .engine import choose_runtime
from .environment import Config
from .errors import (
    CouldNotRunError,
    EngineLostError,
    PullFailedError,
    StoppedBeforeRunningError,
    Terminated,
)
from .grace import grace_seconds
from .instance_dir import InstanceDirectory
from .job import Job, Settings, read_claim
from .job_secrets import with_secrets
from .lifetime import Lifetime
from .log import log
from .metadata import Notice, metadata_service
from .notices import NoticeWatcher
from .reporter import Reporter
from .simulated_container import SimulatedContainer
from .situation import Situation

KILL_SECONDS = 15.0  # from SIGKILL until its end is no longer awaited
LAST_LINES_SECONDS = 10.0  # for the last lines and the exit code of an attempt that is over
INTERRUPTED_LINES_SECONDS = 5.0  # the callback of an interrupted instance matters more
TERMINATED_LINES_SECONDS = 1.0  # who sends SIGTERM sends SIGKILL soon


class Agent:
    """One attempt, in the main thread, which takes every decision."""

    def __init__(self, config: Config, home: InstanceDirectory, lifetime: Lifetime) -> None:
        self._config = config
        self._home = home
        self._lifetime = lifetime
        self._situation = Situation()
        self._aws = make_aws(config)
        # 256 bits, like secrets.token_hex(32); made before the claim, for the protocol's sake.
        self._api = Api(config, os.urandom(32).hex())
        self._container_may_exist = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_terminate)

    def run(self, bootstrap_token: str) -> str:
        """Run the attempt to its end; return the reason, for the log and the instance directory."""
        runtime = choose_runtime(self._config.runtime)
        claim = Claim(self._config, self._api, self._aws)
        answer = claim.send(bootstrap_token, runtime)
        if answer.status != 200:
            log("claim refused", status=answer.status, because=refusal(answer))
            self._wait_for_ec2(claim.check.notice, claim.check.taken_at, claim.free_until)
            return f"the claim was refused with status {answer.status}"
        try:
            if self._config.identity == "sts":
                self._use_attempt(with_attempt(self._config, answer.json()))
            job, settings = read_claim(answer.json())
        except CouldNotRunError as error:
            return self._call_back({"failed": "", "error_message": str(error)})
        api = self._api.for_another_thread()
        reporter = Reporter(api, settings, self._situation.record_over, self._home.disk())
        reporter.start()
        watcher = self._start_watcher(settings)
        container = self._make_container(runtime, job, settings, reporter)
        cause, outcome = self._run_container(container)
        if watcher:
            watcher.close()
        reason = self._send_final_callback(cause, outcome, container)
        self._only_record_terminations()  # the instance may be terminated at once now
        container.tidy()
        if outcome.stopped:  # else the next attempt waits for the instance's end
            situation = self._situation
            self._wait_for_ec2(situation.notice, situation.taken_at, claim.free_until)
        return reason

    def _only_record_terminations(self) -> None:
        """Have SIGTERM interrupt nothing from now on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._situation.record_terminated())

    def _wait_for_ec2(
        self, notice: Notice | None, taken_at: float | None, free_until: float | None
    ) -> None:
        """Leave the machine on until EC2 takes it, if that makes it free; SIGTERM ends the wait."""
        action = notice.action if notice else ""
        seconds = decide_wait_for_ec2(action, taken_at, free_until, time.monotonic())
        if seconds <= 0:
            return
        self._only_record_terminations()
        log("waiting for EC2 to take the instance, which is free then", seconds=seconds)
        self._situation.wait_until(lambda: self._situation.terminated, seconds)

    def _use_attempt(self, config: Config) -> None:
        """Use the attempt that the claim's answer has named."""
        self._config = config
        self._api = self._api.of_attempt(config)
        log("attempt learned", job=config.job_id, attempt=config.attempt)

    def _start_watcher(self, settings: Settings) -> NoticeWatcher | None:
        metadata = metadata_service(self._config.metadata_url)
        if metadata is None:
            return None
        api = self._api.for_another_thread()
        watcher = NoticeWatcher(metadata, api, settings, self._situation)
        watcher.start()
        return watcher

    def _make_container(
        self, runtime: str, job: Job, settings: Settings, reporter: Reporter
    ) -> Container:
        kind = DockerContainer if runtime == "docker" else SimulatedContainer
        return kind(self._config, job, settings, reporter, self._situation)

    def _run_container(self, container: Container) -> tuple[str | None, Outcome]:
        """Run it under supervision; return the cause for which it was stopped, and how it ended."""
        stopped_for = None
        self._container_may_exist = True

        def destroy_for_lifetime() -> None:
            self._situation.record_terminated()  # no callback blames the job for this end
            container.destroy()

        self._lifetime.destroy_container = destroy_for_lifetime
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
        except EngineLostError as error:
            container.reporter.add_note(str(error))
            outcome = Outcome(None, str(error), again=True)
        except CouldNotRunError as error:
            outcome = Outcome(None, str(error))
        except Exception as error:  # noqa: BLE001 - a fault of the agent is reported too
            log("agent fault", error=type(error).__name__)
            outcome = Outcome(None, f"the agent failed: {type(error).__name__}", stopped=False)
        finally:
            destroyed = container.destroy()
            self._container_may_exist = False
        return self._situation.final_cause(stopped_for), outcome._replace(
            stopped=outcome.stopped or destroyed
        )

    def _supervise(self, container: Container) -> str | None:
        """Wait until the container ends, and stop it if there is a cause; return that cause."""
        limit = container.job.timeout_seconds
        timeout_at = None if limit is None else time.monotonic() + limit
        while not container.has_ended():
            now = time.monotonic()
            cause = self._situation.cause_to_stop(timeout_at, now)
            if cause == TIMED_OUT and self._ended_in_time(container):
                return None
            if cause:
                self._stop(container, cause)
                return cause
            # While the engine has not confirmed the end of an exited client, ask it each second.
            latest = now + (1.0 if container.child and container.child.exited else 3600.0)
            times = (timeout_at, self._situation.stop_for_notice_at, latest)
            self._situation.wait(min(at for at in times if at is not None) - now)
        return None

    def _ended_in_time(self, container: Container) -> bool:
        """Return whether it ended by itself, and only its output was not read yet."""
        container.reporter.end_back_pressure()
        return container.has_exited() and self._situation.wait_until(
            container.has_ended, KILL_SECONDS
        )

    def _stop(self, container: Container, cause: str) -> None:
        """Ask it to stop, and kill it after the grace, which a SIGTERM to the agent shortens."""
        log("stopping the container", cause=cause)
        container.reporter.report_phase("stopping")
        container.reporter.end_back_pressure()
        situation = self._situation
        grace = grace_seconds(container.settings, cause)
        container.stop()
        if not situation.terminated:
            situation.wait_until(lambda: container.has_ended() or situation.terminated, grace)
        if situation.terminated:
            grace = min(grace, self._config.terminate_grace_seconds)
            situation.wait_until(container.has_ended, grace)
        if not container.has_ended():
            log("killing the container")
            container.kill()
            situation.wait_until(container.has_ended, KILL_SECONDS)

    def _send_final_callback(
        self, cause: str | None, outcome: Outcome, container: Container
    ) -> str:
        """Send what is due after the container's end; return the reason of the agent's end."""
        reporter = container.reporter
        body = decide_final_callback(cause, outcome, reporter.tail(), container.job.timeout_seconds)
        if cause == OVER:
            return self._add_exit_code(outcome, reporter)
        if body is None:
            reporter.finish(TERMINATED_LINES_SECONDS)
            return f"no final callback: {cause}"
        reporter.finish(INTERRUPTED_LINES_SECONDS if cause == INTERRUPTED else None)
        if self._situation.over:  # by the answer to the last report
            return self._add_exit_code(outcome, reporter)
        return self._call_back(body)

    def _add_exit_code(self, outcome: Outcome, reporter: Reporter) -> str:
        """Report the last lines and the exit code of an attempt that is over, within seconds.

        The instance is terminated soon, whether the API receives them or not.
        """
        deadline = time.monotonic() + LAST_LINES_SECONDS
        reporter.finish(LAST_LINES_SECONDS)
        body = decide_exit_callback(outcome)
        if body is None or reporter.has_ended:
            return f"no final callback: {OVER}"

        def pause(seconds: float) -> bool:
            time.sleep(max(0.0, min(seconds, deadline - time.monotonic())))
            return time.monotonic() >= deadline

        answer = call_until_answered("exit code", lambda: self._api.callback(body), pause)
        kept = answer is not None and read_attempt_over(answer.json())[1]
        return f"the attempt was over, its exit code was {'kept' if kept else 'not kept'}"

    def _call_back(self, body: dict[str, Any]) -> str:
        # Repeated until the maximum lifetime.
        answer = call_until_answered("callback", lambda: self._api.callback(body), time.sleep)
        status = answer.status if answer else 0
        return f"final callback {'/'.join(body)} answered with status {status}"

    def _on_terminate(self, _number: int, _frame: object) -> None:
        """Have the main thread stop the container; without one, end the agent at once."""
        self._situation.record_terminated()
        if not self._container_may_exist:
            raise Terminated
