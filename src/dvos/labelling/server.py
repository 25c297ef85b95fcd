"""The server of the page: it answers from the store, the pictures and the helper."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dvos.errors import DvosError, OutputError, UsageError
from dvos.labelling import edits, requests
from dvos.labelling.clips import ClipEdits
from dvos.labelling.documents import Document
from dvos.labelling.edits import Edit, Ids
from dvos.labelling.helper import Helper
from dvos.labelling.pictures import TILE, Pictures
from dvos.labelling.requests import EDIT, ClipEdit, Export, Training, runs_of
from dvos.labelling.store import Change, ConflictError, LabelStore, Sheet, read_objects
from dvos.labelling.work import Workshop

_log = logging.getLogger(__name__)
T = TypeVar("T")

#: Bytes of the largest request.
_LARGEST = 32_000_000
_KINDS = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
#: The page asks nobody else for anything, and is in nobody else's frame.
_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class LabelServer:
    """Answers the page.

    Args:
        document: What is labelled.
        helper: Makes the help of the network, of the pictures.
        workshop: Trains, predicts and exports.
        formats: Names of the formats that can be exported.
    """

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
        self.helper = helper(self.pictures)
        folder = files("dvos.labelling") / "page"
        self._page = {
            item.name: (item.read_bytes(), _KINDS[f".{item.name.rpartition('.')[2]}"])
            for item in folder.iterdir()
        }

    def app(self) -> Starlette:
        """The application, without its guard."""
        frame = "/api/frames/{index:int}"
        return Starlette(
            routes=[
                Route("/", lambda _: self._file("index.html")),
                Route("/page/{name}", lambda request: self._file(request.path_params["name"])),
                Route("/api/project", self._project),
                Route("/api/frames", self._frames),
                Route(f"{frame}/mask", self._mask),
                Route(f"{frame}/thumbnail", self._thumbnail),
                Route(f"{frame}/tiles/{{level:int}}/{{row:int}}/{{column:int}}", self._tile),
                Route(f"{frame}/layers/{{layer:int}}", self._layer),
                Route(f"{frame}/proposals", self._proposals),
                Route(f"{frame}/edit", _posted(EDIT, self._edit), methods=["POST"]),
                Route("/api/clip", _posted(TypeAdapter(ClipEdit), self._clip), methods=["POST"]),
                Route("/api/work", lambda _: _json(self.workshop.status())),
                Route("/api/train", _posted(TypeAdapter(Training), self._train), methods=["POST"]),
                Route("/api/export", _posted(TypeAdapter(Export), self._export), methods=["POST"]),
                Route("/api/suggest", self._suggest, methods=["POST"]),
                Route("/api/stop", self._stop, methods=["POST"]),
                Route("/api/counts", self._counts),
            ],
            exception_handlers={
                DvosError: _told,
                HTTPException: _refused,
                Exception: _unforeseen,
            },
        )

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

    def _project(self, _: Request) -> Response:
        document = self.document
        return _json(
            {
                "title": document.path.resolve().name,
                "folder": str(document.root.resolve()),
                "tile": TILE,
                "tracked": sorted(document.tracked),
                "layers": [layer.name for layer in self.workshop.layers()],
                "formats": self._formats,
                "checkpoint": str(self.workshop.checkpoint or ""),
            }
        )

    def _frames(self, _: Request) -> Response:
        frames = self.document.frames
        return _json(
            {
                "names": [frame.name for frame in frames],
                "clips": [frame.clip for frame in frames],
                "labelled": [int((frame.label or frame.mask).exists()) for frame in frames],
                "suggested": self.workshop.suggested(),
            }
        )

    def _thumbnail(self, request: Request) -> Response:
        return _jpeg(self.pictures.thumbnail(self._index(request)))

    def _tile(self, request: Request) -> Response:
        place = (request.path_params[name] for name in ("level", "row", "column"))
        return _jpeg(self.pictures.tile(self._index(request), *place))

    def _mask(self, request: Request) -> Response:
        index = self._index(request)
        with self.store.sheet(index) as sheet:
            runs, state = runs_of(sheet.ids), self._state(index, sheet)
            state |= {"size": sheet.ids.shape, "name": self.document.frames[index].name}
        headers = {**_HEADERS, "x-state": json.dumps(state)}
        return Response(runs.tobytes(), media_type="application/octet-stream", headers=headers)

    def _layer(self, request: Request) -> Response:
        ids = self._predicted(self._index(request), request.path_params["layer"])
        return Response(
            runs_of(ids).tobytes(), media_type="application/octet-stream", headers=_HEADERS
        )

    def _predicted(self, index: int, number: int) -> Ids:
        layers = self.workshop.layers()
        if number >= len(layers):
            raise HTTPException(404, f"no predictions {number}; there are {len(layers)}")
        frame = self.document.frames[index]
        return read_objects(layers[number].mask(frame.name), frame.picture.size())

    def _proposals(self, request: Request) -> Response:
        index = self._index(request)
        if request.query_params.get("prepare"):
            self.helper.prepare(index)
            return _json({})
        with self.store.sheet(index) as sheet:
            ids = sheet.ids.copy()
        found = self.helper.all(index, ids)
        return _json(
            {
                "proposals": [requests.region_message(one.box, one.mask) for one in found],
                "scores": [round(float(one.score), 4) for one in found],
            }
        )

    def _edit(self, request: Request, edit: requests.AnyEdit) -> Response:
        index = self._index(request)
        name = self.document.frames[index].name
        if edit.frame != name:
            # The server was started again, on other files than the tab knows.
            found = f"is frame {index} by now"
            raise ConflictError.at(name, found, edit.frame, "reload the page")
        token, base = edit.token, edit.base
        if isinstance(edit, requests.Step):
            change = self.store.step(index, edit.kind, token=token, base=base)
        else:
            make = self._making(index, edit)
            change = self.store.edit(index, make, token=token, base=base)
        return self._changed(index, change, is_known=isinstance(edit, requests.Paint))

    def _making(self, index: int, edit: Any) -> Callable[[Ids], Edit]:
        """What an edit makes of a mask; what is read for it, is read before the mask is held."""
        match edit:
            case requests.Copy():
                if edit.source >= len(self.document.frames):
                    raise HTTPException(404, f"no frame {edit.source}")
                with self.store.sheet(edit.source) as sheet:
                    other = sheet.ids.copy()
                return lambda ids: edits.copy_objects(ids, other, edit.objects)
            case requests.Adopt():
                predicted = self._predicted(index, edit.layer)
                return lambda ids: edits.adopt(ids, predicted, self._first(index))
            case requests.PointAt():
                return self._pointed(index, edit)
            case requests.Accept():
                regions = self.helper.accepted(index, edit.least)
                return lambda ids: edits.add_new(ids, regions, self._first(index))
        made: Callable[[Ids], Edit] = edit.edit
        return made

    def _pointed(self, index: int, edit: requests.PointAt) -> Callable[[Ids], Edit]:
        with self.store.sheet(index) as sheet:
            ids = sheet.ids.copy()
        if edit.y >= ids.shape[0] or edit.x >= ids.shape[1]:
            raise UsageError.at("click", f"{edit.x}, {edit.y}", "a pixel of the picture")
        region = self.helper.point(index, ids, edit.x, edit.y, edit.take)
        if region is None:
            return lambda ids: ((0, 0, 0, 0), ids[:0, :0])
        if edit.take:
            return lambda ids: edits.add(ids, [(region, edit.object)])
        return lambda ids: edits.paint(ids, region, 0)

    def _changed(self, index: int, change: Change, *, is_known: bool) -> Response:
        """The frame's new state, and what has become of the box unless the page knows it."""
        with self.store.sheet(index) as sheet:
            state = self._state(index, sheet)
            if change.box is not None and not is_known:
                top, left, bottom, right = change.box
                state["box"] = change.box
                state["runs"] = runs_of(sheet.ids[top:bottom, left:right]).ravel().tolist()
        return _json(state)

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
            "undo": bool(journal.done) and not journal.done[-1].group,
            "redo": bool(journal.undone) and not journal.undone[-1].group,
            "failure": self.store.failures.get(index, ""),
        }

    def _clip(self, _: Request, edit: ClipEdit) -> Response:
        if not self.document.of_clip(edit.clip):
            raise HTTPException(404, "no such clip")
        pairs = {edit.object: 0}
        if edit.kind == "undo":
            return _json({"changed": self.clips.undo(edit.clip, edit.token)})
        if edit.kind == "join":
            if edit.other in (None, edit.object):
                raise UsageError.at("join", f"object {edit.object} with itself", "another object")
            pairs = {edit.other: edit.object}
        if edit.kind == "split":
            pairs = {edit.object: self.clips.highest(edit.clip) + 1}
            self.clips.note(edit.clip, pairs[edit.object] + 1)
        return _json({"changed": self.clips.change(edit.clip, pairs, edit.start, edit.token)})

    def _train(self, _: Request, wanted: Training) -> Response:
        self.store.flush()
        self.workshop.train(wanted.minutes)
        return _json(self.workshop.status())

    def _export(self, _: Request, wanted: Export) -> Response:
        if wanted.format not in self._formats:
            raise HTTPException(400, f"no format {wanted.format}: {', '.join(self._formats)}")
        self.store.flush()
        return _json({"folder": str(self.workshop.export(wanted.format))})

    def _suggest(self, _: Request) -> Response:
        self.store.flush()
        self.workshop.suggest()
        return _json(self.workshop.status())

    def _stop(self, _: Request) -> Response:
        self.workshop.stop()
        return _json({})

    def _counts(self, _: Request) -> Response:
        return _json(
            [
                {
                    "layer": layer.name,
                    "clip": clip.name,
                    "frames": [index for index, _ in clip.frames],
                    "counts": clip.counts,
                }
                for layer in self.workshop.layers()
                for clip in layer.clips
                if len(clip.frames) > 1
            ]
        )


