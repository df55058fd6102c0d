"""Which cluster, and how much of it; values are in configs/cluster/."""

from dataclasses import dataclass

from dipole.data.core.errors import ConfigError

RAY = "ray"


@dataclass(frozen=True)
class ClusterSettings:
    """name: What runs it; "ray" is the only one.
    address: Of its head, as `ray.init` takes it ("auto", "HOST:6379", "ray://HOST:10001"); "local"
        starts one on this machine; None: the one that runs here (RAY_ADDRESS), or else a local one.
    actors: Processes that simulate, a CPU each; None: as many as the cluster has CPUs.
    policies: Processes that infer, a GPU each where the cluster has some, else a CPU; 0: this
        process infers; None: one for each GPU, beside that of this process.
    patience: Seconds to wait for a first actor, and for another where all have died.
    """

    name: str = RAY
    address: str | None = None
    actors: int | None = None
    policies: int | None = None
    patience: float = 300.0

    def __post_init__(self) -> None:
        if self.name != RAY:
            raise ConfigError(f"cluster.name is {self.name!r}; known: {RAY}")
        for name, least in (("actors", 1), ("policies", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"cluster.{name} is {value}; it must be at least {least}")
        if not self.patience > 0:
            raise ConfigError(f"cluster.patience is {self.patience}; it must be above 0")
