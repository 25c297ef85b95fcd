"""The server of the page: it answers whoever has its token from store, pictures and helper."""

import ipaddress
import json
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from importlib.resources import files
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from dvos.errors import DvosError, OutputError, UsageError
from dvos.labelling import edits, requests
from dvos.labelling.clip_edits import ClipEdits
from dvos.labelling.documents import Document
from dvos.labelling.edits import Edit, Ids, runs_of
from dvos.labelling.pictures import Pictures
from dvos.labelling.proposals import Helper
from dvos.labelling.requests import EDIT, ClipEdit, Export, Training, region_message, region_of
from dvos.labelling.store import ConflictError, LabelStore, Sheet, read_objects
from dvos.labelling.work import Workshop

_log = logging.getLogger(__name__)
T = TypeVar("T", bound=BaseModel)

_LARGEST = 32_000_000  # bytes of the largest request
_KINDS = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
#: The page asks nobody else for anything, and is in nobody else's frame.
_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class LabelServer:
    """Answers the page, with a helper that is made of the pictures, and formats to export."""

    def __init__(
        self,
        document: Document,
        helper: Callable[[Pictures], Helper],
        workshop: Workshop,
        formats: tuple[str, ...] = (),
    ) -> None:
        self.document, self.workshop, self._formats = document, workshop, formats
        self.store = LabelStore(document)
        self.clips = ClipEdits(self.store)
        self.pictures = Pictures(document.frames)
        # As the page has it: what is worth labelling is shown first.
        self.pictures.begin(next(iter(workshop.suggested()), 0))
        self.helper = helper(self.pictures)
        # Part of the addresses of pictures: frames have other numbers when it is started again.
        self._run = secrets.token_hex(8)
        page = (files("dvos.labelling") / "page").iterdir()
        self._page = {x.name: (x.read_bytes(), _KINDS[x.name.rpartition(".")[2]]) for x in page}

    def app(self) -> Starlette:
        """The application, without its guard."""
        frame = "/api/frames/{index:int}"
        tile = f"{frame}/tiles/{{level:int}}/{{row:int}}/{{column:int}}"
        shown = {
            "/": lambda _: self._file("index.html"),
            "/page/{name}": lambda request: self._file(request.path_params["name"]),
            "/api/project": self._project,
            "/api/frames": self._frames,
            f"{frame}/mask": self._mask,
            f"{frame}/thumbnail": lambda one: _jpeg(self.pictures.thumbnail(self._index(one))),
            tile: self._tile,
            f"{frame}/layers/{{layer:int}}": lambda one: _runs(
                self._predicted(self._index(one), one.path_params["layer"]), {}
            ),
            f"{frame}/proposals": self._proposals,
            "/api/work": lambda _: self.workshop.status(),
            "/api/counts": self._counts,
        }
        work = self.workshop
        posted = {
            f"{frame}/edit": _posted(EDIT, self._edit),
            "/api/clip": _posted(ClipEdit, self._clip),
            "/api/train": _posted(Training, lambda _, sent: self._begun(work.train, sent.minutes)),
            "/api/export": _posted(Export, self._export),
            "/api/suggest": _told(lambda _: self._begun(work.suggest)),
            "/api/stop": _told(self._stop),
        }
        routes = [Route(path, _told(answer)) for path, answer in shown.items()]
        routes += [Route(path, answer, methods=["POST"]) for path, answer in posted.items()]
        handlers = dict.fromkeys((DvosError, HTTPException, OSError, Exception), _failed)
        return Starlette(routes=routes, exception_handlers=handlers)

    def _file(self, name: str) -> Response:
        if name not in self._page:
            raise HTTPException(404, "no such file")
        data, kind = self._page[name]
        return Response(data, media_type=kind, headers=_HEADERS)

    def _index(self, request: Request) -> int:
        index: int = request.path_params["index"]
        if index >= len(self.document.frames):
            raise HTTPException(404, f"no frame {index}; there are {len(self.document.frames)}")
        return index

    def _project(self, _: Request) -> dict[str, Any]:
        return {
            "title": self.document.path.resolve().name,
            "folder": str(self.document.root.resolve()),
            "layers": [layer.name for layer in self.workshop.layers()],
            "formats": self._formats,
        }

    def _frames(self, _: Request) -> dict[str, Any]:
        frames = self.document.frames
        return {
            "names": [frame.name for frame in frames],
            "clips": [frame.clip for frame in frames],
            "labelled": [int((frame.label or frame.mask).exists()) for frame in frames],
            "suggested": self.workshop.suggested(),
            "run": self._run,
        }

    def _tile(self, request: Request) -> Response:
        place = (request.path_params[name] for name in ("level", "row", "column"))
        return _jpeg(self.pictures.tile(self._index(request), *place))

    def _mask(self, request: Request) -> Response:
        index = self._index(request)
        with self.store.sheet(index) as sheet:
            state = self._state(index, sheet)
            state |= {"size": sheet.ids.shape, "name": self.document.frames[index].name}
            return _runs(sheet.ids, {"x-state": json.dumps(state)})

    def _predicted(self, index: int, number: int) -> Ids:
        layers = self.workshop.layers()
        if number >= len(layers):
            raise HTTPException(404, f"no predictions {number}; there are {len(layers)}")
        frame = self.document.frames[index]
        return read_objects(layers[number].mask(frame.name), frame.picture.size())

    def _ids(self, index: int) -> Ids:
        with self.store.sheet(index) as sheet:
            return sheet.ids.copy()

    def _proposals(self, request: Request) -> dict[str, Any]:
        index = self._index(request)
        if request.query_params.get("prepare"):
            self.helper.prepare(index)
            return {}
        found = self.helper.all(index, self._ids(index))
        return {
            "proposals": [region_message(one) for one in found],
            "scores": [round(float(one.score), 4) for one in found],
        }

    def _edit(self, request: Request, sent: Any) -> dict[str, Any]:
        index, edit = self._index(request), sent.root
        name = self.document.frames[index].name
        if edit.frame != name:
            # The server was started again since the page was: what is labelled comes first by now.
            numbers = {frame.name: number for number, frame in enumerate(self.document.frames)}
            if edit.frame not in numbers or edit.kind == "copy":
                found = f"is frame {index} by now"
                raise ConflictError.at(name, found, edit.frame, "reload the page")
            index = numbers[edit.frame]
        named = {"token": edit.token, "base": edit.base}
        if edit.kind in ("undo", "redo"):
            box = self.store.step(index, edit.kind, **named)
        else:
            fresh = edit.value if edit.kind == "paint" and edit.fresh else 0
            box = self.store.edit(index, self._making(index, edit), fresh=fresh, **named)
        with self.store.sheet(index) as sheet:
            state = self._state(index, sheet)
            # What has become of the box, unless the page knows it.
            if box is not None and edit.kind != "paint":
                top, left, bottom, right = box
                runs = runs_of(sheet.ids[top:bottom, left:right]).ravel().tolist()
                state |= {"box": box, "runs": runs}
        return state

    def _making(self, index: int, edit: Any) -> Callable[[Ids], Edit]:
        """What an edit makes of a mask; what is read for it, is read before the mask is held."""
        size = self.document.frames[index].picture.size()
        match edit.kind:
            case "paint":
                region = region_of(edit.region, size)
                return partial(edits.paint, region=region, value=edit.value, only=edit.only)
            case "recolour":
                return partial(edits.recolour, new_ids=dict(edit.pairs))
            case "split":
                cut = edit.line and region_of(edit.line, size)
                return partial(edits.split, object_id=edit.object, cut=cut, first=edit.first)
            case "copy":
                if edit.source >= len(self.document.frames):
                    raise HTTPException(404, f"no frame {edit.source}")
                other = self._ids(edit.source)
                return partial(edits.copy_objects, other=other, chosen=edit.objects)
            case "adopt":
                predicted = self._predicted(index, edit.layer)
                return lambda ids: edits.adopt(ids, predicted, self._first(index))
            case "accept":
                regions = self.helper.accepted(index, edit.least)
                return lambda ids: edits.add_new(ids, regions, self._first(index))
        if edit.y >= size[0] or edit.x >= size[1]:
            raise UsageError.at("click", f"{edit.x}, {edit.y}", "a pixel of the picture")
        found = self.helper.point(index, self._ids(index), edit.x, edit.y, edit.take)
        if edit.take or found is None:
            return partial(edits.add_one, region=found, value=edit.object)
        return partial(edits.paint, region=found, value=0)

    def _first(self, index: int) -> int:
        return self.clips.highest(self.document.frames[index].clip) + 1

    def _state(self, index: int, sheet: Sheet) -> dict[str, Any]:
        journal, clip = sheet.journal, self.document.frames[index].clip
        summary = sheet.summary(self._first(index))
        if clip:
            self.clips.note(clip, int(summary["next"]))
        return {
            **summary,
            "revision": journal.revision,
            "began": journal.began,
            "undo": bool(journal.done) and not journal.done[-1].group,
            "redo": bool(journal.undone) and not journal.undone[-1].group,
            "failure": self.store.failures.get(index, ""),
        }

    def _clip(self, _: Request, edit: ClipEdit) -> dict[str, Any]:
        if not self.document.of_clip(edit.clip):
            raise HTTPException(404, "no such clip")
        if edit.kind == "undo":
            return {"changed": self.clips.undo(edit.clip, edit.token)}
        pairs = {edit.object: 0}
        if edit.kind == "join":
            if edit.other in (None, edit.object):
                raise UsageError.at("join", f"object {edit.object} with itself", "another object")
            pairs = {edit.other: edit.object}
        if edit.kind == "split":
            pairs = {edit.object: self.clips.highest(edit.clip) + 1}
            self.clips.note(edit.clip, pairs[edit.object] + 1)
        return {"changed": self.clips.change(edit.clip, pairs, edit.start, edit.token)}

    def _begun(self, begin: Callable[..., None], *values: object) -> dict[str, Any]:
        self.store.flush()
        begin(*values)
        return self.workshop.status()

    def _export(self, _: Request, wanted: Export) -> dict[str, Any]:
        if wanted.format not in self._formats:
            raise HTTPException(400, f"no format {wanted.format}: {', '.join(self._formats)}")
        self.store.flush()
        return {"folder": str(self.workshop.export(wanted.format))}

    def _stop(self, _: Request) -> dict[str, Any]:
        self.workshop.stop()
        return {}

    def _counts(self, _: Request) -> list[dict[str, Any]]:
        """Of each prediction the counts in each clip, and in the photos in their order."""
        photos = [frame.name for frame in self.document.frames if not frame.clip]
        lines: list[dict[str, Any]] = []
        for layer in self.workshop.layers():
            lone = {one.frames[0][1]: one.counts[0] for one in layer.clips if len(one.frames) == 1}
            found = {"": [(n, lone[name]) for n, name in enumerate(photos) if name in lone]}
            for one in layer.clips:
                if len(one.frames) > 1:
                    numbers = (number for number, _ in one.frames)
                    found[one.name] = list(zip(numbers, one.counts, strict=True))
            for clip, points in found.items():
                frames, counts = [n for n, _ in points], [count for _, count in points]
                told = {"layer": layer.name, "clip": clip, "frames": frames, "counts": counts}
                lines += [told] if points else []
        return lines


