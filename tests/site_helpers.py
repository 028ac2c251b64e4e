"""A charging site whose real agent is watched, killed and started again."""

from collections.abc import Iterator
from contextlib import contextmanager

from paho.mqtt.client import CallbackAPIVersion, Client

from sim.site import PILE, Site
from sim.watch import Watch

FAST = "poll_ms = 100\nanswer_ms = 250"  # a sound board is not called silent because the machine is loaded


def forget_session(port: int, client_id: str) -> None:
    """What the broker would send that client again is forgotten: an agent without its journal takes it for new."""
    client = Client(CallbackAPIVersion.VERSION2, client_id, clean_session=True)
    client.on_connect = lambda *_: client.disconnect()
    client.connect("127.0.0.1", port)
    client.loop_forever()


@contextmanager
def working(site: Site) -> Iterator[Watch]:
    """A fresh agent at a site that others have used and will use: no journal, empty guns, a sound line."""
    _tidy(site)
    forget_session(site.broker.port, PILE)
    watch = Watch(site)
    site.start_agent()
    watch.until_working()
    try:
        yield watch
    finally:
        site.stop_agent()
        _tidy(site)


def _tidy(site: Site) -> None:
    for command in ("restore", "silent"):
        site.board({"do": command} | ({"on": False} if command == "silent" else {}))
    for gun in (1, 2):
        site.board({"do": "unplug", "gun": gun})
        site.board({"do": "clear", "gun": gun})
    for file in (site.folder / "data").iterdir():
        file.unlink()
    while site.next(0.0) is not None:
        pass
