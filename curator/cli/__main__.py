"""Let `python -m curator.cli` be the same as `curator`."""

from curator.cli import main

main(prog_name="curator")