def _told(answer: Callable[[Request], Any]) -> Callable[[Request], Response]:
    """An answer as the page has it: what is no response yet as JSON."""

    def told(request: Request) -> Response:
        value = answer(request)
        return value if isinstance(value, Response) else _json(value)

    return told


def _posted(
    kind: type[T], answer: Callable[[Request, T], Any]
) -> Callable[[Request], Awaitable[Response]]:
    """Reads a request's body, no longer than it may be, and checks it."""

    async def read(request: Request) -> Response:
        data = bytearray()
        async for part in request.stream():
            data += part
            if len(data) > _LARGEST:
                raise HTTPException(413, f"more than {_LARGEST} bytes")
        try:
            message = kind.model_validate_json(bytes(data))
        except ValidationError as error:
            raise HTTPException(422, requests.refusal(kind, error)) from None
        return _json(await run_in_threadpool(answer, request, message))

    return read


def _json(value: Any, status: int = 200) -> Response:
    # What is no text in the name of a folder is escaped.
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Response(text, status, _HEADERS, "application/json")


def _runs(ids: Ids, headers: dict[str, str]) -> Response:
    data, headers = runs_of(ids).tobytes(), {**_HEADERS, **headers}
    return Response(data, media_type="application/octet-stream", headers=headers)


def _jpeg(data: bytes) -> Response:
    # A picture does not change while the server runs.
    headers = {**_HEADERS, "cache-control": "private, max-age=3600"}
    return Response(data, media_type="image/jpeg", headers=headers)


