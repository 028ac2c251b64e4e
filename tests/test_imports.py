"""Who may import whom (docs/architecture.md), read from the source: one way down, and no room knows its callers."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the top down; a module imports from its own row and those below.
LAYERS = (
    ("agent.cli",),
    ("agent",),  # loop, desk and what stands beside them
    ("agent.link", "agent.journal", "agent.power"),
    ("agent.clock", "agent.poller", "agent.reach"),
    ("agent.pile",),
    ("agent.protocol",),
    ("cext",),
)
# Who may use firmware_bridge, which uses cext alone: the way to it, the power boards' bus, the maker's commands.
BESIDE_THE_BRIDGE = ("agent.bridge", "agent.power", "agent.cli")
# What belongs to no room and uses none: every row may import it.
COMMON = {"agent.version", "agent"}
WITHOUT_WORLD = {
    "collections", "collections.abc", "dataclasses", "enum", "functools", "hashlib", "itertools", "json", "math", "re",
    "struct", "types", "typing", "zlib", "datetime", "bisect", "operator", "abc", "copy", "heapq",
}  # fmt: skip


def modules(package: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / package.replace(".", "/")).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        yield name, ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> set[str]:
    """Full names of all that is imported, wherever it stands in the file: ``from a.b import c`` is ``a.b``."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they lead"
            assert node.module is not None
            found |= _submodules(node.module, [alias.name for alias in node.names])
    return found


def _submodules(module: str, names: list[str]) -> set[str]:
    """``from agent.link import reasons`` imports a module, ``from agent.journal import Journal`` a name."""
    folder = ROOT / module.replace(".", "/")
    return {f"{module}.{name}" if (folder / f"{name}.py").exists() else module for name in names}


def layer_of(module: str) -> int:
    """The row with the longest name that the module's begins with."""
    matches = [
        (len(room), row) for row, rooms in enumerate(LAYERS) for room in rooms if f"{module}.".startswith(f"{room}.")
    ]
    return max(matches)[1]


def is_ours(name: str) -> bool:
    return name.split(".")[0] in ("agent", "cext", "firmware_bridge", "router", "sim", "tests", "bench")


ALL = [*modules("agent"), *modules("cext")]


@pytest.mark.parametrize(("name", "tree"), ALL, ids=[name for name, _ in ALL])
def test_imports_lead_down(name: str, tree: ast.Module) -> None:
    if name in COMMON:
        assert {one for one in imports(tree) if is_ours(one)} == set()
        return
    for imported in imports(tree):
        if is_ours(imported) and imported not in COMMON:
            if imported.startswith("firmware_bridge") and name.startswith(BESIDE_THE_BRIDGE):
                continue
            assert imported.split(".")[0] in ("agent", "cext"), f"{name} imports {imported}"
            assert layer_of(imported) >= layer_of(name), f"{name} imports {imported}, which stands above it"


def test_the_shells_do_not_know_each_other() -> None:
    shells = ("agent.link", "agent.journal", "agent.power")
    for shell in shells:
        for name, tree in modules(shell):
            for imported in imports(tree):
                assert not imported.startswith(tuple(other for other in shells if other != shell)), (
                    f"{name}: {imported}"
                )


def test_the_core_and_the_protocol_have_no_clock_socket_file_or_thread() -> None:
    for name, tree in [*modules("agent.pile"), *modules("agent.protocol")]:
        if name == "agent.protocol.page":  # a generator, run by `make docs`
            continue
        foreign = {one for one in imports(tree) if not is_ours(one)}
        assert foreign <= WITHOUT_WORLD, f"{name} imports {foreign - WITHOUT_WORLD}"


def test_nothing_in_the_agent_imports_asyncio() -> None:
    for name, tree in modules("agent"):
        assert not any(one.split(".")[0] == "asyncio" for one in imports(tree)), name


def test_the_firmware_bridge_knows_nothing_of_the_agent() -> None:
    for name, tree in modules("firmware_bridge"):
        assert not any(one.split(".")[0] in ("agent", "sim") for one in imports(tree)), name


def test_the_simulated_board_frames_and_checks_by_itself() -> None:
    """It would prove nothing with our own framing: of the agent it takes the map and the pure types."""
    allowed = ("agent.power.profile", "agent.power.registers", "agent.pile.board")
    for board in ("power_board", "serial_line", "board_model", "gun_physics", "firmware_window"):
        for one in imports(ast.parse((ROOT / "sim" / f"{board}.py").read_text(encoding="utf-8"))):
            assert not one.startswith(("cext", "minimalmodbus", "serial.")), f"{board} imports {one}"
            assert not one.startswith("agent") or one in allowed, f"{board} imports {one}"


def test_no_check_here_is_blind() -> None:
    tree = ast.parse(
        "import a.b\nfrom agent.link import reasons\nfrom agent.journal import Journal\ndef f():\n import c"
    )
    assert imports(tree) == {"a.b", "agent.link.reasons", "agent.journal", "c"}
    rooms = ("agent.cli.run", "agent.loop", "agent.power.bus", "agent.clock", "agent.pile.core", "agent.protocol.codec")
    assert [layer_of(name) for name in rooms] == [0, 1, 2, 3, 4, 5]
