"""What no pile takes: forged, foreign, mixed, downgraded, half signed, flipped, cut. Each was a good bundle before."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trust_helpers import (
    ALL_ROLES,
    FOREIGN,
    NOW,
    PLAN,
    SIGNER,
    House,
    Pile,
    altered,
    names_in,
    parts,
    payload_name,
    put_together,
    roles,
)

from firmware_bridge import trust
from firmware_bridge.errors import FirmwareError, NotAuthentic


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def pile(tmp_path: Path, house: House) -> Pile:
    return Pile(tmp_path, house.root())


def touch(signed: dict[str, Any]) -> None:
    signed["touched"] = True


def newer(signed: dict[str, Any]) -> None:
    signed["version"] += 1


# ---- forged ----


def test_a_changed_payload_is_refused(tmp_path: Path, house: House, pile: Pile) -> None:
    bundle = house.image(tmp_path / "board.bundle", b"board firmware")
    forged = put_together(tmp_path / "forged.bundle", parts(bundle) | {payload_name(bundle): b"bored firmware"})

    with pytest.raises(NotAuthentic, match=r"forged.bundle: nobody signed 14 bytes with SHA-256 \w{64}; all metadata"):
        pile.open(forged)


def test_a_payload_of_another_size_than_signed_is_refused(tmp_path: Path, house: House, pile: Pile) -> None:
    def shorten(signed: dict[str, Any]) -> None:
        signed["targets"]["power-board/board-7.1.bin"]["length"] = 13

    bundle = altered(house.image(tmp_path / "board.bundle"), "power-board", shorten, "power-board")

    with pytest.raises(NotAuthentic, match="nobody signed 14 bytes"):
        pile.open(bundle)


@pytest.mark.parametrize("role", ALL_ROLES)
def test_metadata_that_nobody_signed_are_refused(tmp_path: Path, house: House, pile: Pile, role: str) -> None:
    good = house.agent(tmp_path / "unused") if role == "agent" else house.image(tmp_path / "board.bundle")

    with pytest.raises(NotAuthentic, match=f"{role} was signed by 0/1 keys"):
        pile.open(altered(good, role, touch))


@pytest.mark.parametrize("role", ALL_ROLES)
def test_metadata_signed_by_any_other_key_of_ours_are_refused(
    tmp_path: Path, house: House, pile: Pile, role: str
) -> None:
    good = house.agent(tmp_path / "unused") if role == "agent" else house.image(tmp_path / "board.bundle")
    others = sorted(names_in(PLAN) - {SIGNER[role]})

    with pytest.raises(NotAuthentic, match=f"{role} was signed by 0/1 keys"):
        pile.open(altered(good, role, touch, *others))


@pytest.mark.parametrize("role", ALL_ROLES)
def test_the_same_change_signed_by_the_right_key_is_taken(tmp_path: Path, house: House, pile: Pile, role: str) -> None:
    """Or the two tests above would prove nothing."""
    good = house.agent(tmp_path / "unused") if role == "agent" else house.image(tmp_path / "board.bundle")

    pile.open(altered(good, role, touch, SIGNER[role]))


def test_a_house_with_foreign_keys_is_refused(tmp_path: Path, pile: Pile) -> None:
    foreign = House(FOREIGN).image(tmp_path / "foreign.bundle")

    with pytest.raises(NotAuthentic, match=r"foreign.bundle: timestamp was signed by 0/1 keys"):
        pile.open(foreign)


def test_a_root_with_foreign_keys_is_refused(tmp_path: Path, house: House, pile: Pile) -> None:
    """A second root that only its own keys have signed."""
    foreign = House(FOREIGN)
    foreign.change_roles(FOREIGN | {"root": FOREIGN["root"][:2]})

    with pytest.raises(NotAuthentic, match="root was signed by 0/2 keys"):
        pile.open(foreign.image(tmp_path / "foreign.bundle"))


def test_one_root_key_alone_makes_no_root(tmp_path: Path, house: House, pile: Pile) -> None:
    def take_over(signed: dict[str, Any]) -> None:
        signed["version"] = 2
        signed["roles"]["timestamp"]["threshold"] = 1

    bundle = house.image(tmp_path / "board.bundle")
    entries = parts(bundle)
    one = put_together(tmp_path / "one.zip", {"metadata/2.root.json": entries["metadata/1.root.json"]})
    root = parts(altered(one, "2.root", take_over, "root-1"))
    two = parts(altered(one, "2.root", take_over, "root-1", "root-2", path=tmp_path / "two.zip"))

    with pytest.raises(NotAuthentic, match="root was signed by 1/2 keys"):
        pile.open(put_together(tmp_path / "b1", entries | root))
    pile.open(put_together(tmp_path / "b2", entries | two))


def test_the_power_boards_key_signs_no_agent(tmp_path: Path, house: House, pile: Pile) -> None:
    """Under its own name it may list what it likes: nothing of it counts for the agent."""
    bundle = house.agent(tmp_path / "agent.bundle")
    listed = json.loads(parts(bundle)["metadata/agent.json"])["signed"]["targets"]

    def list_it(signed: dict[str, Any]) -> None:
        signed["targets"] |= listed

    both = altered(bundle, "power-board", list_it, "power-board")

    def forget_it(signed: dict[str, Any]) -> None:
        signed["targets"] = {}

    assert pile.open(both).release("1.2.3").kind == "agent", "the agent's own key has signed it as well"
    with pytest.raises(NotAuthentic, match="nobody signed"):
        pile.open(altered(both, "agent", forget_it, "agent"))


def test_the_agents_key_signs_no_image(tmp_path: Path, house: House, pile: Pile) -> None:
    bundle = house.image(tmp_path / "board.bundle")
    listed = json.loads(parts(bundle)["metadata/power-board.json"])["signed"]["targets"]

    def list_it(signed: dict[str, Any]) -> None:
        signed["targets"] = copy.deepcopy(listed)

    def rename_it(signed: dict[str, Any]) -> None:
        signed["targets"] = {"agent/board.bin": copy.deepcopy(next(iter(listed.values())))}

    def forget_it(signed: dict[str, Any]) -> None:
        signed["targets"] = {}

    alone = altered(bundle, "power-board", forget_it, "power-board")
    with pytest.raises(NotAuthentic, match="nobody signed"):
        pile.open(altered(alone, "agent", list_it, "agent"))
    with pytest.raises(NotAuthentic, match=r"agent/board.bin: kind = 'power-board', expected"):
        pile.open(altered(alone, "agent", rename_it, "agent"))


def test_a_threshold_of_two_is_not_met_by_one_key_twice(tmp_path: Path) -> None:
    plan = PLAN | {"agent": ("agent", "power-board")}
    house = House(plan, agent=2)
    pile = Pile(tmp_path, house.root())
    bundle = house.agent(tmp_path / "agent.bundle")
    pile.open(bundle)
    entries = parts(bundle)
    metadata = json.loads(entries["metadata/agent.json"])
    metadata["signatures"] = metadata["signatures"][:1]
    once = json.dumps(metadata).encode()
    metadata["signatures"] *= 2
    twice = json.dumps(metadata).encode()

    for data, words in ((once, "agent was signed by 1/2 keys"), (twice, "agent.json: Failed to deserialize")):
        with pytest.raises(NotAuthentic, match=words):
            pile.open(put_together(tmp_path / "b", entries | {"metadata/agent.json": data}))


def test_there_is_no_unsigned_mode(tmp_path: Path, house: House, pile: Pile) -> None:
    bundle = house.image(tmp_path / "board.bundle")
    entries = {name: data for name, data in parts(bundle).items() if not name.startswith("metadata/")}

    with pytest.raises(NotAuthentic, match="it holds no metadata"):
        pile.open(put_together(tmp_path / "bare.bundle", entries))
    with pytest.raises(NotAuthentic, match="the factory's root was never installed"):
        trust.open_update(tmp_path / "empty", tmp_path / "scratch", bundle, trust.Device((), ""), NOW)


# ---- mixed ----


def test_the_payload_of_another_bundle_is_refused(tmp_path: Path, house: House, pile: Pile) -> None:
    old = house.image(tmp_path / "old.bundle", b"board firmware 7.0", "7.0")
    new = house.image(tmp_path / "new.bundle", b"board firmware 7.1", "7.1")
    entries = {name: data for name, data in parts(new).items() if name.startswith("metadata/")}
    mixed = put_together(tmp_path / "mixed.bundle", entries | {payload_name(old): parts(old)[payload_name(old)]})

    with pytest.raises(NotAuthentic, match="nobody signed"):
        pile.open(mixed)


@pytest.mark.parametrize("role", ["snapshot", "timestamp", "power-board"])
def test_one_metadata_file_of_another_bundle_is_refused(tmp_path: Path, house: House, pile: Pile, role: str) -> None:
    old = parts(house.image(tmp_path / "old.bundle", b"board firmware", "7.0"))
    new = parts(house.image(tmp_path / "new.bundle", b"board firmware", "7.1"))
    name = f"metadata/{role}.json"

    with pytest.raises(NotAuthentic, match=r"Expected \S+ v?\w"):
        pile.open(put_together(tmp_path / "mixed.bundle", new | {name: old[name]}))


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp", "power-board"])
def test_a_missing_metadata_file_is_named(tmp_path: Path, house: House, pile: Pile, role: str) -> None:
    entries = parts(house.image(tmp_path / "board.bundle"))
    del entries[f"metadata/{role}.json"]

    with pytest.raises(NotAuthentic, match=f"it has no {role}.json"):
        pile.open(put_together(tmp_path / "less.bundle", entries))


def test_metadata_beside_another_image_are_refused(tmp_path: Path, house: House, pile: Pile) -> None:
    house.image(tmp_path / "unused", b"board firmware")
    beside = house.metadata(tmp_path / "board.bin.tuf.zip")
    (tmp_path / "board.bin").write_bytes(b"other firmware")

    with pytest.raises(NotAuthentic, match=r"board.bin.tuf.zip: nobody signed 14 bytes"):
        pile.open(tmp_path / "board.bin", beside)


# ---- downgraded ----


def test_a_bundle_older_than_what_is_trusted_is_refused(tmp_path: Path, house: House, pile: Pile) -> None:
    old = house.image(tmp_path / "old.bundle", b"board firmware 7.0", "7.0")
    new = house.image(tmp_path / "new.bundle", b"board firmware 7.1", "7.1")

    pile.open(new)
    pile.open(old).release("7.0")  # a verdict alone moves nothing
    pile.install(new, "7.1")

    with pytest.raises(NotAuthentic, match="New timestamp version 2 must be >= 3"):
        pile.open(old)


@pytest.mark.parametrize(
    ("role", "file"),
    [
        ("timestamp", "snapshot.json"),
        ("snapshot", "targets.json"),
        ("snapshot", "agent.json"),
        ("snapshot", "power-board.json"),
    ],
)
def test_each_roles_version_holds_by_itself(tmp_path: Path, house: House, pile: Pile, role: str, file: str) -> None:
    """Whoever has the online key can make newer metadata, but none that speak of an older version of the others."""
    house.change_roles(PLAN | {"agent": ("agent", "online-2")})  # targets 2, agent 2
    pile.install(house.image(tmp_path / "old.bundle", version="7.0"), "7.0")  # power-board 2, snapshot 3

    def back(signed: dict[str, Any]) -> None:
        signed["meta"][file]["version"] = 1

    older = altered(house.image(tmp_path / "new.bundle", version="7.1"), role, back, "online")
    with pytest.raises(NotAuthentic, match=r"New snapshot version must be >= 3|Expected \S+ version 1, got 2"):
        pile.open(older)


def test_a_snapshot_that_forgets_a_role_is_refused(tmp_path: Path, house: House, pile: Pile) -> None:
    pile.install(house.image(tmp_path / "old.bundle"), "7.1")
    new = house.image(tmp_path / "new.bundle", version="7.2")

    def forget(signed: dict[str, Any]) -> None:
        del signed["meta"]["agent.json"]

    with pytest.raises(NotAuthentic, match=r"New snapshot is missing info for 'agent.json'"):
        pile.open(altered(new, "snapshot", forget, "online"))


def test_an_older_build_comes_back_only_with_newer_metadata(tmp_path: Path, house: House, pile: Pile) -> None:
    old = house.image(tmp_path / "old.bundle", b"board firmware 7.0", "7.0")
    raw = tmp_path / "board-7.0.bin"
    raw.write_bytes(b"board firmware 7.0")
    pile.install(old, "7.0")
    pile.install(house.image(tmp_path / "new.bundle", b"board firmware 7.1", "7.1"), "7.1")

    for carrier in (old, raw):
        with pytest.raises(NotAuthentic):
            pile.open(carrier)
    again = house.image(tmp_path / "again.bundle", b"board firmware 7.0", "7.0")

    assert pile.install(again, "7.0").version == "7.0"


def test_a_release_that_was_kept_may_still_be_installed(tmp_path: Path, house: House, pile: Pile) -> None:
    raw = tmp_path / "board-7.0.bin"
    raw.write_bytes(b"board firmware 7.0")
    house.image(tmp_path / "old.bundle", b"board firmware 7.0", "7.0")
    pile.install(house.image(tmp_path / "new.bundle", b"board firmware 7.1", "7.1", keep=True), "7.1")

    assert pile.open(raw).release("7.0").version == "7.0"


def test_a_release_follows_only_those_for_the_same_hardware(tmp_path: Path, house: House, pile: Pile) -> None:
    house.image(tmp_path / "unused", b"for another board", "3.0", hardware="PB-2")
    pile.install(house.image(tmp_path / "new.bundle", b"board firmware", "7.1"), "7.1")

    assert [one.version for one in house.repository.releases("power-board")] == ["3.0", "7.1"]


# ---- cut and flipped ----


def test_every_beginning_of_a_bundle_is_refused(tmp_path: Path, house: House, pile: Pile) -> None:
    data = house.image(tmp_path / "board.bundle").read_bytes()
    cut = tmp_path / "cut.bundle"
    for size in range(0, len(data), 41):
        cut.write_bytes(data[:size])
        with pytest.raises(NotAuthentic, match=r"cut.bundle is no bundle"):
            pile.open(cut)


def test_a_bundle_with_any_byte_flipped_is_refused(tmp_path: Path, house: House, pile: Pile) -> None:
    """A bit of every third byte: headers, metadata, payload, directory (every bit of a small one in test_archive)."""
    good = house.image(tmp_path / "board.bundle", b"board firmware")
    data = good.read_bytes()
    flipped = tmp_path / "flipped.bundle"
    for at in range(0, len(data), 3):
        flipped.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        with pytest.raises(NotAuthentic):
            pile.open(flipped)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "power-board"])
def test_metadata_with_a_byte_flipped_are_refused_or_say_the_same(
    tmp_path: Path, house: House, pile: Pile, role: str
) -> None:
    """Flipped before they are packed, so that no CRC stands before the signature. White space carries nothing, and
    neither does the case of a signature's hex digits."""
    good = house.image(tmp_path / "board.bundle", b"board firmware")
    release = pile.open(good).release("7.1")
    entries = parts(good)
    name = f"metadata/{role}.json"
    data = entries[name]
    refused = 0
    for at in range(0, len(data), 3):
        changed = data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
        flipped = put_together(tmp_path / "flipped.bundle", entries | {name: changed})
        try:
            assert pile.open(flipped).release("7.1") == release
        except NotAuthentic:
            refused += 1
    assert refused > len(data) // 3 * 0.5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] + [found for key, one in inner for found in _paths(one, (*path, key))]


