"""Gives a process whose user has no account, as in containers and on clusters, a user name and a home folder."""

from __future__ import annotations

import os
import tempfile


def name_the_user() -> None:
    """Set LOGNAME and HOME where neither the environment nor the system's accounts know them.

    torch and MONAI ask for both when they are imported (`getpass.getuser`, `Path.home`) and die with a KeyError.
    """
    if os.name != "posix":
        return
    import pwd

    try:
        pwd.getpwuid(os.getuid())
        return
    except KeyError:
        pass
    if not any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
        os.environ["LOGNAME"] = f"user{os.getuid()}"
    if not os.environ.get("HOME"):
        os.environ["HOME"] = tempfile.gettempdir()
