"""The real agent on a board whose battery is empty: its system clock says 1970 until a file is there, as if by NTP.

python tests/agent_in_1970.py BOOT_ID_FILE NTP_FILE run --config pile.toml
"""

import sys
import time
from pathlib import Path

from agent import clock
from agent.cli.main import main

real_time_ns = time.time_ns


def time_ns() -> int:
    """Whoever asks twice sees it pass."""
    return real_time_ns() if Path(sys.argv[2]).exists() else time.monotonic_ns()


if __name__ == "__main__":
    clock.BOOT_ID = Path(sys.argv[1])
    time.time_ns = time_ns
    sys.exit(main(sys.argv[3:]))
