"""The results' file of `make bench`: it is written after every run."""

from pathlib import Path

import msgspec

from bench.keep import Kept
from bench.report import Figure, at_most
from bench.run import Run
from bench.servers import Servers


def run(number: int, p99: float) -> Run:
    found = Run(Servers("", "", "", {}), quick=True, number=number)
    found.figures.append(Figure(part="due", name="p99", value=p99, unit="ms", goals=(at_most(50),)))
    found.lateness["a burst"] = [0.1, 0.2]
    return found


def test_every_run_is_kept_with_the_load_around_it(tmp_path: Path) -> None:
    out = tmp_path / "made" / "results.json"
    kept = Kept.begun(out, quick=True, whole=False)
    kept.versions["Postgres"] = "17.2"
    kept.add(run(1, 40), [0.1, 0.2, 0.3])
    assert msgspec.json.decode(out.read_bytes())["runs"] == 1
    kept.add(run(2, 60), [0.4, 0.2, 0.3])
    kept.add(run(3, 45), [0.5, 0.2, 0.3])

    content = msgspec.json.decode(out.read_bytes())
    assert content["goals"] == ["met: due: p99: ≤ 50 ms: 45 (40 to 60), in 2 of 3"]
    assert content["runs_with_all_goals_met"] == 2
    assert [each["before"][0] for each in content["load"]["runs"]] == [0.1, 0.4, 0.5]
    assert content["machine"]["processors"] > 0
    assert content["versions"] == {"Postgres": "17.2"}
    assert content["figures"][0]["values"] == [40, 60, 45]
    assert "a burst" in out.with_suffix(".svg").read_text()


def test_the_report_ends_with_the_goals(tmp_path: Path) -> None:
    kept = Kept.begun(tmp_path / "results.json", quick=True, whole=False)
    kept.add(run(1, 40), [0, 0, 0])
    assert kept.report().splitlines()[-2:] == [
        "met: due: p99: ≤ 50 ms: 40, in 1 of 1",
        "all goals that decide, in one run: in 1 of 1",
    ]


def test_a_part_or_a_small_run_is_kept_beside_the_whole(tmp_path: Path) -> None:
    assert Kept.begun(None, quick=True, whole=False).out.name.endswith("-partial.json")
    assert "partial" not in Kept.begun(None, quick=False, whole=True).out.name
    assert Kept.begun(tmp_path / "x.json", quick=True, whole=False).out == tmp_path / "x.json"
