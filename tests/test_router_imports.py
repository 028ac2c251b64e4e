"""The router is a program of its own: of the agent it takes what says "alive", writes the log and reaches a broker."""

import subprocess
import sys

from test_imports import ROOT, imports, is_ours, modules

FOREIGN = {"agent.logs", "agent.notify", "agent.reach", "cext.message"}


def test_the_router_imports_nothing_else_of_this_repository() -> None:
    found = set()
    for name, tree in modules("router"):
        ours = {one for one in imports(tree) if is_ours(one)}
        assert ours <= FOREIGN | {one for one in ours if one.startswith("router")}, name
        found |= ours
    assert found >= FOREIGN, "a test that checks nothing"


def test_nothing_of_the_agent_imports_the_router() -> None:
    for package in ("agent", "cext", "firmware_bridge"):
        for name, tree in modules(package):
            assert not any(one.split(".")[0] == "router" for one in imports(tree)), name


def test_a_configuration_is_checked_and_piles_are_written_without_pika() -> None:
    """On a machine where definitions are made, the broker's own packages are enough."""
    code = "import sys, router.main; router.main.main(['piles', '1']); sys.exit('pika' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
