"""Runs a function over many items: processes, resume, progress, clean stops.

A stage describes its work as a list of :class:`Task` and calls
:func:`run_tasks`. Finished tasks are noted in a manifest beside the outputs, so
that a run that was stopped or killed at any moment goes on from there when it
is started again.
"""

from __future__ import annotations

from dvos.runner.cluster import cluster_executor, run_on_cluster
from dvos.runner.display import note, open_display, progress, waiting
from dvos.runner.manifest import ClipManifest, Manifest, Row, Task, read_record
from dvos.runner.names import restore_clips, restore_names
from dvos.runner.shards import adopt, gather, manifest_path, manifests_of, part_of, shard_table
from dvos.runner.taking import taken, taken_folder
from dvos.runner.tasks import open_pool, run_tasks, worker_count
from dvos.runner.words import Words, say, words_kept

__all__ = [
    "ClipManifest",
    "Manifest",
    "Row",
    "Task",
    "Words",
    "adopt",
    "cluster_executor",
    "gather",
    "manifest_path",
    "manifests_of",
    "note",
    "open_display",
    "open_pool",
    "part_of",
    "progress",
    "read_record",
    "restore_clips",
    "restore_names",
    "run_on_cluster",
    "run_tasks",
    "say",
    "shard_table",
    "taken",
    "taken_folder",
    "waiting",
    "words_kept",
    "worker_count",
]
