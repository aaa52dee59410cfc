"""`ec2://<region>`: an instance is an EC2 instance, on Spot unless a job wants it otherwise.

Nobody else imports boto3. What is where:

    compute     the port, over all that follows
    planner     what exactly to ask for: image, types, networks, template; settled before each call
    fleet       one CreateFleet for a batch, and which instance is whose
    listing     instances and Spot requests as EC2 lists them, complete or not at all
    shapes      from EC2's words to the port's, and back
    machines    instance types, and which of them will do
    template    the deployment's launch template
    user_data   the first words of every instance
    prices      what an hour has cost
    pools       which pools lack capacity, and rest
    notices     the interruption queue
    client      boto3 in threads, with deadlines and the published token buckets
    errors      the table of EC2's errors

This file imports none of them: boto3 costs a process 30 MB, which only those pay who use it.
"""
