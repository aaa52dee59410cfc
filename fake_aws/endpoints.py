"""The regions of a service: those of the account's partition, and for the Price List a few.

Credentials of one partition are not known in another. A service without an endpoint in a region has
no name there that DNS knows; here the call is refused.
https://docs.aws.amazon.com/general/latest/gr/billing.html
"""

from fake_aws.errors import AwsError

PRICE_LIST = {
    "aws": frozenset({"us-east-1", "eu-central-1", "ap-south-1"}),
    "aws-cn": frozenset({"cn-northwest-1"}),
    "aws-eusc": frozenset({"eusc-de-east-1"}),
}
PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov", "eusc-": "aws-eusc"}
"""By the beginning of the region's name; any other region is of `aws`."""


def partition_of(region: str) -> str:
    """Return the partition of a region."""
    return next((each for name, each in PARTITIONS.items() if region.startswith(name)), "aws")


def check_endpoint(service: str, called: str, own: str) -> None:
    """Check that an account of region *own* may call *service* in region *called*."""
    if not called:
        return  # it is not signed, which is refused elsewhere
    partition = partition_of(own)
    if partition_of(called) != partition:
        message = "The security token included in the request is invalid."
        raise AwsError("UnrecognizedClientException", message)
    if service == "pricing" and called not in PRICE_LIST.get(partition, ()):
        raise AwsError("UnknownEndpoint", f"There is no Price List API in {called}.", 404)
