"""Merged reads: the fewest frames that fetch a set of registers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.power.registers import READ_FUNCTION, Register, Value

Values = dict[tuple[int, str], Value]  # (gun, register name); gun 0 is the board


@dataclass(frozen=True, slots=True)
class Field:
    """One register of one gun (0: the board) at its wire address."""

    gun: int
    address: int
    register: Register

    @property
    def end(self) -> int:
        return self.address + self.register.words


@dataclass(frozen=True, slots=True)
class Block:
    """One read: Modbus function 1–4, wire address, count of registers (bits for functions 1 and 2), and its fields."""

    function: int
    address: int
    count: int
    fields: tuple[Field, ...]

    def decode(self, words: Sequence[int]) -> Values:
        """Every field's value. ``words`` are the ``count`` registers (or bits) read."""
        return {
            (field.gun, field.register.name): field.register.decode(
                words[field.address - self.address : field.end - self.address]
            )
            for field in self.fields
        }


def merge(fields: Iterable[Field], largest_gap: int, max_registers: int) -> tuple[Block, ...]:
    """Blocks that hold every field once, in order of function and address.

    Two neighbours share a block when at most ``largest_gap`` registers lie unused between them and the block stays
    within ``max_registers``. No register is split over two blocks.
    """
    runs: list[list[Field]] = []
    for field in sorted(fields, key=lambda field: (READ_FUNCTION[field.register.function], field.address)):
        if runs and _fits(runs[-1], field, largest_gap, max_registers):
            runs[-1].append(field)
        else:
            runs.append([field])
    return tuple(_block(run) for run in runs)


def _fits(run: list[Field], field: Field, largest_gap: int, max_registers: int) -> bool:
    return (
        run[-1].register.function == field.register.function
        and field.address - run[-1].end <= largest_gap
        and field.end - run[0].address <= max_registers
    )


def _block(run: list[Field]) -> Block:
    function = READ_FUNCTION[run[0].register.function]
    return Block(function, run[0].address, run[-1].end - run[0].address, tuple(run))
