"""Runs a function over many items: processes, resume, progress, clean stops.

A stage gives :class:`Task` objects to :func:`run_tasks`; a manifest beside the outputs notes what
is finished.
"""

from dvos.runner.display import note as note
from dvos.runner.display import open_display as open_display
from dvos.runner.display import progress as progress
from dvos.runner.display import waiting as waiting
from dvos.runner.manifest import ClipManifest as ClipManifest
from dvos.runner.manifest import Manifest as Manifest
from dvos.runner.manifest import Row as Row
from dvos.runner.manifest import Task as Task
from dvos.runner.manifest import read_record as read_record
from dvos.runner.names import restore_clips as restore_clips
from dvos.runner.names import restore_names as restore_names
from dvos.runner.shards import adopt as adopt
from dvos.runner.shards import gather as gather
from dvos.runner.shards import manifest_path as manifest_path
from dvos.runner.shards import manifests_of as manifests_of
from dvos.runner.shards import part_of as part_of
from dvos.runner.shards import shard_table as shard_table
from dvos.runner.shards import taken as taken
from dvos.runner.shards import taken_folder as taken_folder
from dvos.runner.tasks import cluster_executor as cluster_executor
from dvos.runner.tasks import open_pool as open_pool
from dvos.runner.tasks import run_on_cluster as run_on_cluster
from dvos.runner.tasks import run_tasks as run_tasks
from dvos.runner.tasks import worker_count as worker_count
from dvos.runner.words import Words as Words
from dvos.runner.words import say as say
from dvos.runner.words import words_kept as words_kept
