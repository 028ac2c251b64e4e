"""What a fleet is put through, and what became of each command."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from threading import Thread

from sim.fleet_site import REPLIES, FleetSite

GIVE_UP_S = 120.0
_HEAD = b"10.0.0.1,API:2.0.2,"
PRICE = _HEAD + b"110,%(at)d,%(pile)b,T7,0,2,06:00:00,21:59:59,100000,50000,22:00:00,05:59:59,40000,30000"
START = _HEAD + b"101,%(at)d,%(pile)b,1,%(pile)b,1,U1001,10000,5000,0,20261122000001"
HEARTBEAT = _HEAD + b"100,%(at)d,%(pile)b,0,0,86400,2,1,1,2,1"
_NOT_FINAL = (b"1", b"2")  # accepted, deferred

Receipt = tuple[int, str, int]  # timestamp of the command, pile, when in ns


@dataclass(frozen=True)
class Command:
    timestamp: int  # in ms; no two of a trial have the same
    pile: str
    line: bytes


@dataclass(frozen=True)
class Outcome:
    """Of the commands of one phase. ``lost`` and ``unanswered``: within ``GIVE_UP_S``."""

    name: str
    commands: int
    lasted_s: float  # from the first publish to the last receipt
    latencies_ms: list[float]  # from publish to the socket of the pile it is for, first receipts
    cpu_s: dict[str, float]
    lost: int
    unanswered: int
    repeated: int  # receipts of what the pile had before
    out_of_order: int  # first receipts after a later command of the same pile
    astray: int  # receipts by another pile

    @property
    def is_right(self) -> bool:
        """Repetitions are allowed."""
        return not (self.lost or self.unanswered or self.out_of_order)


@dataclass(frozen=True)
class Return:
    """How the fleet came back from the broker's death; seconds since that."""

    up_s: float
    ready_s: list[float]


@dataclass(frozen=True)
class Uplink:
    """Reports that the piles sent unasked, until the broker had acknowledged the last one."""

    reports: int
    lasted_s: float
    cpu_s: dict[str, float]


