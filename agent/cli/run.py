"""``pile-agent run``: from a configuration file to a running agent, and to an exit code."""

import logging
from pathlib import Path

from agent import logs
from agent.cli.exits import FAILED, OK
from agent.config import load_config
from agent.journal import JournalError
from agent.loop import Agent

log = logging.getLogger(__name__)


def run(path: Path) -> int:
    """Run until a signal; what keeps the agent from running is said in one line."""
    config = load_config(path)
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
