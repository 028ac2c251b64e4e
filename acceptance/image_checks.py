"""What is shown on the image beside what is shown on the package."""

import json
import re

from acceptance.checks import expect
from acceptance.rig import CONFIG, ImageRig

MIB = 1 << 20
DATA = ("/data", "/etc/pile-agent", "/opt/pile-agent", "/var/lib/pile-agent", "/var/lib/systemd")
IN_MEMORY = ("/tmp", "/var/tmp", "/var/log")


def started(rig: ImageRig) -> str:
    """From a flashed card to READY: what was put on PILE-BOOT is in force, and no longer there."""
    board = rig.board
    failed = board.run("systemctl", "--failed", "--no-legend", "--plain")
    expect(failed == "", f"a unit has failed: {failed}")
    rig.until_working()
    shown = rig.machine.console.read_text(encoding="utf-8", errors="replace")
    expect(
        "pile: took root.json" in shown and "pile: took pile.toml: pile" in shown, f"the console says {shown[-500:]}"
    )
    left = board.run("ls", "/boot/efi/config").split()
    expect(sorted(left) == ["authorized_keys", "pile.toml.example"], f"on PILE-BOOT there is {left}")
    expect(
        board.run("stat", "-c", "%U:%G %a", CONFIG).split() == ["root:pile-agent", "640"], "pile.toml is open to all"
    )
    ready_s = int(board.shows("pile-agent", "ActiveEnterTimestampMonotonic")) / 1e6
    return f"READY {ready_s:.0f} s after the kernel's start; brokers and both power boards answer"


def read_only(rig: ImageRig) -> str:
    """Nothing is written but the data partition, which fills the card."""
    board = rig.board
    mounts = {
        row["target"]: row
        for row in json.loads(board.run("findmnt", "--json", "--list", "--bytes", "-o", "TARGET,FSTYPE,OPTIONS,SIZE"))[
            "filesystems"
        ]
    }
    on_card = {name for name, row in mounts.items() if row["fstype"] in ("ext4", "vfat")}
    expect(on_card == {"/", "/boot/efi", *DATA}, f"mounted are {sorted(on_card)}")
    writable = {name for name in on_card if "rw" in mounts[name]["options"].split(",")}
    expect(writable == set(DATA), f"writable are {sorted(writable)}")
    expect(all(mounts[name]["fstype"] == "tmpfs" for name in IN_MEMORY), "a scratch folder is on the card")
    expect(board.try_run("touch", "/etc/x").returncode != 0, "/etc is writable")
    size_mib = int(mounts["/data"]["size"]) // MIB
    expect(size_mib > 1300, f"/data has {size_mib} MiB")
    return f"writable: {', '.join(sorted(writable))}; /data has {size_mib} MiB of a 3 GiB card"


def _has(rig: ImageRig, path: str) -> bool:
    return rig.board.try_run("test", "-e", path).returncode == 0


def serial_lines(rig: ImageRig) -> str:
    """The PL011 by its name and with even parity, which a pseudo-terminal refuses; the adaptor by its own."""
    board = rig.board
    names = {name: board.run("readlink", "-f", f"/dev/{name}").strip() for name in ("pile-uart", "pile0")}
    expect(names == {"pile-uart": "/dev/ttyAMA0", "pile0": "/dev/ttyUSB0"}, f"udev has made {names}")
    for device in names.values():
        whose = board.run("stat", "-c", "%G %a", device).split()
        expect(whose == ["pile-agent", "660"], f"{device} is {whose}")
    # Not by the session's first process: the line would become its terminal, and be hung up when it ends.
    said = board.run("sh", "-c", "stty -a -F /dev/pile-uart; true")
    expect(re.search(r"(?<!-)parenb -parodd", said) and "9600 baud" in said, f"the PL011 is set to {said}")
    return "pile-uart → ttyAMA0 at 9600 baud, even parity; pile0 → ttyUSB0; both the agent's"


def unplugged(rig: ImageRig) -> str:
    """The USB adaptor pulled, and back, under the eyes of kernel, udev and agent."""
    board, machine = rig.board, rig.machine
    machine.unplug_adaptor()
    board.until(lambda: not _has(rig, "/dev/pile0"), 10, "/dev/pile0 is still there")
    board.until(lambda: board.status()["lines"][1]["reason"], 20, "the agent does not notice")
    status = board.status()
    expect(not status["lines"][0]["reason"], f"the other line suffers: {status['lines'][0]['reason']}")
    machine.plug_adaptor()
    board.until(lambda: _has(rig, "/dev/pile0"), 10, "/dev/pile0 does not come back")
    rig.until_working()
    whose = board.run("stat", "-L", "-c", "%G %a", "/dev/pile0").split()
    expect(whose == ["pile-agent", "660"], f"it is {whose}")
    return f"{status['lines'][1]['reason']!r}; /dev/pile0 is back, and its board answers"


def bad_configuration(rig: ImageRig) -> str:
    """A pile.toml with faults changes nothing; what is wrong stands beside it."""
    board = rig.board
    good = board.run("cat", CONFIG)
    _put(rig, "config/pile.toml", good.replace("baud = 9600", "baud = 9601").replace("# baud", "baud"))
    board.run("systemctl", "restart", "pile-image-take")
    faults = board.run("cat", "/boot/efi/config/FAULTS.txt")
    expect("baud" in faults and "9601" in faults, f"FAULTS.txt says {faults}")
    expect(board.run("cat", CONFIG) == good, "pile.toml is another one")
    _put(rig, "config/pile.toml", "\ufeff" + good.replace("\n", "\r\n"))
    board.run("systemctl", "restart", "pile-image-take")
    expect(board.run("cat", CONFIG) == good, "pile.toml from Windows is not as it was")
    expect(not _has(rig, "/boot/efi/config/FAULTS.txt"), "FAULTS.txt is still there")
    return f"{faults.splitlines()[0].strip()!r}; the old one stayed"


def _put(rig: ImageRig, name: str, text: str) -> None:
    board = rig.board
    board.run("mount", "-o", "remount,rw", "/boot/efi")
    board.run("tee", f"/boot/efi/{name}", given=text)
    board.run("mount", "-o", "remount,ro", "/boot/efi")


def factory_reset(rig: ImageRig) -> str:
    """An empty file on PILE-BOOT: at the next start everything is as flashed."""
    board = rig.board
    board.kill()
    rig.machine.card.write("factory-reset", b"")
    board.boot()
    expect("factory-reset" not in board.run("ls", "/boot/efi"), "it would reset again")
    expect(board.run("ls", "/etc/pile-agent").split() == ["pile.toml.example"], "a configuration is left")
    expect(board.run("ls", "/var/lib/pile-agent") == "", "a journal is left")
    expect(board.shows("pile-agent", "ActiveState") == "inactive", "it runs without a configuration")
    shown = rig.machine.console.read_text(encoding="utf-8", errors="replace")
    expect("pile: no configuration: put pile.toml" in shown, f"the console says {shown[-500:]}")
    return "no configuration, journal or trust; the console says what to do"