class Trial:
    """The phases, in any order, at a site whose piles are registered and ready."""

    def __init__(self, site: FleetSite, seed: int = 1) -> None:
        self._site = site
        self._rng = Random(seed)
        self._timestamp = 0
        # Of all phases, for what a broker has told its disk too late comes again in a later one:
        self._pile_of: dict[int, str] = {}  # by the timestamp of the command
        self._had: set[int] = set()  # timestamps of commands that their pile has had
        self._light = frozenset(site.light)

    def log_in(self, spread_s: float = 0.0) -> list[float]:
        """All light piles have their power back in the same instant, and dial within ``spread_s`` of it; after how many
        seconds each was ready."""
        fleet, began_at = self._site.fleet, time.monotonic()
        fleet.boot(spread_s)
        if not fleet.run_until(lambda: fleet.ready == len(self._light), 2 * GIVE_UP_S):
            raise TimeoutError(f"{fleet.ready} of {len(self._light)} piles logged in")
        return [at - began_at for at in fleet.log.ready_at]

    def prices(self, name: str, per_s: float = 0) -> Outcome:
        """A price change (110) for every pile, in random order."""
        return self._run(name, self._commands(PRICE), per_s)

    def starts(self, name: str) -> Outcome:
        """A start (101) for every pile, which answers twice."""
        return self._run(name, self._commands(START))

    def heartbeats(self, rounds: int) -> Uplink:
        """So many reports (100) of every light pile, as fast as they go; nobody consumes them meanwhile."""
        fleet, before_s, began_at = self._site.fleet, self._site.cpu_s(), time.monotonic()
        now_ms = time.time_ns() // 1_000_000
        for pile in fleet.piles * rounds:
            pile.report(_filled(HEARTBEAT, now_ms, pile.number))
            fleet.turn(0)
        if not fleet.run_until(lambda: not any(pile.unacknowledged for pile in fleet.piles), GIVE_UP_S):
            raise TimeoutError("not all heartbeats were acknowledged")
        lasted_s = time.monotonic() - began_at
        cpu_s = {who: value - before_s[who] for who, value in self._site.cpu_s().items()}
        self._site.purge(REPLIES)
        return Uplink(len(fleet.piles) * rounds, lasted_s, cpu_s)

    def routers_killed(self, name: str, rounds: int = 2) -> Outcome:
        """So many price changes for every pile; the router at work is killed after a quarter and after a half.

        Raises RuntimeError when there was no time for that.
        """
        commands = self._commands(PRICE, rounds)
        kills = [len(commands) // 4, len(commands) // 2]

        def kill_when_due(receipts: int) -> None:
            if kills and receipts >= kills[0]:
                kills.pop(0)
                working = max(self._site.routers, key=lambda router: router.counter("in_flight"))
                working.kill()
                working.start()

        outcome = self._run(name, commands, meanwhile=kill_when_due)
        if kills:
            raise RuntimeError("all was over before the router had been killed twice")
        return outcome

    def broker_killed(self, name: str) -> tuple[Return, Outcome]:
        """Killed and started at once, and a price change for every pile as soon as it listens; of a cluster one node.

        What is published to a quorum queue without asking for confirms is lost while its nodes have not agreed on a new
        leader: so there the platform asks.
        """
        fleet, died_at = self._site.fleet, time.monotonic()
        fleet.log.ready_at.clear()
        fleet.log.dials = fleet.log.timeouts = 0
        self._kill_and_start()
        up_s = time.monotonic() - died_at
        outcome = self._run(name, self._commands(PRICE), confirmed=self._site.on_cluster)
        fleet.run_until(lambda: fleet.ready == len(self._light), GIVE_UP_S)
        return Return(up_s, [at - died_at for at in fleet.log.ready_at]), outcome

    def shared(self, name: str, count: int) -> Outcome:
        """So many price changes, in mode "shared": each pile gets them all. No router runs from now on."""
        self._site.stop_routers()
        self._site.register(shared=True)
        outcome = self._run(name, self._commands(PRICE)[:count], copies=len(self._light))
        self._site.purge("pile_router")
        return outcome

    def _kill_and_start(self) -> None:
        """The piles notice at once, dial, and are refused meanwhile."""

        def restart() -> None:
            self._site.broker.kill9()
            self._site.broker.start()

        thread = Thread(target=restart)
        thread.start()
        self._site.fleet.run_until(lambda: not thread.is_alive(), GIVE_UP_S)

    def _commands(self, line: bytes, rounds: int = 1) -> list[Command]:
        """For every pile, in another order each round."""
        self._timestamp = max(self._timestamp, time.time_ns() // 1_000_000)
        piles = self._site.piles
        return [self._command(line, pile) for _ in range(rounds) for pile in self._rng.sample(piles, len(piles))]

    def _command(self, line: bytes, pile: str) -> Command:
        self._timestamp += 1
        self._pile_of[self._timestamp] = pile
        return Command(self._timestamp, pile, _filled(line, self._timestamp, pile))

    def _run(
        self,
        name: str,
        commands: Sequence[Command],
        per_s: float = 0,
        copies: int = 1,
        confirmed: bool = False,
        meanwhile: Callable[[int], None] = lambda receipts: None,
    ) -> Outcome:
        """Publish, wait until all has come and is answered, and judge."""
        fleet, receipts = self._site.fleet, self._site.fleet.log.receipts
        receipts.clear()
        before_s = self._site.cpu_s()
        publisher = self._site.publisher([command.line for command in commands], per_s, confirmed)
        expected = len(commands) * copies if copies > 1 else sum(one.pile in self._light for one in commands)

        def is_all_here() -> bool:
            meanwhile(len(receipts))
            return len(receipts) >= expected and publisher.is_done() and _distinct(receipts) >= expected

        fleet.run_until(is_all_here, GIVE_UP_S)
        unanswered = self._unanswered(commands)
        cpu_s = {who: value - before_s[who] for who, value in self._site.cpu_s().items()}
        sent_ns = dict(zip((one.timestamp for one in commands), publisher.times_ns(), strict=True))
        return self._judge(name, sent_ns, unanswered, cpu_s)

    def _unanswered(self, commands: Sequence[Command]) -> int:
        """How many get no final answer."""
        waiting = {command.timestamp for command in commands}

        def tell(line: bytes) -> None:
            fields = line.split(b",", 7)
            if fields[6] not in _NOT_FINAL:
                waiting.discard(int(fields[5]))

        self._site.read_replies(tell, lambda: not waiting, GIVE_UP_S)
        return len(waiting)

    def _judge(self, name: str, sent_ns: dict[int, int], unanswered: int, cpu_s: dict[str, float]) -> Outcome:
        receipts = self._site.fleet.log.receipts
        own = [one for one in receipts if self._pile_of.get(one[0]) == one[1]]
        first = {timestamp: at for timestamp, _, at in reversed(own) if timestamp in sent_ns}
        new = first_receipts(own, self._had)
        light = [timestamp for timestamp in sent_ns if self._pile_of[timestamp] in self._light]
        last_ns = max((at for _, _, at in receipts), default=time.monotonic_ns())
        return Outcome(
            name=name,
            commands=len(sent_ns),
            lasted_s=(last_ns - min(sent_ns.values())) / 1e9,
            latencies_ms=[(at - sent_ns[timestamp]) / 1e6 for timestamp, at in first.items()],
            cpu_s=cpu_s,
            lost=sum(timestamp not in first for timestamp in light),
            unanswered=unanswered,
            repeated=len(own) - len(new),
            out_of_order=out_of_order(new),
            astray=len(receipts) - len(own),
        )


def _filled(line: bytes, timestamp: int, pile: str) -> bytes:
    return line % {b"at": timestamp, b"pile": pile.encode()}


def first_receipts(receipts: Sequence[Receipt], had: set[int]) -> list[Receipt]:
    """Those of commands that are not in ``had``, into which they then go."""
    new = []
    for receipt in receipts:
        if receipt[0] not in had:
            had.add(receipt[0])
            new.append(receipt)
    return new


def out_of_order(receipts: Sequence[Receipt]) -> int:
    """How many came after a later command of the same pile."""
    latest: dict[str, int] = {}
    wrong = 0
    for timestamp, pile, _ in receipts:
        wrong += timestamp < latest.get(pile, 0)
        latest[pile] = max(timestamp, latest.get(pile, 0))
    return wrong


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that so many percent do not exceed; nan of none."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] if ordered else float("nan")


def _distinct(receipts: Sequence[Receipt]) -> int:
    return len({(timestamp, pile) for timestamp, pile, _ in receipts})
