"""Every instance that was ever launched, and whether the cloud shows it.

A launched instance is not visible at once, and a terminated one only for a while, since EC2 is
eventually consistent: a caller that trusts its first answer fails here.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fake_aws.errors import malformed, not_found
from fake_aws.instance import Instance, State

Params = dict[str, Any]
Publish = Callable[[str, Instance, Params], None]
ID_DIGITS = (8, 17)


class Registry:
    """The instances of the account."""

    def __init__(self) -> None:
        self.all: dict[str, Instance] = {}
        """By id, with those no longer shown: the ledger needs them."""
        self._gone: set[str] = set()
        self._hidden: dict[str, bool] = {}
        self.publish: Publish = _publish_nothing
        """Receives changes of state, interruption warnings and recommendations."""

    def add(self, instance: Instance) -> None:
        """Add a new instance."""
        self.all[instance.id] = instance
        self.publish("state", instance, {"state": instance.state.label})

    def enter(self, instance: Instance, state: State) -> None:
        """Change an instance's state."""
        instance.state = state
        self.publish("state", instance, {"state": state.label})

    def forget(self, instance: Instance) -> None:
        """Hide the instance from now on."""
        self._gone.add(instance.id)

    def hide(self, instance: Instance, *, by_id: bool) -> None:
        """Leave a living instance out of all lists, and with *by_id* do not find its id either.

        "This does not mean the instance does not exist":
        https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html
        """
        self._hidden[instance.id] = by_id

    def reveal(self) -> None:
        """Show every hidden instance again."""
        self._hidden.clear()

    def is_visible(self, instance: Instance, now: datetime) -> bool:
        """Return True if the cloud knows the instance by its id."""
        hidden = self._hidden.get(instance.id, False)
        return instance.visible_at <= now and instance.id not in self._gone and not hidden

    def visible(self) -> list[Instance]:
        """Return the visible instances, in the order of their launches."""
        now = datetime.now(UTC)
        return [
            each
            for each in self.all.values()
            if self.is_visible(each, now) and each.id not in self._hidden
        ]

    def one(self, instance_id: str) -> Instance:
        """Return an instance, visible or not. Raises AwsError."""
        if instance_id not in self.all:
            raise not_found("InvalidInstanceID", [instance_id])
        return self.all[instance_id]

    def named(self, ids: list[str]) -> list[Instance]:
        """Return the named instances, each once. Raises AwsError if one is not visible."""
        for each in ids:
            if not (each.startswith("i-") and _is_hex(each[2:])):
                raise malformed("InvalidInstanceID", each)
        now = datetime.now(UTC)
        known = {
            each: self.all[each]
            for each in ids
            if each in self.all and self.is_visible(self.all[each], now)
        }
        unknown = [each for each in ids if each not in known]
        if unknown:
            raise not_found("InvalidInstanceID", unknown)
        return list(known.values())


def _is_hex(text: str) -> bool:
    return len(text) in ID_DIGITS and all(each in "0123456789abcdef" for each in text)


def _publish_nothing(_kind: str, _instance: Instance, _detail: Params) -> None:
    pass
