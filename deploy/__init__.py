"""Deployment to AWS: `deploy.sh` runs `deploy.up`, `destroy.sh` runs `deploy.down`.

    up        check, show, upload, create or update, wait, print the address and the first key
    down      end job instances, delete the stack, delete or keep the data, list what remains
    ending    instances terminated again until none is left, with a deadline
    first_run `first-run.sh`: plays the steps of first_list (first_steps, first_world), and reports
    account   the account, its region, its Spot quota
    plan      the stack's new parameters, after all checks
    settings  `--set`: which settings there are, and their values in the stack
    dns       whether instances in the VPC resolve the API's name
    network, endpoints   the ways out of the subnets of job instances
    face      how the API is reached: HTTPS, and plain HTTP only where it must or was asked for
    authority the certificate of the deployment's own authority, for `curl --cacert`
    certificate, encryption   ACM's certificate; the account's default key of EBS
    examine   clock, quotas, image and prices, before anything is made
    clock     this machine's clock beside AWS's
    quotas    the quotas of vCPUs by family
    place     the VPC, its subnets, the zone, the image, an existing data volume
    source    this checkout as an archive named by its hash, and the bucket that holds it
    stack     the state of the stack, changing it, waiting for it
    reason    of a failed start: Auto Scaling's, or the last lines that the instance has logged
    costs     the approximate monthly costs
    refusal   every error as one line that says what to do
    progress  one updated line on a terminal, plain lines elsewhere

`instance/` runs on the services' instance, `template.yaml` is the CloudFormation template. Nothing
here imports the services, and they do not import this: it runs on the operator's machine.
"""
