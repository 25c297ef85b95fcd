"""``python -m dvos``: the command line without its script."""

from dvos.cli import run

if __name__ == "__main__":
    run()
