"""The server of the page: who is let in, what is refused, and what an edit comes to."""

from __future__ import annotations

import errno
import json
import random
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from page_support import SIZE, SquareProposer
from starlette.testclient import TestClient

from dvos.formats.labels import Region
from dvos.labelling.command import kept_token
from dvos.labelling.documents import open_document
from dvos.labelling.edits import runs_of
from dvos.labelling.proposals import Helper
from dvos.labelling.requests import Runs, region_message, region_of
from dvos.labelling.server import Guard, LabelServer
from dvos.labelling.work import Workshop
from dvos.media.mask import IGNORE, read_mask, write_mask

TOKEN = "t" * 43
HOST = "127.0.0.1:8470"
HEADERS = {"x-token": TOKEN, "host": HOST}
ROUTES = (
    *("/", "/page/main.js", "/api/project", "/api/frames", "/api/frames/0/mask", "/api/work"),
    *("/api/frames/0/thumbnail", "/api/frames/0/tiles/0/0/0", "/api/frames/0/layers/0"),
    *("/api/frames/0/proposals", "/api/counts"),
)
POSTS = (
    "/api/frames/0/edit",
    "/api/clip",
    "/api/train",
    "/api/export",
    "/api/stop",
    "/api/suggest",
)


class Client(TestClient):
    """Sends the token and the right host, and makes edits with tokens of their own."""

    def __init__(self, server, host="127.0.0.1"):
        super().__init__(
            Guard(server.app(), TOKEN, host, 8470), headers=HEADERS, base_url="http://x"
        )
        self.server, self.made = server, 0

    def edit(self, index=0, *, status=200, base=None, **edit):
        self.made += 1
        if base is None:
            with self.server.store.sheet(index) as sheet:
                base = sheet.journal.revision
        named = {"token": f"token-{self.made:08d}", "base": base, "frame": f"photo{index + 1}"}
        message = named | edit
        answer = self.post(f"/api/frames/{index}/edit", json=message)
        assert answer.status_code == status, answer.text
        return answer.json()

    def ids(self, frame=0):
        answer = self.get(f"/api/frames/{frame}/mask")
        state = json.loads(answer.headers["x-state"])
        pairs = np.frombuffer(answer.content, "<u4").reshape(-1, 2)
        return np.repeat(pairs[:, 0], pairs[:, 1]).reshape(state["size"]), state


@pytest.fixture
def client(folder):
    document = open_document(folder)
    server = LabelServer(
        document,
        lambda pictures: Helper(SquareProposer, pictures),
        Workshop(document, None),
        ("coco",),
    )
    with Client(server) as client:  # one loop for all requests
        yield client
    server.store.close()


def box(top, left, bottom, right):
    return region_message(Region(top, left, np.ones((bottom - top, right - left), bool)))


@pytest.mark.parametrize("path", ROUTES)
def test_nothing_is_shown_without_the_token(client, path):
    for headers in (
        {"x-token": ""},
        {"x-token": TOKEN[1:]},
        {"x-token": "", "cookie": "dvos-8470=no"},
    ):
        assert client.get(path, headers=headers).status_code == 403


@pytest.mark.parametrize("path", POSTS)
def test_nothing_is_changed_without_the_token_or_from_another_page(client, path):
    for headers in (
        {"x-token": ""},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"host": "evil.example:8470"},
    ):
        assert client.post(path, json={}, headers=headers).status_code == 403
    assert client.post(path, json={}, headers={"origin": f"http://{HOST}"}).status_code != 403


