"""The bus on RabbitMQ, and what the migrating user declares for it.

connection     one AMQP connection: opened when wanted, given up when in doubt
publisher      messages, with all of their confirms in flight
subscription   one queue's deliveries, acknowledged in batches
bus            the three together, as the port wants them
topology       exchange, queues, dead letters
users          one user a service, who may do no more than it must
"""

from shared.bus.rabbitmq.bus import RabbitMQBus
from shared.bus.rabbitmq.connection import TopologyError
from shared.bus.rabbitmq.topology import declare, declare_topology
from shared.bus.rabbitmq.users import management_url, service_url

__all__ = [
    "RabbitMQBus",
    "TopologyError",
    "declare",
    "declare_topology",
    "management_url",
    "service_url",
]
