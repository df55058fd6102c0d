"""The data of a task: its demonstrations, split into training and validation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dipole.data.core.errors import ConfigError
from dipole.data.loading.features import Features
from dipole.data.loading.recorded import as_recorded
from dipole.data.loading.split import split_episodes
from dipole.data.loading.window_spec import WindowSpec
from dipole.data.loading.windows import Windows
from dipole.data.store.bundle import dataset_path
from dipole.data.store.store import EpisodeStore


@dataclass(frozen=True)
class TaskData:
    """A task's demonstrations: windows of the training episodes and of the held-out ones."""

    store: EpisodeStore
    features: Features
    train: Windows
    validation: Windows | None

    @classmethod
    def open(cls, task: Mapping[str, Any], dataset: str | None) -> "TaskData":
        """dataset: a path instead of the task's own. Transforms are registered already."""

        path = dataset or task["dataset"]
        if path is None:
            raise ConfigError(f"task {task['name']!r} has no dataset of its own: give dataset=PATH")
        store = EpisodeStore.open(dataset_path(path))
        said = {"observation": task["observation"], "action": task["action"]}
        features = as_recorded(Features.from_dict({**said, "fps": task.get("fps")}), store)
        window = WindowSpec(**task["window"])
        train, held_out = split_episodes(store.n_episodes, **task["split"])
        training = Windows(store, window, features, episodes=train)
        validation = Windows(store, window, features, episodes=held_out) if len(held_out) else None
        if validation is not None and not len(validation):
            validation = None
        return cls(store, features, training, validation)

    def describe(self) -> dict[str, Any]:
        """What a checkpoint says about the data it was trained on."""
        return {
            "path": str(self.store.path),
            "fingerprint": self.store.fingerprint(),
            "episodes": self.store.n_episodes,
            "frames": self.store.n_frames,
            "training_episodes": [int(episode) for episode in self.train.episodes],
        }
