"""This checkout as an archive, named by its hash, and the bucket that the instance fetches it from.

docker-job is not published, so the deployment is of this checkout. The archive of the same files is
the same byte for byte: an unchanged checkout gives an unchanged stack.
"""

import gzip
import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from deploy.account import Account
from deploy.refusal import Refusal, code_of

ROOT = Path(__file__).resolve().parent.parent

PARTS = (
    *("Dockerfile", ".dockerignore", ".empty", "LICENSE", "compose.yaml", "images.lock"),
    "requirements.txt",
    *(
        "agent",
        "services",
        "shared",
        "operations",
        "embedded",
        "deploy/compose.aws.yaml",
        "deploy/compose.logs.yaml",
        "deploy/compose.plain.yaml",
    ),
    *("deploy/backup.sh", "deploy/rotate.sh", "deploy/instance"),
)
"""The files that the instance needs: to build the images and to start them."""

LEFT_OUT = ("__pycache__", ".pyc")


@dataclass(frozen=True)
class Source:
    """The archive's bytes and their names."""

    body: bytes

    @property
    def sha256(self) -> str:
        """The hash of the archive."""
        return hashlib.sha256(self.body).hexdigest()

    @property
    def key(self) -> str:
        """The key in the bucket."""
        return f"source/{self.sha256}.tar.gz"


def pack(root: Path = ROOT) -> Source:
    """Make the archive. Raises `Refusal` where a part is missing."""
    packed = io.BytesIO()
    # No time in the gzip header, none in the entries: the bytes depend on the files alone.
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", filename="", mtime=0) as squeezed,
        tarfile.open(fileobj=squeezed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in _files(root):
            content = path.read_bytes()
            entry = tarfile.TarInfo(path.relative_to(root).as_posix())
            entry.size = len(content)
            entry.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return Source(packed.getvalue())


def _files(root: Path) -> list[Path]:
    found: list[Path] = []
    for part in PARTS:
        place = root / part
        if not place.exists():
            raise Refusal(f"{place} is missing: run this from a complete checkout of docker-job.")
        found += (
            [place] if place.is_file() else [each for each in place.rglob("*") if each.is_file()]
        )
    return sorted(each for each in found if not any(part in str(each) for part in LEFT_OUT))


def bucket_name(account: Account, stack: str) -> str:
    """Return the name of the stack's bucket: a function of account, region and stack.

    Bucket names are short and in lower case, stack names need not be, hence the hash.
    """
    digest = hashlib.sha256(f"{account.account_id}/{account.region}/{stack}".encode()).hexdigest()
    return f"docker-job-{account.account_id}-{digest[:16]}"


def upload(account: Account, stack: str, source: Source) -> str:
    """Upload the archive for the instance; return the bucket."""
    bucket = bucket_name(account, stack)
    s3 = account.client("s3")
    _ensure_bucket(account, s3, bucket)
    owner = account.account_id  # a bucket of that name in another account is refused
    try:
        s3.head_object(Bucket=bucket, Key=source.key, ExpectedBucketOwner=owner)
    except ClientError as error:
        if code_of(error) not in ("404", "NoSuchKey", "NotFound"):
            raise
        s3.put_object(Bucket=bucket, Key=source.key, Body=source.body, ExpectedBucketOwner=owner)
    return bucket


def _ensure_bucket(account: Account, client: Any, bucket: str) -> None:
    owner = account.account_id
    try:
        client.head_bucket(Bucket=bucket, ExpectedBucketOwner=owner)
    except ClientError as error:
        if code_of(error) not in ("404", "NoSuchBucket", "NotFound"):
            raise
        where = {"CreateBucketConfiguration": {"LocationConstraint": account.region}}
        client.create_bucket(Bucket=bucket, **({} if account.region == "us-east-1" else where))
    client.put_public_access_block(
        Bucket=bucket,
        ExpectedBucketOwner=owner,
        PublicAccessBlockConfiguration=dict.fromkeys(
            ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"),
            True,
        ),
    )
