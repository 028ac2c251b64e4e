"""The desk: a command's effect and its reply are one, a command acts once, and nothing that fails is acknowledged."""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from bus_helpers import wait_until
from core_helpers import CAP_WH, CONFIG, PILE, WALL_MS
from office_helpers import Clock, Office, clock  # noqa: F401

from agent.desk import command_key
from agent.journal import FirstOutcome
from agent.pile.actions import FeedWatchdogs, ReadVersions, RebootBoards, RebootGun, StartGun, StopGun
from agent.pile.board import DeviceVersion
from agent.pile.core import HANDLERS
from agent.pile.events import JobDone, LinkChanged, Resumed, Silenced, Ticked, VersionsRead
from agent.pile.state import Phase, Settings
from agent.protocol.results import Result, StopReason

TIME = str(WALL_MS)
START = f"1,{PILE},1,ACC,1000,0,0,A1"


@pytest.fixture
def office(tmp_path: Path, clock: type[Clock]) -> Iterator[Office]:  # noqa: F811
    with closing(Office(tmp_path)) as office:
        yield office


def restarted(office: Office) -> Office:
    office.close()
    return Office(office.config.data_dir)


# ---- one transaction


def test_a_command_is_answered_in_a_whole_line(office: Office) -> None:
    assert office.command(107, "10,40", timestamp=1_795_305_600)
    (row,) = office.rows
    assert row.topic == f"klc/reply/qik/{PILE}"
    assert row.payload.decode() == f"10.9.8.7,API:2.0.2,107,{WALL_MS},{PILE},1795305600,0,10,40"


def test_effect_reply_and_outcome_are_one_transaction(office: Office) -> None:
    statements: list[str] = []
    office.measured()
    office.sqlite.set_trace_callback(statements.append)
    assert office.start()
    assert [one for one in statements if one in ("BEGIN IMMEDIATE", "COMMIT")] == ["BEGIN IMMEDIATE", "COMMIT"]
    writes = [one.split()[0:3] for one in statements if one.split()[0] in ("INSERT", "UPDATE")]
    assert {words[2 if words[0] == "INSERT" else 1] for words in writes} == {"inbox", "state", "outbox"}


def test_the_board_is_told_only_after_the_commit(office: Office) -> None:
    office.measured()
    office.forbid_writing()
    assert not office.start()
    assert office.bus.orders == []
    office.allow_writing()
    assert office.start()
    assert office.bus.orders == [StartGun(1, "A1", CAP_WH, 320)]


def test_a_poll_and_a_tick_write_nothing(office: Office) -> None:
    office.measured()
    office.happened(Ticked())
    changes = office.sqlite.total_changes
    for _ in range(10):
        office.measured()
        office.happened(Ticked())
    assert office.sqlite.total_changes == changes


def test_a_heartbeat_goes_out_and_is_never_stored(office: Office) -> None:
    office.happened(LinkChanged(True))
    (line,) = office.link.reports
    assert line.decode() == f"10.9.8.7,API:2.0.2,100,{WALL_MS},{PILE},0,0,0,2,1,8,2,8"
    assert office.rows == []


# ---- a journal that fails


def full(office: Office) -> None:
    office.sqlite.execute("PRAGMA max_page_count = 1")  # as many as there are: "disk is full"


