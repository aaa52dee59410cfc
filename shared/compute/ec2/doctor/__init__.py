"""Checks of an account for docker-job, before and between launches: `operations.doctor` runs them.

Nothing is changed: every call only reads, or has `DryRun`, by which EC2 checks the caller's
permissions alone. Two calls of SQS are exceptions: a message is received without becoming
invisible, and none is deleted, since the handle is no message's. The modules:

    run          all checks, each with a deadline
    scene        what they check: the settings of the launcher and the reaper
    asking       one call, and its outcome
    drafts       the very plan of a launch, from the planner, without an effect
    account      credentials, region, clock, the roles of EC2 and of the instances
    permissions  each permission of docs/iam
    probes       the calls that prove a permission
    limits       quotas by family
    network      subnets, security groups, the VPC's DNS
    name_servers the DNS servers that instances ask
    routes       the way out of each subnet
    images       the image, and the key of the volumes
    templates    the launch template
    queue        the interruption queue and its rule
    queue_policy  whether the queue's policy lets the rule send
    sample_events  events as EC2 sends them, to try the rule on
    pricing      the sources of prices
"""
