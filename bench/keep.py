"""The results: a JSON file with the machine and its load, and the printed report."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench import machine
from bench.picture import lateness_svg
from bench.run import Run
from bench.show import as_json, cpu_table, figures_table, goal_lines
from bench.summary import runs_with_all_met, summarize
from bench.system import OURS

RESULTS = Path(__file__).parent / "results"
TITLE = "Jobs due at one time: the share handed on after a number of seconds"


@dataclass
class Kept:
    """The results so far, written to *out* after every run."""

    out: Path
    quick: bool
    at: datetime
    commit: str
    machine: dict[str, object]
    load_before: list[float]
    versions: dict[str, str] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    loads: list[dict[str, object]] = field(default_factory=list)

    @classmethod
    def begun(cls, out: Path | None, *, quick: bool, whole: bool) -> "Kept":
        """Begin without results, on the machine as it is now. *whole*: all parts, in full size."""
        now = datetime.now(UTC)
        name = f"{now:%Y-%m-%d}{'' if whole else '-partial'}.json"
        return cls(
            out=out or RESULTS / name,
            quick=quick,
            at=now,
            commit=machine.commit(OURS),
            machine=machine.describe(),
            load_before=machine.load(),
        )

    def add(self, run: Run, load: list[float]) -> None:
        """Add *run*, before which the machine had *load*."""
        self.runs.append(run)
        self.loads.append({"before": load, "after": machine.load()})
        self._write()

    def report(self) -> str:
        """Return the printed report: the figures, their CPU time, the goals."""
        figures = [run.figures for run in self.runs]
        summaries = summarize(figures)
        runs = len(self.runs)
        together = f"all goals that decide, in one run: in {runs_with_all_met(figures)} of {runs}"
        parts = [figures_table(summaries), cpu_table(summaries)]
        return "\n\n".join([*filter(None, parts), "\n".join([*goal_lines(summaries), together])])

    def _write(self) -> None:
        figures = [run.figures for run in self.runs]
        summaries = summarize(figures)
        last = self.runs[-1]
        baseline = last.baseline
        content = {
            "at": self.at,
            "commit": self.commit,
            "baseline": baseline
            and {"commit": baseline.commit, "same_packages": baseline.same_packages},
            "quick": self.quick,
            "runs": len(self.runs),
            "seconds": round((datetime.now(UTC) - self.at).total_seconds()),
            "machine": self.machine,
            "load": {"before": self.load_before, "runs": self.loads, "after": machine.load()},
            "versions": self.versions,
            "goals": goal_lines(summaries),
            "runs_with_all_goals_met": runs_with_all_met(figures),
            "figures": as_json(summaries),
        }
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self.out.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")
        if last.lateness:
            self.out.with_suffix(".svg").write_text(
                lateness_svg(last.lateness, TITLE), encoding="utf-8"
            )
