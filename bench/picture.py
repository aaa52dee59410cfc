"""A drawing of lateness: the share of jobs handed on, by seconds after their due time."""

from collections.abc import Callable, Mapping, Sequence

WIDTH, HEIGHT = 760, 360
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 40, 50
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b")


def lateness_svg(series: Mapping[str, Sequence[float]], title: str) -> str:
    """Draw one cumulative curve a series; *series* are seconds of lateness by name."""
    longest = max((max(values) for values in series.values() if values), default=1.0)
    step = _step(longest)
    right = step * (int(longest / step) + 1)

    def x(seconds: float) -> float:
        return LEFT + max(0.0, seconds) / right * (WIDTH - LEFT - RIGHT)

    def y(share: float) -> float:
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    parts = [*_axes(title, right, step, x, y)]
    for place, (name, values) in enumerate(series.items()):
        colour = COLOURS[place % len(COLOURS)]
        ordered = sorted(values)
        every = max(1, len(ordered) // 400)
        points = [
            f"{x(value):.1f},{y((index + 1) / len(ordered)):.1f}"
            for index, value in enumerate(ordered)
            if index % every == 0 or index == len(ordered) - 1
        ]
        parts += [
            (
                f'<polyline fill="none" stroke="{colour}" stroke-width="2" '
                f'points="{" ".join(points)}"/>'
            ),
            (
                f'<text x="{WIDTH - RIGHT - 8}" y="{HEIGHT - BOTTOM - 12 - 16 * place}" '
                f'text-anchor="end" fill="{colour}">{name}</text>'
            ),
        ]
    return "\n".join([*parts, "</svg>\n"])


def _axes(
    title: str,
    right: float,
    step: float,
    x: Callable[[float], float],
    y: Callable[[float], float],
) -> list[str]:
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            'font-family="sans-serif" font-size="12">'
        ),
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="14">{title}</text>',
    ]
    for share in (0, 0.25, 0.5, 0.75, 0.99):
        parts += [
            _line(LEFT, y(share), WIDTH - RIGHT, y(share)),
            f'<text x="{LEFT - 8}" y="{y(share) + 4:.1f}" text-anchor="end">{share:.0%}</text>',
        ]
    for tick in range(int(right / step + 0.5) + 1):
        at = x(tick * step)
        parts += [
            _line(at, TOP, at, HEIGHT - BOTTOM),
            (
                f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">'
                f"{tick * step:g} s</text>"
            ),
        ]
    return parts


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def _step(longest: float) -> float:
    """Return a round distance between two marks, for about eight marks."""
    for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50):
        if longest / step <= 8:
            return step
    return 100.0
