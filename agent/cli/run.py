"""``pile-agent run``: from a configuration file to a running agent, and to an exit code."""

import logging
import sys
from pathlib import Path

from agent import logs
from agent.cli.exits import CONFIG, FAILED, OK
from agent.config import ConfigError, load_config
from agent.journal import JournalError
from agent.loop import Agent

log = logging.getLogger(__name__)


def run(path: Path) -> int:
    """Run until a signal; what keeps the agent from running is said in one line."""
    try:
        config = load_config(path)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return CONFIG
    logs.set_up(config.log_level)
    try:
        Agent(config).run()
    except (JournalError, OSError) as error:
        log.critical("%s", error)
        return FAILED
    except Exception:
        log.critical("the agent stops for a fault of its own", exc_info=True)
        return FAILED
    return OK
