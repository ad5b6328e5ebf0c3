"""What a user can do something about."""


class UsageError(ValueError):
    """Bad input or a refusal, said in one line (a few where a list helps) with what to do. The command line prints it
    and exits with 2."""
