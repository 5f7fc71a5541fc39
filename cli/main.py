"""tcfs: the entry of the command line."""

import signal


def main(argv: list[str] | None = None) -> None:
    """Runs one verb and exits with its code: see cli.verbs."""
    # While it is imported nothing has begun: Ctrl-C ends it without a word, not with a traceback out of some import.
    handler = signal.getsignal(signal.SIGINT)
    is_pythons = handler is signal.default_int_handler  # else whoever started us has it ignored
    if is_pythons:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from cli import verbs

    if is_pythons:
        signal.signal(signal.SIGINT, handler)
    verbs.main(argv)


if __name__ == "__main__":
    main()
