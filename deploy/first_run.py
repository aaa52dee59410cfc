"""`first-run.sh`: the first run in a throw-away account, step by step, with a report.

The report (`report.json`, `report.md`) is written after each step. Run again, it continues after
the last step that passed.
"""

import argparse
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from deploy.account import open_account
from deploy.first_list import STEPS, Step
from deploy.first_world import ByHand, Choices, Differs, Skipped, World
from deploy.refusal import Refusal, as_refusals
from deploy.terminal import protect_terminal
from deploy.up import add_where

PASSED, SKIPPED, DIFFERS, BY_HAND = "passed", "skipped", "differs", "by hand"
MASKED = "(masked)"
SECRETS = ("djk_", "AKIA", "ASIA")
BILLED = (
    "  What is deployed stays, and is billed, until the step destroy: deploy/destroy.sh removes it "
    "now.\n"
)

Report = dict[str, Any]


def parser() -> argparse.ArgumentParser:
    """Define the command line."""
    top = argparse.ArgumentParser(
        prog="deploy/first-run.sh",
        description="Plays the first run in a throw-away account, and writes a report.",
    )
    add_where(top)
    top.add_argument("--plan", action="store_true", help="print the steps, do nothing")
    top.add_argument("--email", help="of the budget's alarm (required)")
    top.add_argument("--budget-usd", type=int, default=10, help="the month's budget (default: 10)")
    top.add_argument("--fis-role", default="", metavar="ARN", help="for the interruption")
    top.add_argument("--image", default=Choices.image, help="of the jobs")
    top.add_argument("--allow", default="", metavar="CIDR", help="as of deploy.sh")
    top.add_argument("--skip", action="append", default=[], metavar="STEP", help="may be repeated")
    top.add_argument(
        "--report", type=Path, default=Path("first-run"), help="directory (default: first-run)"
    )
    return top


def plan(steps: Sequence[Step]) -> str:
    """Return the list of the steps."""
    lines = []
    for number, step in enumerate(steps, 1):
        lines += [
            f"{number:2}. {step.title} [{step.key}]",
            f"    proves:          {step.proves}",
            f"    costs, USD:      {step.costs}",
            f"    if it differs:   send {step.send}",
        ]
    return "\n".join(lines) + "\n"


def masked(value: Any) -> Any:
    """Return *value* without API keys and access keys."""
    if isinstance(value, dict):
        return {key: masked(each) for key, each in value.items()}
    if isinstance(value, list):
        return [masked(each) for each in value]
    if isinstance(value, str) and any(each in value for each in SECRETS):
        return " ".join(
            MASKED if any(each in word for each in SECRETS) else word for word in value.split(" ")
        )
    return value


def markdown(report: Report, steps: Sequence[Step]) -> str:
    """Return the report for a reader."""
    lines = ["# First run", "", f"Stack {report['stack']} in {report['region']}.", ""]
    for step in steps:
        found = report["steps"].get(step.key)
        if found is None:
            continue
        lines += [f"## {step.title}: {found['result']}", "", f"Proves: {step.proves}.", ""]
        if found["result"] == DIFFERS:
            lines += [f"**It differs:** {found['why']}", "", f"Send: {step.send}.", ""]
        elif found.get("why"):
            lines += [found["why"], ""]
        lines += ["```json", json.dumps(found.get("facts", {}), indent=1, default=str), "```", ""]
    return "\n".join(lines)


def play(
    world: World,
    directory: Path,
    out: TextIO,
    *,
    steps: Sequence[Step] = STEPS,
    skip: Sequence[str] = (),
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> bool:
    """Run the steps that have not passed; return whether none differs."""
    report = _read(directory, world)
    world.access.update(report["access"])
    for step in steps:
        if report["steps"].get(step.key, {}).get("result") == PASSED:
            out.write(f"{step.key}: passed before\n")
            continue
        out.write(f"{step.key}: {step.title}\n")
        out.flush()
        began = now()
        by_choice: Report = {"result": SKIPPED, "why": "by --skip"}
        result = by_choice if step.key in skip else _try(step, world)
        result |= {"began": began.isoformat(), "seconds": (now() - began).total_seconds()}
        report["steps"][step.key] = masked(result)
        report["access"] = dict(world.access)
        _write(directory, report, steps)
        out.write(f"  {result['result']}{': ' + result['why'] if result.get('why') else ''}\n")
        if result["result"] == DIFFERS:
            out.write(f"  Send: {step.send}. Then run this again, or add --skip {step.key}.\n")
            if _is_billed(report):
                out.write(BILLED)
            return False
    return True


def _is_billed(report: Report) -> bool:
    """Return whether a deployment may exist; its creation may have failed half-way."""
    tried = report["steps"].get("deploy", {}).get("result") in {PASSED, DIFFERS}
    return tried and report["steps"].get("destroy", {}).get("result") != PASSED


def _try(step: Step, world: World) -> Report:
    try:
        with as_refusals():
            return {"result": PASSED, "facts": step.run(world)}
    except Skipped as why:
        return {"result": SKIPPED, "why": str(why)}
    except ByHand as why:
        return {"result": BY_HAND, "why": str(why), "facts": why.facts}
    except (Differs, Refusal) as why:
        return {"result": DIFFERS, "why": str(why)}
    except Exception as error:  # noqa: BLE001 - the report has it, and the deployment is billed
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        return {"result": DIFFERS, "why": text}


def _read(directory: Path, world: World) -> Report:
    path = directory / "report.json"
    if not path.exists():
        where = {"stack": world.stack, "region": world.account.region}
        return where | {"access": {}, "steps": {}}
    found: Report = json.loads(path.read_text(encoding="utf-8"))
    if (found["stack"], found["region"]) != (world.stack, world.account.region):
        raise Refusal(
            f"{path} is of stack {found['stack']} in {found['region']}: name another directory "
            "with --report."
        )
    return found


def _write(directory: Path, report: Report, steps: Sequence[Step]) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, text in (
        ("report.json", json.dumps(report, indent=1, default=str) + "\n"),
        ("report.md", markdown(report, steps)),
    ):
        aside = directory / f"{name}.new"
        aside.write_text(text, encoding="utf-8")
        aside.rename(directory / name)


def run(options: argparse.Namespace, out: TextIO) -> bool:
    """Print the plan, or play the steps. Raises `Refusal`."""
    if options.plan:
        out.write(plan(STEPS))
        return True
    if not options.email:
        raise Refusal("--email is missing: the budget's alarm goes there.")
    known = [step.key for step in STEPS]
    if unknown := [each for each in options.skip if each not in known]:
        raise Refusal(f"--skip {unknown[0]}: the steps are {', '.join(known)}.")
    with as_refusals():
        account = open_account(options.profile, options.region)
    where = ["--stack", options.stack, "--region", account.region]
    where += ["--profile", options.profile] if options.profile else []
    choices = Choices(
        email=options.email,
        budget_usd=options.budget_usd,
        image=options.image,
        fis_role=options.fis_role,
        allow=options.allow,
    )
    options.report.mkdir(mode=0o700, parents=True, exist_ok=True)
    world = World(account, options.stack, where, choices, options.report / "key")
    good = play(world, options.report, out, skip=options.skip)
    out.write(f"The report is in {options.report}/report.md and report.json.\n")
    return good


def main() -> int:
    """Run the command line; return the exit status."""
    protect_terminal()
    try:
        return 0 if run(parser().parse_args(), sys.stdout) else 1
    except Refusal as refusal:
        print(f"first-run: {refusal}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nfirst-run: stopped; run it again to continue", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
