"""What is trusted moves on as a whole, never back, whatever is cut."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from trust_helpers import FOREIGN, PLAN, House, Pile

from firmware_bridge import durable, trust
from firmware_bridge.errors import NotAuthentic

KILLED = 9


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def pile(tmp_path: Path, house: House) -> Pile:
    return Pile(tmp_path, house.root())


def test_promoting_twice_changes_nothing(tmp_path: Path, house: House, pile: Pile) -> None:
    pile.install(house.image(tmp_path / "board.bundle"), "7.1")
    trusted = (pile.trust / trust.TRUSTED).read_bytes()

    trust.promote(pile.trust, pile.scratch)

    assert (pile.trust / trust.TRUSTED).read_bytes() == trusted


def test_a_verdict_that_waited_does_not_take_back_a_newer_one(tmp_path: Path, house: House, pile: Pile) -> None:
    """A release of the agent is on trial for a day; meanwhile a power board is updated with newer metadata."""
    pile.open(house.agent(tmp_path / "agent.bundle"))
    waiting = tmp_path / "waiting"
    shutil.copytree(pile.scratch, waiting)
    pile.install(house.image(tmp_path / "board.bundle"), "7.1")

    trust.promote(pile.trust, waiting)

    assert pile.versions()["timestamp"] == 3
    assert pile.versions()["power-board"] == 2


def test_a_new_root_counts_more_than_a_high_timestamp(tmp_path: Path, house: House, pile: Pile) -> None:
    for version in ("1", "2", "3"):
        pile.install(house.image(tmp_path / "board.bundle", version=version), version)
    house.change_roles(PLAN | {"root": ("root-1", "root-2", "root-4")})

    pile.install(house.image(tmp_path / "board.bundle", version="4"), "4")

    assert pile.versions()["root"] == 2


def test_nothing_is_promoted_without_a_verdict(tmp_path: Path, house: House, pile: Pile) -> None:
    with pytest.raises(FileNotFoundError):
        trust.promote(pile.trust, tmp_path / "empty")
    (pile.scratch).mkdir()
    (pile.scratch / trust.TRUSTED).write_bytes(b"half a file")
    with pytest.raises(NotAuthentic):
        trust.promote(pile.trust, pile.scratch)


def test_a_refused_bundle_leaves_nothing_to_promote(tmp_path: Path, house: House, pile: Pile) -> None:
    pile.open(house.image(tmp_path / "board.bundle"))
    with pytest.raises(NotAuthentic):
        pile.open(House(FOREIGN).image(tmp_path / "foreign.bundle"))

    assert not (pile.scratch / trust.TRUSTED).exists()


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Do ``work`` in a child that is killed before its ``step``-th durable step; whether it came to that."""
    child = os.fork()
    if child == 0:
        count = iter(range(1000))

        def die_before(real: Callable[..., object]) -> Callable[..., object]:
            def wrapped(*arguments: object) -> object:
                if next(count) == step:
                    os.kill(os.getpid(), KILLED)
                return real(*arguments)

            return wrapped

        for name in ("sync", "os_replace"):
            owner, attribute = (durable, "sync") if name == "sync" else (os, "replace")
            setattr(owner, attribute, die_before(getattr(owner, attribute)))
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -KILLED


def test_killed_at_any_step_it_trusts_the_old_or_the_new_as_a_whole(tmp_path: Path, house: House, pile: Pile) -> None:
    pile.install(house.image(tmp_path / "old.bundle", version="7.0"), "7.0")
    new = house.image(tmp_path / "new.bundle", version="7.1")
    path = pile.trust / trust.TRUSTED
    old = path.read_bytes()
    pile.open(new)
    seen = set()
    step = 0
    while killed_at(step, lambda: trust.promote(pile.trust, pile.scratch)):
        seen.add(pile.versions()["timestamp"])
        path.write_bytes(old)
        step += 1

    assert step == 3, "before the data, the rename and its folder are durable"
    assert seen == {2, 3}
    trust.promote(pile.trust, pile.scratch)
    assert pile.versions()["timestamp"] == 3


def test_killed_while_it_verifies_it_verifies_again(tmp_path: Path, house: House, pile: Pile) -> None:
    new = house.image(tmp_path / "new.bundle")
    step = 0
    while killed_at(step, lambda: pile.open(new)):
        assert pile.versions() == {"root": 1}
        step += 1

    assert step > 3
    pile.install(new, "7.1")


def test_killed_while_the_factory_installs_the_root_it_installs_it_again(tmp_path: Path, house: House) -> None:
    folder = tmp_path / "factory"
    step = 0
    while killed_at(step, lambda: trust.install_root(folder, house.root())):
        trust.install_root(folder, house.root())
        shutil.rmtree(folder)
        step += 1

    assert step == 4
