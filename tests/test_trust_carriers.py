"""The three carriers, and what a pile takes out of them."""

import hashlib
from pathlib import Path

import pytest
from trust_helpers import ABI, DEVICE, NOW, House, Pile, altered, parts, payload_name, put_together

from firmware_bridge import trust
from firmware_bridge.bundle import Release
from firmware_bridge.errors import FirmwareError, NotAuthentic, VersionRefused, WrongHardware


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def pile(tmp_path: Path, house: House) -> Pile:
    return Pile(tmp_path, house.root())


def test_a_bundle_with_an_image_is_verified_and_copied_out(tmp_path: Path, house: House, pile: Pile) -> None:
    update = pile.open(house.image(tmp_path / "board.bundle", b"board firmware"))

    assert update.release("7.1") == Release(
        target="power-board/board-7.1.bin",
        kind="power-board",
        version="7.1",
        hardware=("PB-1",),
        abi="",
        size=14,
        sha256=hashlib.sha256(b"board firmware").hexdigest(),
        unpacked=14,
    )
    update.copy_to(tmp_path / "image.bin")
    assert (tmp_path / "image.bin").read_bytes() == b"board firmware"


def test_a_bundle_with_a_release_of_the_agent_is_unpacked(tmp_path: Path, house: House, pile: Pile) -> None:
    update = pile.open(house.agent(tmp_path / "agent.bundle", {"__main__.py": b"print(1)\n", "agent/core.py": b"#\n"}))

    release = update.release("1.2.3")
    assert (release.kind, release.hardware, release.abi, release.unpacked) == ("agent", ("KLC-120",), ABI, 11)
    update.unpack_to(tmp_path / "release")
    assert (tmp_path / "release/agent/core.py").read_bytes() == b"#\n"


def test_a_raw_image_with_its_metadata_beside_it(tmp_path: Path, house: House, pile: Pile) -> None:
    house.image(tmp_path / "unused", b"board firmware")
    beside = house.metadata(tmp_path / "board.bin.tuf.zip")
    raw = tmp_path / "board.bin"
    raw.write_bytes(b"board firmware")

    update = pile.open(raw, beside)

    assert update.release("7.1").size == 14
    update.copy_to(tmp_path / "image.bin")
    assert (tmp_path / "image.bin").read_bytes() == b"board firmware"


def test_a_raw_image_that_trusted_metadata_name(tmp_path: Path, house: House, pile: Pile) -> None:
    raw = tmp_path / "board.bin"
    raw.write_bytes(b"board firmware")
    bundle = house.image(tmp_path / "board.bundle", b"board firmware")
    with pytest.raises(NotAuthentic, match=r"board.bin is no bundle \(size: 14.*it has no timestamp.json"):
        pile.open(raw)

    pile.install(bundle, "7.1")

    assert pile.open(raw).release("7.1").target == "power-board/board-7.1.bin"


def test_a_raw_release_of_the_agent_is_an_archive_and_still_no_bundle(tmp_path: Path, house: House, pile: Pile) -> None:
    bundle = house.agent(tmp_path / "agent.bundle")
    raw = tmp_path / "agent.zip"
    raw.write_bytes(parts(bundle)[payload_name(bundle)])

    update = pile.open(raw, house.metadata(tmp_path / "agent.zip.tuf.zip"))
    update.unpack_to(tmp_path / "release")

    assert (tmp_path / "release/__main__.py").exists()
    with pytest.raises(NotAuthentic, match=r"agent.zip is no bundle \(it holds no metadata\)"):
        pile.open(raw)


def test_the_size_and_hash_are_known_before_a_raw_image_is_there(tmp_path: Path, house: House, pile: Pile) -> None:
    house.image(tmp_path / "unused", b"board firmware")
    beside = house.metadata(tmp_path / "board.bin.tuf.zip")

    catalogue = trust.open_catalogue(pile.trust, pile.scratch, NOW, beside)

    release = catalogue.ordered("7.1", DEVICE)
    assert release is not None
    assert (release.size, release.sha256) == (14, hashlib.sha256(b"board firmware").hexdigest())
    assert catalogue.ordered("7.2", DEVICE) is None
    assert catalogue.ordered("7.1", trust.Device(("PB-2",), ABI)) is None
    with pytest.raises(NotAuthentic, match=r"it has no timestamp.json"):
        trust.open_catalogue(pile.trust, pile.scratch, NOW, None)


def test_another_version_than_the_ordered_one_is_refused(tmp_path: Path, house: House, pile: Pile) -> None:
    update = pile.open(house.image(tmp_path / "board.bundle", version="7.1"))

    with pytest.raises(VersionRefused, match=r"ordered is version '7.2', signed is '7.1'"):
        update.release("7.2")