def test_a_folder_that_cannot_be_made_is_told_as_a_full_disk_is(client, monkeypatch):
    def full(self, **_):
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    edit = {"kind": "paint", "region": box(4, 4, 10, 20), "value": 1}
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", full)
        told = client.edit(status=507, **edit)["error"]
    assert told.endswith("journals: No space left on device")
    assert client.edit(**edit)["revision"] == 1


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8470",
        "127.0.0.1:80",
        "127.0.0.1",
        "",
        "127.0.0.1:8470.evil.example",
        "192.168.1.5:8470",
    ],
)
def test_another_name_for_the_server_is_refused(client, host):
    assert client.get("/api/project", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:8470", "127.0.0.1:8470", "[::1]:8470"])
def test_its_own_names_are_known(client, host):
    assert client.get("/api/project", headers={"host": host}).status_code == 200


def test_listening_elsewhere_lets_addresses_in_but_no_names(client):
    open_to_all = Client(client.server, "0.0.0.0")
    assert open_to_all.get("/api/project", headers={"host": "192.168.1.5:8470"}).status_code == 200
    assert open_to_all.get("/api/project", headers={"host": "evil.example:8470"}).status_code == 403


def test_the_address_with_the_token_sets_a_cookie_for_the_page_alone(client):
    answer = client.get(f"/?token={TOKEN}", headers={"x-token": ""}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    name, value = answer.headers["set-cookie"].split(";")[0].split("=")
    page = client.get("/", headers={"x-token": "", "cookie": f"{name}={value}"})
    assert "default-src 'self'" in page.headers["content-security-policy"]
    client.cookies.clear()
    assert client.get("/?token=wrong", headers={"x-token": ""}).status_code == 403


def test_the_token_stays_and_is_its_owners_alone(tmp_path):
    path = tmp_path / ".labelling" / "token"
    token = kept_token(path)
    assert kept_token(path) == token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("short")
    assert len(kept_token(path)) == 43


@pytest.mark.parametrize(
    "name", ["../server.py", "..%2fserver.py", "%2e%2e/edits.py", "nothing.js"]
)
def test_only_files_of_the_page_are_served(client, name):
    assert client.get(f"/page/{name}").status_code == 404
    assert client.get("/page/main.js").headers["content-type"].startswith("text/javascript")


def test_the_page_asks_nobody_else(client):
    page = Path(__file__).parents[2] / "src" / "dvos" / "labelling" / "page"
    for path in page.iterdir():
        text = path.read_text()
        assert "http://" not in text
        assert "https://" not in text


def test_an_edit_is_made_and_its_answer_says_what_is_next(client):
    state = client.edit(kind="paint", region=box(4, 4, 10, 20), value=1)
    assert (state["revision"], state["next"], state["count"], state["undo"]) == (1, 2, 1, True)
    assert "box" not in state
    state = client.edit(kind="undo")
    assert state["box"] == [4, 4, 10, 20]
    assert state["runs"] == [0, 96]
    assert not client.ids()[0].any()
    state = client.edit(kind="redo")
    assert state["runs"] == [1, 96]


def test_objects_are_split_merged_copied_and_deleted(client):
    client.edit(kind="paint", region=box(4, 4, 10, 20), value=1)
    client.edit(kind="split", object=1, line=box(0, 12, 20, 13), first=2)
    assert np.unique(client.ids()[0]).tolist() == [0, 1, 2]
    client.edit(kind="recolour", pairs=[[2, 1]])
    assert np.unique(client.ids()[0]).tolist() == [0, 1]
    client.edit(1, kind="copy", source=0)
    assert np.array_equal(client.ids(1)[0], client.ids(0)[0])
    assert client.edit(kind="recolour", pairs=[[1, IGNORE]])["count"] == 0
    assert client.edit(1, kind="recolour", pairs=[[1, 0]])["count"] == 0


def test_what_was_corrected_stays_when_an_earlier_frame_is_copied(client):
    """Of two objects, A is corrected in the second frame, then B in the first and copied."""
    client.edit(kind="paint", region=box(0, 0, 8, 8), value=1)
    client.edit(1, kind="copy", source=0)
    client.edit(1, kind="paint", region=box(0, 8, 8, 12), value=1)
    client.edit(kind="paint", region=box(0, 6, 20, 30), value=2, only=[0])
    client.edit(1, kind="copy", source=0, objects=[2])
    ids = client.ids(1)[0]
    assert (ids[:8, :12] == 1).all()
    assert (ids[8:20, 6:30] == 2).all()


def test_a_click_adds_the_object_there_and_cuts_what_is_none(client):
    state = client.edit(kind="click", x=20, y=20, take=True, object=5)
    assert state["box"] == [16, 16, 25, 25]
    client.edit(kind="click", x=16, y=16, take=False, object=1)
    ids = client.ids()[0]
    assert np.count_nonzero(ids == 5) == 81 - 25
    assert client.server.helper._proposer().learnt == [0, 1]


def test_all_above_a_score_are_accepted_at_once(client):
    found = client.get("/api/frames/0/proposals").json()
    assert found["scores"] == [0.9, 0.4]
    state = client.edit(kind="accept", least=0.5)
    assert state["count"] == 1
    assert client.edit(kind="undo")["count"] == 0


def test_two_tabs_and_an_edit_sent_twice(client):
    first = {"kind": "paint", "region": box(0, 0, 2, 2), "value": 1, "token": "same-token"}
    assert client.edit(base=0, **first)["revision"] == 1
    assert client.edit(base=0, **first)["revision"] == 1
    answer = client.edit(status=409, base=0, kind="paint", region=box(0, 0, 4, 4), value=2)
    assert "is at revision 1" in answer["error"]


def test_an_edit_of_a_tab_that_knows_another_order_finds_its_frame(client):
    """A server that is started again shows first what was labelled meanwhile."""
    edit = {"kind": "paint", "region": box(0, 0, 2, 2), "value": 1}
    assert client.edit(0, base=0, frame="photo2", **edit)["revision"] == 1
    assert (client.ids(0)[0].any(), client.ids(1)[0].any()) == (False, True)
    assert "is frame 0 by now" in client.edit(0, status=409, frame="gone", **edit)["error"]
    copy = {"kind": "copy", "source": 1, "objects": None}
    assert "is frame 1 by now" in client.edit(1, status=409, frame="photo1", **copy)["error"]


def test_tiles_are_of_the_picture(client):
    answer = client.get("/api/frames/0/tiles/0/0/0")
    assert answer.content[:3] == b"\xff\xd8\xff"
    for tile in ("1/0/0", "0/1/0", "0/0/1", "99999999/0/0"):
        assert client.get(f"/api/frames/0/tiles/{tile}").status_code == 400
    assert client.get("/api/frames/7/mask").status_code == 404


def test_a_damaged_photo_or_mask_is_one_line(client, folder):
    (folder / "photo2.png").write_bytes(b"no picture")
    answer = client.get("/api/frames/1/thumbnail")
    assert (answer.status_code, answer.json()["error"].count("\n")) == (400, 0)
    write_mask(folder / "annotated" / "masks" / "photo1.png", np.zeros((3, 3), np.uint8))
    assert "3 x 3" in client.get("/api/frames/0/mask").json()["error"]


def test_an_oversized_request_is_refused(client, monkeypatch):
    monkeypatch.setattr("dvos.labelling.server._LARGEST", 100)
    assert client.post("/api/frames/0/edit", content=b" " * 101).status_code == 413


@pytest.mark.parametrize("kind", ["delete", "join", "split", "undo"])
def test_photos_are_no_clip_whose_objects_can_be_changed(client, kind):
    client.edit(kind="paint", region=box(4, 4, 10, 20), value=1)
    change = {"kind": kind, "clip": "", "token": "token-clip", "object": 1, "other": 2}
    answer = client.post("/api/clip", json=change)
    assert (answer.status_code, answer.json()) == (404, {"error": "no such clip"})
    ids, state = client.ids()
    assert np.count_nonzero(ids == 1) == 96
    assert state["revision"] == 1


def test_a_stroke_on_a_mask_that_another_program_changed_is_refused(client, folder):
    client.edit(kind="paint", region=box(4, 4, 10, 20), value=1)
    client.server.store.flush()
    theirs = np.full(SIZE, 77, np.uint16)
    write_mask(folder / "annotated" / "masks" / "photo1.png", theirs)
    stroke = {"kind": "paint", "region": box(0, 0, 2, 2), "value": 2}
    told = client.edit(status=409, base=1, **stroke)["error"]
    assert told == "photo1: was changed by another program; look at it again, then repeat"
    ids, state = client.ids()
    assert np.array_equal(ids, theirs)
    assert (state["revision"], state["began"], state["undo"]) == (2, 2, False)
    assert client.edit(base=2, **stroke)["revision"] == 3


@pytest.mark.skipif(sys.platform != "linux", reason="others refuse such names")
def test_a_folder_whose_name_is_no_text_is_shown(folder):
    odd = folder.rename(folder.with_name("field\udcff"))
    document = open_document(odd)
    server = LabelServer(
        document, lambda made: Helper(SquareProposer, made), Workshop(document, None)
    )
    with Client(server) as client:
        assert client.get("/api/project").json()["title"] == "field\udcff"
        assert client.edit(kind="paint", region=box(4, 4, 10, 20), value=1)["revision"] == 1
        (odd / "photo2.png").unlink()
        assert "field" in client.get("/api/frames/1/mask").json()["error"]
    server.store.close()


def test_training_and_export_are_refused_where_they_cannot_be(client):
    assert client.post("/api/train", json={"minutes": 0}).status_code == 422
    assert client.post("/api/export", json={"format": "../x"}).status_code == 422
    assert client.post("/api/export", json={"format": "other"}).status_code == 400
    assert client.get("/api/work").json()["running"] is False


def test_a_thousand_malformed_requests_change_nothing(client, folder):
    """Each is answered with one line and a status of 4xx; nothing is written, in or out."""
    rng = random.Random(3)
    good = {
        "frame": "photo1",
        "kind": "paint",
        "token": "token-x",
        "base": 0,
        "region": box(1, 1, 3, 3),
        "value": 1,
        "only": None,
    }
    odd = [
        None,
        -1,
        70000,
        2**63,
        1.5,
        "",
        "../../x",
        [],
        {},
        [[]],
        True,
        float("1e300"),
        "\0",
        "é" * 500,
    ]
    before = sorted(path for path in folder.parent.rglob("*"))
    for _ in range(1000):
        message = json.loads(json.dumps(good))
        kind = rng.randrange(5)
        if kind == 0:
            message[rng.choice([*message])] = rng.choice([one for one in odd if one is not None])
        elif kind == 1:
            message["region"][rng.choice(["box", "runs"])] = rng.choice(odd)
        elif kind == 2:
            message["region"]["box"][rng.randrange(4)] = rng.choice([-1, 49, 2**40, "1", None])
        elif kind == 3:
            message["kind"] = rng.choice(["", "split", "copy", "adopt", "click", "undo", "x" * 99])
        data = json.dumps(message).encode()
        if kind == 4:
            data = data[: rng.randrange(len(data) - 1)] + bytes([rng.randrange(256)])
        path = rng.choice(
            ["/api/frames/0/edit", "/api/frames/9/edit", "/api/clip", "/api/train", "/api/export"]
        )
        answer = client.post(path, content=data)
        assert 400 <= answer.status_code < 500, (path, data, answer.text)
        assert "\n" not in answer.json()["error"]
    assert sorted(path for path in folder.parent.rglob("*")) == before
    assert not client.ids()[0].any()


def test_what_is_sent_as_runs_comes_back(client):
    rng = np.random.default_rng(0)
    mask = rng.random((7, 9)) < 0.5
    message = region_message(Region(2, 3, mask))
    assert np.array_equal(region_of(Runs(**message), SIZE).mask, mask)
    assert runs_of(np.array([[1, 1], [0, 2]], np.uint16)).tolist() == [[1, 2], [0, 1], [2, 1]]


def test_labels_are_files_when_the_server_has_answered(client, folder):
    client.edit(kind="paint", region=box(4, 4, 10, 20), value=3)
    client.server.store.flush()
    assert client.get("/api/frames").json()["labelled"] == [1, 0]
    assert read_mask(folder / "annotated" / "masks" / "photo1.png")[5, 5] == 3
