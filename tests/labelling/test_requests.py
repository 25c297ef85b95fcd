"""What the page may not ask for, and how it is told."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from dvos.labelling.requests import EDIT, ClipEdit, Export, Training, refusal

WHOLE = "; expected a whole number from 1 to 10000"
CLIP = '{"kind": "join", "clip": "", "token": "token-clip", "start": 0.5}'


@pytest.mark.parametrize(
    ("kind", "message", "told"),
    [
        (Training, '{"minutes": 1.5}', f"minutes: found 1.5{WHOLE}"),
        (Training, '{"minutes": 0}', f"minutes: found 0{WHOLE}"),
        (Training, '{"minutes": 10001}', f"minutes: found 10001{WHOLE}"),
        (Training, '{"minutes": null}', f"minutes: found None{WHOLE}"),
        (Training, '{"minutes": "5"}', f"minutes: found '5'{WHOLE}"),
        (Training, '{"minutes": true}', f"minutes: found True{WHOLE}"),
        (
            Training,
            f'{{"minutes": {"[" * 50}{"]" * 50}}}',
            f"minutes: found [[[[[[[...]]]]]]]{WHOLE}",
        ),
        (Training, "{}", "minutes: is missing"),
        (Training, '{"minutes": 5, "x": 1}', "x: Extra inputs are not permitted"),
        (Training, "[]", "body: found []; expected an object"),
        (Export, '{"format": "../x"}', "format: found '../x'; expected the name of a format"),
        (ClipEdit, CLIP, "start: found 0.5; expected a valid integer"),
        (
            EDIT,
            '{"kind": "accept", "frame": "a", "token": "token-edit", "least": 2}',
            "accept.least: found 2; expected less than or equal to 1",
        ),
    ],
)
def test_what_is_refused_tells_the_field_what_was_found_and_what_is_expected(kind, message, told):
    with pytest.raises(ValidationError) as refused:
        kind.model_validate_json(message)
    assert refusal(kind, refused.value) == told
