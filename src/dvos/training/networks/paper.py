"""The published network in training: its arguments by the settings."""

from __future__ import annotations

from typing import Any

from dvos.config.network import NetworkSettings


def arguments(settings: NetworkSettings, *, reconstructs: bool) -> dict[str, Any]:
    """Arguments of :class:`~dvos.networks.paper.network.PaperNetwork`.

    Args:
        settings: Of the network.
        reconstructs: Whether it has a head for the query's colours.
    """
    return {
        "references": settings.references,
        "sees_query": settings.looks_at_query,
        **settings.paper.model_dump(mode="json", exclude={"preset"}),
        "reconstructs": reconstructs,
    }
