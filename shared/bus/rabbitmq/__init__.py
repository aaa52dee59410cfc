"""The bus on RabbitMQ, and its topology, which the migrating user declares.

connection     one AMQP connection: opened when needed, replaced when in doubt
publisher      messages, with all of their confirms in flight
subscription   one queue's deliveries, acknowledged in batches
bus            the three together, as the adapter of the port
topology       exchange, queues, dead letters
users          one user per service, with the fewest permissions
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