def _posted(
    kind: TypeAdapter[T], answer: Callable[[Request, T], Response]
) -> Callable[[Request], Awaitable[Response]]:
    """Reads a request's body, no longer than it may be, and checks it."""

    async def read(request: Request) -> Response:
        data = bytearray()
        async for part in request.stream():
            data += part
            if len(data) > _LARGEST:
                raise HTTPException(413, f"more than {_LARGEST} bytes")
        try:
            message = kind.validate_json(bytes(data))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"])) or "body"
            raise HTTPException(422, f"{place}: {first['msg']}") from None
        return await run_in_threadpool(answer, request, message)

    return read


def _json(value: Any, status: int = 200) -> Response:
    return JSONResponse(value, status, headers=_HEADERS)


def _jpeg(data: bytes) -> Response:
    # A picture does not change while the server runs.
    headers = {**_HEADERS, "cache-control": "private, max-age=3600"}
    return Response(data, media_type="image/jpeg", headers=headers)


def _told(_: Request, error: Exception) -> Response:
    status = 409 if isinstance(error, ConflictError) else 400
    return _json({"error": str(error)}, 507 if isinstance(error, OutputError) else status)


def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json({"error": error.detail}, error.status_code)


def _unforeseen(_: Request, error: Exception) -> Response:
    _log.error("unforeseen %s: %s", type(error).__name__, error)
    return _json({"error": f"unforeseen {type(error).__name__}: {error}"}, 500)
