"""The audit: what counts as checked, and what fails it."""

import json
from pathlib import Path

import pytest

from supply_chain import audit
from supply_chain.audit import LOCKS, SHIPPED, Audited, main, read, report

ROOT = Path(__file__).parents[2]
GOOD = {"name": "good", "version": "1", "vulns": []}
BAD = {"name": "bad", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3", "2.1"]}]}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found on PyPI"}


def answer(*dependencies: object) -> str:
    """Return the JSON that pip-audit prints."""
    return json.dumps({"dependencies": list(dependencies), "fixes": []})


def test_a_vulnerable_package_is_a_finding() -> None:
    found = read(answer(GOOD, BAD), "Found 1 known vulnerability in 1 package")
    assert found == Audited(2, ("bad 2: PYSEC-1, fixed in 3, 2.1",))
    assert report("r.txt", found) == [
        "vulnerable: bad 2: PYSEC-1, fixed in 3, 2.1 (r.txt)",
        "r.txt: 2 packages checked, 1 findings",
    ]


def test_what_no_service_has_answered_for_is_named_as_not_checked() -> None:
    for output, errors in ((answer(UNKNOWN), ""), ("", "ConnectionError: no such host")):
        found = read(output, errors)
        assert not found.checked
        [line] = report("r.txt", found)
        assert line.startswith("not checked: ")
        assert "r.txt" in line
    partly = report("r.txt", read(answer(GOOD, UNKNOWN), ""))
    assert partly[0] == "r.txt: 1 packages checked, 0 findings"
    assert partly[1].startswith("not checked: 1 packages of r.txt")


def test_every_lock_file_is_audited() -> None:
    assert {each.name for each in ROOT.glob("requirements*.txt")} == set(LOCKS)
    assert set(SHIPPED) <= set(LOCKS)


def tools(place: Path, printed: str) -> Path:
    """Make stand-ins for the two programs; pip-audit prints *printed*."""
    (place / "answer").write_text(printed)
    pip_audit = f'#!/bin/sh\necho "$3" >> {place}/asked\ncat {place}/answer\n'
    bill = '#!/bin/sh\nfor each; do last=$each; done\necho \'{"components": [1, 2]}\' > "$last"\n'
    for name, script in (("pip-audit", pip_audit), ("cyclonedx-py", bill)):
        (place / name).write_text(script)
        (place / name).chmod(0o755)
    return place


@pytest.mark.parametrize(
    ("printed", "status", "asked"),
    [(answer(GOOD), 0, len(LOCKS)), (answer(BAD), 1, len(LOCKS)), (answer(UNKNOWN), 0, 1),
     ("no JSON", 0, 1)],
)  # fmt: skip
def test_only_a_finding_fails_the_audit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], printed: str, status: int, asked: int
) -> None:
    assert main(tools(tmp_path, printed), tmp_path / "bills") == status
    shown = capsys.readouterr().out
    assert len((tmp_path / "asked").read_text().splitlines()) == asked
    assert ("not checked" in shown) is (asked == 1)
    assert sorted(each.name for each in (tmp_path / "bills").iterdir()) == [
        "docker-job-client.cdx.json", "docker-job-rehearsal.cdx.json", "docker-job.cdx.json",
    ]  # fmt: skip


@pytest.mark.skipif(
    not (ROOT / ".venv" / "audit" / "bin" / "cyclonedx-py").exists(),
    reason="needs `make audit`'s environment",
)
def test_a_bill_of_materials_names_each_package_with_its_url_and_hashes(tmp_path: Path) -> None:
    file = tmp_path / "docker-job.cdx.json"
    count = audit.write_bill(ROOT / ".venv" / "audit" / "bin", "requirements.txt", file)
    bill = json.loads(file.read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["name"] == "docker-job"
    pinned = [line for line in Path("requirements.txt").read_text().splitlines() if "==" in line]
    assert count == len(pinned)
    for each in bill["components"]:
        assert each["purl"] == f"pkg:pypi/{each['name'].lower()}@{each['version']}"
        assert any(reference.get("hashes") for reference in each["externalReferences"])
    print(f"{count} of {len(pinned)} packages are in the bill of materials, with hashes")
