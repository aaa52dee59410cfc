"""The account's default key of EBS, with which every disk here is encrypted.

AWS's own key (`aws/ebs`) needs nothing. A customer-managed key must admit whoever launches: the
launcher's role, for Spot instances the service-linked role of Spot, and that of Auto Scaling for
the services' instance. Without that an instance is terminated right after its launch, with
`Client.InternalError`. Sources:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-requests.html (the grant for Spot),
https://docs.aws.amazon.com/autoscaling/ec2/userguide/key-policy-requirements-EBS-encryption.html,
https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html.
"""

from botocore.exceptions import BotoCoreError, ClientError

from deploy.account import Account

AWS_OWN = "alias/aws/ebs"

OPERATIONS = (
    "Decrypt Encrypt GenerateDataKey GenerateDataKeyWithoutPlaintext CreateGrant DescribeKey "
    "ReEncryptFrom ReEncryptTo"
)

ROLES = {
    "spot.amazonaws.com": "AWSServiceRoleForEC2Spot",
    "autoscaling.amazonaws.com": "AWSServiceRoleForAutoScaling",
}


def customer_key(account: Account) -> str | None:
    """Return the ARN of the default key if it is a customer's; None: it is AWS's, or not known."""
    try:
        key = str(account.client("ec2").get_ebs_default_kms_key_id()["KmsKeyId"])
        if key == AWS_OWN:
            return None
        found = account.client("kms").describe_key(KeyId=key)["KeyMetadata"]
    except (BotoCoreError, ClientError):
        return None  # not allowed to look: AWS refuses the launch with a reason then
    return str(found["Arn"]) if found.get("KeyManager") == "CUSTOMER" else None


def remedies(account: Account, key: str) -> list[str]:
    """Return the commands that admit the service-linked roles to the key."""
    commands = [
        f"aws kms create-grant --region {account.region} --key-id {key} --grantee-principal "
        f"arn:{account.partition}:iam::{account.account_id}:role/aws-service-role/{service}/{role} "
        f"--operations {OPERATIONS}"
        for service, role in ROLES.items()
        if not _has_grant(account, key, role)
    ]
    if not commands:
        return []
    text = (
        f"EBS's default key is {key}, which is yours: unless its policy admits the service-linked "
        f"roles, no instance starts. Once: {'; '.join(commands)}"
    )
    return [text]


def _has_grant(account: Account, key: str, role: str) -> bool:
    pages = account.client("kms").get_paginator("list_grants")
    try:
        return any(
            str(grant.get("GranteePrincipal", "")).endswith(role)
            and "CreateGrant" in grant["Operations"]
            for page in pages.paginate(KeyId=key)
            for grant in page["Grants"]
        )
    except (BotoCoreError, ClientError):
        return False
