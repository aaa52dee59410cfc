"""Dead letters of all four services, for a person: list, show, redrive, drop.

    parked   rows: a handler failed on the event ('waiting' is tried again by itself, 'dead' is
             not), or nobody could read it ('dead' at once, with its raw bytes)
    broker   `<service>.dead` on RabbitMQ: the event ended its readers again and again

It uses each service's own login, so it can do no more than the services together.
"""
