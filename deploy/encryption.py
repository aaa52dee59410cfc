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
from deploy.refusal import Refusal, code_of

AWS_OWN = "alias/aws/ebs"

USABLE = "Enabled"
"""https://docs.aws.amazon.com/kms/latest/developerguide/key-state.html"""

NOT_KNOWN = (
    "whether EBS's default key is yours is not known, since {call} has failed ({code}): the stack "
    "keeps {kept} for the launcher. If the key has changed, deploy again when it may be called."
)

OPERATIONS = (
    "Decrypt Encrypt GenerateDataKey GenerateDataKeyWithoutPlaintext CreateGrant DescribeKey "
    "ReEncryptFrom ReEncryptTo"
)

ROLES = {
    "spot.amazonaws.com": "AWSServiceRoleForEC2Spot",
    "autoscaling.amazonaws.com": "AWSServiceRoleForAutoScaling",
}


def choose_key(account: Account, before: str, warnings: list[str]) -> str:
    """Return the stack's parameter: the ARN of a customer's default key; empty: it is AWS's own.

    What may not be read keeps *before*, with a warning: an empty value would have CloudFormation
    delete the launcher's permission, and no job's instance would start. Raises `Refusal` for a key
    that encrypts nothing now.
    """
    try:
        key = _customer_key(account)
    except (BotoCoreError, ClientError) as error:
        call = getattr(error, "operation_name", "GetEbsDefaultKmsKeyId")
        kept = f"the permission of {before}" if before else "no permission of a key"
        warnings.append(NOT_KNOWN.format(call=call, code=_code(error), kept=kept))
        return before
    if key:
        warnings += remedies(account, key)
    return key


def _code(error: BotoCoreError | ClientError) -> str:
    return code_of(error) if isinstance(error, ClientError) else type(error).__name__


def _customer_key(account: Account) -> str:
    """Return the ARN of the default key, or nothing for AWS's own."""
    key = str(account.client("ec2").get_ebs_default_kms_key_id()["KmsKeyId"])
    if key == AWS_OWN:
        return ""
    try:
        found = account.client("kms").describe_key(KeyId=key)["KeyMetadata"]
    except ClientError as error:
        if code_of(error) != "NotFoundException":
            raise
        raise _unusable(account, key, "which does not exist") from error
    if found.get("KeyManager") != "CUSTOMER":
        return ""
    if (state := found.get("KeyState", USABLE)) != USABLE:
        raise _unusable(account, str(found["Arn"]), f"which is {state}")
    return str(found["Arn"])


def _unusable(account: Account, key: str, why: str) -> Refusal:
    return Refusal(
        f"EBS's default key is {key}, {why}: no instance could start. Enable it with `aws kms "
        f"enable-key --region {account.region} --key-id {key}`, or choose AWS's own with `aws ec2 "
        f"reset-ebs-default-kms-key-id --region {account.region}`."
    )


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
