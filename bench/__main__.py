"""``make bench``: every measurement beside its peers, one after another. Nothing is asserted: machines are noisy."""

from bench import codec, records, rtu

for part in (codec, rtu, records):
    print(f"\n== {(part.__doc__ or '').splitlines()[0]}\n", flush=True)
    part.main()
