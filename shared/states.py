"""State machines, each declared once as data: the transitions between its states."""

from collections.abc import Mapping

Transitions = Mapping[str, frozenset[str]]
"""State -> the states that may follow it. A state that nothing follows is settled."""


def sources(transitions: Transitions, target: str) -> list[str]:
    """Return the states that may become *target*: the guard of an UPDATE to it."""
    return sorted(state for state, following in transitions.items() if target in following)


def settled(transitions: Transitions) -> frozenset[str]:
    """Return the states that nothing follows."""
    return frozenset(state for state, following in transitions.items() if not following)


def unsettled(transitions: Transitions) -> list[str]:
    """Return the states that another one may follow."""
    return sorted(state for state, following in transitions.items() if following)