@given(data=st.data())
@settings(max_examples=150)
def test_metadata_with_anything_anywhere_are_refused(data: st.DataObject, bundle_and_pile: tuple[Path, Pile]) -> None:
    """Before a signature is checked, the JSON is read: it may hold what it likes."""
    bundle, pile = bundle_and_pile
    role = data.draw(st.sampled_from(["timestamp", "snapshot", "targets", "power-board"]))
    entries = parts(bundle)
    metadata = json.loads(entries[f"metadata/{role}.json"])
    path = data.draw(st.sampled_from(_paths(metadata)))
    value = data.draw(JSON)
    fresh = _put(metadata, path, value)
    if fresh == metadata:
        return
    changed = entries | {f"metadata/{role}.json": json.dumps(fresh).encode()}

    try:
        update = pile.open(put_together(bundle.with_name("odd.bundle"), changed))
    except NotAuthentic:
        return
    assert update.release("7.1").sha256 == payload_name(bundle).removeprefix("targets/")[:64]


def _put(value: Any, path: tuple[Any, ...], replacement: Any) -> Any:
    if not path:
        return replacement
    copy = value.copy()
    copy[path[0]] = _put(value[path[0]], path[1:], replacement)
    return copy


@pytest.fixture(scope="module")
def bundle_and_pile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pile]:
    folder = tmp_path_factory.mktemp("trust")
    house = House()
    return house.image(folder / "board.bundle"), Pile(folder, house.root())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"signed":' * 20_000,
        b"\xff\xfe",
        b"9" * 100_000,
        b"{" + b" " * 300_000,
    ],
    ids=["empty", "object", "list", "null", "deep list", "deep object", "no UTF-8", "a long number", "too long"],
)
@pytest.mark.parametrize("file", ["2.root.json", "timestamp.json", "snapshot.json", "power-board.json"])
def test_metadata_that_are_none_are_refused(tmp_path: Path, house: House, pile: Pile, file: str, data: bytes) -> None:
    entries = parts(house.image(tmp_path / "board.bundle"))

    with pytest.raises(NotAuthentic):
        pile.open(put_together(tmp_path / "odd.bundle", entries | {f"metadata/{file}": data}))


