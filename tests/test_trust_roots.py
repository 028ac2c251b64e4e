"""The roots: the factory's, their rotation, a lost key, a stolen one, and what becomes of a pile that slept."""

from pathlib import Path
from typing import Any

import pytest
from trust_helpers import FOREIGN, PLAN, House, Pile, altered, parts, put_together

from firmware_bridge import trust
from firmware_bridge.errors import NotAuthentic
from firmware_bridge.repository import MakerError

SECOND = PLAN | {"root": ("root-2", "root-3", "root-4")}
THIRD = PLAN | {"root": ("root-3", "root-4", "root-5")}


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def pile(tmp_path: Path, house: House) -> Pile:
    return Pile(tmp_path, house.root())


# ---- the factory's ----


def test_the_factorys_root_is_installed_once(tmp_path: Path, house: House, pile: Pile) -> None:
    trust.install_root(pile.trust, house.root())

    with pytest.raises(NotAuthentic, match="trusts another root already"):
        trust.install_root(pile.trust, House(FOREIGN).root())
    pile.install(house.image(tmp_path / "board.bundle"), "7.1")
    with pytest.raises(NotAuthentic, match="has moved on from this one"):
        trust.install_root(pile.trust, house.root())
    assert pile.versions()["timestamp"] == 2


@pytest.mark.parametrize("data", [b"", b"{}", b"root", b"PK\3\4"])
def test_what_is_no_root_is_not_installed(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(NotAuthentic, match="the root to install: Failed to deserialize"):
        trust.install_root(tmp_path / "trust", data)
    assert not (tmp_path / "trust").exists()


def test_other_metadata_are_not_installed_as_a_root(tmp_path: Path, house: House) -> None:
    with pytest.raises(NotAuthentic, match="type 'targets', expected 'root'"):
        trust.install_root(tmp_path / "trust", house.repository.files()["targets.json"])


def test_a_root_that_is_not_signed_by_enough_of_its_keys_is_not_installed(tmp_path: Path, house: House) -> None:
    bundle = house.metadata(tmp_path / "trust.zip")
    half = parts(altered(bundle, "1.root", lambda signed: None, "root-1"))["metadata/1.root.json"]

    with pytest.raises(NotAuthentic, match="root was signed by 1/2 keys"):
        trust.install_root(tmp_path / "trust", half)


# ---- rotation ----


def test_a_pile_follows_three_roots_at_once(tmp_path: Path, house: House, pile: Pile) -> None:
    house.change_roles(SECOND)
    house.change_roles(THIRD)

    pile.install(house.image(tmp_path / "board.bundle"), "7.1")

    assert pile.versions()["root"] == 3
    pile.install(house.image(tmp_path / "next.bundle", version="7.2"), "7.2")


def test_each_pile_follows_from_where_it_is(tmp_path: Path, house: House) -> None:
    house.change_roles(SECOND)
    (tmp_path / "second").mkdir()
    pile = Pile(tmp_path / "second", house.root(2))
    house.change_roles(THIRD)

    pile.install(house.image(tmp_path / "board.bundle"), "7.1")

    assert pile.versions()["root"] == 3


def test_a_chain_with_a_root_missing_leads_nowhere(tmp_path: Path, house: House, pile: Pile) -> None:
    """The pile stays at its root; what the keys of the third have signed means nothing to it."""
    house.change_roles(SECOND)
    house.change_roles(THIRD | {"timestamp": ("online-2",)})
    entries = parts(house.image(tmp_path / "board.bundle"))
    del entries["metadata/2.root.json"]

    with pytest.raises(NotAuthentic, match="timestamp was signed by 0/1 keys"):
        pile.open(put_together(tmp_path / "gap.bundle", entries))


def test_a_root_can_not_be_skipped_by_its_name(tmp_path: Path, house: House, pile: Pile) -> None:
    house.change_roles(SECOND)
    house.change_roles(THIRD)
    entries = parts(house.image(tmp_path / "board.bundle"))
    entries["metadata/2.root.json"] = entries["metadata/3.root.json"]

    with pytest.raises(NotAuthentic, match=r"root was signed by 1/2 keys|Expected root version 2"):
        pile.open(put_together(tmp_path / "skip.bundle", entries))


def test_a_lost_root_key_is_replaced_by_the_other_two(tmp_path: Path, house: House, pile: Pile) -> None:
    house.change_roles(SECOND, "root-2", "root-3", "targets", "online", "agent", "power-board")

    assert [one.missing for one in house.repository.signings()] == [0] * 7
    pile.install(house.image(tmp_path / "board.bundle"), "7.1")
    assert pile.versions()["root"] == 2


def test_with_two_root_keys_lost_no_root_follows(tmp_path: Path, house: House) -> None:
    """docs/operations/signing.md says it: two of three is the number that must never be lost."""
    house.change_roles(SECOND, "root-3", "root-4", "targets", "online", "agent", "power-board")

    with pytest.raises(MakerError, match="signatures are missing of root 2: sign it first"):
        house.repository.demand_signed()


def test_a_stolen_online_key_is_worth_nothing_after_the_rotation(tmp_path: Path, house: House, pile: Pile) -> None:
    house.change_roles(PLAN | {"snapshot": ("online-2",), "timestamp": ("online-2",)})
    bundle = house.image(tmp_path / "board.bundle")

    pile.install(bundle, "7.1")

    with pytest.raises(NotAuthentic, match="timestamp was signed by 0/1 keys"):
        pile.open(altered(bundle, "timestamp", lambda signed: None, "online"))


def test_a_pile_that_was_fast_forwarded_comes_back_with_a_new_timestamp_key(
    tmp_path: Path, house: House, pile: Pile
) -> None:
    """Who stole the online key has numbered a timestamp so high that none of ours is newer (TUF 1.0.31, 5.3.11)."""

    def forward(signed: dict[str, Any]) -> None:
        signed["version"] = 2**40

    pile.install(altered(house.image(tmp_path / "board.bundle"), "timestamp", forward, "online"), "7.1")
    with pytest.raises(NotAuthentic, match="New timestamp version 3 must be >= 1099511627776"):
        pile.open(house.image(tmp_path / "next.bundle", version="7.2"))

    house.change_roles(PLAN | {"snapshot": ("online-2",), "timestamp": ("online-2",)})
    pile.install(house.image(tmp_path / "new.bundle", version="7.3"), "7.3")

    assert pile.versions()["timestamp"] < 10


def test_a_kinds_new_key_replaces_the_old_one(tmp_path: Path, house: House, pile: Pile) -> None:
    pile.install(house.agent(tmp_path / "old.bundle"), "1.2.3")
    house.change_roles(PLAN | {"agent": ("online-2",)})
    bundle = house.agent(tmp_path / "new.bundle", version="1.2.4")

    assert pile.open(bundle).release("1.2.4").version == "1.2.4"
    with pytest.raises(NotAuthentic, match="agent was signed by 0/1 keys"):
        pile.open(altered(bundle, "agent", lambda signed: None, "agent"))
    assert pile.open(bundle).release("1.2.4")
