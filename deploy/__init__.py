"""What puts docker-job on AWS: `deploy.sh` runs `deploy.up`, `destroy.sh` runs `deploy.down`.

    up        check, show, upload, create or update, wait, tell
    down      end job instances, delete the stack, delete or keep the data, tell what remains
    account   whose account, which region, may it run Spot instances
    place     the VPC, its subnets, the zone, the image, the data volume that is there already
    source    this checkout as an archive named by its hash, and the bucket that holds it
    stack     what state the stack is in, how it is changed and waited for
    costs     what it costs a month, roughly
    refusal   everything that goes wrong, as one line that says what to do
    progress  one line that moves on a terminal, plain lines elsewhere

`instance/` is what runs on the services' instance, `template.yaml` what CloudFormation makes.
Nothing here imports the services, and nothing of them imports this: it runs where the person is.
"""
