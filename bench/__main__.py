"""``make bench``: every measurement beside its peers, one after another. Nothing is asserted: the machines are noisy."""

from bench import codec, rtu

for part in (codec, rtu):
    print(f"\n== {(part.__doc__ or '').splitlines()[0]}\n", flush=True)
    part.main()
