"""The ground that a camera has seen."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from moving_objects import drawn, measured

from dvos.config.prediction import LinkingSettings
from dvos.prediction.tracks.clip import follow
from dvos.prediction.tracks.ground import CameraPath, seen_share, shown_path, swept_area
from dvos.prediction.tracks.motion import REST, Motion, shifted

SIZE = (300, 400)
PLANTS = np.random.default_rng(0).uniform((-1500, -1500), (1500, 1500), (3000, 2))


def _poses(steps: list[Motion]) -> list[Motion]:
    """Where frames lie that follow each other by these motions."""
    poses = [REST]
    for step in steps:
        poses.append(poses[-1].after(step.inverse))
    return poses


def _turn(degrees: float, scale: float = 1.0) -> Motion:
    """About the middle of the frame."""
    angle, middle = np.radians(degrees), np.array([199.5, 149.5])
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    matrix = np.array([[cosine, -sine], [sine, cosine]])
    return Motion(matrix, middle - matrix @ middle)


def _box(left: float, top: float, right: float, bottom: float) -> list[np.ndarray]:
    return [np.array([[left, top], [right, top], [right, bottom], [left, bottom]])]


THERE, BACK = shifted(np.array([-10.0, 0])), shifted(np.array([10.0, 0]))
#: With stops, turns on the spot, a climb and a way back.
PASS = [THERE] * 40 + [REST] * 10 + [_turn(3)] * 30 + [THERE] * 40 + [_turn(0, 0.99)] * 10


def test_a_camera_at_rest_sees_one_frame() -> None:
    assert swept_area([REST] * 5, SIZE) == pytest.approx(300 * 400, rel=1e-3)


def test_a_straight_pass_sees_a_strip_and_the_way_back_nothing_new() -> None:
    strip = 300 * (400 + 50 * 10)
    assert swept_area(_poses([THERE] * 50), SIZE) == pytest.approx(strip, rel=1e-3)
    steps = [THERE] * 50 + [REST] * 9 + [BACK] * 50
    assert swept_area(_poses(steps), SIZE) == pytest.approx(strip, rel=1e-3)


def test_a_turn_on_the_spot_sees_little_more() -> None:
    found = swept_area(_poses([_turn(3)] * 30), SIZE)
    # Between the frame and the disc about it.
    assert 1.2 * 300 * 400 < found < np.pi * 250**2


def test_coming_nearer_sees_nothing_new_and_going_up_sees_more() -> None:
    assert swept_area(_poses([_turn(0, 1.02)] * 20), SIZE) == pytest.approx(300 * 400, rel=0.01)
    climbed = 300 * 400 * 1.02**40
    assert swept_area(_poses([_turn(0, 1 / 1.02)] * 20), SIZE) == pytest.approx(climbed, rel=0.01)


def test_of_a_region_on_the_ground_only_what_was_seen_counts() -> None:
    poses = _poses([THERE] * 50)
    assert swept_area(poses, SIZE, [_box(500, 100, 700, 400)]) == pytest.approx(200 * 200, rel=0.01)
    hole = [*_box(500, 100, 700, 300), *_box(550, 150, 650, 250)]
    assert swept_area(poses, SIZE, [hole]) == pytest.approx(200**2 - 100**2, rel=0.01)
    assert swept_area(poses, SIZE, [_box(-200, 0, -1, 300)]) == 0


def test_a_region_of_the_picture_sweeps_a_strip_of_its_own() -> None:
    poses = _poses([THERE] * 50)
    # It ends with the picture, below.
    found = swept_area(poses, SIZE, [_box(100, 200, 200, 400)], on_ground=False)
    assert found == pytest.approx(100 * (100 + 500), rel=0.01)


def test_ground_that_regions_share_is_the_first_one_s() -> None:
    poses = _poses([THERE] * 50)
    first, second = _box(500, 100, 700, 200), _box(500, 100, 700, 400)
    found = swept_area(poses, SIZE, [second], without=[first])
    assert found == pytest.approx(200 * 100, rel=0.01)
    assert swept_area(poses, SIZE, [first], without=[second]) == 0
    assert swept_area(poses, SIZE, [second], without=[_box(-90, -90, -80, -80)]) == swept_area(
        poses, SIZE, [second]
    )
    whole, half = _box(100, 0, 200, 300), _box(100, 0, 200, 150)
    strip = swept_area(poses, SIZE, [whole], without=[half], on_ground=False)
    assert strip == pytest.approx(swept_area(poses, SIZE, [whole], on_ground=False) / 2, rel=0.01)


def test_how_much_of_a_region_a_frame_shows() -> None:
    pose = _poses([THERE] * 10)[-1]
    region = _box(50, 0, 150, 100)
    assert seen_share(region, REST, SIZE) == 1
    assert seen_share(region, pose, SIZE) == pytest.approx(0.5, abs=0.01)
    assert seen_share(region, shifted(np.array([150.0, 0])), SIZE) == 0
    # Of its own part, which is the half that the frame shows, or does not.
    for taken, shown in ((_box(100, 0, 150, 100), 0), (_box(50, 0, 100, 100), 1)):
        assert seen_share(region, pose, SIZE, [taken]) == pytest.approx(shown, abs=0.01)
    assert seen_share(region, REST, SIZE, [region]) == 0


def _estimated(steps: list[Motion], noise: float, seed: int = 0) -> CameraPath:
    """The path by plants that are seen with an error of ``noise`` pixels."""
    rng, path, places = np.random.default_rng(seed), CameraPath(), PLANTS
    for step in [REST, *steps]:
        places = step(places)
        inside = ((places >= 0) & (places < SIZE[::-1])).all(axis=1)
        found = inside & (rng.random(len(places)) < 0.9)
        shaken = places[found] + rng.normal(0, noise, (np.count_nonzero(found), 2))
        path.add(np.flatnonzero(found) + 1, shaken, None)
    return path


def test_the_path_and_the_area_of_a_pass_with_turns_and_stops_are_found() -> None:
    path, true = _estimated(PASS, noise=1.0), _poses(PASS)
    assert path.known
    assert path.unknown == 0
    corners = np.array([[0.0, 0], [399, 299]])
    # Where the last frame lies, after 800 pixels of way, a quarter of a turn, and a climb.
    assert np.abs(path.poses[-1](corners) - true[-1](corners)).max() < 20
    assert swept_area(path.poses, SIZE) == pytest.approx(swept_area(true, SIZE), rel=0.02)


def test_frames_without_common_tracks_go_on_as_before_and_many_leave_the_path_unknown() -> None:
    path = CameraPath()
    ids, centre = np.arange(1, 9), np.random.default_rng(1).uniform(0, 300, (8, 2))
    for number in range(21):
        seen = 0 if number == 10 else 8
        centre[:, 1] += 12
        path.add(ids[:seen], centre[:seen].copy(), None)
    assert path.known
    assert path.poses[-1].shift == pytest.approx([0, -240], abs=1e-6)
    for _ in range(5):
        path.add(ids[:0], centre[:0], None)
    assert not path.known


@pytest.mark.parametrize("size", [(120, 160), (700, 900)])
def test_the_path_that_pictures_show(size: tuple[int, int]) -> None:
    """To half a hundredth of a way there and back; pictures of elsewhere tell none."""
    rng = np.random.default_rng(1)
    height, width = size
    small = rng.integers(0, 256, (height // 2, width, 3), np.uint8)
    ground = cv2.resize(small, (2 * width, height + 80), interpolation=cv2.INTER_CUBIC)
    lefts = [*range(0, width, width // 20), *range(width, 0, -width // 20)]
    tops = [k % 40 for k in range(len(lefts))]
    seen = [ground[y : y + height, x : x + width] for x, y in zip(lefts, tops, strict=True)]
    poses = shown_path(seen)
    assert poses is not None
    found = np.array([pose.shift for pose in poses])
    assert np.abs(found - np.column_stack([lefts, tops])).max() < max(2, width / 150)
    assert shown_path([*seen[:3], rng.integers(0, 256, (*size, 3), np.uint8)]) is None
    assert shown_path([]) == []


def _turned(places: np.ndarray, degrees: float) -> np.ndarray:
    """Places after a turn about a point beside the picture of 300 x 400."""
    turn, about = np.deg2rad(degrees), np.array([200.0, 330])
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return (places - about) @ matrix.T + about


def _path(frames: list[np.ndarray], sightings: int = 3) -> CameraPath:
    inside = [one[((one > 8) & (one < [392, 292])).all(axis=1)].tolist() for one in frames]
    path = CameraPath()
    found = ((None, measured(drawn(one, (300, 400))), t) for t, one in enumerate(inside))
    for _, objects, linked in follow(found, "linked", LinkingSettings(sightings=sightings)):
        path.add(linked.ids, objects.centre, linked.motion, linked.lost)
    return path


def test_a_camera_that_begins_to_turn_fast_keeps_its_path_and_one_that_jumps_tells_so() -> None:
    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(np.arange(-400, 800, 30), np.arange(-400, 1000, 30)), -1)
    plants = grid.reshape(-1, 2) + rng.uniform(-9, 9, (grid.size // 2, 2))
    angles = [0, 0, 0, *np.arange(4.5, 45, 4.5)]
    path = _path([_turned(plants, one) for one in angles])
    assert path.sure
    corner = np.array([[10.0, 10]])
    assert path.poses[-1](_turned(corner, angles[-1])) == pytest.approx(corner, abs=3)
    path = _path([*[np.add(plants, [4.0 * t, 0]) for t in range(5)], *[_turned(plants, 100)] * 5])
    assert path.known
    assert not path.sure
    assert path.lost[0] == 5
    # A clip may begin with the jump, of which only later frames tell that it was one.
    for sightings in (1, 3):
        path = _path([_turned(plants, one) for one in (0, 100, 100, 100)], sightings)
        assert path.lost == [1]
