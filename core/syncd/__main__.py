"""`python -m syncd`: the console program."""

from syncd.cli import main

if __name__ == "__main__":
    main()
