"""Quotas of an account and its key for volumes: calls that moto does not answer."""

from typing import Any

from fake_aws.errors import AwsError
from fake_aws.pools import Pools

Params = dict[str, Any]
NO_LIMIT = 10_000.0
"""The quota of a cloud without a limit."""

AWS_KEY = "alias/aws/ebs"
"""The key that AWS manages: EC2 encrypts volumes with it unless the account names another."""


class AccountCalls:
    """The calls about the account itself."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self.volume_key = AWS_KEY

    def service_quota(self, params: Params) -> Params:
        """GetServiceQuota of Service Quotas: the applied value."""
        try:
            limit = self._pools.quotas.limit_of(params["QuotaCode"])
        except KeyError as error:
            raise AwsError("NoSuchResourceException", "The quota is not known.") from error
        quota = {
            "ServiceCode": "ec2",
            "QuotaCode": params["QuotaCode"],
            "QuotaName": params["QuotaCode"],
            "Value": NO_LIMIT if limit is None else float(limit),
            "Adjustable": True,
            "GlobalQuota": False,
        }
        return {"Quota": quota}

    def volume_key_id(self, _params: Params) -> Params:
        """GetEbsDefaultKmsKeyId."""
        return {"KmsKeyId": self.volume_key}
