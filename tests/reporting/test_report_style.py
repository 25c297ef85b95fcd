from __future__ import annotations

import re
from importlib.resources import files

import pytest

STYLE = files("dvos.reporting").joinpath("templates/report.css").read_text(encoding="utf-8")


def schemes() -> dict[str, dict[str, str]]:
    """Colours by name of the light and the dark screen and of paper."""
    blocks = re.findall(r":root \{(.*?)\}", STYLE, flags=re.DOTALL)
    named = [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+);", block)) for block in blocks]
    return dict(zip(("light", "dark", "paper"), named, strict=True))


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    channels = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark", "paper"])
@pytest.mark.parametrize("ink", ["ink", "soft", "accent", "warn"])
@pytest.mark.parametrize("ground", ["paper", "raised"])
def test_letters_have_the_contrast_of_wcag_aa(scheme: str, ink: str, ground: str) -> None:
    colours = schemes()[scheme]
    one, other = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
    assert (one + 0.05) / (other + 0.05) >= 4.5
