"""State machines declared once, as data: which states may become which."""

from collections.abc import Mapping

Transitions = Mapping[str, frozenset[str]]
"""State -> the states that may follow it. A state that nothing follows is settled."""


def sources(transitions: Transitions, target: str) -> list[str]:
    """The states that may become *target*: what an UPDATE to it is guarded with."""
    return sorted(state for state, following in transitions.items() if target in following)


def settled(transitions: Transitions) -> frozenset[str]:
    """The states that nothing follows."""
    return frozenset(state for state, following in transitions.items() if not following)
