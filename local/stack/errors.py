"""What a person is told when the stack cannot do what was asked."""


class StackError(Exception):
    """One message: what is wrong, where, and what to do. The command prints it and exits with 1."""
