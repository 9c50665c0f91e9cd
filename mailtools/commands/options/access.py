"""The options of TLS and login at a server, which `send` and `fetch` share."""

from collections.abc import Callable
from typing import Any

import click

MECHANISMS = ("plain", "login", "scram-sha-256", "xoauth2", "oauthbearer")

Option = Callable[[Any], Any]


def trust_options() -> list[Option]:
    """Return the options that say which server certificates are trusted."""
    return [
        click.option(
            "--cafile", metavar="FILE", default="", help="Trust these authorities instead of the system's."
        ),
        click.option(
            "--fingerprint",
            metavar="SHA256:HEX",
            default="",
            help="Trust only the server with this certificate.",
        ),
    ]


def login_options() -> list[Option]:
    """Return the options that say how to log in, and with which password or token."""
    return [
        click.option(
            "--auth", type=click.Choice(MECHANISMS), help="Log in with this mechanism and no other."
        ),
        click.option(
            "--password-command", metavar="CMD", help="The first line that CMD prints is the password."
        ),
        click.option("--password-file", metavar="FILE", help="The first line of FILE is the password."),
        click.option("--token-command", metavar="CMD", help="CMD prints an OAuth token to log in with."),
    ]