@pytest.mark.parametrize(
    ("device", "words"),
    [
        (trust.Device(("KLC-60",), ABI), "it is for KLC-120; this is KLC-60"),
        (
            trust.Device(("KLC-120",), "cpython-311-arm-linux-gnueabihf"),
            f"it is for {ABI}; this is cpython-311-arm-linux-gnueabihf",
        ),
    ],
)
def test_a_release_for_other_hardware_is_refused(
    tmp_path: Path, house: House, pile: Pile, device: trust.Device, words: str
) -> None:
    update = pile.open(house.agent(tmp_path / "agent.bundle"), device=device)

    with pytest.raises(WrongHardware, match=words):
        update.release("1.2.3")


def test_the_errors_are_the_platforms_numbers() -> None:
    errors: list[type[FirmwareError]] = [NotAuthentic, WrongHardware, VersionRefused]
    assert [error.result for error in errors] == [55, 56, 57]


def test_nothing_that_is_trusted_changes_before_it_is_promoted(tmp_path: Path, house: House, pile: Pile) -> None:
    before = pile.versions()
    trusted = (pile.trust / trust.TRUSTED).read_bytes()

    pile.open(house.image(tmp_path / "board.bundle"))

    assert [path.name for path in pile.trust.iterdir()] == [trust.TRUSTED]
    assert (pile.trust / trust.TRUSTED).read_bytes() == trusted
    assert [path.name for path in pile.scratch.iterdir()] == [trust.TRUSTED]
    trust.promote(pile.trust, pile.scratch)
    assert before == {"root": 1}
    assert pile.versions() == {
        "root": 1, "targets": 1, "snapshot": 2, "timestamp": 2, "agent": 1, "power-board": 2,
    }  # fmt: skip


def test_a_payload_that_changed_after_it_was_verified_is_not_copied(tmp_path: Path, house: House, pile: Pile) -> None:
    bundle = house.image(tmp_path / "board.bundle", b"board firmware")
    update = pile.open(bundle)
    bundle.write_bytes(bundle.read_bytes().replace(b"board firmware", b"bored firmware"))
    (tmp_path / "image.bin").write_bytes(b"the last good one")

    with pytest.raises(NotAuthentic, match=r"board.bundle has changed since it was verified"):
        update.copy_to(tmp_path / "image.bin")

    assert (tmp_path / "image.bin").read_bytes() == b"the last good one"
    assert not list(tmp_path.glob(".image*"))


def test_a_release_whose_files_take_more_room_than_signed_is_not_unpacked(
    tmp_path: Path, house: House, pile: Pile
) -> None:
    def claim(signed: dict) -> None:  # type: ignore[type-arg]
        for target in signed["targets"].values():
            target["custom"]["unpacked"] = 1

    bundle = altered(house.agent(tmp_path / "agent.bundle"), "agent", claim, "agent")

    with pytest.raises(NotAuthentic, match="22 bytes to unpack, signed are 1"):
        pile.open(bundle).unpack_to(tmp_path / "release")
    assert not (tmp_path / "release").exists()


def test_a_bundle_with_two_payloads_is_refused(tmp_path: Path, house: House, pile: Pile) -> None:
    bundle = house.image(tmp_path / "board.bundle")
    two = put_together(tmp_path / "two.bundle", parts(bundle) | {"targets/other": b"x"})

    with pytest.raises(NotAuthentic, match=r"payloads: targets/\w{64}.board-7.1.bin, targets/other, expected one"):
        pile.open(two)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("kind", "agent", "kind = 'agent', expected agent or power-board, as it is called"),
        ("kind", None, "kind = None"),
        ("version", "../../etc", "version = '../../etc', expected"),
        ("version", "", "version = '', expected"),
        ("version", 7, "version = 7, expected"),
        ("hardware", "PB-1", "hardware = 'PB-1', expected a list of texts"),
        ("hardware", [], r"hardware = \[\], expected"),
        ("abi", None, "abi = None, expected a text"),
        ("unpacked", -1, "unpacked = -1, expected an integer from 0"),
        ("unpacked", True, "unpacked = True, expected"),
        ("layout", 2, "layout = 2, expected 1"),
    ],
)
def test_signed_data_that_make_no_sense_are_refused(
    tmp_path: Path, house: House, pile: Pile, field: str, value: object, words: str
) -> None:
    def change(signed: dict) -> None:  # type: ignore[type-arg]
        signed["targets"]["power-board/board-7.1.bin"]["custom"][field] = value

    bundle = altered(house.image(tmp_path / "board.bundle"), "power-board", change, "power-board")

    with pytest.raises(NotAuthentic, match=f"power-board/board-7.1.bin: {words}"):
        pile.open(bundle)