def test_metadata_that_would_fill_the_memory_are_refused(tmp_path: Path, house: House, pile: Pile) -> None:
    entries = parts(house.image(tmp_path / "board.bundle"))
    roots = {f"metadata/{number}.root.json": b" " * 200_000 for number in range(2, 8)}

    with pytest.raises(NotAuthentic, match=r"metadata: 120\d+ bytes, expected at most 1048576"):
        pile.open(put_together(tmp_path / "fat.bundle", entries | roots))


def test_metadata_of_a_kind_to_come_are_left_alone(tmp_path: Path, house: House, pile: Pile) -> None:
    entries = parts(house.image(tmp_path / "board.bundle"))

    assert pile.open(put_together(tmp_path / "new.bundle", entries | {"metadata/display.json": b"?"})).release("7.1")


def test_a_damaged_trust_folder_is_told_and_trusts_nothing(tmp_path: Path, house: House, pile: Pile) -> None:
    bundle = house.image(tmp_path / "board.bundle")
    path = pile.trust / trust.TRUSTED
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(NotAuthentic, match=r"trusted.tuf.zip is damaged: the last 22 bytes"):
        pile.open(bundle)


def test_every_refusal_is_one_the_platform_knows(tmp_path: Path, house: House, pile: Pile) -> None:
    refusals: list[Callable[[], object]] = [
        lambda: pile.open(House(FOREIGN).image(tmp_path / "foreign")),
        lambda: pile.open(house.image(tmp_path / "board.bundle")).release("9"),
    ]
    results = []
    for refuse in refusals:
        with pytest.raises(FirmwareError) as caught:
            refuse()
        results.append(caught.value.result)
    assert results == [55, 57]
    assert roles()["root"].threshold == 2
