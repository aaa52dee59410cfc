"""`ec2://<region>`: an instance is an EC2 instance, on Spot unless a job asks otherwise.

No other room imports boto3. The modules:

    compute         the port, over all modules below
    planner         the exact request: image, types, networks, template; decided before each call
    fleet           one CreateFleet for a batch, and the instance of each request
    listing         instances and Spot requests as EC2 lists them, complete or not at all
    shapes          EC2's values as the port's, and back
    instance_types  instance types, and the choice among them
    template        the deployment's launch template
    user_data       the boot script of every instance
    prices          prices an hour, of instances
    offers          prices an hour, of all that could be launched
    price_list      the Price List API
    pools           pools without capacity, which rest
    notices         the interruption queue
    client          boto3 in threads, with deadlines and the published token buckets
    errors          the table of EC2's errors
    cache           answers of AWS kept for a while
    settings        the settings DOCKER_JOB_EC2_…

This file imports none of them: boto3 costs a process 30 MB, which only its users pay.
"""
