"""`make audit`: writes bills of materials, and looks up known vulnerabilities of locked packages.

A bill of materials is CycloneDX JSON (https://cyclonedx.org/specification/overview/), made from a
lock file by `cyclonedx-py`: each package with its version, its package URL and the hashes that are
accepted. `pip-audit` asks PyPI for advisories. What it could not ask is named as not checked, since
an audit that asked nobody finds nothing. Only a finding fails: exit status 1.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

LOCKS = (
    "requirements.txt",
    "requirements-client.txt",
    "requirements-rehearsal.txt",
    "requirements-dev.txt",
    "requirements-emulators.txt",
    "requirements-audit.txt",
)
SHIPPED = {
    "requirements.txt": "docker-job",
    "requirements-client.txt": "docker-job-client",
    "requirements-rehearsal.txt": "docker-job-rehearsal",
}
"""The lock files of what a release contains, and the names of their bills of materials."""

PROJECTS = {"requirements-client.txt": "client/pyproject.toml"}
"""The project that a bill of materials describes, where it is another than ours."""

SECONDS = 300
TIMEOUT_SECONDS = 10
"""The time for one request to the advisories' service."""


@dataclass(frozen=True)
class Audited:
    """The answer for one lock file."""

    checked: int
    findings: tuple[str, ...] = ()
    not_checked: tuple[str, ...] = ()
    """Packages for which no answer came; with `reason` alone: all of them."""

    reason: str = ""


def read(output: str, errors: str) -> Audited:
    """Read what `pip-audit --format json` has printed; *errors*: its standard error."""
    try:
        dependencies = json.loads(output)["dependencies"]
    except (ValueError, LookupError, TypeError):
        last = (errors.strip().splitlines() or ["pip-audit printed nothing"])[-1]
        return Audited(0, reason=last)
    findings, skipped = [], []
    for each in dependencies:
        if "skip_reason" in each:
            skipped.append(str(each["name"]))
        for found in each.get("vulns", ()):
            fixed = ", ".join(found.get("fix_versions") or ()) or "no version yet"
            findings.append(f"{each['name']} {each['version']}: {found['id']}, fixed in {fixed}")
    reason = "the advisories' service has no answer for it" if skipped else ""
    checked = len(dependencies) - len(skipped)
    return Audited(checked, tuple(findings), tuple(skipped), reason)


def audit(tools: Path, lock: str) -> Audited:
    """Ask for the vulnerabilities of the packages of *lock*."""
    command = (
        *(str(tools / "pip-audit"), "--requirement", lock, "--require-hashes", "--disable-pip"),
        *("--format", "json", "--progress-spinner", "off", "--timeout", str(TIMEOUT_SECONDS)),
    )
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Audited(0, reason=f"no answer within {SECONDS} s")
    return read(done.stdout, done.stderr)


def write_bill(tools: Path, lock: str, file: Path) -> int:
    """Write the bill of materials of *lock*; return how many packages it lists.

    Raises `CalledProcessError`.
    """
    subprocess.run(
        (
            *(str(tools / "cyclonedx-py"), "requirements", lock, "--output-reproducible"),
            *("--pyproject", PROJECTS.get(lock, "pyproject.toml")),
            *("--output-format", "JSON", "--spec-version", "1.6", "--output-file", str(file)),
        ),
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return len(json.loads(file.read_text())["components"])


def report(lock: str, found: Audited) -> list[str]:
    """Return the lines of a lock file's audit."""
    lines = [f"vulnerable: {each} ({lock})" for each in found.findings]
    if found.checked:
        lines.append(f"{lock}: {found.checked} packages checked, {len(found.findings)} findings")
    if found.reason:
        what = f"{len(found.not_checked)} packages of {lock}" if found.not_checked else lock
        lines.append(f"not checked: {what} ({found.reason})")
    return lines


def main(tools: Path, place: Path) -> int:
    """Write the bills of materials to *place* and print the audit; return the exit status."""
    place.mkdir(parents=True, exist_ok=True)
    for lock, name in SHIPPED.items():
        file = place / f"{name}.cdx.json"
        print(f"{file}: {write_bill(tools, lock, file)} packages")
    status = 0
    for at, lock in enumerate(LOCKS):
        found = audit(tools, lock)
        for line in report(lock, found):
            print(ascii(line)[1:-1])
        status |= bool(found.findings)
        if not found.checked:
            print(f"not checked either: {', '.join(LOCKS[at + 1 :])}")
            break
    return status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
