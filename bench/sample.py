"""What the measurements share: sides that take turns, ratios with their spread, tables, and the targets met or missed.

The machine is never quiet. So every round runs all sides, one after another, and a ratio is that of the medians, with
the quartiles of the ratios of the rounds as its spread.
"""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from resource import RUSAGE_THREAD, getrusage
from statistics import median, quantiles
from timeit import Timer

Sample = Callable[[], float]  # what one call costs, in whatever unit
ROUNDS = 21
ROUND_S = 0.01


@dataclass(frozen=True)
class Cost:
    """Of a call that waits: the median of its time, its CPU, and how often the thread slept."""

    time_us: float
    cpu_us: float
    sleeps: float


@dataclass(frozen=True)
class Ratio:
    """How many times the first side the second one is."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{short(self.value)} ({short(self.low)}–{short(self.high)})"


@dataclass(frozen=True)
class Target:
    """A row of what was to be reached: ``bound`` is the least (``is_least``) or the most it may be; None: just told."""

    what: str
    against: str
    got: Ratio | float
    bound: float
    unit: str = "×"
    is_least: bool = False

    @property
    def is_met(self) -> bool:
        value = self.got.value if isinstance(self.got, Ratio) else self.got
        return value >= self.bound if self.is_least else value <= self.bound

    @property
    def cells(self) -> tuple[str, ...]:
        """As a row of the table of targets."""
        got = str(self.got) if isinstance(self.got, Ratio) else short(self.got)
        sign = "≥" if self.is_least else "≤"
        return self.what, self.against, f"{got} {self.unit}", f"{sign} {self.bound:g} {self.unit}", self._verdict

    @property
    def _verdict(self) -> str:
        return "met" if self.is_met else "MISSED"


TARGET_HEAD = ("what", "against", "measured (quartiles)", "target", "")


def in_turns(sides: Mapping[str, Sample], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Samples of every side, taken in turns, so that a busy moment of the machine falls on all."""
    samples: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, sample in sides.items():
            samples[name].append(sample())
    return samples


def ratio(of: Sequence[float], to: Sequence[float]) -> Ratio:
    """``of`` is so many times ``to``: of the medians, with the quartiles of the rounds."""
    low, _, high = quantiles([one / other for one, other in zip(of, to, strict=True)])
    return Ratio(median(of) / median(to), low, high)


def per_call(call: Callable[[], object]) -> Sample:
    """Microseconds of CPU that a call takes; as many calls a sample as fit ``ROUND_S``, found out at the first one."""
    return per_statement("call()", call=call)


def per_statement(statement: str, **names: object) -> Sample:
    """The same of a statement, for what takes so little that a function around it would be a good part of it."""
    number = 0
    timer = Timer(statement, "gc.enable()", time.thread_time, names | {"gc": gc})

    def sample() -> float:
        nonlocal number
        if not number:
            number = max(1, round(ROUND_S / max(min(timer.repeat(5, 1)), 1e-7)))
        return timer.timeit(number) / number * 1e6

    return sample


def cost(call: Callable[[], object], count: int) -> Cost:
    """Of ``count`` calls, in this thread."""
    times = []
    sleeps, cpu_s = getrusage(RUSAGE_THREAD).ru_nvcsw, time.thread_time()
    for _ in range(count):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    cpu_s = time.thread_time() - cpu_s
    return Cost(median(times) * 1e6, cpu_s / count * 1e6, (getrusage(RUSAGE_THREAD).ru_nvcsw - sleeps) / count)


def compare(title: str, samples: Mapping[str, Sequence[float]], unit: str = "µs") -> None:
    """A table of the sides; the ratios are to the first."""
    first = next(iter(samples.values()))
    rows = []
    for name, values in samples.items():
        low, middle, high = quantiles(values)
        rows.append((name, f"{short(middle)} {unit}", f"{short(low)}–{short(high)}", f"{ratio(values, first)} ×"))
    table(title, ("", "median", "quartiles", "times the first (quartiles)"), rows)


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    print(f"\n{title}")
    for row in (head, *rows):
        cells = [
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print(f"  {'  '.join(cells)}".rstrip(), flush=True)


def short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
