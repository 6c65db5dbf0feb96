"""``python -m queuescope.cli``."""

from queuescope.cli import main

if __name__ == "__main__":
    main(prog_name="queuescope")
