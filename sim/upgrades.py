"""An upgrade that is killed somewhere on its way: the agent, the installer, or the whole pile; and what comes of it.

plan(seed, 32) draws the kills; Trial(site, maker, number, kill).run() carries one out, from 113 to the last reply.
"""

import json
import random
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO
from itertools import cycle, islice
from pathlib import Path

from agent.journal import reading, stored_value
from agent.pile.firmware import Kind, Stage, Upgrade
from agent.pile.parts import from_json
from agent.protocol.commands import Empty, UpgradePackage, Versions
from agent.protocol.commands import Upgrade as Announcement
from agent.protocol.results import Result, UpdateState
from sim.maker import Maker
from sim.site import FTP_LOGIN, Site
from sim.watch import Watch

BOARD_BYTES = 16_384
A_PAUSE = 0.4  # of the file a second: then pyftpdlib's limit makes one pause of 2 s, after 80 %
TIMEOUT_S = 60.0
SETTLE_S = 0.3


class Victim(StrEnum):
    """Who is killed. ``PILE``: agent, worker, installer and power board, all at once."""

    AGENT = "agent"
    INSTALLER = "installer"
    PILE = "pile"


OFFSETS_MS = {  # how long after a stage has begun: about as long as it lasts
    Stage.DOWNLOADING: 2000,
    Stage.VERIFYING: 40,
    Stage.STAGING: 1500,
    Stage.WAITING: 400,
    Stage.ARMING: 1800,  # across the end of the one agent and the start of the other
    Stage.TRIAL: 1200,
    Stage.FLASHING: 2500,
    Stage.COMMITTING: 1100,
    Stage.COMMITTED: 30,
}
STAGES = {
    Kind.AGENT: (Stage.DOWNLOADING, Stage.VERIFYING, Stage.STAGING, Stage.WAITING, Stage.ARMING, Stage.TRIAL,
                 Stage.COMMITTING, Stage.COMMITTED),
    Kind.POWER_BOARD: (Stage.DOWNLOADING, Stage.VERIFYING, Stage.WAITING, Stage.FLASHING, Stage.COMMITTING,
                       Stage.COMMITTED),
}  # fmt: skip
INSTALLS = (Stage.STAGING, Stage.ARMING, Stage.COMMITTING)  # the installer works in these
INSTALLER_MS = {Stage.STAGING: 1200, Stage.ARMING: 120, Stage.COMMITTING: 160}  # how long, about


@dataclass(frozen=True)
class Kill:
    """``stage`` has begun so many ms before; or, where it is the installer's, the installer has."""

    kind: Kind
    stage: Stage
    victim: Victim
    offset_ms: int


@dataclass(frozen=True)
class Outcome:
    """What came of an upgrade. ``stage``: what the journal said after the kill; ``wrong``: what must not be."""

    kill: Kill
    stage: str
    was_installing: bool
    before: str  # the version that ran
    after: str
    seconds: float  # from the kill to the last reply
    wrong: tuple[str, ...]


def plan(seed: int, count: int) -> list[Kill]:
    """Every stage of both kinds with every victim, in turns and in random order, each at an instant drawn at random."""
    rng = random.Random(seed)
    kinds = [(kind, stage, victim) for kind in Kind for stage in STAGES[kind] for victim in _victims(kind, stage)]
    rng.shuffle(kinds)
    return [
        Kill(kind, stage, victim, rng.randint(0, _longest_ms(stage, victim)))
        for kind, stage, victim in islice(cycle(kinds), count)
    ]


def _victims(kind: Kind, stage: Stage) -> tuple[Victim, ...]:
    installs = stage in INSTALLS and not (kind is Kind.POWER_BOARD and stage is Stage.STAGING)
    return tuple(Victim) if installs else (Victim.AGENT, Victim.PILE)


def _longest_ms(stage: Stage, victim: Victim) -> int:
    return INSTALLER_MS[stage] if victim is Victim.INSTALLER else OFFSETS_MS[stage]


