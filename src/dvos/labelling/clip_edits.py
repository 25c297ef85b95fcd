"""Edits of whole clips: objects joined, split and deleted in all frames, and that undone."""

import json
from functools import partial
from typing import Any

from dvos.errors import UsageError
from dvos.files import append_text
from dvos.formats.own import read_tracks
from dvos.labelling.edits import recolour
from dvos.labelling.journal import read_lines
from dvos.labelling.store import LabelStore
from dvos.media.mask import IGNORE


class ClipEdits:
    """Changes of objects through a whole clip, each noted before it begins.

    One that a kill or a full disk broke off is finished when this is made, or before the next.
    """

    def __init__(self, store: LabelStore) -> None:
        self._store = store
        self._highest: dict[str, int] = {}
        self._path = store.document.root / ".labelling" / "clips.jsonl"
        self._finish()

    def highest(self, clip: str) -> int:
        """The highest id in any frame of a clip, so that new objects get ids of their own."""
        if clip and clip not in self._highest:
            tracks, own = self._store.document.tracked.get(clip), self._labelled(clip)
            table = tracks and tracks.parent.with_name(f"{clip}.tracks.csv")
            ids = set[int]()
            if table and (known := read_tracks(table)):
                # It tells the ids of all masks that nobody has changed since.
                ids, own = {*known}, [index for index in own if self._store.edited(index, table)]
            for index in own:
                with self._store.sheet(index) as sheet:
                    ids |= {*sheet.values} - {IGNORE}
            self._highest[clip] = max(ids, default=0)
        return self._highest.get(clip, 0)

    def note(self, clip: str, object_id: int) -> None:
        """Note an id that is given to the next new object of a clip."""
        self._highest[clip] = max(self.highest(clip), object_id - 1)

    def change(self, clip: str, pairs: dict[int, int], start: int, token: str) -> list[int]:
        """Give objects, by pairs, other ids, or 0, in all frames of a clip from one on.

        Frames are given by index, the token names the change. Gives the frames that changed.
        """
        self._finish()
        line = {"token": token, "clip": clip, "pairs": [*pairs.items()], "start": start}
        return self._noted(line)

    def undo(self, clip: str, token: str) -> list[int]:
        """Undo a clip's latest change, or finish a broken one; a UsageError if edited since."""
        if finished := self._finish():
            return finished
        lines = [line for line in read_lines(self._path) if line.get("clip") == clip]
        undone = {line["undo"] for line in lines if "undo" in line}
        made = [line["token"] for line in lines if "pairs" in line and line["token"] not in undone]
        if not made:
            raise UsageError.at(clip, "no change of the whole clip is there to be undone")
        for index in self._labelled(clip):
            if made[-1] in self._groups(index)[:-1]:
                name = self._store.document.frames[index].name
                raise UsageError.at(name, "was edited since", remedy="undo those edits first")
        return self._noted({"token": token, "clip": clip, "undo": made[-1]})

    def _finish(self) -> list[int]:
        """Make what was noted and not ended; gives the frames that changed."""
        lines = read_lines(self._path)
        ended = {"", *(line.get("end") for line in lines)}
        broken = [line for line in lines if line.get("token", "") not in ended]
        return [index for line in broken for index in self._run(line)]

    def _noted(self, line: dict[str, Any]) -> list[int]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        append_text(self._path, json.dumps(line) + "\n", sync=True)
        return self._run(line)

    def _run(self, line: dict[str, Any]) -> list[int]:
        """Make a change in every frame where it is not made yet."""
        token, group, changed = line["token"], line.get("undo"), []
        for index in self._labelled(line["clip"]):
            if group is None and index >= line["start"]:
                change = partial(recolour, new_ids=dict(line["pairs"]))
                done = self._store.edit(index, change, token=token, group=token)
            elif group is not None and self._groups(index)[-1:] == [group]:
                done = self._store.step(index, "undo", token=token, group=group)
            else:
                continue
            if done is not None:
                changed.append(index)
                self._store.flush()
        append_text(self._path, json.dumps({"end": token}) + "\n", sync=True)
        return changed

    def _labelled(self, clip: str) -> list[int]:
        """The frames of a clip that have masks of their own, saved or not."""
        document, new = self._store.document, self._store.unsaved()
        own = document.of_clip(clip)
        return [one for one in own if one in new or document.frames[one].mask.exists()]

    def _groups(self, index: int) -> list[str]:
        """The changes of the whole clip that a frame's edits are parts of, the latest last."""
        with self._store.sheet(index) as sheet:
            return [entry.group for entry in sheet.journal.done]
