"""What was committed survives the end of process, power and disk space; what was not leaves no trace."""

import json
import random
import select
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from agent.journal import Extent, FirstOutcome, Journal

NOW_MS = 1_700_000_000_000
KILLS = 20

# Says a number once its command, effect, record and reply are committed together.
WRITER = """
import sys
from pathlib import Path
from agent.journal import Journal
journal = Journal.open(Path(sys.argv[1]), 0)
number = journal.get("last") or 0
while True:
    number += 1
    key = b"%d" % number
    with journal.transaction():
        journal.record_command(key, 101, b"line", number)
        journal.put("last", number)
        journal.records.add(3, number, 1, "", str(number))
        journal.enqueue("klc/reply/qik/P1", key, number)
        journal.record_outcome(key, 0, str(number))
    print(number, flush=True)
"""

# Fills the journal until its WAL may not grow any more, then gets room again.
HOARDER = """
import json, resource, sys
from pathlib import Path
from agent.journal import Journal, JournalError
journal = Journal.open(Path(sys.argv[1]), 0)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
committed, errors = [], []
def commit(number):
    with journal.transaction():
        journal.put("last", number)
        journal.enqueue("topic", b"x" * 5000, number)
    committed.append(number)
for number in range(1, 200):
    try:
        commit(number)
    except JournalError as error:
        errors.append(str(error))
        if len(errors) == 2:
            break
full_at = number
state_when_full = [journal.get("last"), journal.outbox_size()]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
commit(full_at + 1)
print(json.dumps([committed, errors, state_when_full]))
"""


def commit_numbers(path: Path, chance: random.Random) -> int:
    """Let a writer run and kill it with SIGKILL at a random moment; the last number it said."""
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(chance.randrange(1, 100)):
            assert writer.stdout.readline()
        select.select([], [], [], chance.uniform(0, 0.002))  # anywhere within a commit, not always behind one
        writer.kill()
        said = writer.stdout.read().split()
    return int(said[-1]) if said else 0


def assert_whole(journal: Journal, at_least: int) -> int:
    """Every number up to the last is there with all that was written beside it; that last number."""
    last = journal.get("last") or 0
    assert isinstance(last, int)
    assert last >= at_least
    numbers = [str(number) for number in range(1, last + 1)]
    records = journal.records.after(3, 0, last + 10)
    assert [record.body for record in records] == numbers
    assert [record.sequence for record in records] == list(range(1, last + 1))
    assert journal.records.extent(3) == Extent(last, last)
    assert [row.payload.decode() for row in journal.pending(0, last + 10)] == numbers
    assert all(journal.seen(number.encode()) == FirstOutcome(0, number) for number in numbers)
    assert journal.seen(b"%d" % (last + 1)) is None
    return last


def test_nothing_acknowledged_is_lost_to_kill_9_and_nothing_is_half_there(tmp_path: Path) -> None:
    path = tmp_path / "pile.db"
    chance = random.Random(9)
    last = 0
    for _ in range(KILLS):
        said = commit_numbers(path, chance)
        with closing(Journal.open(path, NOW_MS)) as journal:
            assert journal.notices == []
            grown = assert_whole(journal, at_least=said)
        assert grown > last
        last = grown


def test_a_kill_leaves_the_wal_and_the_next_start_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "pile.db"
    said = commit_numbers(path, random.Random(1))
    assert path.with_name("pile.db-wal").stat().st_size > 0
    with closing(Journal.open(path, NOW_MS)) as journal:
        assert_whole(journal, at_least=said)


def crashed_copy(path: Path, folder: Path, wal: bytes) -> Path:
    """The file as a power cut would leave it with this much of the WAL."""
    folder.mkdir()
    (folder / "pile.db").write_bytes(path.read_bytes())
    (folder / "pile.db-wal").write_bytes(wal)
    return folder / "pile.db"


def test_a_wal_cut_anywhere_leaves_a_whole_earlier_state(tmp_path: Path) -> None:
    path = tmp_path / "pile.db"
    commit_numbers(path, random.Random(4))
    wal = path.with_name("pile.db-wal").read_bytes()
    chance = random.Random(5)
    lengths = sorted(chance.randrange(len(wal)) for _ in range(30))
    lasts = []
    for length in [0, 31, *lengths, len(wal)]:
        copy = crashed_copy(path, tmp_path / str(length), wal[:length])
        with closing(Journal.open(copy, NOW_MS)) as journal:
            assert journal.notices == []
            lasts.append(assert_whole(journal, at_least=0))
    assert lasts == sorted(lasts)
    assert lasts[0] == 0
    assert lasts[-1] > 10


def test_a_wal_with_a_block_never_written_ends_there(tmp_path: Path) -> None:
    path = tmp_path / "pile.db"
    commit_numbers(path, random.Random(4))
    wal = path.with_name("pile.db-wal").read_bytes()
    for block in (1, len(wal) // 8192, len(wal) // 4096 - 1):
        holed = wal[: block * 4096] + bytes(4096) + wal[(block + 1) * 4096 :]
        with closing(Journal.open(crashed_copy(path, tmp_path / str(block), holed), NOW_MS)) as journal:
            assert journal.notices == []
            assert_whole(journal, at_least=0)


def test_a_full_disk_fails_the_transaction_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "pile.db"
    done = subprocess.run([sys.executable, "-c", HOARDER, path], capture_output=True, text=True, check=True)
    committed, errors, state_when_full = json.loads(done.stdout)
    full = committed[-2]
    assert errors == [f"journal {path}: cannot commit: disk I/O error"] * 2
    assert committed == [*range(1, full + 1), full + 3]  # two refused, the next goes through
    assert state_when_full == [full, full]
    with closing(Journal.open(path, NOW_MS)) as journal:
        assert journal.notices == []
        assert journal.get("last") == full + 3
        assert journal.outbox_size() == full + 1


def test_a_start_on_a_full_disk_says_so_and_leaves_no_half_journal(tmp_path: Path) -> None:
    path = tmp_path / "pile.db"
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))"
    done = subprocess.run(
        [sys.executable, "-c", f"{limit}\n{WRITER}", path], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip().endswith(f"JournalError: journal {path}: cannot open it: disk I/O error")
    assert not path.exists()
    with closing(Journal.open(path, NOW_MS)) as journal:
        assert journal.notices == []
