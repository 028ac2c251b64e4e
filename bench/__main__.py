"""``make bench``: one measurement after another, each with what it is. Nothing is asserted: machines are noisy."""

from inspect import cleandoc
from types import ModuleType

from bench import codec, fetch, flashing, records, recovery, rtu

LONGER = ("python -m bench.restart", "python -m bench.flash --minutes 4")


def run(part: ModuleType) -> None:
    title, _, more = cleandoc(part.__doc__ or "").partition("\n\n")
    print(f"\n== {title}\n{more}\n", flush=True)
    part.main()


for part in (codec, rtu, flashing, fetch, records, recovery):
    run(part)
print("\n== Not run here, for they take minutes:\n" + "\n".join(LONGER))
