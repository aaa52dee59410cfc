"""The certificate of the deployment's own authority, by which users verify the API.

The instance has put it into SSM, where AWS proves it; it is kept in a file for `curl --cacert`.
"""

import os
import tempfile
from pathlib import Path

from botocore.exceptions import ClientError

from deploy.account import Account
from deploy.refusal import code_of


def parameter_name(stack: str) -> str:
    """Return the name of the parameter that holds the certificate."""
    return f"/docker-job/{stack}/ca_certificate"


def read(account: Account, stack: str) -> str | None:
    """Return the certificate, in PEM; None: the instance has not put it there."""
    try:
        found = account.client("ssm").get_parameter(Name=parameter_name(stack))["Parameter"]
    except ClientError as error:
        if code_of(error) != "ParameterNotFound":
            raise
        return None
    return str(found["Value"]) + "\n"


def file_of(account: Account, stack: str) -> Path:
    """Return the file for the certificate, beside the configuration of `docker-job`."""
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
    name = f"ca-{stack}-{account.region}-{account.account_id}.pem"
    return Path(home) / "docker-job" / name


def save(path: Path, content: str) -> None:
    """Write the file whole. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        os.fchmod(descriptor, 0o644)
        file.write(content)
    Path(name).replace(path)


def command(account: Account, stack: str) -> str:
    """Return the command by which another user gets the certificate."""
    return (
        f"aws ssm get-parameter --region {account.region} --name {parameter_name(stack)} "
        "--query Parameter.Value --output text > ca.pem"
    )
