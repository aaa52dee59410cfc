"""The time for which an earlier CreateFleet call with the same token may be under way. Pure.

A fleet of type instant "returns errors for any instances that could not be launched", so an answer
with neither instances nor errors proves nothing; nor does the refusal of a repeated call. EC2 goes
on with a call that its caller has given up; its instances come one after the other, and lists show
them some seconds later.

- https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateFleet.html (`Type`)
- https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html
"""

from shared.compute.port import LaunchBatch, Unknown

NOTHING_YET_SECONDS = 300.0
"""After the first call: of what EC2 shows nothing until then, nothing was launched."""

ALL_SHOWN_SECONDS = 75.0
ALL_SHOWN_SECONDS_EACH = 0.25
"""The same where it shows some of a launch, and so much longer for each instance: the reports of
those that are there wait for it too."""


def check_over(batch: LaunchBatch, found: int, because: str, change: str = "") -> None:
    """Raise `Unknown` while more instances of *batch* may come than the *found* ones.

    *change*: what an operator can change, if that is why.
    """
    wanted = len(batch.requests)
    over = ALL_SHOWN_SECONDS + ALL_SHOWN_SECONDS_EACH * wanted if found else NOTHING_YET_SECONDS
    if found < wanted and batch.age_seconds < over:
        unknown = Unknown(
            f"{because}; EC2 shows {found} of {wanted} instances, and a call for them may be under "
            f"way until {over:g} s after the first one"
        )
        unknown.change = change
        raise unknown
