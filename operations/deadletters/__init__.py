"""An operator's commands for the dead letters of all four services: list, show, redrive, drop.

    parked   rows: a handler failed on the event ('waiting' is retried automatically, 'dead' is
             not), or it could not be read ('dead' at once, with its raw bytes)
    broker   `<service>.dead` on RabbitMQ: the event ended its readers again and again

It uses each service's own login, so it has no more rights than the services together.
"""
