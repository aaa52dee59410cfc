"""One job under every order of facts, callbacks, silences and crashes that Hypothesis finds.

The machine keeps the truth beside what the API believes: which containers run, which instances
live. The invariants compare the two.
"""

import contextlib
from datetime import datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from msgspec.structs import replace

from services.api.agents.calls import Callback
from services.api.agents.refusals import Refused
from services.api.jobs import views
from services.api.jobs.waiting import waiting
from shared.events.events import AttemptEnded, Event, JobFinished, JobScheduled
from tests.support.api.api_story import (
    DONE,
    FAILED,
    INTERRUPTED,
    NO_SUCH_IMAGE,
    NOW,
    PULL_FAILED,
    RULES,
    STOPPED,
    TIMED_OUT,
    UNSURE,
    Story,
    a_job,
    delayed,
    launched,
    refused,
    terminated,
    warned,
)

numbers = st.integers(min_value=1, max_value=4)


CALLBACKS = [INTERRUPTED, STOPPED, DONE, FAILED, UNSURE, TIMED_OUT, PULL_FAILED, NO_SUCH_IMAGE]


class OneJob(RuleBasedStateMachine):
    """A job, its instances, its agents and the events between them."""

    facts = Bundle("facts")

    @initialize(
        retries=st.integers(min_value=0, max_value=1),
        early=st.booleans(),
        away=st.sampled_from([0, 120]),
    )
    def begin(self, retries: int, *, early: bool, away: int) -> None:
        self.now: datetime = NOW
        rules = replace(RULES, replace_on_rebalance=early, pull_budget_seconds=away)
        self.story = Story(a_job(retries=retries), rules=rules)
        self.alive: set[int] = set()
        self.terminated: set[int] = set()
        self.refused: set[int] = set()
        self.claimed: set[int] = set()
        self.finished_agents: set[int] = set()
        self.running: set[int] = set()
        self.exited_0: set[int] = set()
        self.final_job: Any = None
        self.undelivered: list[Event] = []

    def _scheduled(self, number: int) -> bool:
        return any(each.attempt == number for each in self.story.published_of(JobScheduled))

    # -- the world

    @rule(seconds=st.sampled_from([1, 5, 30, 61, 101]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(target=facts, number=numbers, seconds=st.integers(min_value=1, max_value=99))
    def the_launcher_waits(self, number: int, seconds: int) -> Event | None:
        if not self._scheduled(number) or number in self.alive | self.terminated | self.refused:
            return None
        return delayed(number, seconds=seconds)

    @rule(target=facts, number=numbers)
    def the_launcher_launches(self, number: int) -> Event | None:
        """Its agent may not know yet that the attempt is over."""
        return self._launch(number)

    def _launch(self, number: int) -> Event | None:
        if not self._scheduled(number) or number in self.alive | self.terminated | self.refused:
            return None
        self.alive.add(number)
        return self._owed(launched(number, at=self.now))

    @rule(target=facts, number=numbers)
    def the_launcher_refuses(self, number: int) -> Event | None:
        if not self._scheduled(number) or number in self.alive | self.terminated | self.refused:
            return None
        self.refused.add(number)
        return self._owed(refused(number))

    @rule(target=facts, number=numbers, rebalance=st.booleans())
    def the_cloud_warns(self, number: int, *, rebalance: bool) -> Event | None:
        if number not in self.alive:
            return None
        return warned(number, rebalance=rebalance, at=self.now)

    @rule(target=facts, number=numbers, spot=st.booleans())
    def an_instance_dies(self, number: int, *, spot: bool) -> Event | None:
        if number not in self.alive:
            return None
        return self._die(number, spot=spot)

    def _die(self, number: int, *, spot: bool) -> Event:
        self.alive.discard(number)
        self.terminated.add(number)
        self.running.discard(number)
        return self._owed(terminated(number, spot=spot, at=self.now))

    def _owed(self, fact: Event) -> Event:
        self.undelivered.append(fact)
        return fact

    @rule(fact=facts)
    def a_fact_is_delivered(self, fact: Event | None) -> None:
        """Deliver in any order, and again."""
        if fact is not None:
            self.story.deliver(fact, self.now)

    # -- the agents

    @rule()
    def all_goes_well_up_to_the_claim(self) -> None:
        """Take in one step the path that single rules find by luck alone, so that more is seen."""
        number = self.story.job.attempt
        fact = self._launch(number)
        if fact is not None and not self.story.over:
            self.story.deliver(fact, self.now)
            if self.story.claim(number, self.now):
                self.claimed.add(number)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def an_agent_claims(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.alive)))
        if number in self.claimed:
            return
        with contextlib.suppress(Refused):
            if self.story.claim(number, self.now):
                self.claimed.add(number)

    def _agent(self, data: st.DataObject) -> int | None:
        acting = sorted((self.claimed & self.alive) - self.finished_agents)
        return data.draw(st.sampled_from(acting)) if acting else None

    @precondition(lambda self: self.claimed)
    @rule(data=st.data())
    def an_agent_starts_its_container(self, data: st.DataObject) -> None:
        """Start it on the last answer alone, whatever has been decided meanwhile."""
        number = self._agent(data)
        if number is not None and number not in self.exited_0:
            self.running.add(number)

    @precondition(lambda self: self.claimed)
    @rule(data=st.data(), phase=st.sampled_from([None, "pulling", "running", "stopping"]))
    def an_agent_reports(self, data: st.DataObject, phase: str | None) -> None:
        number = self._agent(data)
        if number is None:
            return
        if phase == "running":
            self.running.add(number)
        try:
            self.story.report(number, phase, self.now)
        except Refused:
            self._stop(number)

    def _stop(self, number: int) -> None:
        self.running.discard(number)
        self.finished_agents.add(number)

    @precondition(lambda self: self.claimed)
    @rule(data=st.data(), callback=st.sampled_from(CALLBACKS))
    def an_agent_calls_back(self, data: st.DataObject, callback: Callback) -> None:
        number = self._agent(data)
        if number is None:
            return
        if callback == DONE:
            if number not in self.running:
                return
            self.exited_0.add(number)
        if callback == UNSURE:
            self.finished_agents.add(number)  # and its container may go on
        elif callback != INTERRUPTED:
            self._stop(number)
        with contextlib.suppress(Refused):
            self.story.call_back(callback, number, self.now)

    @precondition(lambda self: self.claimed)
    @rule(data=st.data())
    def an_agent_is_recommended_to_rebalance(self, data: st.DataObject) -> None:
        number = self._agent(data)
        if number is not None:
            with contextlib.suppress(Refused):
                self.story.rebalance(number, self.now)

    @precondition(lambda self: self.finished_agents)
    @rule(data=st.data(), callback=st.sampled_from([INTERRUPTED, STOPPED, DONE, FAILED]))
    def a_late_or_forged_callback_changes_nothing(
        self, data: st.DataObject, callback: Callback
    ) -> None:
        number = data.draw(st.sampled_from(sorted(self.finished_agents)))
        if self.story.attempts[number].state != "ended":
            return
        before = (self.story.job, dict(self.story.attempts), list(self.story.published))
        with contextlib.suppress(Refused):
            self.story.call_back(callback, number, self.now)
        assert (self.story.job, self.story.attempts, self.story.published) == before

    # -- ourselves and users

    @rule()
    def the_silent_are_looked_at(self) -> None:
        self.story.look(self.now)

    @rule(times=st.integers(min_value=0, max_value=20))
    def a_user_cancels_rarely(self, times: int) -> None:
        if times == 20:
            assert self.story.cancel(self.now) is (self.final_job is None)

    # -- what must hold

    @invariant()
    def a_final_status_never_changes(self) -> None:
        if self.final_job is not None:
            assert self.story.job == self.final_job
        elif self.story.over:
            self.final_job = self.story.job

    @invariant()
    def beside_the_current_attempt_there_is_at_most_its_replacement(self) -> None:
        live = [each.number for each in self.story.attempts.values() if each.state != "ended"]
        current, replacement = self.story.current, self.story.whole_job.replacement
        if self.story.over:
            assert live == []
        elif replacement is None:
            assert live == [current.number]
        else:
            assert live == [current.number, replacement.number]
            assert current.interrupted_at or current.rebalance_at
            assert replacement.token_hash is None

    @invariant()
    def the_job_is_handed_out_only_when_every_container_before_has_stopped(self) -> None:
        for each in self.story.attempts.values():
            if each.token_hash is not None:
                assert self.story.whole_job.unstopped_before(each.number) is None

    @invariant()
    def no_two_containers_run_at_once(self) -> None:
        assert len(self.running) <= 1

    @invariant()
    def a_container_believed_to_have_stopped_has_stopped(self) -> None:
        stopped = {each.number for each in self.story.attempts.values() if each.container_stopped}
        assert not stopped & self.running

    @invariant()
    def each_end_is_published_once(self) -> None:
        ended = [each.number for each in self.story.attempts.values() if each.state == "ended"]
        assert sorted(each.attempt for each in self.story.published_of(AttemptEnded)) == ended
        assert len(self.story.published_of(JobFinished)) == (1 if self.story.over else 0)
        scheduled = [each.attempt for each in self.story.published_of(JobScheduled)]
        assert len(scheduled) == len(set(scheduled))

    @invariant()
    def done_means_that_a_container_of_that_attempt_exited_0(self) -> None:
        done = [each.number for each in self.story.attempts.values() if each.cause == "done"]
        assert done == ([self.story.job.attempt] if self.story.job.status == "DONE" else [])
        assert set(done) <= self.exited_0

    @invariant()
    def each_cause_has_its_own_limit(self) -> None:
        causes = [each.cause for each in self.story.attempts.values()]
        rules, job = self.story.rules, self.story.job
        assert causes.count("failed") <= job.retries + 1
        if not rules.pull_budget_seconds:
            assert causes.count("pull_failed") <= rules.pull_budget + 1

    @invariant()
    def a_job_is_over_or_at_work_or_shows_what_it_waits_for(self) -> None:
        job, attempt = self.story.job, self.story.current
        at_work = attempt.state in ("pulling", "running", "stopping") or attempt.token_hash
        assert self.story.over or at_work or waiting(job, attempt, self.now)[0]
        attempts = [self.story.attempts[number] for number in sorted(self.story.attempts)]
        views.detailed(job, attempts, self.now, self.story.rules)

    @invariant()
    def whoever_may_go_silent_is_looked_at(self) -> None:
        for each in self.story.attempts.values():
            watched = each.state in ("booting", "pulling", "running", "stopping")
            assert (each.check_at is not None) == watched

    def teardown(self) -> None:
        """Heal all faults; check that the job is over, or its next attempt is due."""
        if not hasattr(self, "story"):
            return
        for number in sorted(self.alive):
            self._die(number, spot=False)
        for fact in self.undelivered:
            self.story.deliver(fact, self.now)
        assert self.story.over or self.story.current.state in ("scheduled", "delayed")
        self.no_two_containers_run_at_once()
        self.each_end_is_published_once()


OneJob.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestOneJob = OneJob.TestCase
