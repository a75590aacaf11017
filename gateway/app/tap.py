"""``twistd pop3gw``: its options and its service.  Only this file imports the reactor."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, NoReturn

from twisted.application.service import IService, MultiService
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.strcred import AuthOptionMixin
from twisted.python import threadable
from twisted.python.logfile import LogFile
from twisted.python.usage import Options as BaseOptions
from twisted.python.usage import UsageError

import gateway
from gateway.observe.log_file import BufferedLog, Reopened, publish, write_to
from gateway.utf8 import insist

if TYPE_CHECKING:
    from gateway.app.first_start import User


class Options(BaseOptions, AuthOptionMixin):
    """The command line."""

    synopsis = "[options]"
    supportedInterfaces = (IUsernamePassword,)
    longdesc = (
        "A POP3 gateway to Maildir mail. 'pop3gw samples pop3gw.toml' prints a"
        " configuration that documents every setting."
    )
    optParameters = [  # noqa: RUF012 - twisted's way to declare them
        [
            "config",
            "c",
            None,
            "The configuration file; without it POP3GW_CONFIG, and without that the"
            " defaults and the environment (POP3GW_SECTION__KEY).",
        ],
    ]
    optFlags = [  # noqa: RUF012
        ["check", None, "Check the configuration and exit: 0 without faults, else 1."],
    ]

    def opt_version(self) -> NoReturn:
        """Print the version of pop3gw, and exit."""
        print(f"pop3gw {gateway.__version__}")
        sys.exit(0)

    def opt_auth(self, description: str) -> None:
        """Specify an authentication method for the server."""
        super().opt_auth(description)  # type: ignore[no-untyped-call]
        self.setdefault("authDescriptions", []).append(description)

    def parseArgs(self, *arguments: str) -> None:
        """Refuse arguments."""
        if arguments:
            raise UsageError(f"unexpected argument: {arguments[0]}")

    def postOptions(self) -> None:
        """Perform ``--check``, before anything is started."""
        insist()
        if self.parent is not None:
            _write_log_in_batches(self.parent)
        if self["check"]:
            from gateway.app.start import check
            from gateway.errors import ConfigError

            try:
                found = check(self["config"], os.environ, self.get("credCheckers", ()), _user(self))
                lines, faults = found.remarks, found.faults
            except ConfigError as error:
                lines, faults = [], error.problems
            print("\n".join([*lines, *(faults or ["The configuration is fine."])]))
            sys.exit(1 if faults else 0)


class PlainErrors(MultiService):
    """Prints the server's configuration errors at the start as lines, without a traceback."""

    def __init__(self, *services: IService) -> None:
        MultiService.__init__(self)
        for service in services:
            MultiService.addService(self, service)

    def privilegedStartService(self) -> None:
        """Bind the ports; exit if one is in use."""
        from gateway.errors import ConfigError

        try:
            MultiService.privilegedStartService(self)
        except ConfigError as error:
            _give_up(error.problems)


def makeService(options: Options) -> IService:
    """The server; prints errors of the configuration and exits."""
    from twisted.internet import reactor

    from gateway.app.parent import Parent
    from gateway.app.start import assemble
    from gateway.errors import GatewayError
    from gateway.net.clock import follow_boot_time

    follow_boot_time(reactor)
    # A signal while it starts ends no process: the reload comes when the server runs.
    asked: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _: asked.append(number))
    checkers = options.get("credCheckers", ())
    try:
        user = _user(options)
        running: Any = reactor
        server = assemble(
            running,
            options["config"],
            os.environ,
            checkers,
            user,
            auth=options.get("authDescriptions", ()),
            pass_on=_pass_on,
        )
    except GatewayError as error:
        _give_up(getattr(error, "problems", [str(error)]))
    signal.signal(signal.SIGHUP, lambda *_: running.callFromThread(server.reload))
    if asked:
        server.reload()
    own: Any = options.parent or {}
    if own.get("chroot") and isinstance(server, Parent):
        _give_up(["--chroot: expected none with processes.workers > 1: workers start from Python"])
    if isinstance(server, Parent):
        # Twistd ends with 0 whenever the reactor stops; the log is flushed before this.
        atexit.register(lambda: os._exit(1) if server.gave_up else None)
    return PlainErrors(server)


def _pass_on(lines: bytes) -> None:
    if _buffered:
        _buffered[0].pass_on(lines)
    else:
        publish(lines)


_buffered: list[BufferedLog] = []
"""The log of this process, unless twistd logs elsewhere than to a file."""

_logfile: list[str] = []
"""Twistd's ``--logfile``, for what twistd makes by its name alone; empty: standard output."""


def _write_log_in_batches(twistd: Any) -> None:
    """Set twistd's ``--logger``, unless it logs elsewhere than to a file."""
    name = twistd.get("logfile") or ("-" if twistd.get("nodaemon") else "twistd.log")
    is_refused = name == "-" and not twistd.get("nodaemon")
    if not (twistd.get("logger") or twistd.get("syslog") or is_refused):
        _logfile[:] = [] if name == "-" else [name]
        twistd["logger"] = "gateway.app.tap.batched_log"


def batched_log() -> BufferedLog:
    """The log observer that twistd starts."""
    from twisted.internet import reactor

    running: Any = reactor
    write = _rotated(_logfile[0], running) if _logfile else write_to(sys.stdout.fileno())

    def may_wait() -> bool:
        # What ``isInIOThread`` says, without its four calls for each line.
        return bool(running.running) and threadable.ioThread == get_ident()

    log = BufferedLog(write, running.callLater, may_wait)
    _buffered[:] = [log]
    atexit.register(log.flush)
    # A child process would write the lines that wait once more.
    os.register_at_fork(before=log.flush)
    return log


def _rotated(path: str, reactor: Any) -> Callable[[bytes], object]:
    """A log file as twistd has it: rotated at 1 MB, and at SIGUSR1."""
    file = Reopened(partial(LogFile.fromFullPath, path))
    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(file.rotate))
    return file.write


def _user(options: Options) -> User | None:
    """The user of twistd's options --uid and --gid, which stand before ours."""
    from gateway.app.first_start import user_of

    own: Any = options.parent or {}
    return user_of(own.get("uid"), own.get("gid"))


def _give_up(problems: list[str]) -> NoReturn:
    print("\n".join(problems), file=sys.stderr)
    sys.exit(1)
