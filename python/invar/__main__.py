"""`python -m invar`: kernels checked and run from files, and the cache of compiled kernels."""

from ._cli import main

if __name__ == "__main__":
    raise SystemExit(main())
