"""The reaper reads the consoles of instances that did not boot, and ends them whatever they say."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from services.reaper import consoles
from services.reaper.config import ReaperConfig
from services.reaper.service import build
from shared.clock import VirtualClock
from shared.compute.port import InstanceState, Rejected, Unknown
from shared.console_text import NOTE
from shared.events.events import AttemptEnded, InstanceLaunched, InstanceTerminated
from shared.runtime.service import Ports
from tests.support.compute.scripted_compute import ScriptedCompute
from tests.support.compute.stage import Crash, Stage, crashing
from tests.support.waiting import until_it_holds

START = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG = ReaperConfig(batch=100, prune_batch=100)
TERMINATE = "terminate_ending"
WATCH = "watch_instances"
READ = "read_consoles"


def launched(number: int = 1) -> InstanceLaunched:
    return InstanceLaunched(
        job_id=number,
        attempt=1,
        launch_token="t",
        instance_id=f"i-{number}",
        instance_type="m7g.large",
        zone="zone-a",
        market="spot",
        hourly_price_usd=0.036,
        launched_at=START,
        dies_by=START + timedelta(hours=1),
        launch_sequence=number,
    )


def ended(number: int = 1, *, boot_failed: bool = True) -> AttemptEnded:
    return AttemptEnded(
        job_id=number,
        attempt=1,
        cause="lost",
        ended_at=START,
        terminate_after=START,
        boot_failed=boot_failed,
    )


def stop(cloud: ScriptedCompute, instance_id: str) -> None:
    """Have an instance shut down by itself."""
    cloud.instances[instance_id] = replace(
        cloud.instances[instance_id],
        state=InstanceState.STOPPING,
        state_reason="Client.InstanceInitiatedShutdown",
    )


@pytest.fixture
async def ports(ports_of: Callable[[str], Awaitable[Ports]]) -> Ports:
    return await ports_of("reaper")


@pytest.fixture
def cloud(clock: VirtualClock) -> ScriptedCompute:
    return ScriptedCompute(clock)


@pytest.fixture
def stage(ports: Ports, cloud: ScriptedCompute) -> Stage:
    return Stage(build(CONFIG, ports, cloud))


async def printed(stage: Stage) -> dict[str, str | None]:
    found = await stage.published(InstanceTerminated)
    return {each.instance_id: each.console_output for each in found}


@pytest.mark.parametrize("order", [1, -1])
async def test_the_console_of_a_failed_boot_is_read_before_the_instance_is_terminated(
    stage: Stage, cloud: ScriptedCompute, order: int
) -> None:
    cloud.show("i-1")
    cloud.consoles["i-1"] = "Linux\ndocker-job: Docker does not run\n"
    await stage.deliver(*(launched(), ended())[::order])
    await stage.sweep(TERMINATE)
    assert await printed(stage) == {"i-1": "Linux\ndocker-job: Docker does not run"}


async def test_it_comes_with_the_end_however_late_that_is_confirmed(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-1")
    cloud.consoles["i-1"] = "kernel panic"
    cloud.ends_at_once = False
    await stage.deliver(launched(), ended())
    await stage.sweep(TERMINATE)
    cloud.consoles["i-1"] = "something else"
    clock.advance(60)
    cloud.ends_at_once = True
    await stage.sweep(TERMINATE)
    assert await printed(stage) == {"i-1": "kernel panic"}
    assert cloud.consoles_read == ["i-1"]


async def test_the_console_of_an_attempt_that_booted_is_not_read(
    stage: Stage, cloud: ScriptedCompute
) -> None:
    cloud.show("i-1")
    await stage.deliver(launched(), ended(boot_failed=False))
    await stage.sweep(TERMINATE)
    assert (await printed(stage), cloud.consoles_read) == ({"i-1": None}, [])


async def test_the_console_of_an_instance_that_ended_by_itself_is_read_too(
    stage: Stage, cloud: ScriptedCompute
) -> None:
    for number, reason in ((1, "Client.InternalError"), (2, "Client.UserInitiatedShutdown")):
        cloud.show(f"i-{number}", number)
        cloud.consoles[f"i-{number}"] = "printed"
        await stage.deliver(launched(number))
        cloud.end(f"i-{number}", reason=reason)
    cloud.show("i-3", 3)
    await stage.deliver(launched(3))
    cloud.end("i-3", interrupted=True)
    await stage.sweep(WATCH)
    await stage.sweep(WATCH)
    assert await printed(stage) == {"i-1": "printed", "i-2": None, "i-3": None}
    assert cloud.consoles_read == ["i-1"]


@pytest.mark.parametrize(
    ("failure", "note"),
    [
        (Rejected("no permission ec2:GetConsoleOutput"), "no permission ec2:GetConsoleOutput"),
        (Unknown("no \x1b answer"), "no answer"),
        (KeyError("Output"), "the adapter failed"),
    ],
)
async def test_a_console_that_cannot_be_read_holds_no_end_up_and_says_why(
    stage: Stage, cloud: ScriptedCompute, failure: Exception, note: str
) -> None:
    cloud.show("i-1")
    cloud.consoles["i-1"] = failure
    await stage.deliver(launched(), ended())
    await stage.sweep(TERMINATE)
    assert await printed(stage) == {"i-1": f"[the console cannot be read: {note}]"}


async def test_others_are_terminated_while_a_console_is_waited_for(
    stage: Stage, cloud: ScriptedCompute
) -> None:
    for number in (1, 2):
        cloud.show(f"i-{number}", number)
    await stage.deliver(launched(1), launched(2), ended(1), ended(2, boot_failed=False))
    cloud.answering.clear()
    sweep = asyncio.create_task(stage.sweep(TERMINATE))

    async def one_is_terminated() -> bool:
        return bool(cloud.terminated)

    await until_it_holds(one_is_terminated)
    assert cloud.terminated == [["i-2"]]
    cloud.answering.set()
    await sweep
    assert cloud.terminated == [["i-2"], ["i-1"]]


async def test_of_many_that_fail_together_some_consoles_are_read_and_all_are_terminated(
    stage: Stage, cloud: ScriptedCompute
) -> None:
    numbers = range(1, 31)
    for number in numbers:
        cloud.show(f"i-{number}", number)
        await stage.deliver(launched(number), ended(number))
    await stage.sweep(TERMINATE)
    assert len(await printed(stage)) == len(numbers)
    assert len(cloud.consoles_read) == consoles.MOST_AT_ONCE


async def test_after_a_crash_the_console_that_was_read_is_published(
    ports: Ports, stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-1")
    cloud.consoles["i-1"] = "printed"
    await stage.deliver(launched(), ended())
    doomed = Stage(build(CONFIG, crashing(ports, "reaper.called"), cloud))
    with pytest.raises(Crash):
        await doomed.sweep(TERMINATE)
    clock.advance(CONFIG.lease_seconds)
    await stage.sweep(TERMINATE)
    assert await printed(stage) == {"i-1": "printed"}
    assert cloud.consoles_read == ["i-1"]


async def test_an_end_that_is_asked_for_again_has_the_console_again(
    stage: Stage, cloud: ScriptedCompute
) -> None:
    cloud.show("i-1")
    cloud.consoles["i-1"] = "printed"
    await stage.deliver(launched(), ended())
    await stage.sweep(TERMINATE)
    again = replace(ended(), ended_at=START + timedelta(seconds=1))
    await stage.deliver(again)
    found = await stage.published(InstanceTerminated)
    assert [each.console_output for each in found] == ["printed", "printed"]


async def until_read_out(stage: Stage, clock: VirtualClock) -> float:
    """Sweep until no console is due any more; return the seconds that this took."""
    started = clock.now()
    for _ in range(50):
        due = await stage.sweep(READ)
        if due is None:
            return (clock.now() - started).total_seconds()
        clock.advance(max(1.0, (due - clock.now()).total_seconds()))
    pytest.fail("consoles are read without end")


@pytest.mark.parametrize("by_itself", [True, False])
@pytest.mark.parametrize("first", [None, Unknown("no answer")])
async def test_a_console_that_is_posted_after_the_end_is_published_with_the_end_again(
    stage: Stage,
    cloud: ScriptedCompute,
    clock: VirtualClock,
    first: Exception | None,
    *,
    by_itself: bool,
) -> None:
    cloud.show("i-1")
    if first is not None:
        cloud.consoles["i-1"] = first
    await stage.deliver(launched())
    if by_itself:
        cloud.end("i-1", reason="Client.InstanceInitiatedShutdown")
        await stage.sweep(WATCH)
        await stage.deliver(ended())
    else:
        await stage.deliver(ended())
        await stage.sweep(TERMINATE)
    note = None if first is None else f"{NOTE}no answer]"
    assert await printed(stage) == {"i-1": note}
    for _ in range(3):
        clock.advance(60)
        await stage.sweep(READ)
    assert await printed(stage) == {"i-1": note}
    cloud.consoles["i-1"] = "kernel panic"
    clock.advance(120)
    await stage.sweep(READ)
    found = await stage.published(InstanceTerminated)
    assert [each.console_output for each in found] == [note, "kernel panic"]
    assert found[0] == replace(found[1], console_output=note)
    read = len(cloud.consoles_read)
    await until_read_out(stage, clock)
    assert len(cloud.consoles_read) == read
    assert len(await stage.published(InstanceTerminated)) == 2


async def test_a_console_that_never_comes_is_read_for_some_minutes(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-1")
    await stage.deliver(launched(), ended())
    await stage.sweep(TERMINATE)
    cloud.consoles_read.clear()
    assert 520 < await until_read_out(stage, clock) < 720
    assert len(cloud.consoles_read) == CONFIG.console_tries
    assert await stage.rows("SELECT 1 FROM console_reads") == []
    assert await printed(stage) == {"i-1": None}


async def test_the_console_of_an_attempt_that_proves_to_be_done_is_read_no_more(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    """Covers an agent's own power-off, which may be listed before its attempt's end is received."""
    cloud.show("i-1")
    await stage.deliver(launched())
    cloud.end("i-1", reason="Client.InstanceInitiatedShutdown")
    await stage.sweep(WATCH)
    await stage.deliver(replace(ended(boot_failed=False), cause="done"))
    cloud.consoles_read.clear()
    await until_read_out(stage, clock)
    assert cloud.consoles_read == []


async def test_a_console_is_read_while_its_instance_shuts_down(
    stage: Stage, cloud: ScriptedCompute
) -> None:
    cloud.show("i-1")
    await stage.deliver(launched())
    stop(cloud, "i-1")
    cloud.consoles["i-1"] = "printed"
    await stage.sweep(WATCH)
    del cloud.consoles["i-1"]
    cloud.end("i-1", reason="Client.InstanceInitiatedShutdown")
    await stage.sweep(WATCH)
    assert await printed(stage) == {"i-1": "printed"}


LATEST = "Linux\nstep 1\nstep 2"


@pytest.mark.parametrize("posted", ["Linux", LATEST, None, Unknown("no answer")])
@pytest.mark.parametrize("boot_failed", [True, False])
async def test_a_longer_console_takes_the_place_of_one_that_was_read_while_the_instance_shut_down(
    stage: Stage,
    cloud: ScriptedCompute,
    clock: VirtualClock,
    posted: str | Exception | None,
    *,
    boot_failed: bool,
) -> None:
    cloud.show("i-1")
    await stage.deliver(launched())
    stop(cloud, "i-1")
    cloud.consoles["i-1"] = LATEST
    await stage.sweep(WATCH)
    if posted is None:
        del cloud.consoles["i-1"]
    else:
        cloud.consoles["i-1"] = posted
    if boot_failed:
        await stage.deliver(ended())
    cloud.end("i-1", reason="Client.InstanceInitiatedShutdown")
    await stage.sweep(WATCH)
    for _ in range(3):
        clock.advance(60)
        await stage.sweep(READ)
    assert await printed(stage) == {"i-1": LATEST}
    assert len(await stage.published(InstanceTerminated)) == 1
    cloud.consoles["i-1"] = f"{LATEST}\ndocker-job: Docker does not run"
    clock.advance(120)
    await stage.sweep(READ)
    ends = await stage.published(InstanceTerminated)
    whole = f"{LATEST}\ndocker-job: Docker does not run"
    assert [each.console_output for each in ends] == [LATEST, whole]
    assert await stage.rows("SELECT 1 FROM console_reads") == []


async def test_of_long_consoles_too_the_later_one_is_published_and_is_longer(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    """By its length the API knows it, in whatever order it receives the two."""
    cloud.show("i-1")
    await stage.deliver(launched())
    stop(cloud, "i-1")
    text = "\n".join(f"line {number}" for number in range(2000))
    cloud.consoles["i-1"] = text
    await stage.sweep(WATCH)
    cloud.end("i-1", reason="Client.InstanceInitiatedShutdown")
    await stage.sweep(WATCH)
    cloud.consoles["i-1"] = f"{text}\nlast"
    clock.advance(60)
    await stage.sweep(READ)
    first, last = (each.console_output or "" for each in await stage.published(InstanceTerminated))
    assert (first[-9:], last[-14:]) == ("line 1999", "line 1999\nlast")
    assert len(first) < len(last) == consoles.CHARACTERS


async def test_while_instances_shut_down_each_console_is_read_once_and_all_have_their_turn(
    stage: Stage, cloud: ScriptedCompute
) -> None:
    names = [f"i-{number}" for number in range(1, 46)]
    for number, name in enumerate(names, 1):
        cloud.show(name, number)
        await stage.deliver(launched(number))
        stop(cloud, name)
    cloud.consoles["i-1"] = Unknown("no answer")
    for _ in range(5):
        await stage.sweep(WATCH)
    assert sorted(cloud.consoles_read) == sorted(names)
    cloud.end("i-1", reason="Client.InstanceInitiatedShutdown")
    cloud.end("i-2", reason="Client.InstanceInitiatedShutdown")
    cloud.consoles["i-1"] = "printed"
    await stage.sweep(WATCH)
    await stage.sweep(WATCH)
    assert sorted(cloud.consoles_read[len(names) :]) == ["i-1", "i-2"]
    assert await printed(stage) == {"i-1": "printed", "i-2": None}


async def test_a_crash_while_a_console_is_read_again_loses_nothing(
    ports: Ports, stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-1")
    await stage.deliver(launched(), ended())
    await stage.sweep(TERMINATE)
    cloud.consoles["i-1"] = "printed"
    clock.advance(60)
    doomed = Stage(build(CONFIG, crashing(ports, "reaper.consoles_read"), cloud))
    with pytest.raises(Crash):
        await doomed.sweep(READ)
    clock.advance(60)
    await stage.sweep(READ)
    assert await printed(stage) == {"i-1": "printed"}


async def test_consoles_are_removed_with_what_is_kept_of_their_instances(
    stage: Stage, cloud: ScriptedCompute, clock: VirtualClock
) -> None:
    cloud.show("i-1")
    cloud.consoles["i-1"] = "printed"
    await stage.deliver(launched(), ended())
    await stage.sweep(TERMINATE)
    clock.advance(CONFIG.keep_seconds + 1)
    await stage.sweep("prune_instances")
    assert await stage.rows("SELECT 1 FROM consoles") == []


def test_of_a_long_console_the_end_is_kept_and_our_own_lines_before_it() -> None:
    assert consoles.decide_excerpt("a\r\n\x1b[0mb\x00\n\n") == "a\n[0mb"
    ours = "docker-job: Docker does not run"
    noise = "\n".join(f"line {number}" for number in range(2000))
    found = consoles.decide_excerpt(f"{ours}\n{noise}")
    assert len(found) == consoles.CHARACTERS
    assert found.startswith(f"{ours}\n[…]\n")
    assert found.endswith("line 1999")
    assert consoles.decide_excerpt(noise) == noise[-consoles.CHARACTERS :]
    hostile = "\n".join(f"docker-job: {'x' * 5000}" for _ in range(99))
    assert len(consoles.decide_excerpt(hostile)) == consoles.CHARACTERS
