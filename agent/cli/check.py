"""``pile-agent check``: every fault of a configuration and its profiles at once."""

import sys
from pathlib import Path

from agent.cli.exits import CONFIG, OK
from agent.config import Config, load_config
from agent.config_keys import ConfigError


def check(path: Path) -> int:
    """Print the faults, or what the configuration says in short."""
    try:
        config = load_config(path)
    except ConfigError as error:
        print(error, file=sys.stderr)
        print(f"{len(error.faults)} fault{'s' if len(error.faults) > 1 else ''}", file=sys.stderr)
        return CONFIG
    print("\n".join(_summary(config)))
    return OK


def _summary(config: Config) -> list[str]:
    link = config.link
    login = f" as {link.username}" if link.username else ""
    secured = " over TLS" if link.tls else ""
    lines = [
        f"pile {config.pile.pile}: good",
        f"  broker {link.broker}{secured}{login}, commands on {link.command_topic}",
    ]
    for line in config.lines:
        lines.append(f"  {line.port} at {line.baud} baud")
        for device in line.devices:
            guns = ", ".join(str(gun) for gun in device.guns)
            lines.append(f"    {device.name}: unit {device.unit}, profile {device.profile.name}, guns {guns}")
    return lines
