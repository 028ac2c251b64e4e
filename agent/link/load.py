"""Loads paho without what an agent has no use for: of the agent's 31 MiB that would be 6, and 25 ms of each start.

paho imports urllib.request (with http, email, tempfile …) and PySocks for proxies, hashlib (with OpenSSL), base64 and
uuid for web sockets, dnspython for SRV records, and ssl whether TLS is configured or not. Who imports one of them
later, gets it.
"""

import importlib
import sys
from types import ModuleType


class NeverRaisedError(Exception):
    """In the place of ssl's errors, which paho names in its handlers; a socket without TLS raises none of them."""


def load_paho(with_tls: bool) -> None:
    """Import ``paho.mqtt.client``; one that is loaded already stays as it is."""
    if "paho.mqtt.client" in sys.modules:
        return
    without: dict[str, ModuleType | None] = {"socks": None, "dns": None}  # None: as if it were not installed
    without |= {name: ModuleType(name) for name in ("urllib.request", "hashlib", "base64", "uuid")}
    if not with_tls:
        without["ssl"] = ModuleType("ssl")
        vars(without["ssl"]).update(SSLWantReadError=NeverRaisedError, SSLWantWriteError=NeverRaisedError)
    without = {name: module for name, module in without.items() if name not in sys.modules}
    sys.modules.update(without)  # type: ignore[arg-type]  # None is right: "the import system", 5.3.1
    try:
        importlib.import_module("paho.mqtt.client")
    finally:
        for name in without:
            del sys.modules[name]
