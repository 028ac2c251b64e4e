"""Expiry, by a clock that is an argument, and that may be wrong."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from trust_helpers import NOW, SIGNER, House, Pile, altered

from firmware_bridge.errors import NotAuthentic
from firmware_bridge.repository import DEFAULT_DAYS, MakerError

POWERED_UP = datetime(1970, 1, 1, 0, 1, tzinfo=UTC)


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def pile(tmp_path: Path, house: House) -> Pile:
    return Pile(tmp_path, house.root())


def days_later(days: float) -> datetime:
    return NOW + timedelta(days=days)


def test_a_bundle_holds_as_long_as_its_timestamp(tmp_path: Path, house: House, pile: Pile) -> None:
    bundle = house.image(tmp_path / "board.bundle")

    pile.open(bundle, now=days_later(179.99))
    with pytest.raises(NotAuthentic, match=r"timestamp.json is expired: it is 2027-05-21 08:00:00 UTC"):
        pile.open(bundle, now=days_later(180))


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "power-board"])
def test_each_roles_expiry_holds_by_itself(tmp_path: Path, house: House, pile: Pile, role: str) -> None:
    def expire(signed: dict[str, Any]) -> None:
        signed["expires"] = "2026-11-22T07:59:59Z"

    bundle = house.image(tmp_path / "board.bundle")

    pile.open(bundle)
    with pytest.raises(NotAuthentic, match=f"{role}.* is expired"):
        pile.open(altered(bundle, role, expire, SIGNER[role]))


def test_an_expired_root_is_of_use_only_to_find_the_next(tmp_path: Path, house: House, pile: Pile) -> None:
    later = days_later(3651)
    house.repository.renew(["targets"], later)
    with pytest.raises(NotAuthentic, match=r"Final root.json is expired"):
        pile.open(house.image(tmp_path / "board.bundle", now=later), now=later)

    house.repository.renew(["root"], later)

    pile.install(house.image(tmp_path / "board.bundle", now=later), "7.1", now=later)
    assert pile.versions()["root"] == 2


def test_one_kinds_expiry_does_not_keep_the_other_out(tmp_path: Path, house: House, pile: Pile) -> None:
    """No release of the agent for two years: its metadata have expired, and boards are still updated."""
    later = days_later(DEFAULT_DAYS["agent"] + 1)
    bundle = house.image(tmp_path / "board.bundle", now=later)

    assert pile.install(bundle, "7.1", now=later).version == "7.1"
    assert "agent" not in pile.versions()
    house.repository.renew(["agent"], later)
    house.sign()
    assert pile.install(house.agent(tmp_path / "agent.bundle", now=later), "1.2.3", now=later).version == "1.2.3"


def test_why_nothing_is_signed_is_told_when_a_kind_has_expired(tmp_path: Path, house: House, pile: Pile) -> None:
    def expire(signed: dict[str, Any]) -> None:
        signed["expires"] = "2026-11-22T07:59:59Z"

    bundle = altered(house.agent(tmp_path / "agent.bundle"), "agent", expire, "agent")

    with pytest.raises(NotAuthentic, match=r"nobody signed \d+ bytes with .*; agent.json: New agent is expired"):
        pile.open(bundle)


def test_a_clock_without_battery_is_moved_up_to_when_the_root_was_made(tmp_path: Path, pile: Pile) -> None:
    """1970 would let everything pass that has ever been signed."""
    old = House(now=NOW - timedelta(days=400)).image(tmp_path / "old.bundle", now=NOW - timedelta(days=400))
    foreign = altered(old, "timestamp", lambda signed: None, "online")

    with pytest.raises(NotAuthentic, match=r"timestamp.json is expired: it is 2026-11-22 08:00:00 UTC"):
        pile.open(foreign, now=POWERED_UP)


def test_and_from_then_on_to_when_what_is_trusted_was_made(tmp_path: Path, house: House, pile: Pile) -> None:
    soon = house.image(tmp_path / "old.bundle", now=NOW)
    raw = tmp_path / "board.bin"
    raw.write_bytes(b"board firmware")
    pile.install(soon, "7.1", now=POWERED_UP)

    house.repository.renew([], days_later(200))
    house.sign()
    pile.install(house.agent(tmp_path / "agent.bundle", now=days_later(200)), "1.2.3", now=POWERED_UP)

    assert pile.open(raw, now=POWERED_UP).release("7.1")
    with pytest.raises(NotAuthentic, match=r"it is 2027-06-10 08:00:00 UTC"):
        pile.open(altered(_next(house, tmp_path), "timestamp", _expired_a_day_before, "online"), now=POWERED_UP)


def _next(house: House, folder: Path) -> Path:
    return house.image(folder / "next.bundle", version="7.2", now=days_later(200))


def _expired_a_day_before(signed: dict[str, Any]) -> None:
    signed["expires"] = "2027-06-09T08:00:00Z"


def test_when_it_was_made_is_signed(house: House) -> None:
    files = house.repository.files()

    for file in ("1.root.json", "timestamp.json"):
        assert json.loads(files[file])["signed"]["issued"] == "2026-11-22T08:00:00+00:00"


@pytest.mark.parametrize("issued", [None, 7, "", "yesterday", "2026-11-22T08:00:00"])
def test_a_time_that_is_none_locks_no_pile(tmp_path: Path, house: House, pile: Pile, issued: object) -> None:
    def change(signed: dict[str, Any]) -> None:
        signed["issued"] = issued

    pile.install(altered(house.image(tmp_path / "odd.bundle"), "timestamp", change, "online"), "7.1")

    pile.install(house.image(tmp_path / "next.bundle", version="7.2"), "7.2")


def test_a_maker_whose_clock_went_back_is_told(tmp_path: Path, house: House) -> None:
    with pytest.raises(MakerError, match=r"made at 2026-11-22T08:00:00\+00:00, this clock says 2026-11-21T08:00:00"):
        house.image(tmp_path / "early.bundle", now=days_later(-1))


def test_a_bundle_from_a_clock_in_the_future_is_healed_by_a_new_root(tmp_path: Path) -> None:
    house = House(now=NOW)
    pile = Pile(tmp_path, house.root())
    pile.install(house.image(tmp_path / "wrong.bundle", now=days_later(27_000)), "7.1")
    with pytest.raises(MakerError, match="made at 2100-10-25"):
        house.image(tmp_path / "right.bundle")

    house.repository.renew(["root"], NOW)
    house.sign()

    bundle = house.image(tmp_path / "right.bundle", version="7.2")
    pile.install(bundle, "7.2")
    with pytest.raises(NotAuthentic, match="is expired: it is 2027-06-10"):
        pile.open(bundle, now=days_later(200))
