"""Help texts that are derived from the command table."""

from agent.protocol.commands import COMMANDS
from agent.protocol.fields import InnerPile, fields_of

EXAMPLE = "pile-agent send 101 type=1 gun=1 account=U1 balance_fen=0 prepaid_fen=500 free_fen=0 order=A1"


def command_help() -> str:
    """Every command with its fields."""
    rows = ["commands and their fields:"]
    for command in COMMANDS.values():
        names = [name for name, kind in fields_of(command.data).items() if not isinstance(kind, InnerPile)]
        rows.append(f"  {command.number} {command.title:<18} {' '.join(f'{name}=' for name in names)}".rstrip())
    return "\n".join([*rows, "", "example:", f"  {EXAMPLE}"])
