"""``dvos label``: open what is to be labelled, and serve the page until it is stopped."""

import errno
import os
import re
import secrets
import signal
import socket
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from dvos.config.labelling import LabelSettings
from dvos.errors import UsageError
from dvos.files import check_given, make_folder
from dvos.formats.known import FORMATS
from dvos.labelling.documents import open_document
from dvos.locks import lock, open_file


def label(settings: LabelSettings) -> Path:
    """Serve the page until it is stopped with Ctrl-C; gives the data folder with the labels.

    A UsageError if nothing is to label, another one serves the folder, or the port is taken.
    """
    import uvicorn

    from dvos.labelling.proposals import Helper, Proposer
    from dvos.labelling.server import Guard, LabelServer
    from dvos.labelling.work import Workshop

    check_given([("INPUT", settings.input)], [("--checkpoint", settings.checkpoint)])
    document = open_document(settings.input, settings.out, settings.intensity)
    make_folder(document.root / ".labelling")
    with ExitStack() as held:
        tell = held.enter_context(served_alone(document.root))
        workshop = Workshop(document, settings.checkpoint)
        formats = tuple(name for name, known in FORMATS.items() if known.write is not None)
        helper = partial(Helper, partial(Proposer, settings.checkpoint, settings.device))
        server = LabelServer(document, helper, workshop, formats)
        held.callback(server.store.close)
        held.callback(workshop.close)
        listening = held.enter_context(_listen(settings.host, settings.port))
        port = listening.getsockname()[1]
        token = kept_token(document.root / ".labelling" / "token")
        place = f"http://{_shown(settings.host)}:{port}/"
        tell(f"{place}\n{socket.gethostname()}")
        address = f"{place}?token={token}"
        print(f"labels go to {document.root}\nopen {address}\nCtrl-C ends it", flush=True)
        if settings.browser:
            webbrowser.open(address)
        guarded = Guard(server.app(), token, settings.host, port)
        config = uvicorn.Config(guarded, log_level="error", access_log=False, lifespan="off")
        with suppress(KeyboardInterrupt), ExitStack() as stack:
            _end_gently(stack)
            uvicorn.Server(config).run(sockets=[listening])
    return document.root


@contextmanager
def served_alone(root: Path) -> Iterator[Callable[[str], None]]:
    """Keep other servers from a data folder; gives what tells them where this one runs.

    A UsageError if another one has it. On a file system without locks nothing is held.
    """
    path = root / ".labelling" / "server"
    handle = open_file(path, os.O_RDWR | os.O_CREAT)
    try:
        try:
            lock(handle)
        except BlockingIOError as error:
            found = f"another dvos label has it open{_elsewhere(path)}"
            remedy = "open the page of that one, or end it with Ctrl-C"
            raise UsageError.at(root, found, remedy=remedy) from error
        except OSError:
            pass
        _write_over(handle, "")
        yield partial(_write_over, handle)
    finally:
        os.close(handle)


def _write_over(handle: int, text: str) -> None:
    with suppress(OSError):  # a full disk: it is told without
        os.lseek(handle, 0, os.SEEK_SET)
        os.ftruncate(handle, 0)
        os.write(handle, text.encode())


def _elsewhere(path: Path) -> str:
    """Where the server runs that holds a folder, as far as it has told."""
    with suppress(OSError, ValueError):
        place, machine = path.read_text("utf-8").splitlines()
        return f" at {place}?token={path.with_name('token').read_text('utf-8')} on {machine}"
    return ""


def _end_gently(stack: ExitStack) -> None:
    """Let SIGTERM, and a terminal that is closed, end the server as Ctrl-C does: all is saved."""
    ends: dict[str, Any] = {
        "SIGTERM": signal.default_int_handler,
        "SIGHUP": lambda *_: signal.raise_signal(signal.SIGTERM),  # as the server knows it
    }
    for name, handler in ends.items():
        with suppress(AttributeError, ValueError):  # not on Windows; not in the main thread
            end = getattr(signal, name)
            if signal.getsignal(end) == signal.SIG_DFL:  # nohup ignores it
                stack.callback(signal.signal, end, signal.signal(end, handler))


def kept_token(path: Path) -> str:
    """The token in a file that its owner alone reads, which stays, so that an open tab goes on."""
    token = path.read_text(errors="replace") if path.exists() else ""
    if not re.fullmatch(r"[A-Za-z0-9_-]{43}", token):
        token = secrets.token_urlsafe(32)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as stream:
            stream.write(token)
    return token


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        remedy = "choose another --port, or end the page that is open"
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            remedy = "give the name or address of this machine as host"
        found = f"cannot listen on port {port} ({error.strerror or error})"
        raise UsageError.at(host, found, remedy=remedy) from error
    # Its connections take this over: else an answer waits 40 ms for the browser's part.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _shown(host: str) -> str:
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
