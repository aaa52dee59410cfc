"""Summaries as tables and as JSON."""

from collections.abc import Sequence

from bench.summary import Spread, Summary, Verdict

VERDICTS = {True: "met", False: "NOT MET", None: "not measured"}


def number(value: float) -> str:
    """Format with four digits, or as a whole number where it has more."""
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def spread_words(spread: Spread, *, digits: int | None = None) -> str:
    """Format the median, and the range where there is one."""
    median, least, most = (
        number(value) if digits is None else f"{value:,.{digits}f}"
        for value in (spread.median, spread.least, spread.most)
    )
    return median if least == most else f"{median} ({least} to {most})"


def figures_table(summaries: Sequence[Summary]) -> str:
    """Format one line a figure: the median of all runs (least to most), and its ceiling."""
    rows = [["", "figure", "found", "", "ratio", "of"]]
    for each in summaries:
        ceiling = each.ceiling
        against = f"{each.ceiling_name}, {spread_words(ceiling)}" if ceiling else ""
        ratio = spread_words(each.ratio, digits=2) if each.ratio else ""
        first = each.first
        rows.append([first.part, first.name, spread_words(each.value), first.unit, ratio, against])
    return _aligned(rows)


def cpu_table(summaries: Sequence[Summary]) -> str:
    """Format CPU time in µs a job, one line a figure, one column a process; "" for none."""
    with_cpu = [each for each in summaries if each.cpu_us]
    if not with_cpu:
        return ""
    processes = list(dict.fromkeys(name for each in with_cpu for name in each.cpu_us))
    rows = [["", "CPU time, µs a job", "all", *processes]]
    for each in with_cpu:
        cpu = each.cpu_us
        cells = [f"{cpu[name]:,.0f}" if name in cpu else "-" for name in processes]
        rows.append([each.first.part, each.first.name, f"{sum(cpu.values()):,.0f}", *cells])
    return _aligned(rows, right_from=2)


def goal_lines(summaries: Sequence[Summary]) -> list[str]:
    """Format one line a goal: those that decide, then those aside."""
    judged = [(each, verdict) for each in summaries for verdict in each.verdicts]
    judged.sort(key=lambda pair: pair[1].goal.aside)
    return [_goal_line(each, verdict) for each, verdict in judged]


def _goal_line(summary: Summary, verdict: Verdict) -> str:
    goal, first = verdict.goal, summary.first
    if goal.is_ratio:
        ceiling = summary.ceiling_name or "a ceiling that was not run"
        target = f"ratio {goal.sign} {goal.limit:.3g} of {ceiling}"
    else:
        target = f"{goal.sign} {goal.limit:,.6g} {first.unit}"
    line = f"{VERDICTS[verdict.is_met]}: {first.part}: {first.name}: {target}"
    if verdict.found is not None:
        found = spread_words(verdict.found, digits=2 if goal.is_ratio else None)
        line += f": {found}, in {verdict.met} of {verdict.runs}"
    return line + (" (aside)" if goal.aside else "")


def as_json(summaries: Sequence[Summary]) -> list[dict[str, object]]:
    """Return the figures for the results' file."""
    return [
        {
            "part": each.first.part,
            "name": each.first.name,
            "unit": each.first.unit,
            "value": _rounded(each.value),
            "values": [round(figure.value, 3) for figure in each.figures],
            "ceiling": each.ceiling_name or None,
            "ceiling_value": each.ceiling and _rounded(each.ceiling),
            "ratio": each.ratio and _rounded(each.ratio),
            "ratios": [
                None if figure.ratio is None else round(figure.ratio, 3) for figure in each.figures
            ],
            "cpu_us_a_job": {key: round(value, 1) for key, value in each.cpu_us.items()},
            "detail": {key: round(value, 3) for key, value in each.detail.items()},
        }
        for each in summaries
    ]


def _rounded(spread: Spread) -> dict[str, float]:
    return {
        "median": round(spread.median, 3),
        "least": round(spread.least, 3),
        "most": round(spread.most, 3),
    }


def _aligned(rows: Sequence[Sequence[str]], right_from: int = 99) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column >= right_from else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
