"""Every instance that was ever launched, and which of them the cloud shows.

A launch is not seen at once, a terminated instance is shown for a while, and then it is gone: EC2
is eventually consistent, and whoever believes its first answer finds out here.
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
        """The gone ones too: the ledger's."""
        self._gone: set[str] = set()
        self.publish: Publish = _publish_nothing
        """Hears of changes of state, warnings and recommendations."""

    def add(self, instance: Instance) -> None:
        """A new one."""
        self.all[instance.id] = instance
        self.publish("state", instance, {"state": instance.state.label})

    def enter(self, instance: Instance, state: State) -> None:
        """It changes its state."""
        instance.state = state
        self.publish("state", instance, {"state": state.label})

    def forget(self, instance: Instance) -> None:
        """It is shown no more."""
        self._gone.add(instance.id)

    def is_visible(self, instance: Instance, now: datetime) -> bool:
        """Whether the cloud shows it."""
        return instance.visible_at <= now and instance.id not in self._gone

    def visible(self) -> list[Instance]:
        """What the cloud shows now, in the order of launching."""
        now = datetime.now(UTC)
        return [each for each in self.all.values() if self.is_visible(each, now)]

    def one(self, instance_id: str) -> Instance:
        """The truth about one, visible or not. Raises AwsError."""
        if instance_id not in self.all:
            raise not_found("InvalidInstanceID", [instance_id])
        return self.all[instance_id]

    def named(self, ids: list[str]) -> list[Instance]:
        """Those that a call names, each once; one that is not visible fails the whole call."""
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
