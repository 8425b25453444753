"""``python -m steerclear`` is the program ``steerclear``."""

from .cli.app import entry

if __name__ == "__main__":
    entry()