class Trial:
    """One upgrade of a site whose agent runs, and its kill. ``number`` makes its version."""

    def __init__(self, site: Site, maker: Maker, number: int, kill: Kill) -> None:
        assert site.installation is not None
        self._site = site
        self._maker = maker
        self._kill = kill
        self._installation = site.installation
        self._record_id = f"R{number}"
        self._version = f"{'0.2' if kill.kind is Kind.AGENT else '2.0'}.{number}"
        self._bundle = site.ftp_folder / f"{self._version}.bundle"
        self._order = f"K{number}" if kill.stage is Stage.WAITING else ""  # a charge that makes it wait
        self._watch = Watch(site, kill, TIMEOUT_S)

    def run(self) -> Outcome:
        watch = self._watch
        watch.until_working()
        before = self._running()
        self._make()
        if self._order:
            watch.charge(1, self._order)
        line = self._send_orders()
        watch.until(lambda: self._has_begun(self._kill.stage))
        was_installing, stage, killed_at = self._strike()
        if self._order:
            self._stop_charge()
        watch.until(lambda: self._finals(line) and self._is_settled())
        seconds = time.monotonic() - killed_at
        watch.wait(SETTLE_S)
        after = self._running()
        return Outcome(self._kill, stage, was_installing, before, after, seconds, tuple(self._wrong(line, after)))

    # ---- up to the kill

    def _make(self) -> None:
        if self._kill.kind is Kind.AGENT:
            self._maker.release(self._bundle, self._version)
        else:
            self._maker.board(self._bundle, self._version, BOARD_BYTES)
        self._site.ftp.faults.bytes_per_s = int(self._bundle.stat().st_size * A_PAUSE)

    def _stop_charge(self) -> None:
        self._watch.until_working()
        self._watch.stop(1, self._order)
        self._watch.until(lambda: self._watch.view(1).get("session", "unknown") is None)
        self._site.board({"do": "unplug", "gun": 1})

    def _send_orders(self) -> bytes:
        """113 and 114; the line of the latter."""
        address = f"{self._site.ftp.host}:{self._site.ftp.port}"
        self._watch.send(113, Announcement(address, *FTP_LOGIN, "1", "", self._record_id))
        return self._watch.send(114, UpgradePackage(self._version, self._record_id, f"/{self._bundle.name}", 4096))

    def _has_begun(self, stage: Stage) -> bool:
        """The log says so at once, before anybody is told."""
        words = {
            Stage.DOWNLOADING: f"record {self._record_id}: version {self._version} is fetched",
            Stage.COMMITTED: f"record {self._record_id}: version {self._version} is in force",
        }.get(stage, f"upgrade {self._record_id} to {self._version}: {stage}")
        return bool(self._watch.logged(words))

    def _strike(self) -> tuple[bool, str, float]:
        """At the instant, and everybody is started again: whether an installer was among the victims, what the journal
        said, and when it was."""
        victim = self._kill.victim
        if victim is Victim.INSTALLER:
            self._watch.until(lambda: self._installation.is_installing)
        time.sleep(self._kill.offset_ms / 1000)
        if victim is not Victim.INSTALLER:
            self._site.kill_agent()
        was_installing = victim is not Victim.AGENT and self._installation.kill()
        killed_at = time.monotonic()
        stage = self._stage_kept()
        if victim is Victim.PILE:
            self._site.board({"do": "restart"})
        if victim is not Victim.INSTALLER:
            self._site.start_agent()
        return was_installing, stage, killed_at

    def _stage_kept(self) -> str:
        """What the next agent finds in the journal."""
        with reading(self._site.folder / "data" / "journal.db") as database:
            upgrade = from_json(Upgrade, stored_value(database, "upgrade"))
        return upgrade.stage.value if upgrade is not None and upgrade.version == self._version else "not ordered"

    # ---- what came of it

    def _wrong(self, line: bytes, after: str) -> Iterator[str]:
        """What must not be, in words."""
        if self._finals(line) != [Result.OK]:
            yield f"final replies {self._finals(line)}"
        if after != self._version:
            yield f"{after} runs, expected {self._version}"
        if self._told()[-1:] != [UpdateState.DONE.value]:
            yield f"111 has told {self._told()}"
        status = self._watch.status()
        if locked := [gun["gun"] for gun in status["guns"] if gun["status"] == "updating"]:
            yield f"guns {locked} are locked"
        yield from self._wrong_on_disk(status["version"])
        if self._watch.logged(FTP_LOGIN[1]):
            yield "the log has the password"

    def _wrong_on_disk(self, agent_version: str) -> Iterator[str]:
        firmware = self._installation.firmware
        left = [path.name for path in (firmware / "login.json", firmware / "job") if path.exists()]
        if left:
            yield f"left behind: {', '.join(left)}"
        if with_password := files_with(firmware.parent, FTP_LOGIN[1].encode()):
            yield f"the password stands in {', '.join(with_password)}"
        boot = json.loads((self._installation.root / "boot.json").read_bytes())
        if (boot["current"], boot["trial"], boot["running"]) != (agent_version, None, agent_version):
            yield f"boot.json: {boot}"
        if self._kill.kind is Kind.AGENT:
            yield from damaged_files(self._bundle, self._installation.root / "releases" / self._version)

    def _finals(self, line: bytes) -> list[Result]:
        """Different final replies to that line, but for those to its repetitions."""
        return [one for one in self._watch.results(line) if one.is_final and one is not Result.DUPLICATE]

    def _told(self) -> list[int]:
        """The states that 111 reported of it."""
        return [one.body.state for one in self._watch.reports(111) if one.body.record_id == self._record_id]

    def _running(self) -> str:
        """Which version runs, by 112."""
        line = self._watch.send(112, Empty())
        self._watch.until_answered(line, Result.OK)
        versions: Versions = self._watch.replies(line)[0].body
        return versions.agent if self._kill.kind is Kind.AGENT else versions.devices[0].version

    def _is_settled(self) -> bool:
        """Everything is told, the boards answer, and nobody does anything any more."""
        is_told = self._watch.status().get("outbox") == 0
        return is_told and self._watch.is_working() and not self._installation.is_installing


def files_with(folder: Path, text: bytes) -> list[str]:
    """Files below ``folder`` in which ``text`` stands."""
    return [path.name for path in sorted(folder.rglob("*")) if path.is_file() and text in path.read_bytes()]


def damaged_files(bundle: Path, release: Path) -> list[str]:
    """What in an installed release is not as the bundle has it; empty when it is whole."""
    with zipfile.ZipFile(bundle) as outer:
        (target,) = [name for name in outer.namelist() if name.startswith("targets/")]
        payload = outer.read(target)
    with zipfile.ZipFile(BytesIO(payload)) as inner:
        return [
            f"{release.name}/{name} is damaged"
            for name in inner.namelist()
            if not (release / name).is_file() or (release / name).read_bytes() != inner.read(name)
        ]
