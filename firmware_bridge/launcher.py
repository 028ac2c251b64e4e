#!/usr/bin/python3
"""Starts the release that is to run. Root's own file, the standard library only; no update ever replaces it.

    launcher.py --root R [--why FILE] take    as root: choose a release; one on trial costs a try, durably
    launcher.py --root R exec ARGS…           as the agent: become `python3 -I R/releases/V ARGS…`
    launcher.py --root R committed ARGS…      the same, but never the release on trial
    launcher.py --root R [--why FILE] run ARGS…   take and exec, where one user owns everything

It outlives the releases: fields of boot.json that it does not know are kept, damaged ones count as absent, and it does
not give up while there is a release to start. docs/adr/0015-release-slots.md
"""

import argparse
import contextlib
import fcntl
import json
import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

VERSION = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]{0,31}")  # a folder's name: not a path, not hidden
WHY_BYTES, REASON_CHARACTERS, FAILURES_KEPT = 4096, 200, 8


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="launcher.py")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--why", type=Path, help="where a release on trial says why it failed")
    parser.add_argument("do", choices=("take", "exec", "committed", "run"))
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    if options.do in ("take", "run"):
        version = take(options.root, options.why)
    else:
        version = taken(options.root) if options.do == "exec" else committed(options.root)
    if options.do != "take":
        become(options.root, version, options.arguments, version == read_boot(options.root)["trial"])


def take(root: Path, why: Path | None = None) -> str:
    """Decide which release starts now, and write that down before it does."""
    with locked(root):
        boot = read_boot(root)
        if not is_version(read_json(root / "boot.json").get("current")):
            say(f"boot.json is damaged or absent; committed last was {boot['current']}")
        settle_trial(root, boot, why)
        boot["tries"] -= 1 if boot["trial"] else 0
        boot["running"] = boot["trial"] or startable(root, boot, boot["current"])
        boot["current"] = boot["current"] or boot["running"]
        boot["invocation"] = invocation()
        try:
            write_boot(root, boot)
        except OSError as error:  # a try that can't be taken durably is not spent: a crash would cost nothing, for ever
            say(f"cannot write boot.json: {error}; starts what is committed")
            return startable(root, boot, boot["current"])
    return str(boot["running"])


def taken(root: Path) -> str:
    """What `take` has chosen for this very start of the service. If it could not write that down: what is committed."""
    boot = read_boot(root)
    return startable(root, boot, boot["running"] if boot["invocation"] == invocation() else boot["current"])


def committed(root: Path) -> str:
    boot = read_boot(root)
    return startable(root, boot, boot["current"])


def become(root: Path, version: str, arguments: Sequence[str], is_trial: bool) -> None:
    """Resolved once: no process imports from two releases. -B: byte code was made, and synced, when it was staged."""
    if not version:
        sys.exit(f"launcher: no release in {root / 'releases'} can be started")
    trial = {"PILE_AGENT_TRIAL": version} if is_trial else {}  # it must not end with what hinders a restart
    command = [sys.executable, "-I", "-B", str(root / "releases" / version), *arguments]
    os.execve(sys.executable, command, os.environ | trial)


def settle_trial(root: Path, boot: dict[str, Any], why: Path | None) -> None:
    """End a trial that has no try left, or nothing to start, and keep the reason."""
    trial = boot["trial"]
    if not trial or (boot["tries"] > 0 and is_whole(root, trial)):
        return
    spent = said_reason(why, trial) or "it was started as often as allowed and did not prove itself"
    reason = spent if is_whole(root, trial) else "its files are incomplete"
    say(f"release {trial} failed, back to {boot['current']}: {reason}")
    failures = [*((version, text) for version, text in boot["failed"].items() if version != trial), (trial, reason)]
    boot |= {"trial": None, "tries": 0, "failed": dict(failures[-FAILURES_KEPT:])}


def said_reason(why: Path | None, version: str) -> str:
    """What the release on trial has left about itself. The agent writes there: it may be a link, a pipe or endless."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
        fd = os.open(why or "", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            facts = os.fstat(fd)
            if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1:  # a second name might be of a file of root's
                said = json.loads(file.read(WHY_BYTES))
                if said["version"] == version:
                    return "".join(sign if sign.isprintable() else " " for sign in said["text"][:REASON_CHARACTERS])
    return ""


def startable(root: Path, boot: dict[str, Any], wanted: str | None) -> str:
    """``wanted`` if its files are there, else the next best: what was committed, then whatever was once staged."""
    others = (boot["current"], boot["previous"], *last_committed(root).values(), *by_version(root))
    whole = [version for version in (wanted, *others) if version and is_whole(root, version)]
    trusted = [version for version in whole if version == wanted or version not in boot["failed"]]
    best: str = [*trusted, *whole, ""][0]
    if best != wanted:
        say(f"release {wanted} cannot be started, takes {best or 'none'}")
    return best


def is_whole(root: Path, version: str) -> bool:
    return (root / "releases" / version / "__main__.py").is_file()


def by_version(root: Path) -> list[str]:
    """All releases, the highest number first."""
    with contextlib.suppress(OSError):
        names = [path.name for path in (root / "releases").iterdir() if VERSION.fullmatch(path.name)]
        return sorted(names, key=lambda name: [int(part) for part in re.findall(r"[0-9]+", name)], reverse=True)
    return []


def read_boot(root: Path) -> dict[str, Any]:
    """boot.json, each field that this file knows made usable, the others as they are."""
    found = read_json(root / "boot.json")
    if not is_version(found.get("current")):
        found |= last_committed(root)
    names = ("current", "previous", "trial", "running")
    versions = {name: found.get(name) if is_version(found.get(name)) else None for name in names}
    tries, failed = found.get("tries"), found.get("failed")
    return {
        **found,
        **versions,
        "tries": tries if isinstance(tries, int) else 0,
        "failed": {name: str(text) for name, text in failed.items()} if isinstance(failed, dict) else {},
        "invocation": str(found.get("invocation", "")),
    }


def last_committed(root: Path) -> dict[str, str | None]:
    """committed.json: current and previous once more, written before boot.json whenever a release is committed."""
    found = read_json(root / "committed.json")
    return {name: found[name] for name in ("current", "previous") if is_version(found.get(name))}


def read_json(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = json.loads(path.read_bytes())
        return found if isinstance(found, dict) else {}
    return {}


def write_boot(root: Path, boot: dict[str, Any]) -> None:
    """The one commit point: afterwards, and after a power cut at any time, the file is the old one or the new one."""
    fresh = root / ".boot.json.new"
    with open(fresh, "w", encoding="utf-8") as file:
        json.dump(boot, file, indent=1)
        file.flush()
        os.fchmod(file.fileno(), 0o644)  # the agent reads it, whatever the umask
        os.fsync(file.fileno())
    os.replace(fresh, root / "boot.json")
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Alone with boot.json, which everybody holds for milliseconds only. Without the lock where there can be none."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            fd = os.open(root / ".boot.lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, fd)
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield


def is_version(name: object) -> bool:
    return isinstance(name, str) and VERSION.fullmatch(name) is not None


def invocation() -> str:
    """systemd's name for this start of the service, the same in ExecStartPre and ExecStart; "" without systemd."""
    return os.environ.get("INVOCATION_ID", "")


def say(text: str) -> None:
    print(f"launcher: {text}", file=sys.stderr)


if __name__ == "__main__":
    main()
