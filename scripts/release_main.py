"""A release of the agent: ``python3 -I FOLDER run`` is ``pile-agent run``; ``-m MODULE`` runs another of its modules.

This file is ``__main__.py`` of the folder (scripts/payload).
"""

import runpy
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    built = [path.name for path in (HERE / "cext").glob("rtu.*")]
    if not {f"rtu{suffix}" for suffix in EXTENSION_SUFFIXES} & set(built):
        version = ".".join(str(part) for part in sys.version_info[:3])
        sys.exit(f"pile-agent: Python {version} loads rtu{EXTENSION_SUFFIXES[0]}, this release was built with {built}")
    module = "agent.cli.main"
    if sys.argv[1:2] == ["-m"] and len(sys.argv) > 2:
        module = sys.argv[2]
        del sys.argv[1:3]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


main()
