"""The outbox keeps order and gives up a message only when told that it was delivered."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.journal import Journal, JournalError, JsonValue, OutboxRow

NOW_MS = 1_700_000_000_000
TOPIC = "klc/reply/qik/P1"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal.open(tmp_path / "pile.db", NOW_MS)) as journal:
        yield journal


def enqueue(journal: Journal, *payloads: bytes) -> list[int]:
    with journal.transaction():
        return [journal.enqueue(TOPIC, payload, NOW_MS) for payload in payloads]


def test_messages_come_in_the_order_they_were_enqueued(journal: Journal) -> None:
    first, second, third = enqueue(journal, b"a", b"b", b"c")
    assert journal.pending(0, 2) == [OutboxRow(first, TOPIC, b"a"), OutboxRow(second, TOPIC, b"b")]
    assert journal.pending(second, 2) == [OutboxRow(third, TOPIC, b"c")]
    assert journal.pending(third, 2) == []


def test_a_delivered_message_is_gone_and_a_repeat_of_that_is_harmless(journal: Journal) -> None:
    first, second = enqueue(journal, b"a", b"b")
    for _ in range(2):
        with journal.transaction():
            journal.delivered([first])
    assert journal.pending(0, 9) == [OutboxRow(second, TOPIC, b"b")]


def test_an_id_is_never_used_again_even_after_all_was_delivered_and_a_restart(tmp_path: Path) -> None:
    with closing(Journal.open(tmp_path / "ids.db", NOW_MS)) as journal:
        ids = enqueue(journal, b"a", b"b")
        with journal.transaction():
            journal.delivered(ids)
    with closing(Journal.open(tmp_path / "ids.db", NOW_MS)) as journal:
        assert enqueue(journal, b"c") == [3]


def test_size_of_the_outbox(journal: Journal) -> None:
    assert journal.outbox_size() == 0
    with journal.transaction():
        journal.enqueue(TOPIC, b"a", NOW_MS)
        journal.enqueue(TOPIC, b"b", NOW_MS + 5)
    assert journal.outbox_size() == 2


def test_prune_keeps_what_is_undelivered(journal: Journal) -> None:
    enqueue(journal, b"a", b"b")
    with journal.transaction():
        journal.prune(NOW_MS + 10**12, {}, inbox_days=0, inbox_rows=0, inbox_least=0)
    assert [row.payload for row in journal.pending(0, 9)] == [b"a", b"b"]


def test_effect_and_reply_happen_together_or_not_at_all(journal: Journal) -> None:
    def half_done() -> None:
        with journal.transaction():
            journal.record_command(b"key", 101, b"line", NOW_MS)
            journal.put("gun/1", {"order": "ORDER1"})
            journal.enqueue(TOPIC, b"accepted", NOW_MS)
            journal.record_outcome(b"key", 1, "")
            raise ValueError("the core fell over")

    with pytest.raises(ValueError, match="fell over"):
        half_done()
    assert (journal.seen(b"key"), journal.get("gun/1"), journal.pending(0, 9)) == (None, None, [])


def test_a_transaction_inside_another_is_refused_and_ends_both(journal: Journal) -> None:
    def nested() -> None:
        with journal.transaction():
            journal.put("a", 1)
            with journal.transaction():
                journal.put("a", 2)

    with pytest.raises(RuntimeError, match="open already"):
        nested()
    assert journal.get("a") is None


@pytest.mark.parametrize(
    "write",
    [
        lambda journal: journal.put("a", 1),
        lambda journal: journal.delete("a"),
        lambda journal: journal.enqueue(TOPIC, b"a", NOW_MS),
        lambda journal: journal.delivered([1]),
        lambda journal: journal.records.add(3, NOW_MS, 0, "", "boot"),
        lambda journal: journal.record_command(b"key", 100, b"line", NOW_MS),
        lambda journal: journal.prune(NOW_MS, {}),
    ],
)
def test_a_write_outside_a_transaction_is_refused(journal: Journal, write) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RuntimeError, match="outside a journal transaction"):
        write(journal)


@pytest.mark.parametrize(
    "value",
    [0, -1, 2**62, True, "", '快乐充, "quoted" \'%_', [1, "a", None], {"order": "ORDER1", "cap_fen": 5000}, {}],
)
def test_a_value_comes_back_as_it_was_put(journal: Journal, value: JsonValue) -> None:
    with journal.transaction():
        journal.put("key", "before")
        journal.put("key", value)
    assert journal.get("key") == value


def test_a_value_json_cannot_say_is_refused(journal: Journal) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"), journal.transaction():
        journal.put("key", float("nan"))


def test_keys_are_listed_by_prefix_to_the_letter(journal: Journal) -> None:
    with journal.transaction():
        for key in ("gun/2", "gun/10", "gun", "gun/1", "Gun/3", "gunner", "gu%/1"):
            journal.put(key, key)
    assert journal.items("gun/") == [("gun/1", "gun/1"), ("gun/10", "gun/10"), ("gun/2", "gun/2")]
    with journal.transaction():
        journal.delete("gun/1")
        journal.delete("gun/1")
    assert [key for key, _ in journal.items("gun/")] == ["gun/10", "gun/2"]


def test_an_unchanged_value_writes_nothing(tmp_path: Path) -> None:
    with closing(Journal.open(tmp_path / "same.db", NOW_MS)) as journal:
        for value, grows in ((1, True), (1, False), (2, True)):
            before = (tmp_path / "same.db-wal").stat().st_size
            with journal.transaction():
                journal.put("heartbeat_s", value)
            assert ((tmp_path / "same.db-wal").stat().st_size > before) == grows


def test_a_value_that_is_no_json_is_named(journal: Journal) -> None:
    with journal.transaction():
        journal.put("settings", "x")
        journal._database.connection.execute("UPDATE state SET value = '{'")
    with pytest.raises(JournalError, match="cannot read settings: its value is no JSON"):
        journal.get("settings")
