"""``mailtools user``: adds, changes, deletes, lists and checks users with services/users/edit."""

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from mailtools.commands.options.common import json_option, root_option, scheme_option
from mailtools.commands.options.secrets import password_options, read_password
from mailtools.commands.output import exits
from mailtools.commands.output.print import json_line, print_rows
from mailtools.system.files.home import expand

F = TypeVar("F", bound=Callable[..., Any])


def users_options(function: F) -> F:
    """Add the options that name the users file."""
    users = click.option("--users", metavar="FILE", help="The users file.  [default: ROOT/users]")
    return root_option(users(function))


def _path(root: str, users: str | None) -> str:
    return expand(users) if users else os.path.join(expand(root), "users")


@click.group("user")
def command() -> None:
    """Add users, change their passwords, delete, list and check them.

    Users are kept in ROOT/users, a passwd-file as Dovecot uses it. Running servers see changes at once.
    """


@command.command("add")
@click.argument("name")
@users_options
@password_options
@scheme_option
def add(name: str, root: str, users: str | None, scheme: str, **source: Any) -> None:
    """Add user NAME.

    The password is asked for on a terminal, else read from stdin.

    \b
    Examples:
      mailtools user add bob
      mailtools user add carol --password-command 'cat secret'
    """
    from mailtools.services.users import edit
    from mailtools.system.mbox.mailroot import MailRoot

    path = _path(root, users)
    edit.check_new_name(path, name)
    password = read_password(twice=True, **source)
    if not users:
        MailRoot(root).make()
    edit.add(path, name, password, scheme)


@command.command("passwd")
@click.argument("name")
@users_options
@password_options
@scheme_option
def passwd(name: str, root: str, users: str | None, scheme: str, **source: Any) -> None:
    """Change the password of NAME."""
    from mailtools.services.users import edit

    edit.change_password(_path(root, users), name, read_password(twice=True, **source), scheme)


@command.command("delete")
@click.argument("name")
@users_options
def delete(name: str, root: str, users: str | None) -> None:
    """Delete user NAME; the mailboxes stay."""
    from mailtools.services.users import edit

    edit.delete(_path(root, users), name)


@command.command("list")
@users_options
@json_option
@click.pass_context
def list_users(ctx: click.Context, /, root: str, users: str | None, as_json: bool) -> None:
    """List the users and the schemes of their passwords."""
    from mailtools.system.users.users_file import Users

    path = _path(root, users)
    entries = list(Users(path).by_name().values()) if users or os.path.exists(path) else []
    if as_json:
        for entry in entries:
            print(json_line({"name": entry.name, "scheme": entry.scheme}))
    else:
        print_rows(["name", "scheme"], [(entry.name, entry.scheme) for entry in entries])
    ctx.exit(exits.OK if entries else exits.NOTHING)


@command.command("check")
@click.argument("name")
@users_options
@password_options
@click.pass_context
def check(ctx: click.Context, /, name: str, root: str, users: str | None, **source: Any) -> None:
    """Check a password of NAME: 0 or 77.

    The exit code is 0 if it is right, 77 if it is wrong.
    """
    from mailtools.services.users import edit

    if edit.is_right(_path(root, users), name, read_password(twice=False, **source)):
        return
    print("mailtools: wrong password", file=sys.stderr)
    ctx.exit(exits.NO_PERMISSION)