def _failed(_: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return _json({"error": error.detail}, error.status_code)
    if isinstance(error, DvosError):
        status = 507 if isinstance(error, OutputError) else 400
        return _json({"error": str(error)}, 409 if isinstance(error, ConflictError) else status)
    if isinstance(error, OSError):
        return _json({"error": f"{error.filename}: {error.strerror or error}"}, 507)
    text = f"unforeseen {type(error).__name__}: {error}"
    _log.error("%s", text)
    return _json({"error": text}, 500)


class Guard:
    """Lets requests through that name this server, come from its page and know the token.

    The page's address with ``?token=`` sets a cookie, which all else is asked for. Names other than
    this machine's are refused, against DNS rebinding; so are requests that another page sends.
    """

    def __init__(self, app: ASGIApp, token: str, host: str, port: int) -> None:
        self._app, self._token, self._port = app, token, port
        self._anywhere = host not in _LOOPBACK
        self._cookie = f"dvos-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403, or hand the request on."""
        answer: ASGIApp = self._app
        headers = Headers(scope=scope) if scope["type"] == "http" else None
        if headers is not None and self._is_own(headers):
            request = HTTPConnection(scope)
            given = request.query_params.get("token", "")
            if scope["path"] == "/" and self._matches(given):
                answer = RedirectResponse("/", 303)
                answer.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
            elif not self._matches(request.cookies.get(self._cookie, headers.get("x-token", ""))):
                text = "open the address that dvos label has printed: it holds the token"
                answer = PlainTextResponse(text, 403)
        elif scope["type"] != "lifespan":
            answer = PlainTextResponse("this page is not served under that name", 403)
        await answer(scope, receive, send)

    def _matches(self, token: str) -> bool:
        return secrets.compare_digest(token.encode(), self._token.encode())

    def _is_own(self, headers: Headers) -> bool:
        host = headers.get("host", "")
        if headers.get("origin", f"http://{host}") != f"http://{host}":
            return False
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return False
        name, _, port = host.rpartition(":")
        name = name.removeprefix("[").removesuffix("]")
        return port == str(self._port) and (name in _LOOPBACK or self._is_here(name))

    def _is_here(self, name: str) -> bool:
        """Whether others may ask, and a name is this machine's, or an address."""
        with suppress(ValueError):
            return self._anywhere and bool(
                name == socket.gethostname() or ipaddress.ip_address(name)
            )
        return False