def locked(office: Office) -> None:
    office.sqlite.execute("PRAGMA busy_timeout = 20")
    other = sqlite3.connect(office.journal.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    office.journal.other = other  # type: ignore[attr-defined]  # it holds the lock as long as it lives


def closed(office: Office) -> None:
    office.sqlite.close()


@pytest.mark.parametrize("spoil", [full, locked, closed])
def test_what_cannot_be_stored_is_not_acknowledged_and_changes_nothing(office: Office, spoil: object) -> None:
    office.measured()
    before = office.desk.state
    assert callable(spoil)
    spoil(office)
    long_header = "9" * 30_000 + ",API:2.0.2"  # needs new pages
    assert not office.command(101, START, header=long_header)
    assert not office.command(107, "10,40", header=long_header)
    assert office.desk.state is before
    assert office.bus.orders == []
    assert office.desk.counters["not stored"] == 2


def test_the_failure_is_told_once_until_something_could_be_stored(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        office.forbid_writing()
        assert not office.command(107, "10,40")
        assert not office.command(107, "10,40")
        office.allow_writing()
        assert office.command(107, f"10,{40 + office.desk.counters['ok']}")
    errors = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert all("readonly database" in error for error in errors)


def test_after_the_failure_the_same_message_is_taken(office: Office) -> None:
    office.forbid_writing()
    assert not office.command(107, "10,40")
    office.allow_writing()
    assert office.command(107, "10,40")
    assert office.replies == [f"107,{TIME},0,10,40"]


def test_current_comes_off_although_the_stop_cannot_be_written_down(office: Office) -> None:
    office.charge()
    office.forbid_writing()
    assert not office.stop()
    assert office.bus.orders[-1] == StopGun(1)
    office.allow_writing()
    assert office.stop()
    assert office.replies[-1] == f"101,{TIME},1,1,A1,5"


def test_the_cap_is_held_although_nothing_can_be_written_down(office: Office) -> None:
    office.charge()
    office.forbid_writing()
    office.measured("charging", "A1", used_wh=CAP_WH)
    assert office.bus.orders[-1] == StopGun(1)


def test_what_the_board_reports_is_believed_while_nothing_can_be_written_down(office: Office) -> None:
    """The state goes ahead of the journal; what changed is written with the first turn that can be."""
    office.charge()
    office.forbid_writing()
    office.measured("charging", "A1", used_wh=CAP_WH)
    session = office.desk.state.guns[1].session
    assert session is not None
    assert (session.phase, session.stop_reason) == (Phase.STOPPING, StopReason.AMOUNT_REACHED)
    assert "readonly database" in office.desk.storage_fault
    office.allow_writing()
    office.measured("ended", "A1", used_wh=CAP_WH)
    assert office.desk.storage_fault == ""
    assert office.replies[-1].startswith("101,0,0,1,A1,6,4")  # told unasked: the amount was reached


def test_what_could_not_be_stored_is_done_when_it_can(office: Office) -> None:
    office.measured()
    assert office.start()
    office.forbid_writing()
    office.happened(JobDone(StartGun(1, "A1", CAP_WH, 320), Result.DEVICE_REFUSED, "exception 4"))
    office.happened(Silenced(1))
    office.happened(Ticked())
    assert office.replies == [f"101,{TIME},1,1,A1,3"]
    assert FeedWatchdogs() in office.bus.orders  # what needs no writing goes on
    office.allow_writing()
    office.happened(Ticked())
    assert office.replies == [f"101,{TIME},1,1,A1,3", f"101,{TIME},41,exception 4"]
    assert office.desk.state.guns[1].silent


def test_a_reading_that_could_not_be_stored_is_not_kept(office: Office) -> None:
    office.charge()
    office.forbid_writing()
    office.measured("ended", "A1")
    assert office.desk.state.guns[1].session is not None
    office.allow_writing()
    office.measured("charging", "A1")  # had the old one been kept, it would end the charge now
    assert office.desk.state.guns[1].session is not None


# ---- a flood


def test_rubbish_is_said_at_each_doubling(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for number in range(100):
        assert office.command(107, f"x{number},40")
    answered = [record.message for record in caplog.records if "answered 10" in record.message]
    assert len(answered) == 7  # the 1st, 2nd, 4th … 64th
    assert len(office.replies) == 100


# ---- once


def test_the_same_command_again_is_a_duplicate_with_the_first_outcome(office: Office) -> None:
    assert office.command(107, "10,40")
    assert office.command(107, "10,40")
    assert office.replies == [f"107,{TIME},0,10,40", f"107,{TIME},3,0,10,40"]


def test_ip_and_version_do_not_make_it_another_command(office: Office) -> None:
    assert office.command(107, "10,40", header="1.1.1.1,API:2.0.2")
    assert office.command(107, "10,40", header="2.2.2.2,2.0.2")
    assert office.replies[1] == f"107,{TIME},3,0,10,40"


def test_another_timestamp_makes_it_another_command(office: Office) -> None:
    assert office.command(107, "10,40", timestamp=1)
    assert office.command(107, "10,40", timestamp=2)
    assert office.replies == ["107,1,0,10,40", "107,2,0,10,40"]


def test_a_redelivery_after_a_restart_is_a_duplicate(office: Office) -> None:
    office.charge()
    with closing(restarted(office)) as later:
        assert later.start()
        assert later.replies[-1] == f"101,{TIME},3,0,1,A1,4"
        assert later.bus.orders == []


def test_a_duplicate_does_not_take_the_place_of_the_outcome(office: Office) -> None:
    """Redelivered while it is only accepted, and again when it is OK: the second time the outcome is OK."""
    office.measured()
    assert office.start()
    assert office.start()
    office.measured("charging", "A1")
    assert office.start()
    assert office.replies == [
        f"101,{TIME},1,1,A1,3",
        f"101,{TIME},3,1,1,A1,3",
        f"101,{TIME},0,1,A1,4",
        f"101,{TIME},3,0,1,A1,4",
    ]


def test_a_second_start_is_itself_remembered(office: Office) -> None:
    office.charge()
    for _ in range(2):
        assert office.start(timestamp=WALL_MS + 1)
    assert office.replies[-2:] == [f"101,{WALL_MS + 1},3,0,1,A1,4"] * 2


def test_a_command_without_outcome_yet_is_answered_once(office: Office) -> None:
    assert office.command(112)
    assert office.command(112)
    assert office.replies == []
    office.happened(VersionsRead((DeviceVersion("board", "1.4.2"),)))
    assert office.replies == [f"112,{TIME},0,0.1.0,board,1.4.2"]
    assert office.command(112)
    assert office.replies[1:] == [f"112,{TIME},3,0,0.1.0,board,1.4.2"]
    assert office.bus.orders == [ReadVersions()]


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.CHARGING, Phase.STOPPING])
def test_a_charge_outlives_a_kill(office: Office, phase: Phase) -> None:
    office.measured()
    assert office.start()
    if phase is not Phase.STARTING:
        office.measured("charging", "A1")
    if phase is Phase.STOPPING:
        assert office.stop()
    before = office.desk.state.guns[1].session
    with closing(restarted(office)) as later:
        assert later.desk.state.guns[1].session == before
        later.happened(Resumed())
        later.measured("charging", "A1")
        later.measured("ended", "A1")
        session = later.desk.state.guns[1].session
        assert session is None


def test_settings_outlive_a_kill(office: Office) -> None:
    assert office.command(107, "10,40")
    with closing(restarted(office)) as later:
        assert later.desk.state.settings == Settings(10, 40)


# ---- what is no command for us


@pytest.mark.parametrize(
    ("payload", "counted"),
    [
        (b"1.2.3.4,API:2.0.2,107,17,9999999999,10,40", "foreign"),
        (f"1.2.3.4,API:2.0.2,107,17,{PILE}0,10,40".encode(), "foreign"),
        (b"1.2.3.4,API:2.0.2,107,17,,10,40", "foreign"),
        (b"", "unreadable"),
        (b"garbage", "unreadable"),
        (b"\xff\xfe\x00", "unreadable"),
    ],
)
def test_a_message_for_others_or_nobody_is_dropped_and_counted(office: Office, payload: bytes, counted: str) -> None:
    assert office.desk.message_came(payload)
    assert office.desk.message_came(payload)
    assert office.desk.counters[counted] == 2
    assert office.rows == []
    assert office.journal.seen(command_key(payload)) is None


def test_a_drop_is_told_once(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for number in range(100):
        office.desk.message_came(b"garbage %d" % number)
    assert len([message for message in caplog.messages if "unreadable" in message]) == 1


@pytest.mark.parametrize(
    ("number", "data", "reply"),
    [
        (101, f"x,{PILE},1,ACC,1000,0,0,A1", "10,type = 'x': expected"),
        (101, f"1,{PILE},1,ACC,,0,0,A1", "10,balance_fen = '': expected"),
        (101, f"1,{PILE},1,ACC,1000,0,0", "10,order: expected"),
        (101, "1,0000099999,1,ACC,1000,0,0,A1", "11,pile = '0000099999': expected"),
        (107, "90,30", "13,timeout_s = "),
        (199, "", "14,command = '199': expected"),
        (107, "10,\x0040", "10,timeout_s = "),
    ],
)
def test_a_faulty_line_is_answered_with_the_field_named(office: Office, number: int, data: str, reply: str) -> None:
    assert office.command(number, data)
    assert office.replies[0].startswith(f"{number},{TIME},{reply}")
    assert office.command(number, data)
    assert office.replies[1].startswith(f"{number},{TIME},3,{reply}")


def test_a_line_too_long_is_answered(office: Office) -> None:
    assert office.start("9" * 70_000)
    assert office.replies[0].split(",")[2] == "10"


def test_the_longest_line_is_answered(office: Office) -> None:
    office.measured()
    assert office.start("9" * 65_000)
    assert office.replies == [f"101,{TIME},13,order = {'9' * 64}…: expected at most 1024 bytes"]


def test_an_unreadable_timestamp_is_answered_as_zero(office: Office) -> None:
    assert office.desk.message_came(f"1.2.3.4,API:2.0.2,107,soon,{PILE},10,40".encode())
    assert office.replies[0].startswith("107,0,10,timestamp = 'soon': expected")


# ---- bugs


def test_a_bug_in_a_handler_is_internal_once(
    office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def bug(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setitem(HANDLERS, 100, bug)
    office.measured()
    before = office.desk.state
    assert office.command(100)  # it is acknowledged, or it would come again for ever
    assert office.command(100)
    text = "the agent could not handle this command"
    assert office.replies == [f"100,{TIME},99,{text}", f"100,{TIME},3,99,{text}"]
    assert office.desk.state is before
    assert [record.exc_info is not None for record in caplog.records if record.levelno == logging.ERROR] == [True]


def test_a_bug_after_the_commit_does_not_make_the_command_act_again(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(_order: object) -> None:
        raise ZeroDivisionError("a bug")

    office.measured()
    with monkeypatch.context() as patch:
        patch.setattr(office.bus, "do", bug)
        with pytest.raises(ZeroDivisionError):
            office.start()
    assert office.start()
    assert office.bus.orders == []
    assert office.replies == [f"101,{TIME},1,1,A1,3", f"101,{TIME},3,1,1,A1,3"]


# ---- stale


def test_a_start_is_expired_by_the_desks_clock(office: Office) -> None:
    office.measured()
    assert office.start(timestamp=WALL_MS - 120_001)
    assert office.replies[0].startswith(f"101,{WALL_MS - 120_001},15,")
    Clock.now = replace(Clock.now, trusted=False)
    assert office.start("A2", timestamp=1)
    assert office.replies[1] == "101,1,1,1,A2,3"


# ---- the outbox


def in_flight(office: Office) -> list[int]:
    return list(office.link.in_flight)


def timestamps(office: Office) -> list[str]:
    """Of the requests that what is in flight answers."""
    return [line.decode().split(",")[5] for line in office.link.in_flight.values()]


def ask(office: Office, count: int) -> None:
    for timestamp in range(1, count + 1):
        office.command(107, "10,40", timestamp)


def test_messages_go_out_in_order_a_window_at_a_time(office: Office) -> None:
    office.link.size = 2
    ask(office, 5)
    assert in_flight(office) == [1, 2]
    office.link.take([1])
    assert in_flight(office) == [2, 3]
    assert office.outbox.waiting == 4


def test_a_new_window_begins_at_the_oldest_undelivered(office: Office) -> None:
    office.link.size = 4
    ask(office, 5)
    office.link.take([1, 3])
    office.link.lose(size=10)
    office.outbox.pump()
    assert in_flight(office) == [2, 4, 5]


def test_nothing_goes_out_while_the_link_is_down_and_all_of_it_after(office: Office) -> None:
    office.link.size = 0
    ask(office, 30)
    assert in_flight(office) == []
    office.link.lose(size=100)
    office.outbox.pump()
    assert timestamps(office) == [str(number) for number in range(1, 31)]


def test_delivered_messages_leave_the_journal_in_batches(office: Office) -> None:
    office.link.size = 30
    ask(office, 30)
    office.link.take(range(1, 20))
    assert len(office.rows) == 30
    office.link.take([20])
    assert [row.id for row in office.rows] == list(range(21, 31))
    office.link.take([21])
    office.outbox.flush()
    assert len(office.rows) == 9
    assert office.outbox.waiting == 9


def test_a_delivery_told_twice_counts_once(office: Office) -> None:
    ask(office, 2)
    office.outbox.delivered(1)
    office.outbox.delivered(1)
    assert office.outbox.waiting == 1


def test_a_kill_repeats_what_was_not_recorded_as_delivered_and_loses_nothing(office: Office) -> None:
    ask(office, 3)
    office.link.take([1])
    office.kill()
    office.outbox.pump()
    assert timestamps(office) == ["1", "2", "3"]
    assert office.outbox.waiting == 3


def test_a_journal_that_fails_costs_no_delivery(office: Office) -> None:
    office.link.size = 25
    ask(office, 25)
    office.forbid_writing()
    office.link.take()
    assert office.outbox.waiting == 0
    office.allow_writing()
    office.outbox.flush()
    assert office.rows == []


def test_an_outbox_that_cannot_be_read_waits(office: Office) -> None:
    office.link.size = 0
    ask(office, 1)
    office.link.lose(size=5)
    office.sqlite.close()
    office.outbox.pump()
    assert in_flight(office) == []


def test_empty_is_told_whenever_the_last_one_is_delivered(office: Office) -> None:
    ask(office, 2)
    office.link.take([1])
    assert office.times_empty == 0
    office.link.take([2])
    assert office.times_empty == 1


# ---- a reboot


def test_a_reboot_begins_when_its_ok_is_delivered(office: Office) -> None:
    office.measured()
    assert office.command(108, "1")
    assert office.bus.orders == []
    office.link.take()
    assert office.bus.orders == [RebootGun(1)]


def test_the_host_is_rebooted_by_the_configured_command(tmp_path: Path, clock: type[Clock]) -> None:  # noqa: F811
    witness = tmp_path / "rebooted"
    with closing(Office(tmp_path, reboot_command=("touch", str(witness)))) as office:
        assert office.command(108, "0")
        office.happened(JobDone(RebootBoards(), Result.OK))
        wait_until(witness.exists, "the command")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ((), "pile.reboot_command is empty: the Linux board is not restarted"),
        (("/no/such/program",), "the Linux board could not be restarted: [Errno 2] No such file or directory"),
    ],
)
def test_a_host_that_cannot_be_rebooted_is_told(
    tmp_path: Path, clock: type[Clock], caplog: pytest.LogCaptureFixture, command: tuple[str, ...], message: str  # noqa: F811
) -> None:  # fmt: skip
    with closing(Office(tmp_path, reboot_command=command)) as office:
        assert office.command(108, "0")
        office.happened(JobDone(RebootBoards(), Result.OK))
    assert any(one.startswith(message) for one in caplog.messages)


# ---- a configuration that changed


def test_a_gun_that_was_taken_away_does_not_hinder_the_others(tmp_path: Path, clock: type[Clock]) -> None:  # noqa: F811
    with closing(Office(tmp_path)) as before:
        assert before.command(108, "2")
    with closing(Office(tmp_path, pile=replace(CONFIG, guns=1))) as office:
        office.happened(Resumed())
        office.measured()
        assert office.start()
        assert office.replies[-1] == f"101,{TIME},1,1,A1,3"


def test_the_first_outcome_is_kept_with_its_body(office: Office) -> None:
    office.charge()
    line = f"1.2.3.4,API:2.0.2,101,{TIME},{PILE},{START}".encode()
    assert office.journal.seen(command_key(line)) == FirstOutcome(0, "1,A1,4")
