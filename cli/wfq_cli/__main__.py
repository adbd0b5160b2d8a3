"""``python -m wfq_cli`` is the `wfq` command."""

from wfq_cli.app import main

if __name__ == "__main__":
    main()
