"""List prices of common types, for when the Price List API cannot be asked. In USD.

The instances are those of us-east-1 as the Price List API had them on `TABLE_AS_OF`, by way of
https://github.com/aws/karpenter-provider-aws/blob/main/pkg/providers/pricing/zz_generated.pricing_aws.go
The families of `SAME_IN` cost the same in the regions there, by the public price list of
https://aws.amazon.com/ec2/pricing/on-demand/. What is not here is not known.
"""

TABLE_AS_OF = "2026-07-20"

SAME_IN = ("us-east-1", "us-east-2", "us-west-2")
# The size `large` (2 vCPUs). Other sizes of a family cost in proportion.
# fmt: off
LARGE_USD: dict[str, float] = {
    "c5": 0.085, "c5a": 0.077, "c6a": 0.0765, "c6i": 0.085, "c7a": 0.10264, "c7i": 0.08925,
    "m5": 0.096, "m5a": 0.086, "m6a": 0.0864, "m6i": 0.096, "m7a": 0.11592, "m7i": 0.1008,
    "r5": 0.126, "r5a": 0.113, "r6a": 0.1134, "r6i": 0.126, "r7a": 0.15215, "r7i": 0.1323,
    "c6g": 0.068, "c7g": 0.0725, "m6g": 0.077, "m7g": 0.0816, "r6g": 0.1008, "r7g": 0.1071,
}
US_EAST_1_LARGE_USD: dict[str, float] = {
    "c8a": 0.10777, "c8g": 0.07976, "c8i": 0.09371, "c7i-flex": 0.08479, "c8i-flex": 0.08902,
    "m8a": 0.12172, "m8g": 0.08976, "m8i": 0.10584, "m7i-flex": 0.09576, "m8i-flex": 0.10055,
    "r8a": 0.15976, "r8g": 0.11782, "r8i": 0.13892, "r8i-flex": 0.13197,
    "c5d": 0.096, "c6id": 0.1008, "c7gd": 0.0907, "c8gd": 0.09798,
    "m5d": 0.113, "m6id": 0.11865, "m7gd": 0.1068, "m8gd": 0.11532,
    "t3": 0.0832, "t3a": 0.0752, "t4g": 0.0672,
}
# Types with GPUs, whose sizes do not cost in proportion.
US_EAST_1_USD: dict[str, float] = {
    "g4dn.xlarge": 0.526, "g4dn.2xlarge": 0.752, "g4dn.4xlarge": 1.204, "g4dn.8xlarge": 2.176,
    "g4dn.12xlarge": 3.912, "g4dn.16xlarge": 4.352, "g4dn.metal": 7.824,
    "g5.xlarge": 1.006, "g5.2xlarge": 1.212, "g5.4xlarge": 1.624, "g5.8xlarge": 2.448,
    "g5.12xlarge": 5.672, "g5.16xlarge": 4.096, "g5.24xlarge": 8.144, "g5.48xlarge": 16.288,
    "g6.xlarge": 0.8048, "g6.2xlarge": 0.9776, "g6.4xlarge": 1.3232, "g6.8xlarge": 2.0144,
    "g6.12xlarge": 4.6016, "g6.16xlarge": 3.3968, "g6.24xlarge": 6.6752, "g6.48xlarge": 13.3504,
    "g6e.xlarge": 1.861, "g6e.2xlarge": 2.24208, "g6e.4xlarge": 3.00424, "g6e.8xlarge": 4.52856,
    "g6e.12xlarge": 10.49264, "g6e.16xlarge": 7.57719, "g6e.24xlarge": 15.06559,
    "g6e.48xlarge": 30.13118,
    "g5g.xlarge": 0.42, "g5g.2xlarge": 0.556, "g5g.4xlarge": 0.828, "g5g.8xlarge": 1.372,
    "g5g.16xlarge": 2.744,
}
# fmt: on
SIZES: dict[str, float] = {
    "nano": 1 / 16,
    "micro": 1 / 8,
    "small": 1 / 4,
    "medium": 1 / 2,
    "large": 1,
    "xlarge": 2,
    **{f"{count}xlarge": 2.0 * count for count in (2, 3, 4, 6, 8, 9, 12, 16, 18, 24, 32, 48, 96)},
}

VOLUME_GIB_MONTH_USD: dict[str, float] = {
    **dict.fromkeys(SAME_IN, 0.08),
    "eu-west-1": 0.088,
    "eu-central-1": 0.0952,
}
"""gp3: https://aws.amazon.com/ebs/pricing/"""

PUBLIC_IPV4_HOURLY_USD = 0.005
"""In every commercial region: https://aws.amazon.com/vpc/pricing/ and
https://aws.amazon.com/blogs/aws/new-aws-public-ipv4-address-charge-public-ip-insights/
"""


def table_price(instance_type: str, region: str) -> float | None:
    """Return the on-demand price of an hour by the tables above."""
    if region == "us-east-1" and instance_type in US_EAST_1_USD:
        return US_EAST_1_USD[instance_type]
    family, _, size = instance_type.partition(".")
    large = LARGE_USD.get(family) if region in SAME_IN else None
    if region == "us-east-1":
        large = large or US_EAST_1_LARGE_USD.get(family)
    times = SIZES.get(size)
    return None if large is None or times is None else round(large * times, 5)
