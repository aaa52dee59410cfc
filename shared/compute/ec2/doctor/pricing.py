"""The sources of prices: EC2's own of Spot, the Price List API of on-demand."""

from shared.compute.ec2.doctor import probes
from shared.compute.ec2.doctor.asking import ask
from shared.compute.ec2.doctor.scene import Scene
from shared.compute.port import ComputeError
from shared.findings import Finding, FindingGroup

GROUP = "prices"


async def prices(scene: Scene) -> list[Finding]:
    """Check that prices of the types in use are found."""
    found = FindingGroup(GROUP)
    await _spot(found, scene)
    if not reads_price_list(scene):
        text = f"not read: DOCKER_JOB_EC2_PRICES={scene.settings.prices}"
        found.add("ok", "on-demand prices", text)
        return found.all
    outcome = await probes.price_list(scene)
    auto = scene.settings.prices == "auto"
    instead = "those of the table are used" if auto else "costs stay unknown"
    do = "allow pricing:GetProducts, or set DOCKER_JOB_EC2_PRICES to table or none"
    if not outcome.is_answer:
        found.add("warn", "on-demand prices", f"{instead}: {outcome.error}", do)
    elif not outcome.answer.get("PriceList"):
        text = f"{instead}: the Price List API has none for {scene.has.region}"
        found.add("warn", "on-demand prices", text, "set DOCKER_JOB_EC2_PRICES to table or none")
    else:
        found.add("ok", "on-demand prices", "the Price List API answers")
    return found.all


def reads_price_list(scene: Scene) -> bool:
    """Return True if the settings ask for the Price List API."""
    return scene.settings.prices not in ("table", "none")


async def _spot(found: FindingGroup, scene: Scene) -> None:
    try:
        types = (await scene.drafts.draft("spot")).types
    except ComputeError as error:
        found.add("skip", "Spot prices", f"no launch can be planned: {error}")
        return
    outcome = await ask(
        scene.aws,
        "DescribeSpotPriceHistory",
        InstanceTypes=list(types[:1]),
        ProductDescriptions=["Linux/UNIX"],
        StartTime=scene.clock.now(),
    )
    shown = outcome.answer.get("SpotPriceHistory") or []
    if not outcome.is_answer:
        do = "allow ec2:DescribeSpotPriceHistory (docs/iam/launcher.json)"
        found.add("warn", "Spot prices", f"costs stay unknown: {outcome.error}", do)
    elif not shown:
        do = "name another type, or another region, if Spot is wanted"
        found.add("warn", "Spot prices", f"none for {types[0]}: no Spot capacity here", do)
    else:
        lowest = min(float(each["SpotPrice"]) for each in shown)
        zones = len({each["AvailabilityZone"] for each in shown})
        text = f"{types[0]} from {lowest:g} USD an hour, in {zones} zones"
        found.add("ok", "Spot prices", text)
