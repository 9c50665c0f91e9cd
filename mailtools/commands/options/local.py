"""The options that say which mail is for our own mailboxes, and what aliases do with it."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--domain", "domains", metavar="NAME", multiple=True, help="Accept mail for this domain; repeatable."
    ),
    click.option(
        "--aliases", metavar="FILE", default="", help="The aliases file, in the format of /etc/aliases."
    ),
    click.option("--alias-commands", is_flag=True, help="Let aliases pipe mail into programs."),
    click.option(
        "--catch-all", metavar="USER", default="", help="USER gets mail for names that do not exist."
    ),
    click.option(
        "--plus-delimiter", metavar="CHARS", default="", help="With +, mail for bob+tag goes to bob."
    ),
)

users_option = click.option(
    "--users", metavar="FILE", help="The users who get mail.  [default: ROOT/users if it exists]"
)


def local_options(function: F) -> F:
    """Add --domain, --aliases, --alias-commands, --catch-all and --plus-delimiter."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
