"""Nodes of RabbitMQ on brokers/rabbitmq/cluster.conf, on one machine: quorum queues."""

from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self

from sim.broker import SHIPPED, ServerTls, shipped_config
from sim.rabbitmq import RabbitMq

_NODES = 3  # those that the file names


class RabbitCluster:
    """``with`` starts the nodes and ends them. A start takes some 15 s."""

    def __init__(self, folder: Path, tls: ServerTls) -> None:
        names = {f"rabbit@broker{n}": f"pile{n}@localhost" for n in range(1, _NODES + 1)}
        lines = shipped_config((SHIPPED / "rabbitmq" / "cluster.conf").read_text(), names).splitlines()
        first = RabbitMq(folder / "pile1", tls, lines, name="pile1")
        others = [
            RabbitMq(folder / f"pile{n}", tls, lines, name=f"pile{n}", beside=first) for n in range(2, _NODES + 1)
        ]
        self.nodes = [first, *others]

    def __enter__(self) -> Self:
        first, *others = self.nodes
        try:
            first.start()
            starts = [Thread(target=node.start) for node in others]
            for start in starts:
                start.start()
            for start in starts:
                start.join()
            # While others join, pause_minority may pause a node that sees too few of them.
            for node in self.nodes:
                node.ctl("await_online_nodes", str(_NODES))
                node.ctl("await_startup")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        for node in reversed(self.nodes):  # nobody needs what they hold, and an orderly stop waits for the others
            node.kill9()
        self.nodes[0].stop()  # with the name server
