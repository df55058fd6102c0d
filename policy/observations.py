"""Whether an observation is one that a policy was made for; the same for every runtime."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dipole.data import Feature, Features, WindowSpec
from dipole.data.core.errors import ConfigError, DataError
from dipole.data.core.registry import nearest
from dipole.data.loading.text import encode_texts


def checked_observation(
    observation: Mapping[str, Any],
    features: Features,
    window: WindowSpec,
    optional: Collection[str] = (),
) -> dict[str, Tensor]:
    """The features of an observation {name: [B, To, *stored_shape]}, not converted yet, as tensors,
    where they are.

    optional: names that may be missing. Raises ConfigError for a name that is missing or all of
    them, a shape that is another, rows that are not as many everywhere, and pictures that are not
    uint8.
    """
    checked = {}
    for name, feature in features.observation.items():
        if name in observation:
            value = as_tensor(_encoded(observation[name], feature, window))
            checked[name] = _checked(name, value, feature, window)
        elif name not in optional:
            raise ConfigError(
                f"the observation has no {name!r}{nearest(name, observation) or ';'} "
                f"it has {', '.join(observation) or 'nothing'}; "
                f"the policy needs {', '.join(features.observation)}"
            )
    n_rows(checked)
    return checked


def n_rows(observation: Mapping[str, Tensor]) -> int:
    """B of an observation {name: [B, To, *shape]}. Raises ConfigError where there is none, or more
    than one."""
    rows = {name: len(value) for name, value in observation.items()}
    if not rows:
        raise ConfigError(
            "the observation is empty: cameras may be missing, but not everything at once"
        )
    if len(set(rows.values())) > 1:
        found = ", ".join(f"{name!r} has {count}" for name, count in rows.items())
        raise ConfigError(f"the observation's rows are not as many everywhere: {found}")
    return next(iter(rows.values()))


def refuse_shape(name: str, value: Any, wanted: tuple[int, ...]) -> None:
    """Raises ConfigError for a tensor or array of another shape; None is none."""
    if value is not None and tuple(np.shape(value)) != wanted:
        raise ConfigError(f"{name} has shape {list(np.shape(value))}: {list(wanted)} is needed")


@contextmanager
def errors_naming(name: str) -> Iterator[None]:
    """Around the conversion of an observation: its DataError says which one it is."""
    try:
        yield
    except DataError as error:
        raise DataError(f"observation {name!r}: {error}") from error


def as_tensor(values: Any) -> Tensor:
    """The same numbers in the same memory where torch can: it has no negative strides, as arrays
    that were turned round have, such as a picture's colours by [..., ::-1]."""
    if isinstance(values, np.ndarray) and any(stride < 0 for stride in values.strides):
        values = values.copy()
    return torch.as_tensor(values)


def as_array(values: Any) -> np.ndarray:
    """A tensor on any device, or what makes one, for conversions, which are numpy's: of half
    precision, which numpy lacks in part, as float32."""
    tensor = as_tensor(values).detach().cpu()
    array: np.ndarray = (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()
    return array


def _encoded(value: Any, feature: Feature, window: WindowSpec) -> Any:
    """An observation as it is; texts, one for each row, as bytes."""
    texts = isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)
    if feature.kind != "text" or not texts:
        return value
    return encode_texts(value, window.n_obs_steps, feature.shape[0])


def _checked(name: str, value: Tensor, feature: Feature, window: WindowSpec) -> Tensor:
    wanted = (window.n_obs_steps, *feature.stored_shape)
    if tuple(value.shape[1:]) != wanted or value.dim() != len(wanted) + 1:
        raise ConfigError(
            f"observation {name!r} has shape {list(value.shape)}, "
            f"the policy needs [B, {', '.join(map(str, wanted))}]"
        )
    if not feature.is_numeric and value.dtype != torch.uint8:
        dtype = str(value.dtype).removeprefix("torch.")
        what = "pictures are uint8, 0 to 255"
        if feature.kind == "text":
            what = "text is uint8, of `dipole.data.encode_text`, or a list of B strings"
        raise ConfigError(f"observation {name!r} is {dtype}: {what}")
    return value
