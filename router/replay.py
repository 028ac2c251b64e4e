"""``pile-router replay``: what was parked, unroutable or dead, given to the router's queue once more."""

import pika
import pika.exceptions
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection

from agent.reach import TlsFilesError
from router.amqp import parameters, reason
from router.config import InputConfig


class ReplayError(Exception):
    """Nothing, or not all, could be moved; the text says why. What was not moved is where it was."""


def replay(config: InputConfig, queue: str) -> int:
    """Move all that waits in ``queue`` now, in its order, behind what the router's queue holds; how many it was.

    Straight into that queue: an older consumer of the platform's exchange has had these commands.
    Raises ``ReplayError``.
    """
    host, port = config.hosts[0]
    try:
        with BlockingConnection(parameters(config, config.hosts[0])) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            waiting = channel.queue_declare(queue, passive=True).method.message_count
            return sum(_move_one(channel, queue, config.queue) for _ in range(waiting))
    except (pika.exceptions.AMQPError, OSError) as error:
        raise ReplayError(f"{host}:{port}: {reason(config, error)}") from error
    except TlsFilesError as error:
        raise ReplayError(str(error)) from error


def _move_one(channel: BlockingChannel, queue: str, target: str) -> bool:
    method, _, body = channel.basic_get(queue)
    if method is None or body is None:
        return False  # someone else took it
    # Without its headers: to the router it is a message that it has never seen.
    channel.basic_publish("", target, body, pika.BasicProperties(delivery_mode=2), mandatory=True)
    channel.basic_ack(method.delivery_tag)
    return True
