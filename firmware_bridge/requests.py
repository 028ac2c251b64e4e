"""What the agent asks of the installer, and is answered: one small file each way::

    FIRMWARE/request.json  {"id", "do", "version", "kind", "carrier", "metadata", "hardware"}
    ROOT/answer.json       {"id", "do", "version", "result", "text"}
    FIRMWARE/why.json      {"version", "text"}    why a release on trial gives up, for the launcher

The installer claims a request by renaming it to request.taken and removes that after its answer, so that a request
which follows at once is not taken for the old one. It may be handled twice, after a power cut: each ends the same then.
Who reads a request trusts nothing in it, not even that it is a file.
"""

import contextlib
import json
import os
import stat
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Self

from firmware_bridge import durable
from firmware_bridge.errors import InstallFailed
from firmware_bridge.launcher import REASON_CHARACTERS, is_version

REQUEST, TAKEN, ANSWER, WHY = "request.json", "request.taken", "answer.json", "why.json"
REQUEST_BYTES = 16384
TEXT_CHARACTERS = 1024
OK = 0


class BadRequest(InstallFailed):
    """Says which field is wrong, and what was expected."""


@dataclass(frozen=True, slots=True)
class Request:
    """``do``: ``stage``, ``arm``, ``commit`` or ``drop`` an agent's release; ``commit`` a power board's: believe its
    metadata from now on.

    ``carrier`` and ``metadata`` (the file beside a raw image, or "") lie in the firmware folder; needed for ``stage``,
    and for a power board's ``commit``. ``hardware``: the names this pile answers to.
    """

    id: str
    do: str
    version: str
    kind: str = "agent"
    carrier: str = ""
    metadata: str = ""
    hardware: tuple[str, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises BadRequest. Fields that a newer agent adds are ignored."""
        try:
            found = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"the request is not JSON: {error}") from error
        if not isinstance(found, dict):
            raise BadRequest(f"the request is {type(found).__name__}, expected an object")
        names = found.pop("hardware", [])
        if not isinstance(names, list):
            raise BadRequest(f"hardware = {names!r:.100}: expected a list")
        texts = {one.name: found[one.name] for one in fields(cls) if one.name in found}
        for name, value in [*texts.items(), *(("hardware", one) for one in names)]:
            if not isinstance(value, str) or len(value) > TEXT_CHARACTERS:
                raise BadRequest(f"{name} = {value!r:.100}: expected a text of at most {TEXT_CHARACTERS} characters")
        request = cls(**{"id": "", "do": "", "version": ""} | texts, hardware=tuple(names))
        request._check()
        return request

    def _check(self) -> None:
        if self.do not in ("stage", "arm", "commit", "drop"):
            raise BadRequest(f"do = {self.do!r:.100}: expected stage, arm, commit or drop")
        if self.kind not in ("agent", "power-board") or (self.kind != "agent" and self.do != "commit"):
            raise BadRequest(f"kind = {self.kind!r:.100}: expected agent, or power-board to commit")
        if self.kind == "agent" and not is_version(self.version):
            raise BadRequest(f"version = {self.version!r:.100}: expected 1 to 32 of A-Z a-z 0-9 . _ + -, no dot first")


@dataclass(frozen=True, slots=True)
class Answer:
    """``result``: 0, or the number of docs/protocol.md that says why not; ``text``: one sentence."""

    id: str
    do: str
    version: str
    result: int
    text: str

    def write(self, root: Path) -> None:
        durable.write_file(root / ANSWER, json.dumps(asdict(self)).encode())


# ---- the agent's side ----


def ask(firmware: Path, request: Request) -> None:
    """Leave a request for the installer; the one before must have been answered. Raises OSError."""
    durable.write_file(firmware / REQUEST, json.dumps(asdict(request)).encode(), 0o600)


def answer_to(root: Path, firmware: Path, request_id: str) -> Answer | None:
    """``None`` as long as the request waits or is being handled."""
    if any(os.path.lexists(firmware / name) for name in (REQUEST, TAKEN)):
        return None  # asked first: the answer is there before the request goes
    try:
        found = json.loads((root / ANSWER).read_bytes())
        answer = Answer(**{one.name: found[one.name] for one in fields(Answer)})
        text = f"the installer answered another request, {answer.id!r}"
    except (OSError, ValueError, LookupError, TypeError) as error:
        answer, text = None, f"{root / ANSWER}: {error}"
    if answer is not None and answer.id == request_id:
        return answer
    return Answer(request_id, "", "", InstallFailed.result, f"the installer left no answer: {text}")


def say_why(firmware: Path, version: str, text: str) -> None:
    """Why the release on trial gives up: the launcher keeps it as the reason when it goes back. Raises OSError."""
    said = {"version": version, "text": text[:REASON_CHARACTERS]}
    durable.write_file(firmware / WHY, json.dumps(said).encode(), 0o600)


# ---- with the agent's rights, in a folder where the agent may put anything at any time ----


def claim(firmware: Path) -> bytes | None:
    """The request that waits, or that was not finished; ``None`` where there is none. Raises BadRequest, OSError."""
    if not os.path.lexists(firmware / TAKEN):
        if not os.path.lexists(firmware / REQUEST):
            return None
        durable.rename(firmware / REQUEST, firmware / TAKEN)
    with open(open_inside(firmware, TAKEN), "rb") as file:
        data = file.read(REQUEST_BYTES + 1)
    if len(data) > REQUEST_BYTES:
        raise BadRequest(f"the request is larger than {REQUEST_BYTES} bytes")
    return data


def finish(firmware: Path) -> None:
    """Whatever stands in the request's place goes, or it would be handled again and again. Raises OSError."""
    try:
        durable.remove_file(firmware / TAKEN)
    except (IsADirectoryError, PermissionError):  # Linux says either of a folder
        durable.rename(firmware / TAKEN, firmware / f"not-a-request-{os.urandom(8).hex()}")


def open_inside(folder: Path, path: str) -> int:
    """A file within ``folder``, open for reading; no link is followed on the way. Raises BadRequest."""
    with contextlib.ExitStack() as stack:
        place: int | None = None
        try:
            for part in (str(folder), *_parts(folder, path)[:-1]):
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                place = os.open(part, flags, dir_fd=place)
                stack.callback(os.close, place)
            fd = os.open(
                _parts(folder, path)[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place
            )
        except (OSError, ValueError) as error:
            raise BadRequest(f"{path!r:.200} in the firmware folder can't be opened: {error}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise BadRequest(f"{path!r:.200} in the firmware folder is not a file")
    return fd


def _parts(folder: Path, path: str) -> tuple[str, ...]:
    parts = PurePosixPath(path).parts
    if parts[: len(folder.parts)] == folder.parts:
        parts = parts[len(folder.parts) :]
    if not parts or any(part.startswith("/") or part == ".." for part in parts):
        raise BadRequest(f"{path!r:.200}: expected a path within the firmware folder")
    return parts
