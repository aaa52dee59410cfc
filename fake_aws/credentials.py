"""The access keys of the account and their owners."""

import secrets
import string
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

ALPHABET = string.ascii_uppercase + "234567"


class Credential(NamedTuple):
    """A key pair. *arn* and *user_id* are the identity in GetCallerIdentity's answer."""

    access_key: str
    secret: str
    session_token: str
    """Empty for long-lived keys."""
    expires_at: datetime | None
    arn: str
    user_id: str
    role: str = ""
    """The role's name, for a session; a user's name is in the ARN."""
    is_operator: bool = False
    """Whether every call is allowed, without a policy."""


class Keys:
    """The keys of the operator, of instances' roles, and those that IAM and STS have issued."""

    def __init__(self, account: str, access_key: str = "", secret: str = "") -> None:
        """Take the operator's keys as given, or draw random ones."""
        self._account = account
        self._known: dict[str, Credential] = {}
        self.operator = self._add(
            Credential(
                access_key=access_key or "AKIA" + _letters(16),
                secret=secret or secrets.token_urlsafe(30),
                session_token="",
                expires_at=None,
                arn=f"arn:aws:iam::{account}:user/operator",
                user_id="AIDA" + _letters(17),
                is_operator=True,
            )
        )

    def for_role(self, role: str, session: str, seconds: float, now: datetime) -> Credential:
        """Issue credentials for a session of *role*, valid for *seconds*."""
        return self._add(
            Credential(
                access_key="ASIA" + _letters(16),
                secret=secrets.token_urlsafe(30),
                session_token="IQoJ" + secrets.token_urlsafe(120),
                expires_at=now + timedelta(seconds=seconds),
                arn=f"arn:aws:sts::{self._account}:assumed-role/{role}/{session}",
                user_id=f"{self._role_id(role)}:{session}",
                role=role,
            )
        )

    def find(self, access_key: str) -> Credential | None:
        """Return the credential with this access key; None: the key is unknown."""
        return self._known.get(access_key) or self._made_by_moto(access_key)

    def _add(self, credential: Credential) -> Credential:
        self._known[credential.access_key] = credential
        return credential

    def _role_id(self, name: str) -> str:
        roles: dict[str, Any] = iam_backends[self._account]["aws"].roles
        for role in roles.values():
            if role.name == name:
                return str(role.id)
        return "AROA" + _letters(17)

    def _made_by_moto(self, access_key: str) -> Credential | None:
        for session in sts_backends[self._account]["aws"].assumed_roles:
            if session.access_key_id == access_key:
                return Credential(
                    access_key=access_key,
                    secret=session.secret_access_key,
                    session_token=session.session_token,
                    expires_at=session.expiration.replace(tzinfo=UTC),
                    arn=session.arn,
                    user_id=session.user_id,
                    role=session.role_arn.rpartition("/")[2],
                )
        for user in list(iam_backends[self._account]["aws"].users.values()):
            for key in user.access_keys:
                if key.access_key_id == access_key and key.status == "Active":
                    return Credential(
                        access_key=access_key,
                        secret=key.secret_access_key,
                        session_token="",
                        expires_at=None,
                        arn=user.arn,
                        user_id=user.id,
                    )
        return None


def _letters(count: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(count))
