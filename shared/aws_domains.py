"""The domain of AWS's services in a region: it depends on the region's partition."""

DOMAIN = "amazonaws.com"
OTHERS = {
    "cn": "amazonaws.com.cn",
    "eusc": "amazonaws.eu",
    "us-iso": "c2s.ic.gov",
    "us-isob": "sc2s.sgov.gov",
    "eu-isoe": "cloud.adc-e.uk",
    "us-isof": "csp.hci.ic.gov",
}
"""By how the names of the regions begin; `DOMAIN` is that of the others.
https://github.com/boto/botocore/blob/develop/botocore/data/partitions.json
"""


def domain_of(region: str) -> str:
    """Return the domain of a region's services."""
    found = (OTHERS[each] for each in OTHERS if region.startswith(f"{each}-"))
    return next(found, DOMAIN)
