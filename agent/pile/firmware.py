"""An upgrade (113, 114, 111) as the core keeps it: what the platform ordered, and how far it is.

``STAGES`` is the table that docs/updates.md is drawn from: for every stage what 111 says, what is durable by then, and
what an end of the agent in the middle of it (a kill, a power cut) leads to.
"""

from dataclasses import dataclass
from enum import StrEnum

from agent.pile.request import Request
from agent.protocol.results import Result, UpdateState


class Stage(StrEnum):
    """How far an upgrade is."""

    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    STAGING = "staging"
    WAITING = "waiting"
    ARMING = "arming"
    TRIAL = "trial"
    FLASHING = "flashing"
    COMMITTING = "committing"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StageRow:
    """A stage in the words of docs/updates.md. ``report``: 111's state; ``None`` where it is the error's result."""

    stage: Stage
    report: UpdateState | None
    meaning: str
    durable: str
    after_kill: str


STAGES = (
    StageRow(Stage.DOWNLOADING, UpdateState.DOWNLOADING, "the file is fetched",
             "the order, before 114 is acknowledged; the login, in a file of its own; the bytes, each MiB or 5 s",
             "the fetch goes on behind the last durable byte"),
    StageRow(Stage.VERIFYING, UpdateState.VERIFYING, "signatures, size, hash, version, hardware",
             "the whole file", "it is verified anew"),
    StageRow(Stage.STAGING, UpdateState.INSTALLING, "agent only: the installer unpacks it beside the running release "
             "and has it test itself", "a release is there whole or not at all", "it is staged anew"),
    StageRow(Stage.WAITING, UpdateState.WAITING, "until no gun has a charge",
             "the file, or the staged release", "it goes on waiting"),
    StageRow(Stage.ARMING, UpdateState.RESTARTING, "agent only: the next start is a trial of the new release",
             "boot.json names the trial and its tries, or not", "the launcher starts the trial, or it is armed anew"),
    StageRow(Stage.TRIAL, UpdateState.RESTARTING, "agent only: the new release runs, and must show that it works",
             "each try, before it begins", "the next try; when they are used up the old release is back"),
    StageRow(Stage.FLASHING, UpdateState.INSTALLING, "power board only: its guns are locked, it takes the new image",
             "that the guns are locked; what the board has stored", "it goes on at the byte the board has reached"),
    StageRow(Stage.COMMITTING, UpdateState.INSTALLING, "the installer makes it final",
             "that the new version works", "it is asked to once more"),
    StageRow(Stage.COMMITTED, UpdateState.DONE, "the new version is in force",
             "release, trusted metadata, and the reply", "nothing: it is over"),
    StageRow(Stage.ROLLED_BACK, None, "agent only: the new release failed its trial; the old one runs",
             "why, and the reply", "nothing: it is over"),
    StageRow(Stage.FAILED, None, "it came to nothing; what ran before runs on",
             "why, and the reply", "nothing: it is over"),
)  # fmt: skip
REPORTS = {row.stage: row.report for row in STAGES}

OVER = frozenset({Stage.COMMITTED, Stage.ROLLED_BACK, Stage.FAILED})
# No charge begins: the board is in its bootloader, or the agent is about to go and must show first that it works.
LOCKED = frozenset({Stage.ARMING, Stage.TRIAL, Stage.FLASHING})


class Step(StrEnum):
    """What the installer is asked to do."""

    STAGE = "stage"
    ARM = "arm"
    COMMIT = "commit"
    DROP = "drop"


class Kind(StrEnum):
    """What an image is for."""

    AGENT = "agent"
    POWER_BOARD = "power-board"


@dataclass(frozen=True, slots=True)
class Ticket:
    """A 113 that waits for its 114. The password stands in a file of its own, as long as it is needed."""

    record_id: str
    address: str
    account: str


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file that was fetched and proved, as its signed metadata describes it."""

    kind: Kind
    version: str
    hardware: tuple[str, ...]
    size: int
    crc32: int
    path: str


@dataclass(frozen=True, slots=True)
class Upgrade:
    """The upgrade under way, or the last one."""

    request: Request  # the 114, which is owed a final reply
    ticket: Ticket
    version: str
    path: str  # on the server
    packet_bytes: int
    ordered_ms: int  # epoch
    stage: Stage
    image: ImageFile | None = None
    was_connected: bool = False  # before the trial: so it must be in the trial
    answering: tuple[int, ...] = ()  # guns that answered before the trial
    restarts: int = 0  # that were to begin the trial
    commits: int = 0  # how often the installer was asked to make it final
    in_force: bool = False  # whatever comes of that: the board has it, or the launcher starts nothing else
    result: Result = Result.OK  # once it is over
    text: str = ""

    @property
    def is_over(self) -> bool:
        return self.stage in OVER

    @property
    def state(self) -> int:
        """What 111 reports."""
        report = REPORTS[self.stage]
        return report.value if report is not None else self.result.value


@dataclass(frozen=True, slots=True)
class PastUpgrade:
    """One that is over, for `pile-agent updates`."""

    record_id: str
    kind: str  # empty: it was never known
    version: str
    ordered_ms: int  # epoch
    ended_ms: int
    result: Result
    text: str = ""


@dataclass(frozen=True, slots=True)
class Boot:
    """What the launcher and the installer left for this start. ``current``: the release that was made final last;
    ``trial``: the one that is or will be tried. ``failed``: why the version named did not pass its trial."""

    current: str = ""
    trial: str = ""
    failed: tuple[tuple[str, str], ...] = ()

    def failure(self, version: str) -> str:
        return dict(self.failed).get(version, "")


NO_BOOT = Boot()
